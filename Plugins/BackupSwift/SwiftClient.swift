import CDriver
import DriverKit
import JSON
import ObjectServers

/// Requests to the container, repeated where trouble may pass.
final class SwiftClient: Sendable {
    struct Request {
        var method: String
        /// The object; nil: the container.
        var name: String?
        var query: [(name: String, value: String)] = []
        var headers: [(name: String, value: String)] = []
        var body: [UnsafeRawBufferPointer]?
        var sink: ObjectSink?

        init(_ method: String, _ name: String? = nil, query: [(name: String, value: String)] = []) {
            (self.method, self.name, self.query) = (method, name, query)
        }

        var words: String { name.map { "\(method) \($0)" } ?? "\(method) of the container" }
    }

    /// An answer that is no success.
    struct Failure: Error {
        let status: Int
        let trouble: Trouble
    }

    let options: SwiftOptions
    private let pool: HTTPPool
    let session: SwiftSession

    init(_ options: SwiftOptions) {
        self.options = options
        pool = HTTPPool(options.reach)
        session = SwiftSession(options, pool)
    }

    /// Sends a request and gives the response, which is a success.
    ///
    /// - Throws: ``Failure`` for an answer that is none, when repetitions did not help; ``DriverError`` where none came.
    func send(_ request: Request, for requester: Requester) throws -> HTTPResponse {
        var last: Failure?
        do {
            return try options.attempts.run(requester) { _ in
                last = nil
                var access = try session.access(requester)
                var response = try attempt(request, access, requester)
                if response.status == 401 {
                    // The token has ended, or the server has forgotten it. Nothing is lost by another.
                    access = try session.access(requester, insteadOf: access.token)
                    response = try attempt(request, access, requester)
                }
                if response.isSuccess || (response.status == 416 && request.sink?.count == 0) {
                    if response.isSuccess, let sink = request.sink, !sink.isComplete {
                        throw Trouble(DriverError(CLINKER_RETRY, "\(request.words): the answer was cut off"), isTemporary: true)
                    }
                    return response
                }
                if response.status == 412 || response.status == 416, let sink = request.sink {
                    sink.reset()
                    throw Trouble(
                        DriverError(CLINKER_RETRY, "\(request.words): it was replaced while it was read"), isTemporary: true, pause: 0)
                }
                let failure = Self.failure(response, request.words)
                last = failure
                throw failure.trouble
            }
        } catch let error as DriverError {
            if let last { throw last }
            throw error
        }
    }

    /// As `send`, for whom every failure is the host's.
    func expect(_ request: Request, for requester: Requester) throws -> HTTPResponse {
        do { return try send(request, for: requester) } catch let failure as Failure { throw failure.trouble.error }
    }

    private func attempt(_ request: Request, _ access: SwiftSession.Access, _ requester: Requester) throws -> HTTPResponse {
        var url = "\(access.url)/\(URLText.quoted(options.container))"
        if let name = request.name { url += "/" + URLText.quoted(name, keepsSlash: true) }
        let query = request.query.map { "\(URLText.quoted($0.name))=\(URLText.quoted($0.value))" }.joined(separator: "&")
        var exchange = HTTPRequest(request.method, query.isEmpty ? url : "\(url)?\(query)")
        exchange.headers = request.headers + (request.sink?.headersOfNextRequest() ?? []) + [("X-Auth-Token", access.token)]
        exchange.body = request.body
        exchange.sink = request.sink
        do throws(HTTPFailure) { return try pool.send(exchange, isCancelled: requester.isCancelled) } catch {
            throw Trouble(error, request.words)
        }
    }

    private static func failure(_ response: HTTPResponse, _ what: String) -> Failure {
        // 422: the bytes did not arrive as they were sent. 498: Swift's rate limit.
        let isTemporary = response.isTrouble || [409, 422, 498, 499].contains(response.status)
        let code: clinker_code =
            if isTemporary { CLINKER_RETRY } else {
                switch response.status {
                case 404: CLINKER_NOT_FOUND
                case 401, 403, 405: CLINKER_BAD_CONFIGURATION
                case 413, 507: CLINKER_NO_SPACE
                case 400, 411, 414: CLINKER_INVALID
                default: CLINKER_ERROR
                }
            }
        let error = DriverError(code, "\(what): the server answers \(response.status)")
        return Failure(status: response.status, trouble: Trouble(error, isTemporary: isTemporary, pause: response.retryAfter))
    }

    /// What the server says of itself; nil if it does not.
    func info(_ requester: Requester) throws -> JSON? {
        let url = try ServerAddress(try session.access(requester).url, option: "the URL of the account")
        let request = HTTPRequest("GET", "\(url.scheme)://\(url.host)/info")
        return try options.attempts.run(requester) { _ in
            do throws(HTTPFailure) {
                let response = try pool.send(request, isCancelled: requester.isCancelled)
                return response.isSuccess ? try? JSON(parsing: response.body) : nil
            } catch { throw Trouble(error, "GET of what the server can") }
        }
    }

    // MARK: the container

    static func notFound(_ name: String) -> DriverError { DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }

    /// - Throws: BAD_CONFIGURATION if the container is not there, or refuses us.
    @discardableResult
    func checkContainer(_ requester: Requester) throws -> HTTPResponse {
        do { return try send(Request("HEAD"), for: requester) } catch let failure as Failure {
            guard failure.status == 404 else { throw failure.trouble.error }
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "there is no container \(options.container): make it, or set backup_create_containers")
        }
    }

    /// Makes the container if it is not there and options say so.
    func openContainer(_ requester: Requester) throws {
        do { _ = try send(Request("HEAD"), for: requester) } catch let failure as Failure
            where failure.status == 404 && options.makesContainer
        {
            var request = Request("PUT")
            request.body = []
            if !options.storagePolicy.isEmpty { request.headers.append(("X-Storage-Policy", options.storagePolicy)) }
            do { _ = try send(request, for: requester) } catch let failure as Failure {
                throw DriverError(
                    failure.trouble.isTemporary ? CLINKER_RETRY : CLINKER_BAD_CONFIGURATION,
                    "the container \(options.container) cannot be made: \(failure.trouble.error.message)")
            }
        } catch let failure as Failure where failure.status == 404 { try checkContainer(requester) } catch let failure as Failure {
            throw failure.trouble.error
        }
    }

    /// A request for an object that may not be there; nil: it is not. That the container is gone is something else.
    func sendIfThere(_ request: Request, for requester: Requester) throws -> HTTPResponse? {
        do { return try send(request, for: requester) } catch let failure as Failure {
            guard failure.status == 404 else { throw failure.trouble.error }
            try checkContainer(requester)
            return nil
        }
    }

    // MARK: objects

    static func tag(_ response: HTTPResponse) -> String? { response.header("ETag").map { String($0.filter { $0 != "\"" }) } }

    /// Sends bytes by one request. Swift compares their MD5 with what it has stored, and we with what it says.
    @discardableResult
    func put(_ name: String, _ body: [UnsafeRawBufferPointer], headers: [(name: String, value: String)] = [], _ requester: Requester) throws
        -> String
    {
        let digest = Hashes.hex(Hashes.md5(body))
        var request = Request("PUT", name)
        request.headers = headers + [("ETag", digest), ("Content-Type", "application/octet-stream")]
        request.body = body
        return try options.attempts.run(requester) { _ in
            do {
                let tag = Self.tag(try send(request, for: requester))?.lowercased()
                guard tag == digest else {
                    throw Trouble(
                        DriverError(
                            CLINKER_RETRY, "PUT \(name): the server has other bytes than were sent: MD5 \(tag ?? "none"), not \(digest)"),
                        isTemporary: true)
                }
                return digest
            } catch let failure as Failure {
                if failure.status == 404 { try checkContainer(requester) }
                throw failure.trouble.error
            }
        }
    }

    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, _ requester: Requester) throws -> Int {
        guard !buffer.isEmpty else {
            guard try sendIfThere(Request("HEAD", name), for: requester) != nil else { throw Self.notFound(name) }
            return 0
        }
        let sink = ObjectSink(buffer, at: offset)
        var request = Request("GET", name)
        request.sink = sink
        guard try sendIfThere(request, for: requester) != nil else { throw Self.notFound(name) }
        return sink.count
    }
}
