import BlockStorage
import DriverHost
import Primitives

/// A value that one task waits for.
final class Promise: Sendable {
    private enum State: Sendable {
        case empty
        case waiting(CheckedContinuation<DriverValue, any Error>)
        case full(Result<DriverValue, any Error>)
        case taken
    }
    private let state = Guarded(State.empty)

    /// False if it had a value already.
    @discardableResult
    func fulfil(_ result: Result<DriverValue, any Error>) -> Bool {
        let (waiter, isFirst): (CheckedContinuation<DriverValue, any Error>?, Bool) = state.withLock { state in
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
    func value(within seconds: Double, onTimeout: @escaping @Sendable () -> Void) async throws -> DriverValue {
        let deadline = Deadlines.shared.add(seconds) { [self] in
            // Too late if the value was just there.
            if fulfil(.failure(StorageError(.timeout, "Timeout while waiting on the backend."))) { onTimeout() }
        }
        defer { Deadlines.shared.remove(deadline) }
        return try await withCheckedThrowingContinuation { continuation in
            let result: Result<DriverValue, any Error>? = state.withLock { state in
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

/// What happens at a time unless it is called off before, to a quarter of a second. One sleep for all of it: one that is cancelled keeps
/// its memory until it would have ended.
final class Deadlines: Sendable {
    static let shared = Deadlines()

    private struct Deadline {
        let at: Double
        let act: @Sendable () -> Void
    }
    private struct State {
        var deadlines: [UInt64: Deadline] = [:]
        var next: UInt64 = 0
        var isKeepingTime = false
    }
    private let state = Guarded(State())

    /// The number by which it is called off.
    func add(_ seconds: Double, _ act: @escaping @Sendable () -> Void) -> UInt64 {
        let (number, isKeepingTime) = state.withLock { state in
            state.next += 1
            state.deadlines[state.next] = Deadline(at: Timestamp.monotonic() + seconds, act: act)
            defer { state.isKeepingTime = true }
            return (state.next, state.isKeepingTime)
        }
        if !isKeepingTime { Task { await keepTime() } }
        return number
    }

    func remove(_ number: UInt64) { state.withLock { _ = $0.deadlines.removeValue(forKey: number) } }

    private func keepTime() async {
        while true {
            try? await Task.sleep(nanoseconds: 250_000_000)
            let now = Timestamp.monotonic()
            let due = state.withLock { state -> [Deadline]? in
                if state.deadlines.isEmpty {
                    state.isKeepingTime = false
                    return nil
                }
                let due = state.deadlines.filter { $0.value.at <= now }
                for number in due.keys { state.deadlines[number] = nil }
                return Array(due.values)
            }
            guard let due else { return }
            for deadline in due { deadline.act() }
        }
    }
}
