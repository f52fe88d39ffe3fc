import CDriver
import DriverKit
import Glibc

/// An exported directory, `host:/path`, with its mount options. IPv6 addresses are in brackets: `[::1]:/path`.
package struct ShareAddress: Equatable {
    package let host, path: String
    /// nil to ask the server's portmapper.
    package var port: Int?, mountPort: Int?
    /// Time-out of a request in seconds (`timeo`, in tenths); nil for the default.
    package var patience: Int?
    /// Mount options as configured, which clients receive.
    package var options: String?

    /// The form that users and clients see.
    package var text: String { host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(path)" : "\(host):\(path)" }

    /// Parses `host:/path` with mount options such as `vers=3,port=2049`. Throws an error that names the problem.
    ///
    /// - Parameter optionName: the configuration option that holds the mount options, for messages.
    package init(_ text: String, options: String?, named optionName: String = "nfs_mount_options") throws(DriverError) {
        let wrong = DriverError(CLINKER_BAD_CONFIGURATION, "the share '\(text)' must be host:/path")
        let bytes = Array(text.utf8)
        guard let end = bytes.firstRange(of: Array(":/".utf8))?.lowerBound else { throw wrong }
        var name = bytes[..<end]
        if name.first == UInt8(ascii: "["), name.last == UInt8(ascii: "]") { name = name.dropFirst().dropLast() }
        // A host name contains none of these; an IPv6 address contains colons.
        guard !name.isEmpty, !name.contains(where: { [UInt8(ascii: "/"), UInt8(ascii: "["), UInt8(ascii: "]")].contains($0) }) else {
            throw wrong
        }
        host = String(decoding: name, as: UTF8.self)
        var directory = bytes[(end + 1)...]
        while directory.count > 1, directory.last == UInt8(ascii: "/") { directory = directory.dropLast() }
        path = String(decoding: directory, as: UTF8.self)
        self.options = options
        for option in (options ?? "").split(separator: ",") {
            let parts = option.split(separator: "=", maxSplits: 1).map(String.init)
            let value = parts.count == 2 ? parts[1] : ""
            switch parts[0] {
            case "port": port = try Self.number(value, option, in: 1...65_535, "a port", optionName)
            case "mountport": mountPort = try Self.number(value, option, in: 1...65_535, "a port", optionName)
            case "timeo":
                patience = max(1, try Self.number(value, option, in: 1...36_000, "a number of tenths of a second", optionName) / 10)
            case "vers", "nfsvers":
                guard value == "3" || value == "3.0" else {
                    throw DriverError(CLINKER_BAD_CONFIGURATION, "\(optionName): \(option): this driver speaks NFS version 3")
                }
            // Other options only concern clients that mount the share.
            default: break
            }
        }
    }

    private static func number(_ value: String, _ option: Substring, in range: ClosedRange<Int>, _ what: String, _ name: String)
        throws(DriverError) -> Int
    {
        guard let number = Int(value), range.contains(number) else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(name): \(option): not \(what)")
        }
        return number
    }

    /// Whether the server accepts connections, within seconds: libnfs itself waits for the kernel's connection time-out.
    package func reach(within seconds: Int32) throws(DriverError) {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        // The portmapper's port if it has to be asked.
        let result = getaddrinfo(host, String(mountPort ?? 111), &hints, &found)
        guard result == 0, let found else {
            throw DriverError(CLINKER_RETRY, "\(text): the host is not known: \(String(cString: gai_strerror(result)))")
        }
        defer { freeaddrinfo(found) }
        var problem = Int32(0)
        var next: UnsafeMutablePointer<addrinfo>? = found
        while let address = next?.pointee {
            problem = Self.connect(address, within: seconds)
            if problem == 0 { return }
            next = address.ai_next
        }
        throw DriverError(CLINKER_RETRY, "\(text) cannot be mounted", errno: problem)
    }

    /// 0, or the error number.
    private static func connect(_ address: addrinfo, within seconds: Int32) -> Int32 {
        let descriptor = socket(address.ai_family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        guard Glibc.connect(descriptor, address.ai_addr, address.ai_addrlen) != 0 else { return 0 }
        let code = errno
        guard code == EINPROGRESS else { return code }
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        var count: Int32
        repeat { count = poll(&waiting, 1, seconds * 1000) } while count < 0 && errno == EINTR
        guard count > 0 else { return ETIMEDOUT }
        var problem = Int32(0)
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &length) == 0 else { return errno }
        return problem
    }
}
