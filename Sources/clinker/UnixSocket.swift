import Glibc
import Primitives

/// Sockets that only this machine's processes reach, and of those only the service's user.
enum UnixSocket {
    /// A listening socket in place of what had the path. `path` may have 107 bytes; `shown` is what errors call it.
    static func listen(_ path: String, shown: String? = nil) throws(SystemError) -> Int32 {
        var address = sockaddr_un()
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw SystemError(ENAMETOOLONG, "cannot listen on \(shown ?? path)")
        }
        unlink(path)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard status == 0, chmod(path, 0o600) == 0, Glibc.listen(descriptor, 64) == 0 else {
            let code = errno
            close(descriptor)
            throw SystemError(code, "cannot listen on \(shown ?? path)")
        }
        return descriptor
    }
}
