import CDriver
import DriverKit
import Glibc
import Synchronization

/// A share and its connections, a failure domain of its own. A connection is used by one thread at a time. After the server has failed to
/// reply, one caller tries again after a pause; the others fail at once, so that an unreachable share does not delay calls for other
/// shares.
final class Share: Sendable {
    let address: ShareAddress
    private let access: FileAccess
    private let state = Mutex(State())

    private struct State {
        var idle: [Session] = []
        var outage: Outage?
        var mode: Int32?
        var refusal: DriverError?
    }

    /// Why the share is not used at present.
    private struct Outage {
        let error: DriverError
        /// On the monotonic clock.
        var nextAttempt: Double
        var pause: Double
    }

    private static let (shortest, longest) = (0.5, 30.0)

    init(_ address: ShareAddress, _ access: FileAccess) {
        self.address = address
        self.access = access
    }

    /// Why no volumes are created there: it is not writable.
    var refusal: DriverError? {
        get { state.withLock { $0.refusal } }
        set { state.withLock { $0.refusal = newValue } }
    }

    /// Lends a connection; a failed one is not reused. `isOpening`: try even if the last attempt was a moment ago.
    func with<T>(isOpening: Bool = false, _ body: (Session) throws -> T) throws -> T {
        let session = try take(isOpening: isOpening)
        defer { give(back: session) }
        return try body(session)
    }

    func take(isOpening: Bool = false) throws -> Session {
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
        do {
            let session = try Session(address)
            session.mode = { [weak self] in try self?.mode($0) ?? 0o660 }
            return session
        } catch let error as DriverError {
            failed(error)
            // A share that worked when the backend was opened is expected to work again.
            throw isOpening ? error : DriverError(CLINKER_RETRY, error.message)
        }
    }

    func give(back session: Session) {
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

    /// The permissions of new files, as configured or as determined from the share.
    private func mode(_ session: Session) throws -> Int32 {
        if let known = state.withLock({ $0.mode }) { return known }
        let mode = try access.mode(session)
        state.withLock { $0.mode = mode }
        return mode
    }

    static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// `nas_secure_file_permissions`: whether other users than the service's may open volumes.
enum FileAccess {
    case secure, open
    /// Secure unless the share holds volumes that others may open already. A marker file records the decision.
    case automatic

    private static let marker = ".cinderSecureEnvIndicator"

    init(_ text: String) throws {
        switch text.lowercased() {
        case "auto": self = .automatic
        case "true": self = .secure
        case "false": self = .open
        default: throw DriverError(CLINKER_BAD_CONFIGURATION, "nas_secure_file_permissions must be auto, true or false, not '\(text)'")
        }
    }

    fileprivate func mode(_ session: Session) throws -> Int32 {
        let (secureMode, openMode): (Int32, Int32) = (0o660, 0o666)
        switch self {
        case .secure: return secureMode
        case .open: return openMode
        case .automatic:
            if try session.size(of: Self.marker) != nil { return secureMode }
            let isOpen = try session.entries().contains { $0.isFile && !$0.name.hasPrefix(".") && $0.mode & 0o006 != 0 }
            guard !isOpen else { return openMode }
            try session.create(Self.marker, mode: 0o640).close()
            return secureMode
        }
    }
}
