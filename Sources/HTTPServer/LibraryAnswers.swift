import CMicroHTTPD
import Glibc

// libmicrohttpd's own calls of these functions go through their symbols, which the dynamic linker takes from the executable. Where a
// libmicrohttpd is linked so that it does not, nothing changes.

/// What libmicrohttpd answers of its own accord: HTML, and before 1.0 a 500 where a line of a chunked body does not fit into a
/// connection's buffer, which is the client's error and must look like one.
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
    MHD_add_response_header(mine, "Content-Type", HTTPResponse.json)
    MHD_add_response_header(mine, "Connection", "close")
    return queueAnswer(connection, UInt32(refusal.status), mine)
}

/// The library's own function, for answers of ours. Without it a connection is closed.
let queueAnswer: @convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result = {
    guard let function = libraryFunction("MHD_queue_response") else { return { _, _, _ in .NO } }
    return unsafeBitCast(function, to: (@convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result).self)
}()

/// What libmicrohttpd looks up in a head before it hands it over. Before 1.0 it goes on with a request that it has answered with
/// an error here: two answers run into each other, or none is given. So it finds nothing to complain of; `RequestHead` does.
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
        // Nobody here reads cookies: a line of many would take the connection's memory.
        if isAsked("Cookie") { return .NO }
        if isAsked("Host"), value == nil { return .YES }
        if isAsked("Content-Length"), let found = lookedUp(connection, "Content-Length"),
            RequestHead.length(found.text, found.length) == nil
        {
            return .NO
        }
        // Who has no body to send waits for no leave to send it.
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
