import Glibc
import Primitives
import TestSupport

/// A small server of images' data, which does what real ones do only in trouble, and what none should do.
final class ImageServer: Sendable {
    struct Request: Sendable {
        var method = ""
        var target = ""
        var headers: [String: String] = [:]
        var body: [UInt8] = []
        /// Where the range begins that is asked for.
        var start: Int {
            guard let range = headers["range"], range.hasPrefix("bytes="), range.hasSuffix("-") else { return 0 }
            return Int(range.dropFirst(6).dropLast()) ?? 0
        }
    }

    struct Answer: Sendable {
        var status = 200
        var headers: [String] = []
        var body: [UInt8] = []
        /// What the headers say, where it is not the truth; negative: nothing.
        var length: Int?
        /// Bytes after which the connection breaks.
        var cut: Int?
        /// Nothing comes after so many bytes.
        var hangs: Int?
        /// The request is heard to its end, and nothing comes at all.
        var isLost = false
    }

    let port: UInt16
    private let listener: Int32
    private let seen = Guarded<[Request]>([])
    private let answer: @Sendable (_ number: Int, Request) -> Answer

    var requests: [Request] { seen.withLock { $0 } }
    var address: String { "http://127.0.0.1:\(port)" }

    init(_ answer: @escaping @Sendable (_ number: Int, Request) -> Answer) throws {
        (listener, port) = try Loopback.listen()
        self.answer = answer
        let listener = listener
        startThread("image-server") { [self] in
            while case let client = accept(listener, nil, nil), client >= 0 {
                startThread("image-served") {
                    self.serve(client)
                    close(client)
                }
            }
        }
    }

    /// Of data: the range that is asked for.
    static func data(_ bytes: [UInt8], _ request: Request) -> Answer {
        guard request.start > 0 else { return Answer(body: bytes) }
        guard request.start < bytes.count else { return Answer(status: 416) }
        return Answer(
            status: 206, headers: ["Content-Range: bytes \(request.start)-\(bytes.count - 1)/\(bytes.count)"],
            body: Array(bytes[request.start...]))
    }

    private func serve(_ client: Int32) {
        var reader = Reader(client)
        guard let head = reader.line(), let method = head.split(separator: " ").first else { return }
        var request = Request(method: String(method), target: String(head.split(separator: " ")[1]))
        while let line = reader.line(), !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { continue }
            request.headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        let number = seen.withLock { seen in
            seen.append(request)
            return seen.count
        }
        var answer = answer(number, request)
        if answer.status < 300, request.headers["transfer-encoding"] == "chunked" {
            if request.headers["expect"] != nil { Loopback.send(client, Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
            while let line = reader.line(), let count = Int(line, radix: 16), let chunk = reader.take(count + 2), count > 0 {
                request.body += chunk.dropLast(2)
            }
            let body = request.body
            seen.withLock { $0[number - 1].body = body }
        }
        if answer.isLost { return }
        let length = answer.length ?? answer.body.count
        if length >= 0, answer.status != 204 { answer.headers.append("Content-Length: \(length)") }
        let head2 = (["HTTP/1.1 \(answer.status) Answer"] + answer.headers + ["Connection: close", "", ""]).joined(separator: "\r\n")
        Loopback.send(client, Array(head2.utf8))
        let end = min(answer.cut ?? .max, answer.hangs ?? .max, answer.body.count)
        Loopback.send(client, Array(answer.body[..<end]))
        // Until the other end has had enough.
        if answer.hangs != nil { _ = reader.line() }
    }

    private struct Reader {
        let descriptor: Int32
        private var buffer: [UInt8] = []
        init(_ descriptor: Int32) { self.descriptor = descriptor }

        private mutating func more() -> Bool {
            var piece = [UInt8](repeating: 0, count: 65_536)
            let count = recv(descriptor, &piece, piece.count, 0)
            if count > 0 { buffer += piece[..<count] }
            return count > 0
        }

        mutating func line() -> String? {
            while true {
                if let end = buffer.firstIndex(of: 10) {
                    let line = String(decoding: buffer[..<end].filter { $0 != 13 }, as: UTF8.self)
                    buffer.removeFirst(end + 1)
                    return line
                }
                guard more() else { return nil }
            }
        }

        mutating func take(_ count: Int) -> [UInt8]? {
            while buffer.count < count { guard more() else { return nil } }
            defer { buffer.removeFirst(count) }
            return Array(buffer[..<count])
        }
    }
}
