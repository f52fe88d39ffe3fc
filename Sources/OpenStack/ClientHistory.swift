import Primitives

/// Which clients were let in and which failed, lately: who was let in before goes before who was not, and who failed again and again
/// comes last. Bounded: who floods it with failures displaces nobody who was let in.
final class ClientHistory: Sendable {
    private struct Entry {
        var count: Int
        /// Of the monotonic clock.
        var at: Double
    }

    private struct State {
        var good: [Digest: Entry] = [:]
        var failures: [Digest: Entry] = [:]
    }

    private let state = Guarded(State())
    private let capacity: Int
    /// Seconds for which a success and a failure are remembered.
    private static let goodTime = 86_400.0
    private static let failureTime = 600.0
    /// A mistyped password or two is nobody's attack.
    private static let toleratedFailures = 2

    /// What comes after every rank that is given here.
    static let lastRank = 3

    init(capacity: Int = 10_000) { self.capacity = capacity }

    /// 0 for who was let in before and has not failed since, 2 for who failed often, 1 for everybody else.
    func rank(_ client: Digest, now: Double = Timestamp.monotonic()) -> Int {
        state.withLock { state in
            if let failed = state.failures[client], now - failed.at < Self.failureTime {
                return failed.count > Self.toleratedFailures ? 2 : 1
            }
            return state.good[client].map { now - $0.at < Self.goodTime } ?? false ? 0 : 1
        }
    }

    func add(_ client: Digest, isGood: Bool, now: Double = Timestamp.monotonic()) {
        state.withLock { state in
            if isGood {
                state.failures[client] = nil
                Self.makeRoom(&state.good, capacity)
                state.good[client] = Entry(count: 1, at: now)
            } else {
                Self.makeRoom(&state.failures, capacity)
                let before = state.failures[client].flatMap { now - $0.at < Self.failureTime ? $0.count : nil } ?? 0
                state.failures[client] = Entry(count: before + 1, at: now)
            }
        }
    }

    /// Drops the older half where there is no room.
    private static func makeRoom(_ entries: inout [Digest: Entry], _ capacity: Int) {
        guard entries.count >= capacity else { return }
        let middle = entries.values.map(\.at).sorted()[entries.count / 2]
        entries = entries.filter { $0.value.at > middle }
    }
}
