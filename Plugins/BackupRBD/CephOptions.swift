import CephClient
import DriverKit

/// Options of the store; names and defaults are Cinder's.
enum CephOptions {
    static let pool = DriverOption("backup_ceph_pool", default: "backups", help: "The pool of the backups.")
    static let user = DriverOption("backup_ceph_user", default: "cinder", help: "The client's name, without 'client.'.")
    static let configurationFile = DriverOption(
        "backup_ceph_conf", default: "/etc/ceph/ceph.conf", help: "The configuration file of Ceph.")
    static let stripeUnit = DriverOption(
        "backup_ceph_stripe_unit", default: 0, in: 0...33_554_432, help: "Bytes of a stripe of new images; 0: images are not striped.")
    static let stripeCount = DriverOption(
        "backup_ceph_stripe_count", default: 0, in: 0...1024,
        help: "Objects that a stripe of new images lies in; 0: images are not striped.")
    static let imageJournals = DriverOption(
        "backup_ceph_image_journals", default: false, help: "New images have a journal, by which rbd-mirror can copy them.")

    static let all =
        [
            pool.declaration, user.declaration, configurationFile.declaration, stripeUnit.declaration, stripeCount.declaration,
            imageJournals.declaration,
        ]
        + DriverOptionDeclaration.withoutEffect([
            "backup_ceph_chunk_size": "what is copied at once follows the images' objects",
            "backup_ceph_max_snapshots":
                "a volume keeps the snapshot of its newest backup alone, and an increment that finds none compares the whole volume",
            "restore_discard_excess_bytes": "what a volume has beyond the backup's end is always zeroes after a restoration",
        ])

    /// How the cluster is reached.
    static func cluster(_ call: Call) throws -> Cluster.Settings {
        var settings = Cluster.Settings()
        settings.user = try call[user]
        settings.configurationFile = try call[configurationFile]
        settings.pool = try call[pool]
        settings.configurationOption = "backup_ceph_conf"
        settings.poolOption = "backup_ceph_pool"
        return settings
    }
}
