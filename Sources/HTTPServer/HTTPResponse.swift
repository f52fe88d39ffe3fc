import JSON

/// One response.
public struct HTTPResponse: Sendable {
    public enum Body: Sendable {
        case none
        /// A buffer from `malloc`; the server frees it.
        case buffer(JSONWriter.Buffer)
        case text(String)
        /// A body of unknown length, sent as it is produced.
        case stream(any HTTPStream)
    }

    public var status: Int
    public var headers: [(name: String, value: String)]
    public var body: Body
    /// nil for no Content-Type header.
    public var contentType: String?

    public init(status: Int, headers: [(name: String, value: String)] = [], body: Body = .none, contentType: String? = HTTPResponse.json) {
        self.status = status
        self.headers = headers
        self.body = body
        self.contentType = contentType
    }

    public static let json = "application/json"

    /// Creates a response whose JSON body is written by the closure.
    public static func json(_ status: Int = 200, capacity: Int = 1024, _ write: (inout JSONWriter) throws -> Void) rethrows -> HTTPResponse
    {
        var writer = JSONWriter(capacity: capacity)
        try write(&writer)
        return HTTPResponse(status: status, body: .buffer(writer.take()))
    }
}

/// An error with its response. Names and texts are Cinder's, since clients show them.
public struct HTTPError: Error, Sendable {
    public var status: Int
    public var message: String
    /// Whether the body is in the router's format instead of an API fault.
    public var isPlain: Bool
    /// Whether the body is in the format of keystonemiddleware's 401.
    var isChallenge = false
    public var headers: [(name: String, value: String)]

    public init(_ status: Int, _ message: String, isPlain: Bool = false, headers: [(name: String, value: String)] = []) {
        self.status = status
        self.message = message
        self.isPlain = isPlain
        self.headers = headers
    }

    public static func badRequest(_ message: String) -> HTTPError { HTTPError(400, message) }
    public static func notFound(_ message: String) -> HTTPError { HTTPError(404, message) }
    /// The path does not exist, or does not support the method.
    public static let noRoute = HTTPError(404, "The resource could not be found.", isPlain: true)

    /// The caller is not authenticated; the challenge says how to authenticate.
    public static func unauthenticated(_ challenge: String) -> HTTPError {
        var error = HTTPError(
            401, "The request you have made requires authentication.", headers: [(name: "WWW-Authenticate", value: challenge)])
        error.isChallenge = true
        return error
    }

    /// The fault's name, the key of the body.
    public var faultName: StaticString {
        switch status {
        case 400: "badRequest"
        case 401: "unauthorized"
        case 403: "forbidden"
        case 404: "itemNotFound"
        case 405: "badMethod"
        case 409: "conflictingRequest"
        case 413: "overLimit"
        case 415: "badMediaType"
        case 429: "overLimit"
        case 503: "serviceUnavailable"
        default: "computeFault"
        }
    }

    static func title(_ status: Int) -> String {
        switch status {
        case 400: "Bad Request"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 413: "Request Entity Too Large"
        case 414: "Request-URI Too Long"
        case 421: "Misdirected Request"
        case 431: "Request Header Fields Too Large"
        case 505: "HTTP Version Not Supported"
        default: "Error"
        }
    }

    public func response() -> HTTPResponse {
        var response: HTTPResponse
        if isChallenge {
            response = .json(status) { writer in
                writer.beginObject()
                writer.key("error")
                writer.beginObject()
                writer.member("code", status)
                writer.member("title", "Unauthorized")
                writer.member("message", message)
                writer.endObject()
                writer.endObject()
            }
        } else if isPlain {
            response = .json(status) { writer in
                writer.beginObject()
                writer.member("message", message + "<br /><br />\n\n\n")
                writer.member("code", "\(status) \(Self.title(status))")
                writer.member("title", Self.title(status))
                writer.endObject()
            }
        } else {
            response = .json(status) { writer in
                writer.beginObject()
                writer.key(faultName)
                writer.beginObject()
                writer.member("code", status)
                writer.member("message", message)
                if status == 413 { writer.member("retryAfter", "0") }
                writer.endObject()
                writer.endObject()
            }
            if status == 413 { response.headers.append((name: "Retry-After", value: "0")) }
        }
        response.headers += headers
        return response
    }
}
