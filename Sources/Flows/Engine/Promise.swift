import BlockStorage
import Primitives

/// A value that one task waits for.
final class Promise<Value: Sendable>: Sendable {
    private enum State: Sendable {
        case empty
        case waiting(CheckedContinuation<Value, any Error>)
        case full(Result<Value, any Error>)
        case taken
    }
    private let state = Guarded(State.empty)

    /// False if it had a value already.
    @discardableResult
    func fulfil(_ result: Result<Value, any Error>) -> Bool {
        let (waiter, isFirst): (CheckedContinuation<Value, any Error>?, Bool) = state.withLock { state in
            switch state {
            case .empty:
                state = .full(result)
                return (nil, true)
            case .waiting(let continuation):
                state = .taken
                return (continuation, true)
            case .full, .taken: return (nil, false)
            }
        }
        waiter?.resume(with: result)
        return isFirst
    }

    /// The value. Throws Cinder's time-out after `seconds`, and calls `onTimeout` then.
    func value(within seconds: Double, onTimeout: @escaping @Sendable () -> Void) async throws -> Value {
        let deadline = Deadlines.shared.add(seconds) { [self] in
            // Too late if the value was just there.
            if fulfil(.failure(StorageError(.timeout, "Timeout while waiting on the backend."))) { onTimeout() }
        }
        defer { Deadlines.shared.remove(deadline) }
        return try await withCheckedThrowingContinuation { continuation in
            let result: Result<Value, any Error>? = state.withLock { state in
                if case .full(let result) = state {
                    state = .taken
                    return result
                }
                state = .waiting(continuation)
                return nil
            }
            if let result { continuation.resume(with: result) }
        }
    }
}
