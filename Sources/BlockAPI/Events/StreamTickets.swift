public import HTTPServer
import Primitives

/// Tickets for streams: a browser that follows a stream cannot send headers, so whoever is identified gets a word that
/// stands for its identity, once and for a short time.
public final class StreamTickets: Sendable {
    static let lifetime = 60.0
    private static let most = 100_000
    private let issued = Guarded<[String: (identity: Identity, expires: Double)]>([:])

    public init() {}

    func issue(_ identity: Identity) throws(HTTPError) -> String {
        let ticket = (UUID.random() + UUID.random()).filter { $0 != "-" }
        let now = Timestamp.monotonic()
        let isFull = issued.withLock { issued in
            if issued.count >= Self.most { issued = issued.filter { $0.value.expires > now } }
            guard issued.count < Self.most else { return true }
            issued[ticket] = (identity, now + Self.lifetime)
            return false
        }
        if isFull { throw HTTPError(503, "Too many tickets are waiting for use.", headers: [(name: "Retry-After", value: "60")]) }
        return ticket
    }

    fileprivate func redeem(_ ticket: String) -> Identity? {
        guard let found = issued.withLock({ $0.removeValue(forKey: ticket) }), found.expires > Timestamp.monotonic() else { return nil }
        return found.identity
    }
}

/// Knows the holder of a ticket; everybody else is known in the usual way.
public struct TicketAuthenticator: Authenticator {
    private let tickets: StreamTickets
    private let usual: any Authenticator

    public init(_ tickets: StreamTickets, else usual: any Authenticator) {
        self.tickets = tickets
        self.usual = usual
    }

    public func authenticate(_ request: HTTPRequest) async throws -> Identity? {
        guard request.rawPath.hasSuffix("/events"), let ticket = request.queryValue("ticket") else {
            return try await usual.authenticate(request)
        }
        guard let identity = tickets.redeem(ticket) else {
            throw HTTPError(401, "The ticket is not known, was used already or is older than \(Int(StreamTickets.lifetime)) seconds.")
        }
        return identity
    }
}
