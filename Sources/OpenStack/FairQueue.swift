import Glibc
import Primitives

/// A client that waits for authentication.
public struct Asker: Sendable {
    /// The address, or the IPv6 network, that turns are counted by.
    let share: String
    /// Whether the client is still connected.
    let isPresent: @Sendable () -> Bool

    public init(address: String, isPresent: @escaping @Sendable () -> Bool) {
        share = Self.share(of: address)
        self.isPresent = isPresent
    }

    /// A client may have all addresses of an IPv6 /64 network, so they count as one.
    static func share(of address: String) -> String {
        var bytes = in6_addr()
        guard inet_pton(AF_INET6, address, &bytes) == 1 else { return address }
        return withUnsafeBytes(of: &bytes) { raw in
            let mapped = raw[..<10].allSatisfy { $0 == 0 } && raw[10] == 0xFF && raw[11] == 0xFF
            return (mapped ? raw[12...] : raw[..<8]).map { String($0, radix: 16) }.joined(separator: ":")
        }
    }
}

/// A bounded queue for work that unauthenticated clients cause: hashing a password, asking Keystone. The number of waiting items is limited
/// in total and per client. Clients of a lower rank are served first; among these, groups have their turns one after the other, however
/// many clients and however much work each has. A group's newest item is served first, and a client's oldest is dropped when there is no
/// room, so that a request after a burst is served at once. Work whose clients have gone is not started.
final class FairQueue: Sendable {
    /// Who brings work: a member of a group that shares its turns.
    struct Client: Hashable, Sendable {
        let group: String
        let member: String

        init(_ group: String, member: String = "") {
            self.group = group
            self.member = member
        }
    }

    private struct Job {
        let number: Int
        let isWanted: @Sendable () -> Bool
        let work: @Sendable () -> Void
        let drop: @Sendable () -> Void
    }

    private struct Line {
        /// The newest last, never empty.
        var jobs: [Job]
        /// The lowest goes first.
        var rank: @Sendable () -> Int
    }

    private struct State {
        var waiting: [Client: Line] = [:]
        /// When each group that waits had its last turn, or began to wait.
        var turns: [String: Int] = [:]
        var count = 0
        /// Orders arrivals and turns.
        var clock = 0
    }

    private let state = Guarded(State())
    private let signal = Semaphore()
    private let capacity: Int
    private let share: Int

    /// `capacity`: how much may wait, in all; `share`: of one client.
    init(name: String, threads: Int, capacity: Int, share: Int) {
        self.capacity = capacity
        self.share = share
        for index in 0..<threads {
            startThread("\(name)-\(index)") { [self] in
                while true {
                    signal.wait()
                    guard let job = next() else { continue }
                    if job.isWanted() { job.work() } else { job.drop() }
                }
            }
        }
    }

    /// Does the work on a thread of the queue and returns its result; nil if it was dropped. The rank is read at every turn: what is
    /// learned of a client counts for its waiting items.
    func run<T: Sendable>(
        for client: Client, rank: @escaping @Sendable () -> Int, while isWanted: @escaping @Sendable () -> Bool,
        _ work: @escaping @Sendable () -> T
    ) async -> T? {
        await withCheckedContinuation { continuation in
            add(
                for: client, rank: rank, while: isWanted, work: { continuation.resume(returning: work()) },
                drop: { continuation.resume(returning: nil) })
        }
    }

    /// Runs exactly one of the two: the work on a thread of the queue, or the closure for dropped work.
    func add(
        for client: Client, rank: @escaping @Sendable () -> Int = { 0 }, while isWanted: @escaping @Sendable () -> Bool = { true },
        work: @escaping @Sendable () -> Void, drop: @escaping @Sendable () -> Void
    ) {
        let dropped = state.withLock { state -> Job? in
            state.clock += 1
            if state.turns[client.group] == nil { state.turns[client.group] = state.clock }
            let job = Job(number: state.clock, isWanted: isWanted, work: work, drop: drop)
            state.waiting[client, default: Line(jobs: [], rank: rank)].jobs.append(job)
            state.count += 1
            if let mine = state.waiting[client], mine.jobs.count > share { return Self.take(of: client, oldest: true, &state) }
            guard state.count > capacity, let client = Self.mostInTheWay(state) else { return nil }
            return Self.take(of: client, oldest: true, &state)
        }
        if let dropped { dropped.drop() } else { signal.post() }
    }

    private static func take(of client: Client, oldest: Bool, _ state: inout State) -> Job? {
        guard var line = state.waiting[client] else { return nil }
        let job = oldest ? line.jobs.removeFirst() : line.jobs.removeLast()
        state.waiting[client] = line.jobs.isEmpty ? nil : line
        if line.jobs.isEmpty, !state.waiting.keys.contains(where: { $0.group == client.group }) { state.turns[client.group] = nil }
        state.count -= 1
        return job
    }

    /// Of those whom everybody else goes before, who has brought most with his group; of equals who has waited longest.
    private static func mostInTheWay(_ state: State) -> Client? {
        var groups: [String: Int] = [:]
        for (client, line) in state.waiting { groups[client.group, default: 0] += line.jobs.count }
        func order(_ entry: (key: Client, value: Line)) -> (Int, Int, Int, Int) {
            (entry.value.rank(), groups[entry.key.group] ?? 0, entry.value.jobs.count, -(entry.value.jobs.first?.number ?? 0))
        }
        return state.waiting.max { order($0) < order($1) }?.key
    }

    private func next() -> Job? {
        state.withLock { state in
            var best: (client: Client, order: (Int, Int, Int))?
            for (client, line) in state.waiting {
                let order = (line.rank(), state.turns[client.group] ?? 0, -(line.jobs.last?.number ?? 0))
                if best.map({ order < $0.order }) ?? true { best = (client, order) }
            }
            guard let best else { return nil }
            state.clock += 1
            state.turns[best.client.group] = state.clock
            return Self.take(of: best.client, oldest: false, &state)
        }
    }

    /// The number of waiting items, for tests.
    var count: Int { state.withLock { $0.count } }
}
