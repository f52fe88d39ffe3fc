import CLinux
import CMicroHTTPD
import Glibc

/// Takes a connection over from libmicrohttpd once the response's head is sent. When libmicrohttpd asks for the first bytes of the body,
/// the connection is suspended, which removes its descriptor from epoll; the descriptor is duplicated and replaced by another socket,
/// which libmicrohttpd closes when it is told that the body failed. With TLS libmicrohttpd keeps the connection, and the content goes through a
/// pipe.
final class Handover: @unchecked Sendable {
    private let connection: OpaquePointer
    private let server: HTTPServer
    private let address: String
    private let isChunked: Bool
    private var stream: (any HTTPStream)?
    private var isAway = false
    private var pipe: LibraryPipe?

    private init(_ stream: any HTTPStream, _ connection: OpaquePointer, _ server: HTTPServer, address: String, isChunked: Bool) {
        self.stream = stream
        self.connection = connection
        self.server = server
        self.address = address
        self.isChunked = isChunked
    }

    static func response(
        _ stream: any HTTPStream, _ connection: OpaquePointer, _ server: HTTPServer, address: String, isChunked: Bool
    ) -> OpaquePointer? {
        let me = Unmanaged.passRetained(Handover(stream, connection, server, address: address, isChunked: isChunked)).toOpaque()
        let response = MHD_create_response_from_callback(
            UInt64.max, 1024,
            { raw, _, buffer, most in
                guard let raw, let buffer else { return -2 }
                let me = Unmanaged<Handover>.fromOpaque(raw).takeUnretainedValue()
                return me.server.tls == nil ? me.advance() : me.read(into: buffer, atMost: most)
            }, me,
            { raw in
                guard let raw else { return }
                let me = Unmanaged<Handover>.fromOpaque(raw).takeRetainedValue()
                me.pipe?.closed()
                // A HEAD request, or a client that left before the head was sent.
                me.stream?.closed()
            })
        if response == nil { Unmanaged<Handover>.fromOpaque(me).release() }
        return response
    }

    /// libmicrohttpd's content reader: 0 when the connection was suspended, -2 to close it.
    private func advance() -> Int {
        guard !isAway, let stream else { return -2 }
        let descriptor = clinker_connection_socket(connection)
        let own = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        guard own >= 0 else { return -2 }
        isAway = true
        MHD_suspend_connection(connection)
        defer { MHD_resume_connection(connection) }
        guard dup3(server.standIn, descriptor, O_CLOEXEC) >= 0,
            server.streams.take(own, stream, address: address, isChunked: isChunked)
        else {
            close(own)
            return 0
        }
        self.stream = nil
        return 0
    }

    private func read(into buffer: UnsafeMutablePointer<CChar>, atMost most: Int) -> Int {
        if let pipe { return pipe.read(into: buffer, atMost: most) }
        guard !isAway, let stream else { return -2 }
        isAway = true
        // Another descriptor of the socket tells when the client leaves: libmicrohttpd does not while the connection is suspended.
        let own = fcntl(clinker_connection_socket(connection), F_DUPFD_CLOEXEC, 3)
        guard own >= 0 else { return -2 }
        let pipe = LibraryPipe(connection)
        guard server.streams.take(own, stream, through: pipe, address: address, isChunked: false) else {
            close(own)
            return -2
        }
        self.stream = nil
        self.pipe = pipe
        return pipe.read(into: buffer, atMost: most)
    }
}
