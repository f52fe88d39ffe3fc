import Primitives

/// Holds work back that is faster than its limit. One for all parts of a job, from any thread.
final class TransferPace: Sendable {
    /// 0 for no limit.
    private let bytesPerSecond: Int
    private struct State { var bytes: UInt64 = 0, begunAt: Double? }
    private let state = Guarded(State())

    init(bytesPerSecond: Int) { self.bytesPerSecond = bytesPerSecond }

    /// Notes bytes that came or went, and waits until as many may have.
    ///
    /// - Parameter onWait: called about once a second.
    func pass(_ bytes: UInt64, onWait: () -> Void = {}) {
        guard bytesPerSecond > 0 else { return }
        let end = state.withLock { state in
            let begunAt = state.begunAt ?? Timestamp.monotonic()
            state.begunAt = begunAt
            state.bytes += bytes
            return begunAt + Double(state.bytes) / Double(bytesPerSecond)
        }
        while case let rest = end - Timestamp.monotonic(), rest > 0 {
            pause(min(rest, 1))
            onWait()
        }
    }
}
