import Glibc
import JSON
import KeyManager
import Primitives
import Settings
import TestSupport

/// A real Barbican (barbican/server.py) behind a proxy that breaks requests, with two tokens of its owner and those of other users.
final class BarbicanUnderTest: Sendable {
    static let shared = Result { try BarbicanUnderTest() }

    struct Failure: Error, CustomStringConvertible { let description: String }

    let proxy: HTTPFaultProxy
    private let port: UInt16
    private let directory: String
    private let program: ServerProgram

    private init() throws {
        directory = temporaryDirectory("barbican")
        port = try Loopback.freePort()
        proxy = try HTTPFaultProxy(to: port)
        program = try ServerProgram(
            "Barbican (.ci/setup barbican)", [".barbican/bin/python", "Tests/KeyManagerTests/barbican/server.py", directory, "\(port)"],
            in: directory)
        try believe(["first", "second"])
    }

    /// From now on these are the tokens of Clinker's own account. Those of two users of another project are always good.
    func believe(_ own: [String]) throws {
        var tokens: JSONObject = [
            "alice": ["project": "alpha", "user": "alice", "roles": "member"],
            "mallory": ["project": "alpha", "user": "mallory", "roles": "member"],
        ]
        for token in own { tokens[token] = ["project": "service", "user": "clinker", "roles": "member"] }
        let draft = directory + "/tokens.draft"
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        let bytes = Array(JSON.object(tokens).text.utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count else { throw SystemError.last("cannot write \(draft)") }
        close(descriptor)
        guard rename(draft, directory + "/tokens.json") == 0 else { throw SystemError.last("cannot name \(draft)") }
    }

    /// A key manager that asks through the proxy, or at another port.
    func manager(_ tokens: TokensOfTests = TokensOfTests(["first"]), port: UInt16? = nil, retries: Int = 2) throws -> Barbican {
        let text =
            "[barbican]\nbarbican_endpoint = http://127.0.0.1:\(port ?? proxy.port)\nnumber_of_retries = \(retries)\nretry_delay = 0\n"
        return Barbican(try Settings(text: text, known: OptionCatalogue(Options.keyManager, Options.barbican)), access: tokens)
    }

    private func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String) throws -> JSON {
        let text = body.map { Array($0.text.utf8) } ?? []
        let head =
            "\(method) /v1\(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: \(token)\r\nAccept: application/json\r\n"
            + "Content-Type: application/json\r\nContent-Length: \(text.count)\r\nConnection: close\r\n\r\n"
        let answer = String(decoding: try Loopback.exchange(port, Array(head.utf8) + text), as: UTF8.self)
        guard let start = answer.firstRange(of: "\r\n\r\n"), let json = try? JSON(parsing: Array(answer[start.upperBound...].utf8)) else {
            throw Failure(description: "\(method) \(path): \(answer.prefix(300))")
        }
        return json
    }

    /// A secret of a user, whom it lets others read too; returns its id.
    func secret(
        _ content: [UInt8], type: String = "certificate", as contentType: String = "application/octet-stream", token: String = "first",
        readers: [String] = []
    ) throws -> String {
        var members: JSONObject = ["name": "of-a-user", "secret_type": .string(type), "payload_content_type": .string(contentType)]
        let isText = contentType == "text/plain"
        members["payload"] = .string(isText ? String(decoding: content, as: UTF8.self) : Base64.encode(content))
        if !isText { members["payload_content_encoding"] = "base64" }
        let made = try ask("POST", "/secrets", .object(members), token: token)
        guard let id = made["secret_ref"]?.string?.split(separator: "/").last.map(String.init) else {
            throw Failure(description: "no secret: \(made.text)")
        }
        if !readers.isEmpty {
            _ = try ask("PUT", "/secrets/\(id)/acl", ["read": ["users": .array(readers.map { .string($0) })]], token: token)
        }
        return id
    }

    /// How many secrets the owner has by the name.
    func count(_ name: String) throws -> Int {
        let answer = try Loopback.exchange(
            port,
            Array(
                "GET /v1/secrets?name=\(name) HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: second\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
                    .utf8))
        let text = String(decoding: answer, as: UTF8.self)
        guard let start = text.firstRange(of: "\r\n\r\n"),
            let total = try JSON(parsing: Array(text[start.upperBound...].utf8))["total"]?.integer
        else { throw Failure(description: "no list of secrets: \(text.prefix(300))") }
        return Int(total)
    }
}

/// Tokens in the order in which they are given out: each is renewed by the next.
final class TokensOfTests: KeyServiceAccess {
    private let tokens: Guarded<[String]>
    private let refused = Guarded<[String]>([])

    init(_ tokens: [String]) { self.tokens = Guarded(tokens) }

    var refusals: [String] { refused.withLock { $0 } }

    func token() async throws(KeyFailure) -> Secret { Secret(tokens.withLock { $0[0] }) }

    func renew(_ token: Secret) async {
        refused.withLock { $0.append(token.reveal()) }
        tokens.withLock { if $0.count > 1 { $0.removeFirst() } }
    }

    func url(interface: String, region: String?) async throws(KeyFailure) -> String {
        throw KeyFailure(.unavailable, "the catalogue has no endpoint of key-manager")
    }
}
