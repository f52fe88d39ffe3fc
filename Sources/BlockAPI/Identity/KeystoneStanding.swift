import HTTPServer
import OpenStack
import Primitives

/// A token is good until it expires, and as long as Keystone says so and says the same of its bearer: it is asked when what is kept of the
/// token has grown old, as for a request. While nobody can say the token is believed.
final class KeystoneStanding: IdentityStanding {
    /// What is known of the token.
    struct State {
        private var roles: [String]?
        private var expires = Double.infinity
        private(set) var isRefused = false
        fileprivate var askedAt = -Double.infinity
        /// A service's token beside it makes an expired one good.
        let isVouchedFor: Bool

        init(_ known: KeystoneToken?, isVouchedFor: Bool) {
            roles = known?.roles
            expires = known?.expires ?? .infinity
            self.isVouchedFor = isVouchedFor
        }

        /// `now`: seconds since 1970.
        func holds(at now: Double) -> Bool { !isRefused && (isVouchedFor || expires > now) }

        /// Notes what Keystone says of the token; nil: it is not valid.
        mutating func take(_ found: KeystoneToken?) {
            guard let found else { return isRefused = true }
            if let roles, Set(roles) != Set(found.roles) { isRefused = true }
            roles = found.roles
            expires = found.expires
        }
    }

    private let keystone: Keystone
    private let token: Secret
    private let isVouchedFor: Bool
    private let state: Guarded<State>
    /// Seconds between two questions where nothing is kept.
    private static let interval = 5.0

    init(_ keystone: Keystone, token: Secret, isVouchedFor: Bool) {
        self.keystone = keystone
        self.token = token
        self.isVouchedFor = isVouchedFor
        state = Guarded(State(keystone.known(token.reveal()) ?? nil, isVouchedFor: isVouchedFor))
    }

    var holds: Bool { state.withLock { $0.holds(at: Timestamp.seconds()) } }

    func renew() {
        if !isVouchedFor, let known = keystone.known(token.reveal()) { return state.withLock { $0.take(known) } }
        let now = Timestamp.monotonic()
        let isDue = state.withLock { state in
            guard !state.isRefused, now - state.askedAt >= Self.interval else { return false }
            state.askedAt = now
            return true
        }
        guard isDue else { return }
        Task { [self] in
            let asker = Asker(address: "streams", isPresent: { true })
            guard let found = try? await keystone.validate(token.reveal(), for: asker, allowExpired: isVouchedFor) as KeystoneToken?? else {
                return
            }
            state.withLock { $0.take(found) }
        }
    }
}
