import Primitives

/// How a running backup or restore is watched, slowed down and stopped. Safe to use from any thread.
public final class TransferControl: Sendable {
    /// What was done until now.
    public struct Progress: Sendable, Equatable {
        /// Bytes of the volume that are done, holes and unchanged parts included, and all of them.
        public var done: UInt64 = 0
        public var total: UInt64 = 0
        /// Bytes read from the source, or written to the target.
        public var moved: UInt64 = 0
        /// Bytes put into the store, or read from it.
        public var stored: UInt64 = 0
        /// Where something had changed that the source did not tell of; nil: nothing is known of such a place.
        public var missedChange: UInt64?
    }

    private struct State {
        var progress = Progress()
        var isCancelled = false
        var reported = 0.0
        /// When the bytes that were admitted until now will have passed at the permitted rate.
        var dueTime = 0.0
    }

    private let state = Guarded(State())
    private let bytesPerSecond: Double?
    private let report: Report

    private struct Report: Sendable { let body: (@Sendable (Progress) -> Void)? }

    /// - Parameters:
    ///   - bytesPerSecond: a limit for the bytes read from the source or written to the target; nil for none.
    ///   - progress: called at most twice a second, on a thread of the transfer, which it must not hold up.
    public init(bytesPerSecond: UInt64? = nil, progress: (@Sendable (Progress) -> Void)? = nil) {
        self.bytesPerSecond = bytesPerSecond.map { Double(max(1, $0)) }
        report = Report(body: progress)
    }

    /// Stops the transfer at the next chunk; it ends with an error that says so.
    public func cancel() { state.withLock { $0.isCancelled = true } }

    public var isCancelled: Bool { state.withLock { $0.isCancelled } }
    public var progress: Progress { state.withLock { $0.progress } }

    /// Changes the progress, and reports it if it is time to.
    func advance(_ change: (inout Progress) -> Void) {
        let due: Progress? = state.withLock { state in
            change(&state.progress)
            guard report.body != nil else { return nil }
            let now = Timestamp.monotonic()
            guard now - state.reported >= 0.5 else { return nil }
            state.reported = now
            return state.progress
        }
        if let due { report.body?(due) }
    }

    /// Says, as every progress does, that the transfer lives, where nothing tells how far it is.
    public func reportLife() { advance { _ in } }

    /// Reports at once that the source did not tell of a change: it must not be asked for changes again, whatever becomes of the transfer.
    func noteMissedChange(at offset: UInt64) {
        let progress = state.withLock { state in
            state.progress.missedChange = offset
            return state.progress
        }
        report.body?(progress)
    }

    /// Waits until so many more bytes may move. A cancellation ends the wait.
    func admit(_ count: Int) {
        guard let bytesPerSecond else { return }
        let due = state.withLock { state -> Double in
            // Time that passed unused is not saved up beyond a quarter of a second.
            state.dueTime = max(state.dueTime, Timestamp.monotonic() - 0.25) + Double(count) / bytesPerSecond
            return state.dueTime
        }
        while !isCancelled {
            let rest = due - Timestamp.monotonic()
            guard rest > 0 else { return }
            pause(min(rest, 0.2))
        }
    }
}
