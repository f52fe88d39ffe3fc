import CDriver
import DriverKit
import Glibc

/// Sends secrets to tgtd over its management socket: arguments of tgtadm would be visible in the process list.
enum TGTManagement {
    static func makeAccount(_ credentials: CredentialStore.Credentials) throws {
        // The layout of tgtadm.h, in native byte order.
        var request: [UInt8] = []
        func add(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value) { request += $0 } }
        let text = Array("user=\(credentials.user),password=\(credentials.password)".utf8) + [0]
        add(account)
        add(new)
        request += Array("iscsi".utf8) + [UInt8](repeating: 0, count: nameLength - 5)
        add(UInt32(headerLength + text.count))
        // No target, session or unit: -1, 0, -1; no connection and host; disk, incoming, no packing, no force.
        add(Int32(-1))
        add(UInt64(0))
        add(UInt64.max)
        for _ in 0..<6 { add(UInt32(0)) }
        try send(request + text)
    }

    private static let (account, new) = (UInt32(7), UInt32(0))
    private static let (nameLength, headerLength) = (64, 120)

    private static func send(_ bytes: [UInt8]) throws {
        let path = (getenv("TGT_IPC_SOCKET").map { String(cString: $0) } ?? "/var/run/tgtd/socket") + ".0"
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "TGT_IPC_SOCKET is longer than a socket's name may be")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw failure("make a socket for") }
        defer { close(socket) }
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(socket, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        guard connected == 0 else { throw failure("connect to") }
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(socket, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
            guard count > 0 || errno == EINTR else { throw failure("write to") }
            sent += max(0, count)
        }
        var answer: (code: UInt32, length: UInt32) = (0, 0)
        let size = MemoryLayout.size(ofValue: answer)
        let received = withUnsafeMutableBytes(of: &answer) { recv(socket, $0.baseAddress!, size, Int32(MSG_WAITALL)) }
        guard received == size else { throw failure("read the answer of") }
        guard answer.code == 0 else { throw DriverError(CLINKER_ERROR, "tgtd cannot make an account: error \(answer.code)") }
    }

    private static func failure(_ what: String) -> DriverError {
        DriverError.last(CLINKER_RETRY, "cannot \(what) tgtd")
    }
}
