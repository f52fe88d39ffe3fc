import CLinux
import CMicroHTTPD
import Glibc
import JSON
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
    fileprivate static let headMemory = connectionMemory - 2048

    let responder: Responder
    let bodyLimit: Int
    let accessLog: AccessLog
    private var daemon: OpaquePointer?
    private let running = Atomic<Int>(0)
    private let connections: Connections
    private let connectionLimit: Int
    fileprivate let streams: StreamConnections
    /// A socket that replaces the descriptor of a connection that is taken over.
    fileprivate let standIn: Int32
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
        connections = Connections(
            limit: configuration.connectionLimit, requestTimeout: configuration.requestTimeout, idleTimeout: configuration.idleTimeout)
        connectionLimit = configuration.connectionLimit
        streams = try StreamConnections(
            limit: configuration.connectionLimit, limitPerAddress: configuration.connectionLimitPerAddress,
            sendTimeout: configuration.idleTimeout)
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
            let connections = Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue().connections
            if code == .CONNECTION_NOTIFY_STARTED {
                context.pointee = Unmanaged.passRetained(connections.add(descriptor: clinker_connection_socket(connection))).toOpaque()
            } else if let raw = context.pointee {
                let known = Unmanaged<Connections.Connection>.fromOpaque(raw)
                connections.remove(known.takeUnretainedValue())
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
        let flags = UInt32(MHD_USE_EPOLL_INTERNAL_THREAD.rawValue | MHD_ALLOW_SUSPEND_RESUME.rawValue)
        daemon = items.withUnsafeMutableBufferPointer { items in
            withVaList([MHD_OPTION.ARRAY.rawValue, items.baseAddress!, MHD_OPTION.END.rawValue]) { arguments in
                withShortTimeSlice { MHD_start_daemon_va(flags, 0, HTTPServer.admit, me, HTTPServer.handle, me, arguments) }
            }
        }
        if daemon == nil {
            throw SystemError.last("the HTTP server could not be started")
        }
        startThread("http-sweep") { [connections, streams, sweeping] in
            var most = 0
            while !sweeping.wait(seconds: 1) {
                connections.sweep(besides: streams.count)
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
        self.daemon = nil
        close(standIn)
        return true
    }

    fileprivate func started() { running.wrappingAdd(1, ordering: .relaxed) }
    fileprivate func ended() { running.wrappingSubtract(1, ordering: .releasing) }

    /// The number of open connections: those of libmicrohttpd, and streams.
    private static let admit: MHD_AcceptPolicyCallback = { server, _, _ in
        guard let server else { return .NO }
        return Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue().hasRoom ? .YES : .NO
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

/// The exchange of one request and its response, from the first line to the last byte.
private final class Exchange: @unchecked Sendable {
    private enum State { static let running = 0, suspended = 1, done = 2 }

    /// The request's target; nil if it is invalid.
    private let target: String?
    private let line: RequestHead.Line?
    private var request: HTTPRequest?
    private var response: HTTPResponse?
    private var isHTTP11 = false
    private var started = false
    private var hasEnded = false
    private var isChunked = false
    private var received = 0
    private let state = Atomic<Int>(State.running)
    private let known: Connections.Connection?

    init(target: String?, line: RequestHead.Line?, connection: Connections.Connection?) {
        self.target = target
        self.line = line
        known = connection
        connection?.enter(.receiving, at: Timestamp.monotonic())
    }

    static func begin(_ uri: UnsafePointer<CChar>?, _ connection: OpaquePointer?) -> UnsafeMutableRawPointer? {
        let known = connection.flatMap { clinker_connection_context($0) }.map {
            Unmanaged<Connections.Connection>.fromOpaque($0).takeUnretainedValue()
        }
        var line: RequestHead.Line?
        var target: String?
        if let uri {
            line = RequestHead.Line(target: uri, version: uri + strlen(uri) + 1)
            target = Self.target(uri)
            // Queries are parsed by HTTPRequest. libmicrohttpd would store every parameter in the connection's memory.
            if let question = strchr(uri, Int32(UInt8(ascii: "?"))) { question[1] = 0 }
        }
        return Unmanaged.passRetained(Exchange(target: target, line: line, connection: known)).toOpaque()
    }

    /// nil if the target is empty, not UTF-8, or contains a space or a control character.
    private static func target(_ uri: UnsafePointer<CChar>) -> String? {
        var position = uri
        while position.pointee != 0 {
            let byte = UInt8(bitPattern: position.pointee)
            guard byte > 0x20, byte != 0x7F else { return nil }
            position += 1
        }
        return position == uri ? nil : String(validatingCString: uri)
    }

    static func end(_ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ server: UnsafeMutableRawPointer?) {
        guard let context, let raw = context.pointee else { return }
        let reference = Unmanaged<Exchange>.fromOpaque(raw)
        let exchange = reference.takeUnretainedValue()
        exchange.known?.enter(.idle, at: Timestamp.monotonic())
        // The client left before the response; its handler is not running any more.
        if let server { exchange.ended(Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue()) }
        reference.release()
        context.pointee = nil
    }

    /// Counts the request as finished, once.
    private func ended(_ server: HTTPServer) {
        guard started, !hasEnded else { return }
        hasEnded = true
        server.ended()
    }

    func advance(
        _ server: HTTPServer, _ connection: OpaquePointer, _ method: UnsafePointer<CChar>?, _ version: UnsafePointer<CChar>?,
        _ data: UnsafePointer<CChar>?, _ size: UnsafeMutablePointer<Int>
    ) -> MHD_Result {
        guard let request else {
            let head = RequestHead(connection, method: method, version: version, line: line)
            let request = makeRequest(head, connection, method)
            self.request = request
            guard head.memory <= HTTPServer.headMemory else { return refuseAtOnce(request, head, connection, server) }
            // HTTP/1.0 has no chunks: the body is sent as it is, and ends with the connection.
            isHTTP11 = version.map { strcmp($0, "HTTP/1.1") == 0 } ?? false
            // The response is sent before the body is read; libmicrohttpd then closes the connection.
            if request.refusal != nil || (request.declaredLength ?? 0) > server.bodyLimit { return start(server, connection, request) }
            return .YES
        }
        if size.pointee > 0 {
            received += size.pointee
            // A body that is too large is read and dropped up to a limit, so that the client receives the response.
            if received > 16 * max(server.bodyLimit, 65_536) { return .NO }
            if started {
                size.pointee = 0
                return .YES
            }
            if request.body.count + size.pointee > server.bodyLimit {
                request.bodyIsTooLarge = true
                request.body = []
            } else if !request.bodyIsTooLarge, let data {
                request.body.append(contentsOf: UnsafeRawBufferPointer(start: data, count: size.pointee))
            }
            size.pointee = 0
            return .YES
        }
        if started { return state.load(ordering: .acquiring) == State.done ? answer(server, connection) : .YES }
        return start(server, connection, request)
    }

    private func start(_ server: HTTPServer, _ connection: OpaquePointer, _ request: HTTPRequest) -> MHD_Result {
        started = true
        server.started()
        known?.enter(.answering, at: request.startedAt)
        let work: @Sendable () async throws -> HTTPResponse
        do {
            switch try server.responder(request) {
            case .ready(let response):
                self.response = response
                state.store(State.done, ordering: .relaxed)
                return answer(server, connection)
            case .waiting(let given): work = given
            }
        } catch { work = { HTTPResponse(status: 500, contentType: nil) } }
        let resumable = Resumable(connection: connection)
        Task.immediate { [self] in
            do {
                response = try await work()
            } catch {
                response = HTTPResponse(status: 500, contentType: nil)
            }
            if state.exchange(State.done, ordering: .acquiringAndReleasing) == State.suspended {
                MHD_resume_connection(resumable.connection)
            }
        }
        if state.load(ordering: .acquiring) == State.done { return answer(server, connection) }
        MHD_suspend_connection(connection)
        let published = state.compareExchange(
            expected: State.running, desired: State.suspended, ordering: .acquiringAndReleasing)
        if !published.exchanged { MHD_resume_connection(connection) }
        return .YES
    }

    private struct Resumable: @unchecked Sendable { let connection: OpaquePointer }

    private func answer(_ server: HTTPServer, _ connection: OpaquePointer) -> MHD_Result {
        defer { ended(server) }
        guard let request, let response else { return .NO }
        self.response = nil
        let body: OpaquePointer?
        var length = 0
        switch response.body {
        case .none: body = MHD_create_response_from_buffer(0, nil, .RESPMEM_PERSISTENT)
        case .buffer(let buffer):
            length = buffer.count
            body = MHD_create_response_from_buffer(buffer.count, buffer.base, .RESPMEM_MUST_FREE)
            if body == nil { free(buffer.base) }
        case .text(var text):
            length = text.utf8.count
            body = text.withUTF8 {
                MHD_create_response_from_buffer($0.count, UnsafeMutableRawPointer(mutating: $0.baseAddress), .RESPMEM_MUST_COPY)
            }
        case .stream(let stream):
            body = Handover.response(stream, connection, server, address: request.remoteAddress, isChunked: isHTTP11)
        }
        guard let body else { return .NO }
        defer { MHD_destroy_response(body) }
        if let type = response.contentType { Self.add("Content-Type", type, to: body) }
        for header in response.headers { Self.add(header.name, header.value, to: body) }
        // libmicrohttpd accepts bare newlines between chunks, proxies may not: what follows them may not be a request.
        if isChunked || request.refusal != nil { Self.add("Connection", "close", to: body) }
        let seconds = Timestamp.monotonic() - request.startedAt
        request.route.count(status: response.status, seconds: seconds)
        server.accessLog.write(request, status: response.status, length: length, seconds: seconds)
        return queueAnswer(connection, UInt32(response.status), body)
    }

    /// Passing a String to C directly would copy it first.
    private static func add(_ name: String, _ value: String, to body: OpaquePointer) {
        name.withCString { name in _ = value.withCString { MHD_add_response_header(body, name, $0) } }
    }

    private func makeRequest(_ head: RequestHead, _ connection: OpaquePointer, _ method: UnsafePointer<CChar>?) -> HTTPRequest {
        let uri = target.flatMap { head.pathAndQuery(of: $0, method: method) }
        let request = HTTPRequest(
            method: method.flatMap { String(validatingCString: $0) } ?? "?", uri: uri ?? "/", headers: head.headers,
            remoteAddress: Self.address(connection), descriptor: clinker_connection_socket(connection))
        request.refusal = head.refusal ?? (uri == nil ? "The request's target is malformed, or is another host's." : nil)
        request.declaredLength = head.declaredLength
        isChunked = head.isChunked
        return request
    }

    /// The head leaves no memory for libmicrohttpd's response: write one to the socket directly, and close the connection.
    private func refuseAtOnce(_ request: HTTPRequest, _ head: RequestHead, _ connection: OpaquePointer, _ server: HTTPServer) -> MHD_Result
    {
        let isTargetTooLong = (target?.utf8.count ?? 0) > HTTPServer.headMemory / 2
        let refusal = HTTPError(
            isTargetTooLong ? 414 : 431,
            isTargetTooLong ? "The request's target is too long." : "The request's headers are too large.", isPlain: true)
        if case .buffer(let body) = refusal.response().body {
            defer { free(body.base) }
            var bytes = Array(
                "HTTP/1.1 \(refusal.status) \(HTTPError.title(refusal.status))\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: \(body.count)\r\n\r\n"
                    .utf8)
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: body.base, count: body.count))
            // A single send on an otherwise idle connection; a client that does not read loses it.
            _ = send(clinker_connection_socket(connection), bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
            let seconds = Timestamp.monotonic() - request.startedAt
            request.route.count(status: refusal.status, seconds: seconds)
            server.accessLog.write(request, status: refusal.status, length: body.count, seconds: seconds)
        }
        return .NO
    }

    private static func address(_ connection: OpaquePointer) -> String {
        guard let address = clinker_client_address(connection) else { return "-" }
        if address.pointee.sa_family == sa_family_t(AF_INET) {
            let ip = UnsafeRawPointer(address).assumingMemoryBound(to: sockaddr_in.self).pointee.sin_addr.s_addr
            if ip == UInt32(0x7F00_0001).bigEndian { return "127.0.0.1" }
        }
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let length = address.pointee.sa_family == sa_family_t(AF_INET6) ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
        guard getnameinfo(address, socklen_t(length), &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0 else { return "-" }
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}

/// Takes a connection over from libmicrohttpd once the response's head is sent. When libmicrohttpd asks for the first bytes of the body,
/// the connection is suspended, which removes its descriptor from epoll; the descriptor is duplicated and replaced by another socket,
/// which libmicrohttpd closes when it is told that the body failed.
private final class Handover: @unchecked Sendable {
    private let connection: OpaquePointer
    private let server: HTTPServer
    private let address: String
    private let isChunked: Bool
    private var stream: (any HTTPStream)?
    private var isAway = false

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
            { raw, _, _, _ in
                guard let raw else { return -2 }
                return Unmanaged<Handover>.fromOpaque(raw).takeUnretainedValue().advance()
            }, me,
            { raw in
                guard let raw else { return }
                // A HEAD request, or a client that left before the head was sent.
                Unmanaged<Handover>.fromOpaque(raw).takeRetainedValue().stream?.closed()
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
}
