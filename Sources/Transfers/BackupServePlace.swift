import DriverHost
import Glibc
import Primitives
import Processes

/// Where, and for how long, a backup is served.
public struct BackupServePlace: Sendable {
    /// A Unix socket's path; nil: an IP address.
    public var socket: String?
    /// An IP address, of which a free port is taken. Who connects must know the token.
    public var host: String?
    public var token: String?
    public var seconds: Int

    public init(socket: String, seconds: Int) {
        self.socket = socket
        self.seconds = seconds
    }

    public init(host: String, token: String, seconds: Int) {
        self.host = host
        self.token = token
        self.seconds = seconds
    }

    var value: DriverValue {
        .members([
            "socket": .optional(socket), "host": .optional(host), "token": token.map { .secret($0) } ?? .null,
            "seconds": .integer(Int64(seconds)),
        ])
    }

    init(_ value: DriverValue) {
        socket = value["socket"]?.string
        host = value["host"]?.string
        token = value["token"]?.string
        seconds = Int(clamping: value["seconds"]?.integer ?? 0)
    }

    /// Listens there, and says where clients find it.
    func listen() throws -> (listener: Int32, address: String) {
        guard let host else {
            let path = socket ?? ""
            return (try UnixSocket.listen(path), "nbd+unix:///?socket=\(path)")
        }
        let (listener, port) = try Self.listen(on: host)
        return (listener, "nbd://\(host.contains(":") ? "[\(host)]" : host):\(port)/\(token ?? "")")
    }

    private static func listen(on host: String) throws -> (Int32, UInt16) {
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST | AI_PASSIVE
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "0", &hints, &found) == 0, let found else {
            throw DriverFailure(.badConfiguration, "backup_serve_address = \(host) is no IP address")
        }
        defer { freeaddrinfo(found) }
        let descriptor = Glibc.socket(found.pointee.ai_family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SystemError.last("cannot listen on \(host)") }
        guard bind(descriptor, found.pointee.ai_addr, found.pointee.ai_addrlen) == 0, Glibc.listen(descriptor, 16) == 0 else {
            let failure = SystemError.last("cannot listen on \(host)")
            close(descriptor)
            throw failure
        }
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard status == 0 else {
            let failure = SystemError.last("the port of \(host) cannot be found out")
            close(descriptor)
            throw failure
        }
        // The port lies at the same place in both families.
        let port = withUnsafeBytes(of: address) { UInt16($0[2]) << 8 | UInt16($0[3]) }
        return (descriptor, port)
    }
}
