import CGnuTLS
import Glibc
import Primitives

/// An HTTP proxy on 127.0.0.1 in front of a real server, which does to chosen requests what networks and servers do. Every request and
/// every answer is passed on whole, over a connection of its own. Clients may reach it over TLS, the server never.
public final class HTTPFaultProxy: Sendable {
    public enum Fault: Sendable {
        /// The connection breaks before the server hears of it.
        case reset
        /// The server does it, and its answer is lost.
        case loseAnswer
        /// Nothing comes, for so many seconds.
        case hang(Double)
        /// Nothing comes until whoever asked has had enough.
        case silence
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
        var connections = 0
    }

    public let port: UInt16
    private let target: UInt16?
    private let state = Guarded(State())

    /// - Parameters:
    ///   - target: port of the server; nil: whatever no rule is for is answered by 404.
    ///   - certificate: clients are served over TLS, with this one.
    public init(to target: UInt16?, certificate: TestCertificate? = nil) throws {
        let descriptor: Int32
        (descriptor, port) = try Loopback.listen()
        self.target = target
        startThread("fault-proxy") { [self] in
            while true {
                let client = accept(descriptor, nil, nil)
                guard client >= 0 else { return }
                state.withLock { $0.connections += 1 }
                startThread("fault-proxied") {
                    defer { close(client) }
                    guard let certificate else { return self.serve(PlainPeer(descriptor: client)) }
                    if let peer = TLSPeer(client, certificate) { self.serve(peer) }
                }
            }
        }
    }

    /// Replaces the rules, and forgets what was.
    public func set(_ rules: Rule...) { set(rules) }
    public func set(_ rules: [Rule]) { state.withLock { $0 = State(rules: rules, answers: $0.answers) } }
    /// Another rule, for the requests that come, before those that there are.
    public func add(_ rule: Rule) { state.withLock { $0.rules.insert(rule, at: 0) } }
    /// How many connections there were since `set`, with those whose handshake failed.
    public var connections: Int { state.withLock { $0.connections } }
    /// How often a rule held since `set`.
    public var hits: Int { state.withLock { $0.hits } }
    /// The first lines and headers of the requests since `set`.
    public var heads: [String] { state.withLock { $0.heads } }

    private func serve(_ client: any FaultPeer) {
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
                setsockopt(client.descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
                return
            case .hang(let seconds):
                usleep(UInt32(seconds * 1_000_000))
                return
            case .silence:
                var rest = [UInt8](repeating: 0, count: 4096)
                while client.receive(&rest) > 0 {}
                return
            case .answer(let status, let headers, let body):
                let lines = ["HTTP/1.1 \(status) Fault"] + headers + ["Content-Length: \(body.utf8.count)"]
                let text = lines.joined(separator: "\r\n") + "\r\n\r\n" + (words[0] == "HEAD" ? "" : body)
                guard client.send(Array(text.utf8)) else { return }
                continue
            case .lose:
                guard client.send(Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".utf8)) else { return }
                continue
            case .stale:
                if let earlier {
                    guard client.send(earlier) else { return }
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
                client.send(Array(answer.whole.dropLast(answer.bodyCount - answer.bodyCount / 2)))
                return
            default: guard client.send(answer.whole) else { return }
            }
        }
    }

    private func ask(_ request: [UInt8], isHead: Bool) -> (whole: [UInt8], bodyCount: Int)? {
        guard let target else { return (Array("HTTP/1.1 404 Nothing\r\nContent-Length: 0\r\n\r\n".utf8), 0) }
        guard let server = try? Loopback.connect(target) else { return nil }
        defer { close(server) }
        guard Loopback.send(server, request) else { return nil }
        guard let (head, whole) = Self.message(PlainPeer(descriptor: server), isAnswerToHead: isHead) else { return nil }
        return (whole, whole.count - head.utf8.count)
    }

    /// One whole message: its head, and all of it. The body's length must be told, or it comes in chunks, or the connection ends it.
    private static func message(_ connection: any FaultPeer, isAnswerToHead: Bool) -> (head: String, whole: [UInt8])? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var headEnd: Int?
        var wanted: Int?
        var chunks: Int?
        while true {
            if headEnd == nil, let end = bytes.firstRange(of: Array("\r\n\r\n".utf8))?.upperBound {
                headEnd = end
                let lines = String(decoding: bytes[..<end], as: UTF8.self).lowercased().split(separator: "\r\n")
                func value(_ name: String) -> Substring? { lines.first { $0.hasPrefix(name + ":") }?.split(separator: ":").last }
                let isAnswer = lines.first?.hasPrefix("http/") == true
                let hasNone = isAnswerToHead || isAnswer && [" 204", " 304"].contains { lines[0].dropFirst(8).hasPrefix($0) }
                let length = value("content-length").flatMap { Int($0.filter { $0 != " " }) }
                if !hasNone, value("transfer-encoding")?.contains("chunked") == true {
                    chunks = end
                    // Whoever waits for a word before the body gets it from here: the server is not asked before all is there.
                    if value("expect") != nil { connection.send(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
                } else {
                    wanted = hasNone ? end : length.map { end + $0 } ?? (isAnswer ? nil : end)
                }
            }
            if let next = chunks { (chunks, wanted) = chunk(bytes, from: next) }
            if let headEnd, let wanted, bytes.count >= wanted {
                let head = String(decoding: bytes[..<headEnd], as: UTF8.self)
                guard let expectation = head.range(ofLine: "expect:") else { return (head, Array(bytes[..<wanted])) }
                var shorter = head
                shorter.removeSubrange(expectation)
                return (shorter, Array(shorter.utf8) + bytes[headEnd..<wanted])
            }
            let count = connection.receive(&buffer)
            if count <= 0 {
                guard let headEnd, wanted == nil, chunks == nil, !bytes.isEmpty else { return nil }
                return (String(decoding: bytes[..<headEnd], as: UTF8.self), bytes)
            }
            bytes += buffer[..<count]
        }
    }

    /// Where the chunk begins that is not there as a whole, or where the last one ends.
    private static func chunk(_ bytes: [UInt8], from start: Int) -> (next: Int?, end: Int?) {
        var next = start
        while let end = bytes[min(next, bytes.count)...].firstIndex(of: 10) {
            let size = Int(String(decoding: bytes[next..<end].prefix { $0 != 13 && $0 != 59 }, as: UTF8.self), radix: 16) ?? 0
            let after = end + 1 + size + 2
            guard after <= bytes.count else { break }
            if size == 0 { return (nil, after) }
            next = after
        }
        return (next, nil)
    }
}

extension String {
    /// The line, with its end, that begins so in whatever case.
    fileprivate func range(ofLine start: String) -> Range<Index>? {
        var from = startIndex
        while from < endIndex {
            let end = self[from...].firstRange(of: "\r\n")?.upperBound ?? endIndex
            if self[from..<end].lowercased().hasPrefix(start) { return from..<end }
            from = end
        }
        return nil
    }
}

/// The other end of a connection to the proxy.
private protocol FaultPeer {
    var descriptor: Int32 { get }
    /// How many bytes came; none or fewer at the end.
    func receive(_ buffer: inout [UInt8]) -> Int
    /// Sends everything; false if the other end went first.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool
}

private struct PlainPeer: FaultPeer {
    let descriptor: Int32
    func receive(_ buffer: inout [UInt8]) -> Int { recv(descriptor, &buffer, buffer.count, 0) }
    func send(_ bytes: [UInt8]) -> Bool { Loopback.send(descriptor, bytes) }
}

private final class TLSPeer: FaultPeer {
    let descriptor: Int32
    private let session: gnutls_session_t
    private var credentials: gnutls_certificate_credentials_t?

    /// Shakes hands; nil where the client does not want to.
    init?(_ descriptor: Int32, _ certificate: TestCertificate) {
        self.descriptor = descriptor
        var made: gnutls_session_t?
        gnutls_init(&made, UInt32(GNUTLS_SERVER.rawValue | GNUTLS_NO_SIGNAL.rawValue))
        session = made!
        gnutls_set_default_priority(session)
        gnutls_certificate_allocate_credentials(&credentials)
        certificate.use(in: credentials)
        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(credentials))
        gnutls_transport_set_int2(session, descriptor, descriptor)
        gnutls_handshake_set_timeout(session, 30_000)
        guard gnutls_handshake(session) == 0 else { return nil }
    }

    deinit {
        gnutls_deinit(session)
        gnutls_certificate_free_credentials(credentials)
    }

    func receive(_ buffer: inout [UInt8]) -> Int {
        while true {
            let count = gnutls_record_recv(session, &buffer, buffer.count)
            if count != Int(GNUTLS_E_INTERRUPTED), count != Int(GNUTLS_E_AGAIN) { return count }
        }
    }

    func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { gnutls_record_send(session, $0.baseAddress! + sent, bytes.count - sent) }
            if count == Int(GNUTLS_E_INTERRUPTED) || count == Int(GNUTLS_E_AGAIN) { continue }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }
}
