import DriverKit

/// Options of rbd backends; names and defaults are Cinder's.
enum RBDOptions {
    static let pool = DriverOption("rbd_pool", default: "rbd", help: "The pool of the volumes.")
    static let user = DriverOption("rbd_user", default: "", help: "The client's name, without 'client.'.")
    static let clusterName = DriverOption("rbd_cluster_name", default: "ceph", help: "The cluster's name.")
    static let configurationFile = DriverOption("rbd_ceph_conf", default: "", help: "The configuration file of Ceph.")
    static let keyring = DriverOption("rbd_keyring_conf", default: "", help: "Keyring file whose content hosts that connect are given.")
    static let secretUUID = DriverOption("rbd_secret_uuid", default: "", help: "libvirt's secret that holds the client's key.")
    static let connectTimeout = DriverOption(
        "rados_connect_timeout", default: -1, in: -1...3600, help: "Seconds that the cluster may take to answer; -1: the driver's own.")
    static let maxCloneDepth = DriverOption(
        "rbd_max_clone_depth", default: 5, in: 0...16, help: "Clones of clones after which one is flattened; 0: each is copied whole.")
    static let flattensVolumesFromSnapshots = DriverOption(
        "rbd_flatten_volume_from_snapshot", default: false, help: "Volumes from snapshots become independent of them.")
    static let storeChunkSize = DriverOption(
        "rbd_store_chunk_size", default: 4, choices: ["1", "2", "4", "8", "16", "32"], help: "MiB of an object of new images.")
    static let hasDynamicTotal = DriverOption(
        "report_dynamic_total_capacity", default: true, help: "The total capacity is what is used and free; false: the pool's quota.")
    static let concurrentFlattens = DriverOption(
        "rbd_concurrent_flatten_operations", default: 3, in: 1...1000, help: "Images that are flattened at a time.")
    static let defersDeletion = DriverOption("enable_deferred_deletion", default: false, help: "Deleted images go to the trash first.")
    static let deletionDelay = DriverOption(
        "deferred_deletion_delay", default: 0, in: 0...31_536_000, help: "Seconds that an image stays in the trash.")
    static let purgeInterval = DriverOption(
        "deferred_deletion_purge_interval", default: 60, in: 1...86_400, help: "Seconds between looks into the trash.")
    static let replicationDevice = DriverOption(
        "replication_device", default: "", help: "backend_id:NAME,...: the cluster that rbd-mirror carries replicated volumes to.")

    /// Options without effect, with the reasons.
    private static let withoutEffect: KeyValuePairs = [
        "rados_connection_retries": "a cluster that cannot be reached is tried again until it can",
        "rados_connection_interval": "the pauses between attempts grow, to 15 seconds at most",
        "rados_connection_timeout": "rados_connect_timeout is how long an attempt takes",
    ]

    static let all =
        [
            pool.declaration, user.declaration, clusterName.declaration, configurationFile.declaration, keyring.declaration,
            secretUUID.declaration, connectTimeout.declaration, maxCloneDepth.declaration, flattensVolumesFromSnapshots.declaration,
            storeChunkSize.declaration, hasDynamicTotal.declaration, concurrentFlattens.declaration, defersDeletion.declaration,
            deletionDelay.declaration, purgeInterval.declaration, replicationDevice.declaration,
        ] + DriverOptionDeclaration.withoutEffect(withoutEffect)
}
