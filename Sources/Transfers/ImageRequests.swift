import DriverHost
import HTTPClient
import Primitives

/// What requests for an image's data have in common: the servers in turn, the token, and what an answer means.
final class ImageRequests: @unchecked Sendable {
    let order: ImageOrder
    private let client: HTTPClient
    private let tokens: ImageTokens
    /// Called about once a second while a server is waited for.
    private let onWait: @Sendable () -> Void
    private var token: Secret
    private var server = 0
    private var renewals = 0
    private var attempts = 0
    /// What was wrong last.
    private var reason = DriverFailure(.retry, "the image service was not asked")

    /// Of answers that are no data.
    private static let mostText = 64 << 10

    init(_ order: ImageOrder, _ tokens: ImageTokens, onWait: @escaping @Sendable () -> Void) {
        self.order = order
        self.tokens = tokens
        self.onWait = onWait
        token = order.token
        client = HTTPClient(
            trust: .init(
                authorities: order.certificateAuthorities, isInsecure: order.insecure, certificate: order.certificate,
                key: order.certificateKey))
    }

    /// A request for the image's data, or another part of it, of the server whose turn it is.
    func request(_ method: String, of part: String = "/file") -> HTTPClient.Request {
        var base = order.servers[server % order.servers.count]
        while base.hasSuffix("/") { base.removeLast() }
        var request = HTTPClient.Request(method, base + "/v2/images/\(order.image)\(part)")
        if !token.reveal().isEmpty { request.headers.append((name: "X-Auth-Token", value: token.reveal())) }
        request.timeout = .infinity
        request.connectTimeout = min(10, Double(order.timeout))
        request.silence = Double(order.timeout)
        request.limit = Self.mostText
        let onWait = onWait
        request.onWait = {
            onWait()
            return true
        }
        return request
    }

    func send(_ request: HTTPClient.Request) -> Result<HTTPClient.Response, HTTPClient.Failure> {
        do throws(HTTPClient.Failure) { return .success(try client.send(request)) } catch { return .failure(error) }
    }

    /// Much was done since the last failure: the next one is the first again.
    func succeed() {
        attempts = 0
        renewals = 0
    }

    /// Looks at what became of a request that did not do what it should. Returns when it is to be sent again.
    ///
    /// - Throws: what cannot be mended, or the last failure when it was sent often enough.
    func judge(_ outcome: Result<HTTPClient.Response, HTTPClient.Failure>) throws {
        switch outcome {
        case .failure(let failure): try again(DriverFailure(.retry, "the image service cannot be reached: \(failure.description)"))
        case .success(let answer): try judge(status: answer.status)
        }
    }

    private func judge(status: Int) throws {
        switch status {
        case 401:
            guard renewals < 2 else { throw DriverFailure(.retry, "the image service does not take new tokens") }
            renewals += 1
            token = try tokens.renew(onWait: onWait)
        case 204: throw DriverFailure(.invalid, "the image has no data")
        case 300..<400:
            throw DriverFailure(.error, "the image service sends elsewhere (status \(status)), and redirections are not followed")
        case 403: throw DriverFailure(.invalid, "the image service forbids the use of the image's data")
        case 404, 410: throw DriverFailure(.invalid, "the image service does not have the image")
        case 409: throw DriverFailure(.error, "the image service says that the image is not in a state for this (status 409)")
        case 413: throw DriverFailure(.error, "the image service says that the image is too large for it (status 413)")
        case 408, 429, 500...: try again(DriverFailure(.retry, "the image service answers with status \(status)"))
        default: throw DriverFailure(.error, "the image service answers with status \(status)")
        }
    }

    /// Waits before the next attempt, at the next server, if there is one left.
    func again(_ failure: DriverFailure) throws {
        reason = failure
        attempts += 1
        guard attempts <= order.retries else { throw reason }
        server += 1
        // The servers at once, one after the other; then with longer and longer pauses.
        let round = attempts / order.servers.count
        if round > 0 {
            wait(min(8, 0.25 * Double(1 << min(round, 5))))
        }
    }

    func wait(_ seconds: Double) {
        let end = Timestamp.monotonic() + seconds
        while case let rest = end - Timestamp.monotonic(), rest > 0 {
            pause(min(rest, 0.5))
            onWait()
        }
    }
}
