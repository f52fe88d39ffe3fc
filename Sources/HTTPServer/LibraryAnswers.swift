import CMicroHTTPD
import Glibc

// libmicrohttpd calls these functions through their dynamic symbols, so definitions in the executable replace them. If a libmicrohttpd is
// linked differently (-Bsymbolic), its own functions are used and nothing changes.

/// Replaces libmicrohttpd's own error responses, which are HTML. Before 1.0 it answers 500 if a line of a chunked body does not fit into
/// the connection's buffer; that is the client's error, and becomes 400.
@c(MHD_queue_response)
public func queueAnswerOfLibrary(_ connection: OpaquePointer?, _ status: UInt32, _ answer: OpaquePointer?) -> MHD_Result {
    let refusal: HTTPError
    switch status {
    case 500: refusal = HTTPError(400, "A line of the request's body is longer than a connection's buffer.")
    case 400: refusal = HTTPError(400, "The request is malformed.", isPlain: true)
    case 413: refusal = HTTPError(413, "The length of the request's body is beyond every limit.", isPlain: true)
    case 414: refusal = HTTPError(414, "The request's target is too long.", isPlain: true)
    case 431: refusal = HTTPError(431, "The request's headers are too large.", isPlain: true)
    case 505: refusal = HTTPError(505, "The version of HTTP is not served.", isPlain: true)
    default: return queueAnswer(connection, status, answer)
    }
    guard case .buffer(let buffer) = refusal.response().body,
        let mine = MHD_create_response_from_buffer(buffer.count, buffer.base, .RESPMEM_MUST_FREE)
    else { return queueAnswer(connection, status, answer) }
    defer { MHD_destroy_response(mine) }
    connection.flatMap { Connections.record(of: $0) }?.refuse()
    MHD_add_response_header(mine, "Content-Type", HTTPResponse.json)
    MHD_add_response_header(mine, "Connection", "close")
    return queueAnswer(connection, UInt32(refusal.status), mine)
}

/// The library's own function, for our responses. If it cannot be found the connection is closed.
let queueAnswer: @convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result = {
    guard let function = libraryFunction("MHD_queue_response") else { return { _, _, _ in .NO } }
    return unsafeBitCast(function, to: (@convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result).self)
}()

/// Replaces libmicrohttpd's header lookups before the request is handed over. Before 1.0 it continues with a request that it has answered
/// with an error at this point, and sends two responses or none. So it is shown nothing to refuse; `RequestHead` refuses instead.
@c(MHD_lookup_connection_value_n)
public func lookUpForLibrary(
    _ connection: OpaquePointer?, _ kind: MHD_ValueKind, _ name: UnsafePointer<CChar>?, _ nameLength: Int,
    _ value: UnsafeMutablePointer<UnsafePointer<CChar>?>?, _ valueLength: UnsafeMutablePointer<Int>?
) -> MHD_Result {
    func isAsked(_ known: StaticString) -> Bool {
        guard let name, nameLength == known.utf8CodeUnitCount else { return false }
        return strncasecmp(name, UnsafeRawPointer(known.utf8Start).assumingMemoryBound(to: CChar.self), nameLength) == 0
    }
    if kind.rawValue == MHD_ValueKind.HEADER_KIND.rawValue {
        // Cookies are not used; parsing a long line would use the connection's memory.
        if isAsked("Cookie") { return .NO }
        if isAsked("Host"), value == nil { return .YES }
        if isAsked("Content-Length"), let found = lookedUp(connection, "Content-Length"),
            RequestHead.length(found.text, found.length) == nil
        {
            return .NO
        }
        // Without a body there is nothing to send 100 Continue for.
        if isAsked("Expect"), lookedUp(connection, "Transfer-Encoding") == nil,
            lookedUp(connection, "Content-Length").flatMap({ RequestHead.length($0.text, $0.length) }) ?? 0 == 0
        {
            return .NO
        }
    }
    return lookUp(connection, kind, name, nameLength, value, valueLength)
}

private func lookedUp(_ connection: OpaquePointer?, _ name: StaticString) -> (text: UnsafePointer<CChar>, length: Int)? {
    var text: UnsafePointer<CChar>?
    var length = 0
    let start = UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
    guard lookUp(connection, .HEADER_KIND, start, name.utf8CodeUnitCount, &text, &length) == .YES, let text else { return nil }
    return (text, length)
}

private typealias LookUp =
    @convention(c) (
        OpaquePointer?, MHD_ValueKind, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<UnsafePointer<CChar>?>?, UnsafeMutablePointer<Int>?
    ) -> MHD_Result

private let lookUp: LookUp = {
    guard let function = libraryFunction("MHD_lookup_connection_value_n") else { return { _, _, _, _, _, _ in .NO } }
    return unsafeBitCast(function, to: LookUp.self)
}()

private func libraryFunction(_ name: String) -> UnsafeMutableRawPointer? {
    dlsym(UnsafeMutableRawPointer(bitPattern: -1), name)  // RTLD_NEXT
}
