import Glibc
import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

/// Lets one call of a store happen at a time, of processes that run at the same time: which is next, how much time passes, and who dies
/// is decided by a seed.
private final class Scheduler: Sendable {
    private struct Process {
        var waiting: [Ticket] = []
        var hasEnded = false
        var isDead = false
        var calls = 0
    }

    /// A call that waits for its turn.
    private final class Ticket: Sendable {
        let turn = Semaphore()
    }

    private let processes: Monitor<[Process]>
    private let made = Semaphore()
    /// Which process dies, at which of its calls, and whether that is made.
    private let death: (process: Int, call: Int, after: Bool)?

    init(_ count: Int, death: (process: Int, call: Int, after: Bool)?) {
        processes = Monitor([Process](repeating: Process(), count: count))
        self.death = death
    }

    struct Gate: StoreGate {
        let scheduler: Scheduler
        let process: Int
        func enter(changes: Bool) throws(StoreFailure) { try scheduler.enter(process) }
        func leave(changes: Bool) throws(StoreFailure) { try scheduler.leave(process) }
    }

    private func enter(_ process: Int) throws(StoreFailure) {
        let ticket = Ticket()
        let isDead = processes.withLock { processes -> Bool in
            if !processes[process].isDead { processes[process].waiting.append(ticket) }
            return processes[process].isDead
        }
        if isDead { throw CrashGate.death }
        ticket.turn.wait()
        let (wasDead, dies) = processes.withLock { processes -> (Bool, Bool) in
            if processes[process].isDead { return (true, false) }
            processes[process].calls += 1
            guard let death, death.process == process, death.call == processes[process].calls, !death.after else { return (false, false) }
            processes[process].isDead = true
            return (false, true)
        }
        // The scheduler waits for the end of the call that it has granted.
        if dies { made.post() }
        if wasDead || dies { throw CrashGate.death }
    }

    private func leave(_ process: Int) throws(StoreFailure) {
        let dies = processes.withLock { processes -> Bool in
            guard let death, death.process == process, death.call <= processes[process].calls, death.after else { return false }
            processes[process].isDead = true
            return true
        }
        made.post()
        if dies { throw CrashGate.death }
    }

    func end(_ process: Int) { processes.withLock { $0[process].hasEnded = true } }
    func isDead(_ process: Int) -> Bool { processes.withLock { $0[process].isDead } }

    /// Grants calls until all processes have ended.
    func run(_ random: inout Seeded, beforeEach: (inout Seeded) -> Void) {
        while true {
            // Whoever has not ended makes another call sooner or later; those of the dead fail at once.
            let ready = processes.wait { processes -> [Int]? in
                for index in processes.indices where processes[index].isDead {
                    for ticket in processes[index].waiting { ticket.turn.post() }
                    processes[index].waiting = []
                }
                let living = processes.indices.filter { !processes[$0].hasEnded && !processes[$0].isDead }
                return living.allSatisfy { !processes[$0].waiting.isEmpty } ? living : nil
            }
            guard let next = ready.randomElement(using: &random) else { break }
            beforeEach(&random)
            let ticket = processes.withLock { $0[next].waiting.removeFirst() }
            ticket.turn.post()
            made.wait()
        }
        processes.wait { $0.allSatisfy(\.hasEnded) ? () : nil }
    }
}

@Suite("Backups, deletions and prunes at the same time")
struct InterleavingTests {
    /// Before all of them: a backup, a deleted one whose chunks new ones want, and one that was marked yesterday.
    private struct Base: Sendable {
        let memory: MemoryRepository
        let kept: Digest
        let images: [[UInt8]]
        let removable: Digest

        init() throws {
            memory = try MemoryRepository.create()
            let chunks = (0..<10).map { [UInt8](repeating: UInt8($0 + 1), count: kib256) }
            func image(_ numbers: Int...) -> [UInt8] { numbers.flatMap { chunks[$0] } }
            images = [image(0, 1, 2), image(3, 4, 1), image(3, 5, 0), image(6, 4, 5)]
            let memory = memory
            func backup(_ image: [UInt8], _ name: String) throws -> Digest {
                try memory.repository.backup(MemorySource(image), BackupRequest(backupID: name, projectID: "p", volumeID: name)).snapshot
            }
            let old = try backup(images[3], "old")
            try memory.repository.delete(old)
            _ = try memory.repository.prune()
            memory.wait(Self.grace + 100)
            kept = try backup(images[0], "kept")
            removable = try backup(image(1, 8, 2), "removable")
            let deleted = try backup(image(3, 4, 9), "deleted")
            try memory.repository.delete(deleted)
        }

        static let grace = 900.0
    }

    private struct Outcome {
        var made: [(id: Digest, bytes: [UInt8])] = []
        var failures: [String] = []
    }

    private static let count = getenv("CLINKER_INTERLEAVINGS").flatMap { Int(String(cString: $0)) } ?? 60

    @Test("in whatever order their calls come, and whoever dies, every backup that is told made comes back, and nothing stays behind")
    func interleavings() throws {
        let base = try Base()
        for seed in 0..<UInt64(Self.count) {
            let problem = try run(base, seed)
            #expect(problem == nil, "seed \(seed)")
            if problem != nil { break }
        }
    }

    /// - Returns: what went wrong.
    private func run(_ base: Base, _ seed: UInt64) throws -> String? {
        var random = Seeded(seed)
        let memory = base.memory.copied()
        let dies = random.next() % 2 == 0
        let scheduler = Scheduler(
            4,
            death: dies
                ? (Int.random(in: 0..<4, using: &random), Int.random(in: 1...40, using: &random), random.next() % 2 == 0) : nil)
        let outcome = Guarded(Outcome())
        @Sendable func backUp(_ repository: Repository, _ number: Int) throws {
            let request = BackupRequest(
                backupID: "new\(number)", projectID: "p", volumeID: "v\(number)", parent: number == 1 ? base.kept : nil)
            let image = base.images[number + (seed % 3 == 0 ? 1 : 0)]
            let made = try repository.backup(MemorySource(image), request)
            outcome.withLock { $0.made.append((made.snapshot, image)) }
        }
        @Sendable func work(_ repository: Repository, _ process: Int) throws {
            switch process {
            case 0, 1: try backUp(repository, process + 1)
            case 2:
                _ = try repository.prune(grace: Base.grace, deadShare: 0.1)
                memory.wait(Base.grace / 2 + Double(seed % 2) * Base.grace)
                _ = try repository.prune(grace: Base.grace, deadShare: 0.1)
            default: try repository.delete(base.removable)
            }
        }
        for number in 0..<4 {
            let repository = memory.process(Scheduler.Gate(scheduler: scheduler, process: number))
            startThread("process-\(number)") {
                do { try work(repository, number) } catch {
                    if !scheduler.isDead(number) { outcome.withLock { $0.failures.append("process \(number): \(error)") } }
                }
                scheduler.end(number)
            }
        }
        scheduler.run(&random) { random in memory.wait(Double.random(in: 0..<1.5, using: &random)) }
        let (made, failures) = outcome.withLock { ($0.made, $0.failures) }
        guard failures.isEmpty else { return failures.joined(separator: "; ") }
        let all = made + [(base.kept, base.images[0])]
        func isWhole() throws -> Bool { try all.allSatisfy { isSame(try memory.restored($0.id, $0.bytes.count), $0.bytes) } }
        guard try isWhole() else { return "a backup is not what was backed up" }
        try memory.pruneToTheEnd()
        guard try isWhole() else { return "a backup is lost after a prune" }
        let leftovers = try memory.leftovers()
        return leftovers.isEmpty ? nil : leftovers.joined(separator: "; ")
    }
}
