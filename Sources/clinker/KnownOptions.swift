import BlockAPI
import BlockStorage
import Flows
import KeyManager
import Notifications
import OpenStack
import Settings

extension OptionCatalogue {
    /// The options of all targets, in the order in which `clinker config options` prints them.
    static let clinker = OptionCatalogue(
        Options.service, Options.tls, Options.api, Options.storage, Options.scheduler, Options.flows, Options.backend, Options.store,
        Options.basicUsers, Options.keystone, Options.nova, Options.keyManager, Options.barbican, Options.notifications, Options.rabbit,
        Options.glance, Options.images)
}
