import CDriver
import DriverKit
import JSON
import ObjectServers
import Synchronization

/// A token and the account's URL, which are asked for when there are none, and again when the token has ended.
final class SwiftSession: Sendable {
    struct Access: Sendable {
        let token: String
        /// Of the account, without a slash at its end.
        let url: String
        /// In seconds since 1970 by this machine's clock; after it another token is asked for.
        let end: Int64
    }

    private let options: SwiftOptions
    private let pool: HTTPPool
    private let access = Mutex<Access?>(nil)

    init(_ options: SwiftOptions, _ pool: HTTPPool) { (self.options, self.pool) = (options, pool) }

    /// - Parameter refused: a token that the server did not take.
    func access(_ requester: Requester, insteadOf refused: String? = nil) throws -> Access {
        // Whoever comes second finds the token that the first has fetched.
        if let known = access.withLock({ $0 }), known.token != refused, known.end > ServerTime.now() { return known }
        let fetched = try options.attempts.run(requester) { _ in try fetch(requester) }
        access.withLock { $0 = fetched }
        return fetched
    }

    private func fetch(_ requester: Requester) throws -> Access {
        let body = options.isKeystone ? Array(question.text.utf8) : []
        let response: HTTPResponse = try body.withUnsafeBytes { bytes in
            var request = HTTPRequest(
                options.isKeystone ? "POST" : "GET", options.authURL.text + (options.isKeystone ? "/auth/tokens" : ""))
            if options.isKeystone {
                request.headers = [("Content-Type", "application/json")]
                request.body = [bytes]
            } else {
                request.headers = [("X-Auth-User", options.user), ("X-Auth-Key", options.key)]
            }
            do throws(HTTPFailure) { return try pool.send(request, isCancelled: requester.isCancelled) } catch {
                throw Trouble(error, "the authentication")
            }
        }
        guard response.isSuccess else {
            let code = response.isTrouble ? CLINKER_RETRY : CLINKER_BAD_CONFIGURATION
            throw Trouble(
                DriverError(code, "the authentication answers \(response.status) to user \(options.user)"), isTemporary: response.isTrouble,
                pause: response.retryAfter)
        }
        return options.isKeystone ? try keystone(response) : try own(response)
    }

    /// Nobody hands the URL or the token of an answer on that is not of the kind that was asked for.
    private func incomplete(_ words: String) -> Trouble { Trouble(DriverError(CLINKER_BAD_CONFIGURATION, "the authentication \(words)")) }

    private func own(_ response: HTTPResponse) throws -> Access {
        guard let token = response.header("X-Auth-Token"), let url = response.header("X-Storage-Url") else {
            throw incomplete("gives no token: is backup_swift_auth_version = 1 what it speaks?")
        }
        let life = response.header("X-Auth-Token-Expires").flatMap { Int64($0) } ?? 86_400
        return try access(token, url, life: life)
    }

    private func access(_ token: String, _ url: String, life: Int64) throws -> Access {
        let address = try ServerAddress(url, option: "the URL of the account that the authentication gives")
        // A tenth of its life is left: a request that takes long should not outlive it.
        let life = max(1, min(life, 31_536_000))
        return Access(token: token, url: address.text, end: ServerTime.now() + max(1, life - min(60, life / 10)))
    }

    private var question: JSON {
        [
            "auth": [
                "identity": [
                    "methods": ["password"],
                    "password": [
                        "user": [
                            "name": .string(options.user), "password": .string(options.key),
                            "domain": ["name": .string(options.userDomain)],
                        ]
                    ],
                ],
                "scope": ["project": ["name": .string(options.project), "domain": ["name": .string(options.projectDomain)]]],
            ]
        ]
    }

    private func keystone(_ response: HTTPResponse) throws -> Access {
        guard let token = response.header("X-Subject-Token"), let said = try? JSON(parsing: response.body)["token"] else {
            throw incomplete("gives no token: does backup_swift_auth_url end with /v3?")
        }
        let services = said["catalog"]?.array ?? []
        for service in services where service["type"]?.string == options.serviceType {
            for endpoint in service["endpoints"]?.array ?? [] where endpoint["interface"]?.string == options.interface {
                let region = endpoint["region"]?.string ?? endpoint["region_id"]?.string
                guard options.region.isEmpty || region == options.region, let url = endpoint["url"]?.string else { continue }
                let end = said["expires_at"]?.string.flatMap { ServerTime.parse(iso: $0) }
                return try access(token, url, life: end.map { $0 - ServerTime.now() } ?? 3600)
            }
        }
        throw incomplete(
            "has no \(options.interface) endpoint of \(options.serviceType)\(options.region.isEmpty ? "" : " in \(options.region)")")
    }
}
