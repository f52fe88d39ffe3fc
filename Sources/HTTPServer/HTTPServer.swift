import CGnuTLS
import CLinux
import CMicroHTTPD
import Glibc
import Observability
public import Primitives
import Synchronization

/// An HTTP/1.1 server on libmicrohttpd: epoll, a small thread pool, connections suspended while a handler waits.
///
/// A request that waits for nothing is answered on the connection's thread without a task. Work that may wait is started there with
/// `Task.immediate`; if it does wait, its connection is suspended until it ends.
public final class HTTPServer: @unchecked Sendable {
    public struct Configuration: Sendable {
        /// A listening socket.
        public var socket: Int32
        public var threads: Int
        public var bodyLimit: Int
        public var connectionLimit: Int
        /// Most connections from one address; 0 for no limit.
        public var connectionLimitPerAddress: Int
        /// Seconds within which a request must arrive, head and body.
        public var requestTimeout: Int
        /// Seconds after which an idle connection is closed.
        public var idleTimeout: Int
        /// What is shown to clients with TLS; nil: plain HTTP is spoken.
        public var tls: TLSEndpoint?
        /// Seconds that a client has for its handshake.
        public var handshakeTimeout = 10
        /// Most handshakes from one address that have not ended; 0 for no limit.
        public var handshakeLimitPerAddress = 0
        /// Is told of requests that change something.
        public var audit: AuditLog?
        public init(
            socket: Int32, threads: Int, bodyLimit: Int, connectionLimit: Int, connectionLimitPerAddress: Int = 0, requestTimeout: Int = 60,
            idleTimeout: Int
        ) {
            self.socket = socket
            self.threads = threads
            self.bodyLimit = bodyLimit
            self.connectionLimit = connectionLimit
            self.connectionLimitPerAddress = connectionLimitPerAddress
            self.requestTimeout = requestTimeout
            self.idleTimeout = idleTimeout
        }
    }

    /// Bytes that libmicrohttpd allocates per connection: for the request's head, pieces of its body, and the response's head.
    private static let connectionMemory = 24 * 1024
    /// Bytes of it that a request's head may use, so that the response's head fits.
    static let headMemory = connectionMemory - 2048

    let responder: Responder
    let bodyLimit: Int
    let accessLog: AccessLog
    let audit: AuditLog?
    private var daemon: OpaquePointer?
    private let running = Atomic<Int>(0)
    private let connections: Connections
    private let connectionLimit: Int
    let tls: TLSEndpoint?
    private let handshakes: HandshakeLimit
    let streams: StreamConnections
    private let lingering: LingeringClose
    /// Bytes of a body beyond the limit that are read and dropped, so that the client sends to the end and receives the response.
    let dropLimit: Int
    /// A socket that replaces the descriptor of a connection that is taken over.
    let standIn: Int32
    /// Posted to end the thread that closes expired connections.
    private let sweeping = Semaphore()

    /// - Parameters:
    ///   - configuration: socket, threads and limits.
    ///   - log: receives access lines.
    ///   - responder: the whole middleware chain; it must not throw.
    public init(_ configuration: Configuration, log: LogSink, responder: @escaping Responder) throws(SystemError) {
        self.responder = responder
        bodyLimit = configuration.bodyLimit
        accessLog = AccessLog(sink: log)
        audit = configuration.audit
        connections = Connections(
            limit: configuration.connectionLimit, requestTimeout: configuration.requestTimeout, idleTimeout: configuration.idleTimeout,
            handshakeTimeout: configuration.handshakeTimeout)
        tls = configuration.tls
        handshakes = HandshakeLimit(limit: configuration.handshakeLimitPerAddress)
        connectionLimit = configuration.connectionLimit
        streams = try StreamConnections(
            limit: configuration.connectionLimit, limitPerAddress: configuration.connectionLimitPerAddress,
            sendTimeout: configuration.idleTimeout)
        dropLimit = 16 * max(configuration.bodyLimit, 65_536)
        lingering = try LingeringClose(limit: dropLimit)
        standIn = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard standIn >= 0 else { throw SystemError.last("the HTTP server could not be started") }
        // Several threads accept: the socket is non-blocking, so that one that lost the race does not block in accept.
        _ = fcntl(configuration.socket, F_SETFL, fcntl(configuration.socket, F_GETFL) | O_NONBLOCK)
        typealias UnescapeCallback = @convention(c) (UnsafeMutableRawPointer?, OpaquePointer?, UnsafeMutablePointer<CChar>?) -> Int
        typealias URILogCallback =
            @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, OpaquePointer?) -> UnsafeMutableRawPointer?
        typealias CompletedCallback =
            @convention(c) (
                UnsafeMutableRawPointer?, OpaquePointer?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?, MHD_RequestTerminationCode
            ) -> Void
        typealias ConnectionCallback =
            @convention(c) (
                UnsafeMutableRawPointer?, OpaquePointer?, UnsafeMutablePointer<UnsafeMutableRawPointer?>?, MHD_ConnectionNotificationCode
            ) -> Void
        let me = Unmanaged.passUnretained(self).toOpaque()
        let unescape: UnescapeCallback = { _, _, text in text.map { strlen($0) } ?? 0 }
        let uri: URILogCallback = { _, text, connection in Exchange.begin(text, connection) }
        let completed: CompletedCallback = { server, _, context, _ in Exchange.end(context, server) }
        let notify: ConnectionCallback = { server, connection, context, code in
            guard let server, let connection, let context else { return }
            let me = Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue()
            if code == .CONNECTION_NOTIFY_STARTED {
                context.pointee = Unmanaged.passRetained(me.opened(connection)).toOpaque()
            } else if let raw = context.pointee {
                let known = Unmanaged<Connections.Connection>.fromOpaque(raw)
                me.closed(connection, known.takeUnretainedValue())
                known.release()
                context.pointee = nil
            }
        }
        func item(_ option: MHD_OPTION, _ value: Int, _ pointer: UnsafeMutableRawPointer? = nil) -> MHD_OptionItem {
            MHD_OptionItem(option: option, value: value, ptr_value: pointer)
        }
        var items = [
            item(.LISTEN_SOCKET, Int(configuration.socket)),
            item(.THREAD_POOL_SIZE, configuration.threads),
            item(.CONNECTION_LIMIT, configuration.connectionLimit),
            item(.CONNECTION_TIMEOUT, configuration.idleTimeout),
            item(.CONNECTION_MEMORY_LIMIT, Self.connectionMemory),
            // With a libmicrohttpd that parses heads in place, they are checked here, and refused requests get a response.
            item(.STRICT_FOR_CLIENT, RequestHead.isReadInPlace ? 0 : 1),
            item(.UNESCAPE_CALLBACK, unsafeBitCast(unescape, to: Int.self)),
            item(.URI_LOG_CALLBACK, unsafeBitCast(uri, to: Int.self), me),
            item(.NOTIFY_COMPLETED, unsafeBitCast(completed, to: Int.self), me),
            item(.NOTIFY_CONNECTION, unsafeBitCast(notify, to: Int.self), me),
            item(.PER_IP_CONNECTION_LIMIT, configuration.connectionLimitPerAddress),
            item(.END, 0),
        ]
        // libmicrohttpd does not accept a pool of one thread.
        if configuration.threads < 2 { items.remove(at: 1) }
        var flags = UInt32(MHD_USE_EPOLL_INTERNAL_THREAD.rawValue | MHD_ALLOW_SUSPEND_RESUME.rawValue)
        var arguments: [any CVarArg] = []
        if tls != nil {
            flags |= UInt32(MHD_USE_TLS.rawValue)
            // Every session gets its credentials when its connection is opened; libmicrohttpd insists on a source of its own.
            let none: @convention(c) () -> Int32 = { -1 }
            arguments = [MHD_OPTION.HTTPS_CERT_CALLBACK.rawValue, unsafeBitCast(none, to: OpaquePointer.self)]
        }
        daemon = items.withUnsafeMutableBufferPointer { items in
            withVaList(arguments + [MHD_OPTION.ARRAY.rawValue, items.baseAddress!, MHD_OPTION.END.rawValue]) { arguments in
                withShortTimeSlice { MHD_start_daemon_va(flags, 0, HTTPServer.admit, me, HTTPServer.handle, me, arguments) }
            }
        }
        if daemon == nil {
            throw SystemError.last("the HTTP server could not be started")
        }
        startThread("http-sweep") { [connections, streams, lingering, sweeping] in
            var most = 0
            while !sweeping.wait(seconds: 1) {
                connections.sweep(besides: streams.count)
                lingering.sweep()
                // After many connections have closed, their memory is returned to the system.
                let now = connections.count + streams.count
                most = max(most, now)
                if most >= 1000, now < most / 4 {
                    releaseFreeMemory()
                    most = now
                }
            }
        }
    }

    /// Writes the metrics of connections: how many are open, and why others were closed.
    public func write(into text: inout MetricsText) {
        text.family("clinker_http_connections", .gauge, "Open connections.")
        text.sample("clinker_http_connections", connections.count + streams.count)
        text.family("clinker_http_connections_closed_total", .counter, "Connections closed before their client did, by reason.")
        let closed = connections.closedEarly
        for reason in Connections.Reason.allCases {
            text.sample("clinker_http_connections_closed_total", closed[reason] ?? 0, ["reason": reason.rawValue])
        }
        guard let tls else { return }
        text.family("clinker_tls_handshakes", .gauge, "TLS handshakes that have begun and not ended.")
        text.sample("clinker_tls_handshakes", handshakes.count)
        text.family("clinker_tls_certificate_expiry_seconds", .gauge, "When the certificate in use ends, in seconds since 1970.")
        text.sample("clinker_tls_certificate_expiry_seconds", Int(tls.expires))
    }

    /// Stops accepting, waits at most `seconds` until running requests are answered, and closes every connection.
    ///
    /// - Returns: false if requests were still running; then the server must neither be used nor freed until the process ends.
    public func stop(within seconds: Double) -> Bool {
        guard let daemon else { return true }
        sweeping.post()
        let listening = MHD_quiesce_daemon(daemon)
        _ = listening
        let limit = Timestamp.monotonic() + seconds
        // Requests whose clients have gone are not waited for.
        while running.load(ordering: .acquiring) > connections.abandoned, Timestamp.monotonic() < limit { usleep(5_000) }
        guard running.load(ordering: .acquiring) == 0 else { return false }
        usleep(20_000)  // lets resumed connections send their responses
        streams.stop()
        MHD_stop_daemon(daemon)
        lingering.stop()
        self.daemon = nil
        close(standIn)
        return true
    }

    func started() { running.wrappingAdd(1, ordering: .relaxed) }
    func ended() { running.wrappingSubtract(1, ordering: .releasing) }

    private func opened(_ connection: OpaquePointer) -> Connections.Connection {
        let descriptor = clinker_connection_socket(connection)
        guard let tls, let session = clinker_tls_session(connection).map({ gnutls_session_t($0) }) else {
            return connections.add(descriptor: descriptor)
        }
        let known = connections.add(descriptor: descriptor, phase: .handshaking)
        let address = HandshakeLimit.Address(clinker_client_address(connection))
        handshakes.began(address)
        known.handshake = address
        known.credentials = tls.current
        known.credentials?.prepare(session)
        known.onHandshake = { [handshakes] in handshakes.ended($0) }
        Handshakes.begin(session, of: known)
        return known
    }

    private func closed(_ connection: OpaquePointer, _ known: Connections.Connection) {
        let isFailed = known.handshake != nil
        if known.credentials != nil { Handshakes.forget(known) }
        known.finishHandshake()
        // Of a handshake that failed the client shall receive the reason.
        if known.mayStillReceive || isFailed { lingering.keep(clinker_connection_socket(connection)) }
        // libmicrohttpd has freed the session already, which does not own the credentials.
        connections.remove(known)
    }

    private static let admit: MHD_AcceptPolicyCallback = { server, address, _ in
        guard let server else { return .NO }
        let me = Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue()
        guard me.hasRoom, me.tls == nil || me.handshakes.hasRoom(for: HandshakeLimit.Address(address)) else { return .NO }
        return .YES
    }

    private var hasRoom: Bool {
        let streams = streams.count
        return streams == 0 || streams + connections.count < connectionLimit
    }

    /// libmicrohttpd's access handler: called after the headers, for every piece of the body, and at its end.
    private static let handle: MHD_AccessHandlerCallback = { server, connection, _, method, version, data, size, context in
        guard let server, let connection, let size, let context, let raw = context.pointee else { return .NO }
        let me = Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue()
        let exchange = Unmanaged<Exchange>.fromOpaque(raw).takeUnretainedValue()
        return exchange.advance(me, connection, method, version, data, size)
    }
}
