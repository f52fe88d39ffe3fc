import Primitives

/// TTL cache of authentication results; coalesces concurrent lookups of the same secret. Positive and negative results are kept apart, so
/// that a flood of invalid secrets evicts no valid one.
final class VerdictCache<Good: Sendable>: Sendable {
    enum Verdict: Sendable {
        case valid(Good)
        case invalid

        var isValid: Bool { if case .valid = self { true } else { false } }
    }
    typealias Outcome = Result<Verdict, Unavailable>

    private struct Entry: Sendable {
        let verdict: Verdict
        /// The end of its validity, by the monotonic clock.
        let expires: Double
    }

    private struct Waiter {
        let continuation: CheckedContinuation<Outcome, Never>
        let isPresent: @Sendable () -> Bool
    }

    private struct State {
        var good: [Digest: Entry] = [:]
        var bad: [Digest: Entry] = [:]
        var waiting: [Digest: [Waiter]] = [:]
    }

    private let state = Guarded(State())
    private let seconds: Double
    private let capacity: Int

    init(seconds: Double, capacity: Int = 20_000) {
        self.seconds = seconds
        self.capacity = capacity
    }

    /// The cached result.
    func find(_ key: Digest, now: Double = Timestamp.monotonic()) -> Verdict? {
        state.withLock { state in
            if let entry = state.good[key] ?? state.bad[key], entry.expires > now { return entry.verdict }
            return nil
        }
    }

    /// The cached result, or the result of `ask`; concurrent callers with the same secret wait for one call of `ask`, which can find out
    /// whether any of them is still there.
    func find(
        _ key: Digest, isPresent: @escaping @Sendable () -> Bool,
        ask: @escaping @Sendable (_ isWanted: @escaping @Sendable () -> Bool) async -> Outcome
    ) async -> Outcome {
        if let known = find(key) { return .success(known) }
        return await withCheckedContinuation { continuation in
            let isFirst = state.withLock { state in
                state.waiting[key, default: []].append(Waiter(continuation: continuation, isPresent: isPresent))
                return state.waiting[key]?.count == 1
            }
            guard isFirst else { return }
            Task {
                let outcome = await ask { [self] in state.withLock { $0.waiting[key]?.contains { $0.isPresent() } ?? false } }
                let waiters = state.withLock { state in
                    if case .success(let verdict) = outcome { store(verdict, key, &state) }
                    return state.waiting.removeValue(forKey: key) ?? []
                }
                for waiter in waiters { waiter.continuation.resume(returning: outcome) }
            }
        }
    }

    private func store(_ verdict: Verdict, _ key: Digest, _ state: inout State) {
        let now = Timestamp.monotonic()
        guard seconds > 0 else { return }
        let entry = Entry(verdict: verdict, expires: now + seconds)
        if case .valid = verdict {
            Self.makeRoom(&state.good, capacity, now)
            state.good[key] = entry
            state.bad[key] = nil
        } else {
            Self.makeRoom(&state.bad, capacity, now)
            state.bad[key] = entry
        }
    }

    /// Removes expired entries; if that is not enough, the half that expires first.
    private static func makeRoom(_ entries: inout [Digest: Entry], _ capacity: Int, _ now: Double) {
        guard entries.count >= capacity else { return }
        entries = entries.filter { $0.value.expires > now }
        guard entries.count >= capacity else { return }
        let middle = entries.values.map(\.expires).sorted()[entries.count / 2]
        entries = entries.filter { $0.value.expires > middle }
    }
}

/// The identity service cannot be asked: the caller is neither accepted nor refused, and gets 503.
public struct Unavailable: Error, CustomStringConvertible, Sendable {
    public let description: String
    /// Whether the reason is that too many requests are waiting.
    public let isBusy: Bool

    public init(description: String, isBusy: Bool = false) {
        self.description = description
        self.isBusy = isBusy
    }

    static let busy = Unavailable(description: "too many wait to be identified", isBusy: true)
}
