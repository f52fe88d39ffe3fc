import HTTPServer
import OpenStack
import Primitives

/// A token is good until it expires, and as long as Keystone says so and says the same of its bearer: it is asked when what is kept of the
/// token has grown old, as for a request. While nobody can say the token is believed.
final class KeystoneStanding: IdentityStanding {
    private struct State {
        var roles: [String]?
        var expires = Double.infinity
        var isRefused = false
        var askedAt = -Double.infinity
    }

    private let keystone: Keystone
    private let token: Secret
    /// A service's token beside it makes an expired one good.
    private let isVouchedFor: Bool
    private let state: Guarded<State>
    /// Seconds between two questions where nothing is kept.
    private static let interval = 5.0

    init(_ keystone: Keystone, token: Secret, isVouchedFor: Bool) {
        self.keystone = keystone
        self.token = token
        self.isVouchedFor = isVouchedFor
        let known = keystone.known(token.reveal()) ?? nil
        state = Guarded(State(roles: known?.roles, expires: known?.expires ?? .infinity))
    }

    var holds: Bool { state.withLock { !$0.isRefused && (isVouchedFor || $0.expires > Timestamp.seconds()) } }

    func renew() {
        if !isVouchedFor, let known = keystone.known(token.reveal()) { return take(known) }
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
            take(found)
        }
    }

    private func take(_ found: KeystoneToken?) {
        state.withLock { state in
            guard let found else { return state.isRefused = true }
            if let roles = state.roles, Set(roles) != Set(found.roles) { state.isRefused = true }
            state.roles = found.roles
            state.expires = found.expires
        }
    }
}
