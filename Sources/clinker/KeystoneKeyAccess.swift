import KeyManager
import OpenStack
import Primitives

/// Barbican is asked with the token of Clinker's own account, and found in Keystone's catalogue.
struct KeystoneKeyAccess: KeyServiceAccess {
    let keystone: Keystone

    func token() async throws(KeyFailure) -> Secret {
        do throws(Unavailable) { return try await keystone.serviceToken() } catch { throw KeyFailure(.unavailable, error.description) }
    }

    func renew(_ refused: Secret) async { keystone.renewServiceToken(refused) }

    func url(interface: String, region: String?) async throws(KeyFailure) -> String {
        do throws(Unavailable) {
            return try await keystone.serviceURL(type: "key-manager", interface: interface, region: region)
        } catch { throw KeyFailure(.unavailable, error.description) }
    }
}
