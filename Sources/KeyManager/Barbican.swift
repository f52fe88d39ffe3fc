import HTTPClient
import JSON
public import Primitives
public import Settings

/// Clinker's own tokens, and where the key manager's service is.
public protocol KeyServiceAccess: Sendable {
    /// A valid token of Clinker's own account.
    func token() async throws(KeyFailure) -> Secret
    /// The token was refused: the next one is new.
    func renew(_ refused: Secret) async
    /// The service's URL in the catalogue.
    func url(interface: String, region: String?) async throws(KeyFailure) -> String
}

/// Who waits while a key manager that does not answer is asked again.
public protocol KeyWaiting: Sendable {
    /// It did not answer, and will be asked again so often, that many seconds later each time.
    func told(_ failure: KeyFailure, repetitions: Int, pause: Int)
    /// Whether it is to be asked no more, as the service stops.
    var isOver: Bool { get }
}

/// Keys in Barbican, as secrets of Clinker's own project (https://docs.openstack.org/barbican/latest/api/reference/secrets.html). The user
/// whose volume a key is for is let read it. Nothing is ever sent or kept elsewhere where Barbican does not answer.
public final class Barbican: KeyManager {
    /// Largest answers in bytes: of a key's content, of a certificate's, and of what is said of secrets.
    private static let largestKey = 4096
    private static let largestCertificate = 16 << 10
    private static let largestAnswer = 256 << 10

    private let fixedURL: String?
    private let version, interface: String
    private let region: String?
    private let retries, retryDelay: Int
    private let timeout: Double
    private let client: HTTPClient
    private let access: any KeyServiceAccess
    private let waiting: (any KeyWaiting)?
    private let threads = ThreadExecutor(name: "barbican", threads: 4)

    /// - Parameter timeout: seconds for an answer.
    public init(_ settings: Settings, access: any KeyServiceAccess, waiting: (any KeyWaiting)? = nil, timeout: Double = 30) {
        func text(_ option: Option<String>) -> String? { settings[option].isEmpty ? nil : settings[option] }
        fixedURL = text(Options.barbican.endpoint)
        version = settings[Options.barbican.version]
        interface = settings[Options.barbican.endpointType]
        region = text(Options.barbican.region)
        retries = settings[Options.barbican.retries]
        retryDelay = settings[Options.barbican.retryDelay]
        client = HTTPClient(
            trust: HTTPClient.Trust(authorities: text(Options.barbican.authorities), isInsecure: !settings[Options.barbican.verifiesTLS]))
        self.access = access
        self.waiting = waiting
        self.timeout = timeout
    }

    // MARK: KeyManager

    public func create(_ request: KeyRequest) async throws(KeyFailure) -> String {
        try await store(request) { () throws(KeyFailure) in try Sealing.random(request.bits / 8) }
    }

    public func keep(_ key: EncryptionKey, as request: KeyRequest) async throws(KeyFailure) -> String {
        try await store(request) { key.reveal() }
    }

    public func key(_ id: String) async throws(KeyFailure) -> EncryptionKey {
        guard Self.isID(id) else { throw KeyFailure.notFound(id) }
        let response = try await ask("GET", "/secrets/\(id)/payload", accept: "application/octet-stream", limit: Self.largestKey)
        switch response.status {
        case 200:
            guard let key = EncryptionKey(response.body) else {
                throw KeyFailure(.damaged, "Barbican's secret \(id) has \(response.body.count) bytes: it is no key")
            }
            return key
        case 404 where Self.saysNotFound(response): throw KeyFailure.notFound(id)
        default: throw Self.failure(response, "the content of secret \(id)")
        }
    }

    public func delete(_ id: String) async throws(KeyFailure) {
        guard Self.isID(id) else { throw KeyFailure.notFound(id) }
        let response = try await ask("DELETE", "/secrets/\(id)")
        guard [200, 204].contains(response.status) || Self.saysNotFound(response) else {
            throw Self.failure(response, "the deletion of secret \(id)")
        }
    }

    public func look() async throws(KeyFailure) {
        let url = try await base()
        do throws(KeyFailure) {
            let response = try await ask("GET", "/secrets?limit=1", isRepeatable: false)
            guard response.status == 200 else { throw Self.failure(response, "its secrets") }
        } catch { throw error.description.contains(url) ? error : KeyFailure(error.kind, "\(error), at \(url)") }
    }

    public func discard(_ name: String) async throws(KeyFailure) {
        for id in try await ids(of: name) { try await delete(id) }
    }

    public func open(_ id: String, to userID: String) async throws(KeyFailure) {
        guard Self.isID(id) else { throw KeyFailure.notFound(id) }
        try await letRead(id, userID)
    }

    /// Whose secret it is Barbican decides, by Clinker's own account: what is no certificate is not even read.
    public func certificate(_ id: String) async throws(KeyFailure) -> [UInt8] {
        guard Self.isID(id) else { throw KeyFailure(.invalid, "'\(id.prefix(64))' is no id of a secret") }
        func check(_ response: HTTPClient.Response, _ what: String) throws(KeyFailure) {
            switch response.status {
            case 200: break
            case 404 where Self.saysNotFound(response): throw KeyFailure(.notFound, "Barbican has no secret \(id)")
            case 403:
                throw KeyFailure(
                    .refused,
                    "Barbican does not let Clinker's account read secret \(id): it is another project's, and the account is not among its readers"
                )
            default: throw Self.failure(response, "\(what) secret \(id)")
            }
        }
        let about = try await ask("GET", "/secrets/\(id)")
        try check(about, "what is said of")
        let secret = try Self.json(about, "secret \(id)")
        let type = secret["secret_type"]?.string ?? "opaque"
        guard type == "certificate" else {
            throw KeyFailure(.invalid, "Barbican's secret \(id) is of type \(type.prefix(32)), and not certificate")
        }
        // It has a content in one form; as bytes where it does not say in which, or in one that no header may hold.
        let form = secret["content_types"]?["default"]?.string ?? "application/octet-stream"
        let isPlain = !form.isEmpty && form.utf8.count <= 128 && form.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        let content = try await ask(
            "GET", "/secrets/\(id)/payload", accept: isPlain ? form : "application/octet-stream", limit: Self.largestCertificate)
        try check(content, "the content of")
        return content.body
    }

    // MARK: secrets

    private static func isID(_ text: String) -> Bool { text.utf8.count == 36 && UUID.isUUIDLike(text) }

    /// Whether an earlier attempt, whose answer may be lost, was heard is asked before each.
    private func store(_ request: KeyRequest, _ make: @Sendable () throws(KeyFailure) -> [UInt8]) async throws(KeyFailure) -> String {
        var attempt = 0
        while true {
            if let known = try await ids(of: request.name).first {
                try await letRead(known, request.userID)
                return known
            }
            let bytes = try make()
            let body = JSON.object([
                "name": .string(request.name), "secret_type": "symmetric", "algorithm": .string(request.algorithm),
                "bit_length": .integer(Int64(bytes.count * 8)), "payload": .string(Base64.encode(bytes)),
                "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
            ])
            do throws(KeyFailure) {
                let response = try await ask("POST", "/secrets", body: body, isRepeatable: false)
                guard response.status == 201 else { throw Self.failure(response, "a new secret") }
                guard let id = Self.id(try Self.json(response, "a new secret")["secret_ref"]) else {
                    throw KeyFailure(.damaged, "Barbican's answer about a new secret names none")
                }
                try await letRead(id, request.userID)
                return id
            } catch {
                attempt += 1
                guard error.kind == .unavailable, attempt <= retries else { throw error }
                try await pause(after: error, attempt)
            }
        }
    }

    /// Lets a user read a secret: who attaches the volume asks for the key with the user's token.
    private func letRead(_ id: String, _ userID: String?) async throws(KeyFailure) {
        guard let userID, !userID.isEmpty else { return }
        let body: JSON = ["read": ["users": [.string(userID)], "project-access": true]]
        let response = try await ask("PUT", "/secrets/\(id)/acl", body: body)
        guard !Self.saysNotFound(response) else { throw KeyFailure.notFound(id) }
        guard response.status == 200 else { throw Self.failure(response, "the readers of secret \(id)") }
    }

    private func ids(of name: String) async throws(KeyFailure) -> [String] {
        let response = try await ask("GET", "/secrets?limit=10&name=\(name)")
        guard response.status == 200 else { throw Self.failure(response, "secrets by their name") }
        guard let secrets = try Self.json(response, "secrets by their name")["secrets"]?.array else {
            throw KeyFailure(.damaged, "Barbican's answer about secrets by their name lists none")
        }
        return try secrets.map { secret throws(KeyFailure) in
            guard secret["name"]?.string == name, let id = Self.id(secret["secret_ref"]) else {
                throw KeyFailure(.damaged, "Barbican's answer about secrets by their name tells of others")
            }
            return id
        }
    }

    /// A proxy, or another service at the URL, may answer 404 too; only Barbican does it in this form.
    private static func saysNotFound(_ response: HTTPClient.Response) -> Bool {
        response.status == 404 && (try? JSON(parsing: response.body))?["code"] == .integer(404)
    }

    /// The last part of a secret's URL.
    private static func id(_ reference: JSON?) -> String? {
        guard let last = reference?.string?.parts(at: "/").last.map(String.init), isID(last) else { return nil }
        return last
    }

    private static func json(_ response: HTTPClient.Response, _ what: String) throws(KeyFailure) -> JSON {
        guard let json = try? JSON(parsing: response.body) else { throw KeyFailure(.damaged, "Barbican's answer about \(what) is none") }
        return json
    }

    private static func failure(_ response: HTTPClient.Response, _ what: String) -> KeyFailure {
        switch response.status {
        case 401, 403: KeyFailure(.refused, "Barbican refuses Clinker's account (\(response.status)) about \(what)")
        case 429, 500...: KeyFailure(.unavailable, "Barbican answered \(response.status) about \(what)")
        default: KeyFailure(.damaged, "Barbican answered \(response.status) about \(what)")
        }
    }

    // MARK: requests

    private func pause(after failure: KeyFailure, _ attempt: Int) async throws(KeyFailure) {
        if attempt == 1 { waiting?.told(failure, repetitions: retries, pause: retryDelay) }
        let end = Timestamp.monotonic() + Double(retryDelay)
        while case let rest = end - Timestamp.monotonic(), rest > 0 {
            if waiting?.isOver == true { throw failure }
            do { try await Task.sleep(nanoseconds: UInt64(min(rest, 0.2) * 1e9)) } catch {
                throw KeyFailure(.unavailable, "cancelled while Barbican did not answer")
            }
        }
    }

    private func base() async throws(KeyFailure) -> String {
        var url: String
        if let fixedURL { url = fixedURL } else { url = try await access.url(interface: interface, region: region) }
        while url.hasSuffix("/") { url.removeLast() }
        return url.hasSuffix("/\(version)") ? url : url + "/\(version)"
    }

    /// The answer, whatever its status, but that a refused token is renewed once, and no answer or 5xx is asked for again.
    private func ask(
        _ method: String, _ path: String, body: JSON? = nil, accept: String = "application/json", limit: Int = largestAnswer,
        isRepeatable: Bool = true
    ) async throws(KeyFailure) -> HTTPClient.Response {
        var attempt = 0
        while true {
            do throws(KeyFailure) {
                var token = try await access.token()
                var response = try await send(method, path, token, body, accept, limit)
                if response.status == 401 {
                    await access.renew(token)
                    token = try await access.token()
                    response = try await send(method, path, token, body, accept, limit)
                }
                guard response.status >= 500 || response.status == 429 else { return response }
                throw Self.failure(response, path.parts(at: "?")[0].description)
            } catch {
                attempt += 1
                guard isRepeatable, error.kind == .unavailable, attempt <= retries else { throw error }
                try await pause(after: error, attempt)
            }
        }
    }

    private func send(
        _ method: String, _ path: String, _ token: Secret, _ body: JSON?, _ accept: String, _ limit: Int
    ) async throws(KeyFailure) -> HTTPClient.Response {
        let url = try await base()
        let (client, timeout) = (client, timeout)
        let result = await Task(executorPreference: threads) { () -> Result<HTTPClient.Response, KeyFailure> in
            var request = HTTPClient.Request(method, url + path)
            request.headers = [(name: "X-Auth-Token", value: token.reveal()), (name: "Accept", value: accept)]
            if let body {
                request.headers.append((name: "Content-Type", value: "application/json"))
                request.body = Array(body.text.utf8)
            }
            request.timeout = timeout
            request.isOnNewConnection = method == "POST"
            request.limit = limit
            do throws(HTTPClient.Failure) { return .success(try client.send(request)) } catch {
                return .failure(KeyFailure(error.isTooLong ? .tooLong : .unavailable, "Barbican at \(url): \(error)"))
            }
        }.value
        return try result.get()
    }
}
