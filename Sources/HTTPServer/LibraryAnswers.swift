import CMicroHTTPD
import Glibc

/// What libmicrohttpd answers of its own accord. Before 1.0 it answers 500, without a word to the program, where a line of a chunked body
/// does not fit into a connection's buffer: the client's error, which must look like one. Its answers go through this symbol,
/// which the dynamic linker takes from the executable; where a libmicrohttpd is linked so that it does not, nothing changes.
@c(MHD_queue_response)
public func queueAnswerOfLibrary(_ connection: OpaquePointer?, _ status: UInt32, _ answer: OpaquePointer?) -> MHD_Result {
    guard status == 500 else { return queueAnswer(connection, status, answer) }
    let refusal = HTTPError(400, "A line of the request's body is longer than a connection's buffer.").response()
    guard case .buffer(let buffer) = refusal.body,
        let mine = MHD_create_response_from_buffer(buffer.count, buffer.base, .RESPMEM_MUST_FREE)
    else { return queueAnswer(connection, status, answer) }
    defer { MHD_destroy_response(mine) }
    MHD_add_response_header(mine, "Content-Type", refusal.contentType ?? "application/json")
    MHD_add_response_header(mine, "Connection", "close")
    return queueAnswer(connection, 400, mine)
}

/// The library's own function, for answers of ours. Without it a connection is closed.
let queueAnswer: @convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result = {
    let next = UnsafeMutableRawPointer(bitPattern: -1)  // RTLD_NEXT
    guard let function = dlsym(next, "MHD_queue_response") else { return { _, _, _ in .NO } }
    return unsafeBitCast(function, to: (@convention(c) (OpaquePointer?, UInt32, OpaquePointer?) -> MHD_Result).self)
}()
