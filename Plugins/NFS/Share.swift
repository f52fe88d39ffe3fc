import CDriver
import DriverKit
import Glibc
import NFSClient
import Synchronization

/// A share and its connections, a failure domain of its own.
final class Share: Sendable {
    private let connections: Connections
    private let refused = Mutex<DriverError?>(nil)

    init(_ address: ShareAddress, _ access: FileAccess) {
        let modes = FileModes(access)
        connections = Connections(address) {
            let session = try Session($0)
            session.mode = { try modes.mode($0) }
            return session
        }
    }

    var address: ShareAddress { connections.address }

    /// Why no volumes are created there: it is not writable.
    var refusal: DriverError? {
        get { refused.withLock { $0 } }
        set { refused.withLock { $0 = newValue } }
    }

    /// Lends a connection; a failed one is not reused. `isOpening`: try even if the last attempt was a moment ago.
    func with<T>(isOpening: Bool = false, _ body: (Session) throws -> T) throws -> T {
        try connections.with(isOpening: isOpening, body)
    }

    func take() throws -> Session { try connections.take() }

    func give(back session: Session) { connections.give(back: session) }

    static func now() -> Double { Connections.now() }
}

/// The permissions of new files, as configured or as determined from the share.
private final class FileModes: Sendable {
    private let access: FileAccess
    private let known = Mutex<Int32?>(nil)

    init(_ access: FileAccess) { self.access = access }

    func mode(_ session: Session) throws -> Int32 {
        if let known = known.withLock({ $0 }) { return known }
        let mode = try access.mode(session)
        known.withLock { $0 = mode }
        return mode
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
