import CDriver
import DriverKit
import Glibc
import Synchronization

/// The connections to a share's server. A connection is used by one thread at a time. After the server has failed to reply, one caller tries
/// again after a pause; the others fail at once, so that an unreachable share does not delay calls for other shares.
package final class Connections: Sendable {
    package let address: ShareAddress
    private let connect: @Sendable (ShareAddress) throws -> Session
    private let state = Mutex(State())

    private struct State {
        var idle: [Session] = []
        var outage: Outage?
    }

    /// Why the share is not used at present.
    private struct Outage {
        let error: DriverError
        /// On the monotonic clock.
        var nextAttempt: Double
        var pause: Double
    }

    private static let (shortest, longest) = (0.5, 30.0)

    package init(_ address: ShareAddress, _ connect: @escaping @Sendable (ShareAddress) throws -> Session) {
        self.address = address
        self.connect = connect
    }

    /// Lends a connection; a failed one is not reused. `isOpening`: try even if the last attempt was a moment ago.
    package func with<T>(isOpening: Bool = false, _ body: (Session) throws -> T) throws -> T {
        let session = try take(isOpening: isOpening)
        defer { give(back: session) }
        return try body(session)
    }

    package func take(isOpening: Bool = false) throws -> Session {
        let now = Self.now()
        if isOpening { state.withLock { $0.outage = nil } }
        let idle = try state.withLock { state throws(DriverError) -> Session? in
            if let outage = state.outage {
                guard outage.nextAttempt <= now else { throw outage.error }
                state.outage?.nextAttempt = now + outage.pause
            }
            return state.idle.popLast()
        }
        if let idle { return idle }
        do { return try connect(address) } catch let error as DriverError {
            failed(error)
            // A share that worked when the backend was opened is expected to work again.
            throw isOpening ? error : DriverError(CLINKER_RETRY, error.message)
        }
    }

    package func give(back session: Session) {
        if let failure = session.failure { return failed(failure) }
        state.withLock { state in
            guard session.isUsable else { return }
            state.outage = nil
            if state.idle.count < 32 { state.idle.append(session) }
        }
    }

    private func failed(_ error: DriverError) {
        // Closed outside of the lock: closing may wait for a server that does not reply.
        let dropped = state.withLock { state -> [Session] in
            let pause = min(max(Self.shortest, (state.outage?.pause ?? 0) * 2), Self.longest)
            state.outage = Outage(error: DriverError(CLINKER_RETRY, error.message), nextAttempt: Self.now() + pause, pause: pause)
            defer { state.idle = [] }
            return state.idle
        }
        _ = dropped
    }

    package static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
