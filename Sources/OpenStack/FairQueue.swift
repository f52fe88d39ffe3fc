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
/// in total and per client. Clients are served in turn, however much work each of them has. A client's newest item is served first, and its
/// oldest is dropped when there is no room, so that a request after a burst is served at once. Work whose clients have gone is not started.
final class FairQueue: Sendable {
    private struct Job {
        let isWanted: @Sendable () -> Bool
        let work: @Sendable () -> Void
        let drop: @Sendable () -> Void
    }

    private struct State {
        /// Waiting items, newest last.
        var waiting: [String: [Job]] = [:]
        /// Clients with waiting items, in the order of their turns.
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

    /// Does the work on a thread of the queue and returns its result; nil if it was dropped.
    func run<T: Sendable>(
        for client: String, while isWanted: @escaping @Sendable () -> Bool, _ work: @escaping @Sendable () -> T
    ) async -> T? {
        await withCheckedContinuation { continuation in
            add(
                for: client, while: isWanted, work: { continuation.resume(returning: work()) },
                drop: { continuation.resume(returning: nil) })
        }
    }

    /// Runs exactly one of the two: the work on a thread of the queue, or the closure for dropped work.
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
            // The client with the most items loses one.
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

    /// The number of waiting items, for tests.
    var count: Int { state.withLock { $0.count } }
}
