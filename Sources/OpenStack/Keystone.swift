import HTTPClient
import JSON
public import Logging
import Primitives
public import Settings

/// The user, project and roles of a token.
public struct KeystoneToken: Sendable {
    public let userID: String
    public let userDomainID: String?
    public let projectID: String?
    public let projectDomainID: String?
    public let domainID: String?
    public let isSystemScoped: Bool
    public let roles: [String]
    /// Seconds since 1970.
    public let expires: Double
}

/// Asks Keystone's v3 API what tokens are worth (https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token):
/// with a token of its own that is renewed in time, a cache, one question per token at a time, several URLs and retries.
public final class Keystone: Sendable {
    private enum Credentials: Sendable {
        case password(user: String?, userID: String?, password: Secret, domain: JSONObject)
        case application(id: String?, name: String?, secret: Secret, user: JSONObject)
    }

    private let urls: [String]
    private let credentials: Credentials
    private let scope: JSON
    private let timeout: Double
    let connectTimeout: Double
    private let retries: Int
    private let client: HTTPClient
    private let cache: VerdictCache<KeystoneToken>
    private let queue = FairQueue(name: "keystone", threads: 8, capacity: 1024, share: 256)
    /// Of each address.
    private let history = ClientHistory()
    /// Threads for requests to other services, so that a slow Nova does not delay authentication.
    let others = ThreadExecutor(name: "catalogue", threads: 4)
    let own = Guarded<(token: Secret, expires: Double, projectID: String?)?>(nil)
    let endpoints = Guarded<[Endpoint: (url: String, until: Double)]>([:])
    /// Held while our own token is renewed, by one thread at a time.
    private let renewing = Guarded(())
    /// Index of the URL that answered last.
    private let preferred = Guarded(0)
    private let log: Logger

    /// The URL in the challenge of a 401.
    public let publicURL: String
    /// Roles that a service token must have, and whether a request whose service token lacks them is refused.
    public let serviceRoles: Set<String>
    public let requiresServiceRoles: Bool

    public init(_ settings: Settings, log: Logger) throws(SettingsError) {
        let problems = Self.problems(settings)
        guard problems.isEmpty else { throw SettingsError(problems) }
        self.log = log
        func text(_ option: Option<String>) -> String? {
            let value = settings[option]
            return value.isEmpty ? nil : value
        }
        urls = settings[Options.keystone.authURLs].map(Self.normalize)
        switch settings[Options.keystone.authType] {
        case "v3applicationcredential":
            let id = text(Options.keystone.applicationID)
            let name = text(Options.keystone.applicationName)
            credentials = .application(
                id: id, name: name, secret: settings[Options.keystone.applicationSecret],
                user: Self.named(text(Options.keystone.username), text(Options.keystone.userID), domain: settings))
            scope = .null
        default:
            credentials = .password(
                user: text(Options.keystone.username), userID: text(Options.keystone.userID), password: settings[Options.keystone.password],
                domain: Self.domain(settings[Options.keystone.userDomainID], settings[Options.keystone.userDomainName]))
            if settings[Options.keystone.systemScope] == "all" {
                scope = ["system": ["all": true]]
            } else if let id = text(Options.keystone.projectID) {
                scope = ["project": ["id": .string(id)]]
            } else if let name = text(Options.keystone.projectName) {
                scope = [
                    "project": [
                        "name": .string(name),
                        "domain": .object(
                            Self.domain(settings[Options.keystone.projectDomainID], settings[Options.keystone.projectDomainName])),
                    ]
                ]
            } else {
                scope = .null
            }
        }
        let authorities = settings[Options.keystone.caFile]
        client = HTTPClient(
            trust: HTTPClient.Trust(
                authorities: authorities.isEmpty ? nil : authorities, isInsecure: settings[Options.keystone.insecure],
                certificate: text(Options.keystone.certFile), key: text(Options.keystone.keyFile)))
        connectTimeout = Double(settings[Options.keystone.connectTimeout])
        timeout = Double(settings[Options.keystone.requestTimeout])
        retries = settings[Options.keystone.retries]
        cache = VerdictCache(seconds: Double(settings[Options.keystone.tokenCacheTime]))
        publicURL = text(Options.keystone.wwwAuthenticateURI) ?? urls.first.map { $0 + "/v3" } ?? ""
        serviceRoles = Set(settings[Options.keystone.serviceTokenRoles])
        requiresServiceRoles = settings[Options.keystone.serviceTokenRolesRequired]
    }

    /// The problems of `[keystone_authtoken]`, one line each, found without network access.
    public static func problems(_ settings: Settings) -> [String] {
        var problems: [String] = []
        let urls = settings[Options.keystone.authURLs].map(normalize)
        if urls.isEmpty { problems.append("[keystone_authtoken] auth_url is not set: it says where Keystone is") }
        for url in urls where !url.hasPrefix("http://") && !url.hasPrefix("https://") {
            problems.append("[keystone_authtoken] auth_url: '\(url)' is no URL")
        }
        if settings[Options.keystone.authType] == "v3applicationcredential" {
            if settings[Options.keystone.applicationID].isEmpty && settings[Options.keystone.applicationName].isEmpty {
                problems.append("[keystone_authtoken] application_credential_id is not set")
            }
            if settings[Options.keystone.applicationSecret].reveal().isEmpty {
                problems.append("[keystone_authtoken] application_credential_secret is not set")
            }
        } else {
            if settings[Options.keystone.username].isEmpty && settings[Options.keystone.userID].isEmpty {
                problems.append("[keystone_authtoken] username is not set: Clinker validates tokens with an account of its own")
            }
            if settings[Options.keystone.password].reveal().isEmpty { problems.append("[keystone_authtoken] password is not set") }
        }
        return problems
    }

    private static func normalize(_ url: String) -> String {
        var url = url
        while url.hasSuffix("/") { url.removeLast() }
        if url.hasSuffix("/v3") { url.removeLast(3) }
        while url.hasSuffix("/") { url.removeLast() }
        return url
    }

    private static func domain(_ id: String, _ name: String) -> JSONObject {
        id.isEmpty ? ["name": .string(name.isEmpty ? "Default" : name)] : ["id": .string(id)]
    }

    private static func named(_ name: String?, _ id: String?, domain settings: Settings) -> JSONObject {
        if let id { return ["id": .string(id)] }
        guard let name else { return [:] }
        return [
            "name": .string(name),
            "domain": .object(domain(settings[Options.keystone.userDomainID], settings[Options.keystone.userDomainName])),
        ]
    }

    // MARK: validation

    /// The cached result. Outer nil: not cached; inner nil: the token is invalid.
    public func known(_ token: String) -> KeystoneToken?? {
        guard token.utf8.count <= TokenForm.longest else { return .some(nil) }
        if let verdict = cache.find(Digest(token)) { return .some(Self.current(verdict, allowExpired: false)) }
        return TokenForm.isPossible(token) ? nil : .some(nil)
    }

    /// Validates a token; nil if it is invalid. An expired token is accepted if a service token comes with it.
    public func validate(_ token: String, for asker: Asker, allowExpired: Bool = false) async throws(Unavailable) -> KeystoneToken? {
        guard TokenForm.isPossible(token) else { return nil }
        let key = Digest((allowExpired ? "expired " : "") + token)
        let outcome = await cache.find(key, isPresent: asker.isPresent) { [self] isWanted in
            let client = Digest(asker.share)
            let rank: @Sendable () -> Int = { [history] in history.rank(client) }
            return await queue.run(for: FairQueue.Client(asker.share), rank: rank, while: isWanted) {
                let outcome = self.ask(token, allowExpired: allowExpired)
                if case .success(let verdict) = outcome { self.history.add(client, isGood: verdict.isValid) }
                return outcome
            } ?? .failure(.busy)
        }
        return Self.current(try outcome.get(), allowExpired: allowExpired)
    }

    private static func current(_ verdict: VerdictCache<KeystoneToken>.Verdict, allowExpired: Bool) -> KeystoneToken? {
        guard case .valid(let token) = verdict, allowExpired || token.expires > Timestamp.seconds() else { return nil }
        return token
    }

    private func ask(_ token: String, allowExpired: Bool) -> VerdictCache<KeystoneToken>.Outcome {
        var refusedOwn = false
        do throws(Unavailable) {
            while true {
                let mine = try ownToken()
                let response = try exchange(
                    "GET", "/v3/auth/tokens?nocatalog" + (allowExpired ? "&allow_expired=1" : ""),
                    headers: [(name: "X-Auth-Token", value: mine.reveal()), (name: "X-Subject-Token", value: token)], body: nil)
                switch response.status {
                case 200:
                    guard let json = try? JSON(parsing: response.body), let found = Self.token(json["token"] ?? .null) else {
                        throw Unavailable(description: "Keystone's answer about a token is none")
                    }
                    return .success(.valid(found))
                case 404: return .success(.invalid)
                case 401 where !refusedOwn:
                    // Our own token was revoked: retry once with a new one.
                    refusedOwn = true
                    own.withLock { if $0?.token == mine { $0 = nil } }
                case 401, 403: throw Unavailable(description: "Keystone refuses Clinker's own account")
                default: throw Unavailable(description: "Keystone answered \(response.status) about a token")
                }
            }
        } catch {
            log.error("a token could not be validated: \(error)")
            return .failure(error)
        }
    }

    private static func token(_ json: JSON) -> KeystoneToken? {
        guard let user = json["user"]?["id"]?.string, let until = json["expires_at"]?.string.flatMap({ Timestamp.parse($0) }) else {
            return nil
        }
        return KeystoneToken(
            userID: user, userDomainID: json["user"]?["domain"]?["id"]?.string, projectID: json["project"]?["id"]?.string,
            projectDomainID: json["project"]?["domain"]?["id"]?.string, domainID: json["domain"]?["id"]?.string,
            isSystemScoped: json["system"]?["all"]?.bool ?? false, roles: json["roles"]?.array?.compactMap { $0["name"]?.string } ?? [],
            expires: until)
    }

    // MARK: our own token

    func ownToken() throws(Unavailable) -> Secret {
        if let current = own.withLock({ $0 }), current.expires > Timestamp.seconds() + 60 { return current.token }
        let result: Result<Secret, Unavailable> = renewing.withLock { _ in
            // Another thread may have renewed it in the meantime.
            if let current = own.withLock({ $0 }), current.expires > Timestamp.seconds() + 60 { return .success(current.token) }
            do throws(Unavailable) { return .success(try authenticate()) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// The project that our own token is for; nil: for none.
    func ownProject() throws(Unavailable) -> String? {
        _ = try ownToken()
        return own.withLock { $0?.projectID }
    }

    private func authenticate() throws(Unavailable) -> Secret {
        var identity: JSONObject
        switch credentials {
        case .password(let user, let userID, let password, let domain):
            var account: JSONObject = ["password": .string(password.reveal())]
            if let userID {
                account["id"] = .string(userID)
            } else {
                account["name"] = JSON(user)
                account["domain"] = .object(domain)
            }
            identity = ["methods": ["password"], "password": ["user": .object(account)]]
        case .application(let id, let name, let secret, let user):
            var credential: JSONObject = ["secret": .string(secret.reveal())]
            if let id {
                credential["id"] = .string(id)
            } else {
                credential["name"] = JSON(name)
                credential["user"] = .object(user)
            }
            identity = ["methods": ["application_credential"], "application_credential": .object(credential)]
        }
        var auth: JSONObject = ["identity": .object(identity)]
        if scope != .null { auth["scope"] = scope }
        let response = try exchange("POST", "/v3/auth/tokens?nocatalog", headers: [], body: .object(["auth": .object(auth)]))
        let answer = (try? JSON(parsing: response.body))?["token"]
        guard response.status == 201, let token = response.header("X-Subject-Token"),
            let until = answer?["expires_at"]?.string.flatMap({ Timestamp.parse($0) })
        else {
            let url = urls[preferred.withLock { $0 }]
            throw Unavailable(description: "Keystone at \(url) answered \(response.status) to Clinker's own account")
        }
        let secret = Secret(token)
        own.withLock { $0 = (token: secret, expires: until, projectID: answer?["project"]?["id"]?.string) }
        return secret
    }

    // MARK: requests

    /// Tries the URL that answered last, then the others; repeats after a pause if none answers.
    func exchange(_ method: String, _ path: String, headers: [(name: String, value: String)], body: JSON?) throws(Unavailable)
        -> HTTPClient.Response
    {
        var last = Unavailable(description: "Keystone has no URL")
        for attempt in 0...retries {
            if attempt > 0 { pause(0.1 * Double(1 << min(attempt - 1, 5))) }
            let first = preferred.withLock { $0 }
            for offset in urls.indices {
                let index = (first + offset) % urls.count
                var request = HTTPClient.Request(method, urls[index] + path)
                request.headers = headers + [(name: "Accept", value: "application/json")]
                if let body {
                    request.headers.append((name: "Content-Type", value: "application/json"))
                    request.body = Array(body.text.utf8)
                }
                request.timeout = timeout
                request.connectTimeout = connectTimeout
                request.limit = 1 << 20
                do throws(HTTPClient.Failure) {
                    let response = try client.send(request)
                    if response.status < 500 {
                        preferred.withLock { $0 = index }
                        return response
                    }
                    last = Unavailable(description: "Keystone at \(urls[index]) answered \(response.status)")
                } catch { last = Unavailable(description: "Keystone at \(urls[index]): \(error)") }
            }
        }
        throw last
    }
}
