import Glibc
import Primitives

/// What a transfer process must do before it ends early: where its core cancels the job, or is gone.
final class JobEnd: Sendable {
    private let state = Guarded<(isWanted: Bool, end: (@Sendable () -> Void)?)>((false, nil))

    /// Seconds that it may take.
    private static let patience = 5.0

    /// Says what is to be done; does it at once if the process is to end.
    func set(_ end: @escaping @Sendable () -> Void) {
        let isWanted = state.withLock { state in
            state.end = end
            return state.isWanted
        }
        guard isWanted else { return }
        end()
        _exit(0)
    }

    /// Does it. The process ends, whether that succeeds or not.
    ///
    /// - Parameter waits: the job has something to do at its end, which it may still be about to say.
    func run(waits: Bool) -> Never {
        startThread("job-end") {
            pause(Self.patience)
            _exit(0)
        }
        let end = state.withLock { state in
            state.isWanted = true
            return state.end
        }
        if let end { end() } else if waits { pause(2 * Self.patience) }
        _exit(0)
    }
}
