import Glibc
import Primitives

/// Who waits for an answer about a secret.
public struct Asker: Sendable {
    /// Whom turns are counted for.
    let share: String
    /// Whether anybody is still there to hear the answer.
    let isPresent: @Sendable () -> Bool

    public init(address: String, isPresent: @escaping @Sendable () -> Bool) {
        share = Self.share(of: address)
        self.isPresent = isPresent
    }

    /// One who has an IPv6 network has as many addresses of it as he likes.
    static func share(of address: String) -> String {
        var bytes = in6_addr()
        guard inet_pton(AF_INET6, address, &bytes) == 1 else { return address }
        return withUnsafeBytes(of: &bytes) { raw in
            let mapped = raw[..<10].allSatisfy { $0 == 0 } && raw[10] == 0xFF && raw[11] == 0xFF
            return (mapped ? raw[12...] : raw[..<8]).map { String($0, radix: 16) }.joined(separator: ":")
        }
    }
}

/// Work that strangers can cause before it is known who they are: hashing a password, asking Keystone. What waits is bounded, in all
/// and for each client. Clients have their turns one after the other, however much each brings. Of one client the newest goes first and
/// the oldest is dropped when there is no room: after a burst whoever comes next is served at once. Work that nobody waits for any more is
/// never begun.
final class FairQueue: Sendable {
    private struct Job {
        let isWanted: @Sendable () -> Bool
        let work: @Sendable () -> Void
        let drop: @Sendable () -> Void
    }

    private struct State {
        /// The newest last.
        var waiting: [String: [Job]] = [:]
        /// Who has work that waits, the next one first.
        var turns: [String] = []
        var count = 0
    }

    private let state = Guarded(State())
    private let signal = Semaphore()
    private let capacity: Int
    private let share: Int

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

    /// What the work gives, done on a thread of the queue; nil if it was dropped.
    func run<T: Sendable>(
        for client: String, while isWanted: @escaping @Sendable () -> Bool, _ work: @escaping @Sendable () -> T
    ) async -> T? {
        await withCheckedContinuation { continuation in
            add(
                for: client, while: isWanted, work: { continuation.resume(returning: work()) },
                drop: { continuation.resume(returning: nil) })
        }
    }

    /// Does the work on a thread of the queue, or drops it; never both.
    func add(
        for client: String, while isWanted: @escaping @Sendable () -> Bool = { true }, work: @escaping @Sendable () -> Void,
        drop: @escaping @Sendable () -> Void
    ) {
        let job = Job(isWanted: isWanted, work: work, drop: drop)
        let dropped = state.withLock { state -> Job? in
            if state.waiting[client] == nil { state.turns.append(client) }
            state.waiting[client, default: []].append(job)
            state.count += 1
            if state.waiting[client, default: []].count > share { return Self.dropOldest(of: client, &state) }
            guard state.count > capacity else { return nil }
            // Who has brought most gives way.
            let longest = state.waiting.max { $0.value.count < $1.value.count }?.key ?? client
            return Self.dropOldest(of: longest, &state)
        }
        if let dropped { dropped.drop() } else { signal.post() }
    }

    private static func dropOldest(of client: String, _ state: inout State) -> Job? {
        guard var jobs = state.waiting[client], !jobs.isEmpty else { return nil }
        let oldest = jobs.removeFirst()
        state.waiting[client] = jobs.isEmpty ? nil : jobs
        if jobs.isEmpty { state.turns.removeAll { $0 == client } }
        state.count -= 1
        return oldest
    }

    private func next() -> Job? {
        state.withLock { state in
            guard !state.turns.isEmpty else { return nil }
            let client = state.turns.removeFirst()
            guard var jobs = state.waiting[client], let job = jobs.popLast() else { return nil }
            state.waiting[client] = jobs.isEmpty ? nil : jobs
            if !jobs.isEmpty { state.turns.append(client) }
            state.count -= 1
            return job
        }
    }

    /// How much waits, for tests.
    var count: Int { state.withLock { $0.count } }
}
