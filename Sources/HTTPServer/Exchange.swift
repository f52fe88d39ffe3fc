import CMicroHTTPD
import Glibc
import JSON
import Primitives
import Synchronization

/// The exchange of one request and its response, from the first line to the last byte.
final class Exchange: @unchecked Sendable {
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

    private init(target: String?, line: RequestHead.Line?, connection: Connections.Connection?) {
        self.target = target
        self.line = line
        known = connection
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
            guard head.memory <= HTTPServer.headMemory else { return refuse(request, head, connection, server) }
            // HTTP/1.0 has no chunks: the body is sent as it is, and ends with the connection.
            isHTTP11 = version.map { strcmp($0, "HTTP/1.1") == 0 } ?? false
            // The response is sent before the body is read; libmicrohttpd then closes the connection.
            if request.refusal != nil || (request.declaredLength ?? 0) > server.bodyLimit {
                known?.refuse()
                return start(server, connection, request)
            }
            return .YES
        }
        if size.pointee > 0 {
            received += size.pointee
            // libmicrohttpd accepts no response in the middle of a body: one that is too large is dropped up to its end, or to a limit.
            if received > server.dropLimit { return refuse(request, connection, server) }
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

    /// The head leaves no memory for libmicrohttpd's response.
    private func refuse(_ request: HTTPRequest, _ head: RequestHead, _ connection: OpaquePointer, _ server: HTTPServer) -> MHD_Result {
        let isTargetTooLong = (target?.utf8.count ?? 0) > HTTPServer.headMemory / 2
        let refusal = HTTPError(
            isTargetTooLong ? 414 : 431,
            isTargetTooLong ? "The request's target is too long." : "The request's headers are too large.", isPlain: true)
        return answerDirectly(refusal.response(), request, connection, server)
    }

    /// The body has no end within what is dropped of it.
    private func refuse(_ request: HTTPRequest, _ connection: OpaquePointer, _ server: HTTPServer) -> MHD_Result {
        guard !started, case .ready(let response)? = try? server.responder(request) else { return .NO }
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
        _ = send(clinker_connection_socket(connection), bytes, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
        let seconds = Timestamp.monotonic() - request.startedAt
        request.route.count(status: response.status, seconds: seconds)
        server.accessLog.write(request, status: response.status, length: body.count, seconds: seconds)
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
