import Glibc
import Primitives

/// An HTTP proxy on 127.0.0.1 in front of a real server, which does to chosen requests what networks and servers do. Every request and
/// every answer is passed on whole, over a connection of its own.
public final class HTTPFaultProxy: Sendable {
    public enum Fault: Sendable {
        /// The connection breaks before the server hears of it.
        case reset
        /// The server does it, and its answer is lost.
        case loseAnswer
        /// Nothing comes, for so many seconds.
        case hang(Double)
        /// The server never hears of it, and this is answered.
        case answer(status: Int, headers: [String], body: String)
        /// Half of the answer's body comes.
        case cut
        /// The last byte of the answer's body is another.
        case alter
        /// The server never hears of it, and its success is told.
        case lose
        /// What the same request was answered before is answered again.
        case stale
    }

    /// What happens to requests of a method whose target has the text, so many times, after some that pass.
    public struct Rule: Sendable {
        public var method: String
        public var target: String
        public var fault: Fault
        public var skips: Int
        public var times: Int
        public init(_ method: String, _ target: String = "", _ fault: Fault, after skips: Int = 0, times: Int = 1) {
            (self.method, self.target, self.fault, self.skips, self.times) = (method, target, fault, skips, times)
        }
    }

    private struct State {
        var rules: [Rule] = []
        /// First lines and headers of the requests that came.
        var heads: [String] = []
        var answers: [String: [UInt8]] = [:]
        var hits = 0
    }

    public let port: UInt16
    private let target: UInt16
    private let state = Guarded(State())

    public init(to target: UInt16) throws {
        let descriptor: Int32
        (descriptor, port) = try Loopback.listen()
        self.target = target
        startThread("fault-proxy") { [self] in
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                startThread("fault-proxied") { self.serve(client) }
            }
        }
    }

    /// Replaces the rules, and forgets what was.
    public func set(_ rules: Rule...) { state.withLock { $0 = State(rules: rules, answers: $0.answers) } }
    /// How often a rule held since `set`.
    public var hits: Int { state.withLock { $0.hits } }
    /// The first lines and headers of the requests since `set`.
    public var heads: [String] { state.withLock { $0.heads } }

    private func serve(_ client: Int32) {
        defer { close(client) }
        while let (head, request) = Self.message(client, isAnswerToHead: false) {
            let words = head.split(separator: " ", maxSplits: 2).map(String.init)
            guard words.count == 3 else { return }
            let (fault, earlier) = state.withLock { state -> (Fault?, [UInt8]?) in
                state.heads.append(head)
                let key = words[0] + " " + words[1]
                guard let index = state.rules.firstIndex(where: { $0.method == words[0] && words[1].contains($0.target) && $0.times > 0 })
                else { return (nil, state.answers[key]) }
                if state.rules[index].skips > 0 {
                    state.rules[index].skips -= 1
                    return (nil, state.answers[key])
                }
                state.rules[index].times -= 1
                state.hits += 1
                return (state.rules[index].fault, state.answers[key])
            }
            switch fault {
            case .reset:
                var linger = linger(l_onoff: 1, l_linger: 0)
                setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
                return
            case .hang(let seconds):
                usleep(UInt32(seconds * 1_000_000))
                return
            case .answer(let status, let headers, let body):
                let lines = ["HTTP/1.1 \(status) Fault"] + headers + ["Content-Length: \(body.utf8.count)"]
                let text = lines.joined(separator: "\r\n") + "\r\n\r\n" + (words[0] == "HEAD" ? "" : body)
                guard Loopback.send(client, Array(text.utf8)) else { return }
                continue
            case .lose:
                guard Loopback.send(client, Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)) else { return }
                continue
            case .stale:
                if let earlier {
                    guard Loopback.send(client, earlier) else { return }
                    continue
                }
            case .loseAnswer, .cut, .alter, nil: break
            }
            guard var answer = ask(request, isHead: words[0] == "HEAD") else { return }
            if case .alter = fault, answer.bodyCount > 0 { answer.whole[answer.whole.count - 1] ^= 1 }
            if words[0] == "GET" { state.withLock { $0.answers[words[0] + " " + words[1]] = answer.whole } }
            switch fault {
            case .loseAnswer: return
            case .cut:
                Loopback.send(client, Array(answer.whole.dropLast(answer.bodyCount - answer.bodyCount / 2)))
                return
            default: guard Loopback.send(client, answer.whole) else { return }
            }
        }
    }

    private func ask(_ request: [UInt8], isHead: Bool) -> (whole: [UInt8], bodyCount: Int)? {
        guard let server = try? Loopback.connect(target) else { return nil }
        defer { close(server) }
        guard Loopback.send(server, request) else { return nil }
        guard let (head, whole) = Self.message(server, isAnswerToHead: isHead) else { return nil }
        return (whole, whole.count - head.utf8.count)
    }

    /// One whole message: its head, and all of it. The body's length must be told, or the connection ends it.
    private static func message(_ connection: Int32, isAnswerToHead: Bool) -> (head: String, whole: [UInt8])? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var headEnd: Int?
        var wanted: Int?
        while true {
            if headEnd == nil, let end = bytes.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound {
                headEnd = end
                let head = String(decoding: bytes[..<end], as: UTF8.self).lowercased()
                let length = head.split(separator: "\r\n").first { $0.hasPrefix("content-length:") }?.split(separator: ":").last
                let isAnswer = head.hasPrefix("http/")
                let hasNone = isAnswerToHead || head.hasPrefix("http/1.1 204") || head.hasPrefix("http/1.1 304")
                wanted = hasNone ? end : length.flatMap { Int($0.filter { $0 != " " }) }.map { end + $0 } ?? (isAnswer ? nil : end)
            }
            if let headEnd, let wanted, bytes.count >= wanted {
                return (String(decoding: bytes[..<headEnd], as: UTF8.self), Array(bytes[..<wanted]))
            }
            let count = recv(connection, &buffer, buffer.count, 0)
            if count <= 0 {
                guard let headEnd, wanted == nil, !bytes.isEmpty else { return nil }
                return (String(decoding: bytes[..<headEnd], as: UTF8.self), bytes)
            }
            bytes += buffer[..<count]
        }
    }
}
