import CGnuTLS
import CMicroHTTPD
import Glibc
import JSON
import Primitives
import Synchronization

/// The exchange of one request and its response, from the first line to the last byte. The requests of a connection come one after the
/// other, so each of them uses the object of the one before.
final class Exchange: @unchecked Sendable {
    private enum State { static let running = 0, suspended = 1, done = 2 }

    /// What is known of the request and its response so far.
    private struct Progress {
        /// The request's target; nil if it is invalid.
        var target: String?
        var line: RequestHead.Line?
        var request: HTTPRequest?
        /// What waits for something and then gives the response.
        var work: (@Sendable () async throws -> HTTPResponse)?
        var response: HTTPResponse?
        var isHTTP11 = false
        var hasStarted = false
        var hasEnded = false
        var isChunked = false
        /// Whether the audit log has its record.
        var isAudited = false
        var received = 0
    }

    private var progress = Progress()
    private let state = Atomic<Int>(State.running)
    private var known: Connections.Connection?
    /// The connection while a response is waited for.
    private var suspendable: OpaquePointer?

    private func restart(target: String?, line: RequestHead.Line?, connection: Connections.Connection?) {
        progress = Progress(target: target, line: line)
        state.store(State.running, ordering: .relaxed)
        known = connection
        // Where the library's handshake cannot be watched, a request tells that it is over.
        connection?.finishHandshake()
        connection?.enter(.receiving, at: Timestamp.monotonic())
    }

    static func begin(_ uri: UnsafePointer<CChar>?, _ connection: OpaquePointer?) -> UnsafeMutableRawPointer? {
        let known = connection.flatMap { Connections.record(of: $0) }
        var line: RequestHead.Line?
        var target: String?
        if let uri {
            line = RequestHead.Line(target: uri, version: uri + strlen(uri) + 1)
            target = Self.target(uri)
            // Queries are parsed by HTTPRequest. libmicrohttpd would store every parameter in the connection's memory.
            if let question = strchr(uri, Int32(UInt8(ascii: "?"))) { question[1] = 0 }
        }
        let exchange = known?.takeExchange() ?? Exchange()
        exchange.restart(target: target, line: line, connection: known)
        return Unmanaged.passRetained(exchange).toOpaque()
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
        // The client left before the response; its handler is not running any more.
        if let server {
            let server = Unmanaged<HTTPServer>.fromOpaque(server).takeUnretainedValue()
            exchange.ended(server)
            exchange.leaveUnanswered(server)
        }
        if let known = exchange.known {
            known.enter(.idle, at: Timestamp.monotonic())
            known.keep(exchange, headers: exchange.progress.request?.headers ?? [])
        }
        exchange.progress = Progress()
        exchange.known = nil
        reference.release()
        context.pointee = nil
    }

    /// Counts the request as finished, once.
    private func ended(_ server: HTTPServer) {
        guard progress.hasStarted, !progress.hasEnded else { return }
        progress.hasEnded = true
        server.ended()
    }

    private func audit(_ server: HTTPServer, _ request: HTTPRequest, status: Int) {
        progress.isAudited = true
        server.audit?.write(request, status: status)
    }

    /// The client left before all of its request came, or before its answer: what was done is on record all the same.
    private func leaveUnanswered(_ server: HTTPServer) {
        guard !progress.isAudited, let request = progress.request else { return }
        audit(server, request, status: progress.response?.status ?? AuditLog.clientLeft)
        switch progress.response?.body {
        case .buffer(let buffer)?: free(buffer.base)
        case .stream(let stream)?: stream.closed()
        default: break
        }
    }

    func advance(
        _ server: HTTPServer, _ connection: OpaquePointer, _ method: UnsafePointer<CChar>?, _ version: UnsafePointer<CChar>?,
        _ data: UnsafePointer<CChar>?, _ size: UnsafeMutablePointer<Int>
    ) -> MHD_Result {
        guard let request = progress.request else {
            let head = RequestHead(
                connection, method: method, version: version, line: progress.line, former: known?.takeHeaders() ?? [])
            let request = makeRequest(head, connection, method, isEncrypted: server.tls != nil)
            progress.request = request
            if let known { request.give(headerRoom: known.takeResponseHeaders()) }
            guard head.memory <= HTTPServer.headMemory else { return refuse(request, head, connection, server) }
            // HTTP/1.0 has no chunks: the body is sent as it is, and ends with the connection.
            progress.isHTTP11 = version.map { strcmp($0, "HTTP/1.1") == 0 } ?? false
            // The response is sent before the body is read; libmicrohttpd then closes the connection.
            if request.refusal != nil || (request.declaredLength ?? 0) > server.bodyLimit {
                known?.refuse()
                return start(server, connection, request)
            }
            return .YES
        }
        if size.pointee > 0 {
            progress.received += size.pointee
            // libmicrohttpd accepts no response in the middle of a body: one that is too large is dropped up to its end, or to a limit.
            if progress.received > server.dropLimit { return refuse(request, connection, server) }
            if progress.hasStarted {
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
        if progress.hasStarted { return state.load(ordering: .acquiring) == State.done ? answer(server, connection) : .YES }
        return start(server, connection, request)
    }

    private func start(_ server: HTTPServer, _ connection: OpaquePointer, _ request: HTTPRequest) -> MHD_Result {
        progress.hasStarted = true
        server.started()
        known?.enter(.answering, at: request.startedAt)
        do {
            switch try server.responder(request) {
            case .ready(let response):
                progress.response = response
                state.store(State.done, ordering: .relaxed)
                return answer(server, connection)
            case .waiting(let work): progress.work = work
            }
        } catch { progress.work = { HTTPResponse(status: 500, contentType: nil) } }
        suspendable = connection
        // What holds nothing but this object is no object of its own.
        Task.immediate { await self.work() }
        if state.load(ordering: .acquiring) == State.done { return answer(server, connection) }
        MHD_suspend_connection(connection)
        let published = state.compareExchange(
            expected: State.running, desired: State.suspended, ordering: .acquiringAndReleasing)
        if !published.exchanged { MHD_resume_connection(connection) }
        return .YES
    }

    /// Waits for the response. Once the connection is resumed, this object may be the next request's.
    private func work() async {
        do {
            progress.response = try await progress.work?()
        } catch {
            progress.response = HTTPResponse(status: 500, contentType: nil)
        }
        let connection = suspendable
        if state.exchange(State.done, ordering: .acquiringAndReleasing) == State.suspended, let connection {
            MHD_resume_connection(connection)
        }
    }

    private func answer(_ server: HTTPServer, _ connection: OpaquePointer) -> MHD_Result {
        defer { ended(server) }
        guard let request = progress.request, let response = progress.response else { return .NO }
        progress.response = nil
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
            body = Handover.response(stream, connection, server, address: request.remoteAddress, isChunked: progress.isHTTP11)
        }
        guard let body else { return .NO }
        defer { MHD_destroy_response(body) }
        if let type = response.contentType { Self.add("Content-Type", type, to: body) }
        for header in response.headers { Self.add(header.name, header.value, to: body) }
        // libmicrohttpd accepts bare newlines between chunks, proxies may not: what follows them may not be a request.
        if progress.isChunked || request.refusal != nil { Self.add("Connection", "close", to: body) }
        let seconds = Timestamp.monotonic() - request.startedAt
        request.route.count(status: response.status, seconds: seconds)
        server.accessLog.write(request, status: response.status, length: length, seconds: seconds)
        audit(server, request, status: response.status)
        known?.keep(responseHeaders: response.headers)
        return queueAnswer(connection, UInt32(response.status), body)
    }

    /// Passing a String to C directly would copy it first.
    private static func add(_ name: String, _ value: String, to body: OpaquePointer) {
        name.withCString { name in _ = value.withCString { MHD_add_response_header(body, name, $0) } }
    }

    private func makeRequest(
        _ head: RequestHead, _ connection: OpaquePointer, _ method: UnsafePointer<CChar>?, isEncrypted: Bool
    ) -> HTTPRequest {
        let uri = progress.target.flatMap { head.pathAndQuery(of: $0, method: method) }
        let request = HTTPRequest(
            method: method.flatMap { String(validatingCString: $0) } ?? "?", uri: uri ?? "/", headers: head.headers,
            remoteAddress: Self.address(connection), isEncrypted: isEncrypted, descriptor: clinker_connection_socket(connection))
        request.refusal = head.refusal ?? (uri == nil ? "The request's target is malformed, or is another host's." : nil)
        request.declaredLength = head.declaredLength
        progress.isChunked = head.isChunked
        return request
    }

    /// The head leaves no memory for libmicrohttpd's response.
    private func refuse(_ request: HTTPRequest, _ head: RequestHead, _ connection: OpaquePointer, _ server: HTTPServer) -> MHD_Result {
        let isTargetTooLong = (progress.target?.utf8.count ?? 0) > HTTPServer.headMemory / 2
        let refusal = HTTPError(
            isTargetTooLong ? 414 : 431,
            isTargetTooLong ? "The request's target is too long." : "The request's headers are too large.", isPlain: true)
        return answerDirectly(refusal.response(), request, connection, server)
    }

    /// The body has no end within what is dropped of it.
    private func refuse(_ request: HTTPRequest, _ connection: OpaquePointer, _ server: HTTPServer) -> MHD_Result {
        guard !progress.hasStarted, case .ready(let response)? = try? server.responder(request) else { return .NO }
        return answerDirectly(response, request, connection, server)
    }

    /// Writes the response to the socket where libmicrohttpd cannot, and closes the connection.
    private func answerDirectly(
        _ response: HTTPResponse, _ request: HTTPRequest, _ connection: OpaquePointer, _ server: HTTPServer
    ) -> MHD_Result {
        known?.refuse()
        guard case .buffer(let body) = response.body else { return .NO }
        defer { free(body.base) }
        var head = "HTTP/1.1 \(response.status) \(HTTPError.title(response.status))\r\n"
        if let type = response.contentType { head += "Content-Type: \(type)\r\n" }
        for header in response.headers where header.name != "Connection" { head += "\(header.name): \(header.value)\r\n" }
        var bytes = Array("\(head)Connection: close\r\nContent-Length: \(body.count)\r\n\r\n".utf8)
        bytes.append(contentsOf: UnsafeRawBufferPointer(start: body.base, count: body.count))
        // A single send on an otherwise idle connection; a client that does not read loses it.
        if let session = clinker_tls_session(connection).map({ gnutls_session_t($0) }) {
            _ = gnutls_record_send(session, bytes, bytes.count)
        } else {
            _ = send(clinker_connection_socket(connection), bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        }
        let seconds = Timestamp.monotonic() - request.startedAt
        request.route.count(status: response.status, seconds: seconds)
        server.accessLog.write(request, status: response.status, length: body.count, seconds: seconds)
        audit(server, request, status: response.status)
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
