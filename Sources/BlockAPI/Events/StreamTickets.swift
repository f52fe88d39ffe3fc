public import HTTPServer
import Primitives

/// Tickets for streams: a browser that follows a stream cannot send headers, so whoever is identified gets a word that
/// stands for its identity, once and for a short time.
public final class StreamTickets: Sendable {
    static let lifetime = 60.0
    private static let most = 100_000
    /// Of one user in one project: more pages than anybody opens at once.
    static let mostOfOne = 64

    private struct Holder: Hashable {
        let user: String
        let project: String?
    }

    private struct Issued {
        let identity: Identity
        let standing: (any IdentityStanding)?
        let holder: Holder
        let expires: Double
    }

    private struct State {
        var issued: [String: Issued] = [:]
        /// Words of each holder, those used or expired among them until the next is asked for.
        var held: [Holder: [String]] = [:]

        mutating func forget(expiredBefore now: Double) {
            issued = issued.filter { $0.value.expires > now }
            held = held.compactMapValues { words in
                let left = words.filter { issued[$0] != nil }
                return left.isEmpty ? nil : left
            }
        }
    }
    private let state = Guarded(State())

    public init() {}

    func issue(_ identity: Identity, standing: (any IdentityStanding)? = nil) throws(HTTPError) -> String {
        let ticket = (UUID.random() + UUID.random()).filter { $0 != "-" }
        let now = Timestamp.monotonic()
        let holder = Holder(user: identity.userID, project: identity.projectID)
        let refusal: HTTPError? = state.withLock { state in
            let mine = state.held[holder]?.filter { state.issued[$0].map { $0.expires > now } ?? false } ?? []
            guard mine.count < Self.mostOfOne else {
                return HTTPError(
                    429, "\(mine.count) of your tickets wait for use: no more are given before one is used or expires.",
                    headers: [(name: "Retry-After", value: "60")])
            }
            if state.issued.count >= Self.most { state.forget(expiredBefore: now) }
            guard state.issued.count < Self.most else {
                return HTTPError(503, "Too many tickets are waiting for use.", headers: [(name: "Retry-After", value: "60")])
            }
            for word in state.held[holder] ?? [] where !mine.contains(word) { state.issued[word] = nil }
            state.issued[ticket] = Issued(identity: identity, standing: standing, holder: holder, expires: now + Self.lifetime)
            state.held[holder] = mine + [ticket]
            return nil
        }
        if let refusal { throw refusal }
        return ticket
    }

    fileprivate func redeem(_ ticket: String) -> (identity: Identity, standing: (any IdentityStanding)?)? {
        let found = state.withLock { state -> Issued? in
            guard let found = state.issued.removeValue(forKey: ticket) else { return nil }
            state.held[found.holder]?.removeAll { $0 == ticket }
            if state.held[found.holder]?.isEmpty ?? false { state.held[found.holder] = nil }
            return found
        }
        guard let found, found.expires > Timestamp.monotonic(), found.standing?.holds ?? true else { return nil }
        return (found.identity, found.standing)
    }
}

/// Knows the holder of a ticket; everybody else is known in the usual way.
public struct TicketAuthenticator: Authenticator {
    private let tickets: StreamTickets
    private let opens: @Sendable (HTTPRequest) -> Bool
    private let usual: any Authenticator

    /// `opens` tells the requests that a ticket is good for; to all others it means nothing.
    public init(_ tickets: StreamTickets, opens: @escaping @Sendable (HTTPRequest) -> Bool, else usual: any Authenticator) {
        self.tickets = tickets
        self.opens = opens
        self.usual = usual
    }

    public func authenticate(_ request: HTTPRequest) throws -> Authentication {
        guard request.method == "GET", let ticket = request.queryValue("ticket"), opens(request) else {
            return try usual.authenticate(request)
        }
        guard let found = tickets.redeem(ticket) else {
            throw HTTPError(401, "The ticket is not known, was used already or is older than \(Int(StreamTickets.lifetime)) seconds.")
        }
        request.standing = found.standing
        return .known(found.identity)
    }

    public func standing(of request: HTTPRequest) -> (any IdentityStanding)? { request.standing ?? usual.standing(of: request) }
}
