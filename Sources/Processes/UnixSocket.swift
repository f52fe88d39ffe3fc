import Glibc
public import Primitives

/// Unix sockets with mode 0600.
public enum UnixSocket {
    /// Creates a listening socket. A dead socket of this user is replaced, nothing else.
    ///
    /// - Parameters:
    ///   - path: at most 107 bytes.
    ///   - shown: the path for error messages.
    public static func listen(_ path: String, shown: String? = nil) throws(SystemError) -> Int32 {
        var address = sockaddr_un()
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw SystemError(ENAMETOOLONG, "cannot listen on \(shown ?? path)")
        }
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        if try isDead(path, address, shown: shown ?? path) { unlink(path) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        let status = Self.with(address) { bind(descriptor, $0, $1) }
        guard status == 0, chmod(path, 0o600) == 0, Glibc.listen(descriptor, 64) == 0 else {
            let failure = SystemError.last("cannot listen on \(shown ?? path)")
            close(descriptor)
            throw failure
        }
        return descriptor
    }

    private static func with<T>(_ address: sockaddr_un, _ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
    }

    /// Whether the path is a dead socket of this user; false if it does not exist.
    ///
    /// - Throws: if it is a file, another user's socket, or a socket that somebody listens on.
    private static func isDead(_ path: String, _ address: sockaddr_un, shown: String) throws(SystemError) -> Bool {
        var info = stat()
        guard lstat(path, &info) == 0 else { return false }
        guard info.st_mode & S_IFMT == S_IFSOCK, info.st_uid == geteuid() else {
            throw SystemError(EEXIST, "cannot listen on \(shown), which is no socket of this user")
        }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { throw SystemError.last("cannot listen on \(shown)") }
        defer { close(descriptor) }
        let status = with(address) { connect(descriptor, $0, $1) }
        let code = errno
        guard status != 0, code == ECONNREFUSED else { throw SystemError(EADDRINUSE, "cannot listen on \(shown), where somebody listens") }
        return true
    }
}
