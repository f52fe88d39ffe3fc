import Glibc
import Primitives
import Settings

/// The address of the API, resolved once, so that the checked address is the one that is bound.
struct ListenAddress {
    /// The configured name or address.
    let name: String
    private let port: Int
    private let family: Int32
    private let bytes: [UInt8]

    init(_ name: String, _ port: Int) throws(SettingsError) {
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(name, String(port), &hints, &found)
        guard status == 0, let info = found, let address = info.pointee.ai_addr else {
            throw SettingsError(["osapi_volume_listen = \(name): \(String(cString: gai_strerror(status)))"])
        }
        defer { freeaddrinfo(found) }
        self.name = name
        self.port = port
        family = info.pointee.ai_family
        bytes = Array(UnsafeRawBufferPointer(start: address, count: Int(info.pointee.ai_addrlen)))
    }

    /// Whether it is a loopback address.
    var isLoopback: Bool {
        bytes.withUnsafeBytes { raw in
            switch family {
            case AF_INET where raw.count >= MemoryLayout<sockaddr_in>.size:
                return raw.loadUnaligned(as: sockaddr_in.self).sin_addr.s_addr.bigEndian >> 24 == 127
            case AF_INET6 where raw.count >= MemoryLayout<sockaddr_in6>.size:
                var address = raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr
                return withUnsafeBytes(of: &address) { bytes in
                    let isMapped = bytes[..<10].allSatisfy { $0 == 0 } && bytes[10] == 0xFF && bytes[11] == 0xFF
                    return isMapped ? bytes[12] == 127 : bytes[..<15].allSatisfy { $0 == 0 } && bytes[15] == 1
                }
            default: return false
            }
        }
    }

    func listen() throws -> Int32 {
        let descriptor = Glibc.socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else {
            throw SystemError.last("no socket for \(name)")
        }
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        let code = bytes.withUnsafeBytes { raw -> Int32 in
            guard let address = raw.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                bind(descriptor, address, socklen_t(raw.count)) == 0, Glibc.listen(descriptor, 4096) == 0
            else { return errno }
            return 0
        }
        guard code == 0 else {
            close(descriptor)
            if code == EADDRINUSE {
                throw SettingsError(["\(name):\(port) is in use by another program: stop it, or set osapi_volume_listen_port"])
            }
            throw SystemError(code, "cannot listen on \(name):\(port)")
        }
        return descriptor
    }
}
