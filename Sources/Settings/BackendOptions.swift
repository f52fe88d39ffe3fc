/// Options of a backend's section that are the host's, not its driver's.
public struct BackendOptions: DeclaredOptions {
    public let driver = Option(
        "volume_driver", in: .backend, default: "", help: "Driver of the backend: a plugin's name, or Cinder's Python path of it.")
    public let name = Option(
        "volume_backend_name", in: .backend, default: "", help: "Name that volume types ask for; the section's name if empty.")
    public let host = Option(
        "backend_host", in: .backend, default: "", help: "Name that stands for the node's in the backend's host, so that it may move.")
    public let reservedPercentage = Option(
        "reserved_percentage", in: .backend, default: 0, range: 0...100, help: "Percent of the capacity kept free.")
    public let maxOverSubscription = Option(
        "max_over_subscription_ratio", in: .backend, default: "20.0", rule: .ratioOrAuto,
        help: "How often thin capacity may be promised; or auto.")
    public let filterFunction = Option(
        "filter_function", in: .backend, default: "",
        help: "Expression that must hold for a volume to be placed here, with the DriverFilter; wins over the driver's.")
    public let goodnessFunction = Option(
        "goodness_function", in: .backend, default: "",
        help: "Expression from 0 to 100 that says how well a volume is placed here, with the GoodnessWeigher; wins over the driver's.")
    public let extraCapabilities = Option(
        "extra_capabilities", in: .backend, default: "{}",
        help: "JSON object of capabilities that the backend's pools have, too; it wins over the driver's.")
    public let zone = Option(
        "backend_availability_zone", in: .backend, default: "", help: "Zone of the backend; the node's if empty.")
    public let threads = Option(
        "backend_native_threads_pool_size", in: .backend, default: 20, range: 1...1024, help: "Calls that the driver runs at the same time."
    )
    public let statsInterval = Option(
        "backend_stats_polling_interval", in: .backend, default: 60, range: 1...3600, help: "Seconds between readings of the capacity.")
    public let callTimeout = Option(
        "driver_call_timeout", in: .backend, default: 3600, range: 1...604_800,
        help: "Seconds after which a driver call that shows no progress is given up and its host is killed.")
    public let openTimeout = Option(
        "driver_open_timeout", in: .backend, default: 300, range: 1...86_400,
        help: "Seconds that a driver may take to open its storage; then its host is killed and started again.")
    public let memoryLimit = Option(
        "driver_memory_limit", in: .backend, default: 0, range: 0...16_777_216,
        help: "MiB of memory that a driver host may hold; one that holds more is killed and started again. 0: no limit.")
    public let copyLimit = Option(
        "volume_copy_bps_limit", in: .backend, default: 0, range: 0...1e15,
        help: "Bytes in a second that a copy from or to this backend may move; 0: no limit.")
    public let keepsBackupSnapshots = Option(
        "keep_backup_snapshots", in: .backend, default: true,
        help:
            "Whether the snapshot of a volume's newest backup stays, if the driver tells what changed since: the next increment reads only that."
    )
    public let imageCache = Option(
        "image_volume_cache_enabled", in: .backend, default: false,
        help: "Keep images that volumes are made of as volumes of the internal project, and clone these.")
    public let imageCacheGigabytes = Option(
        "image_volume_cache_max_size_gb", in: .backend, default: 0, range: 0...2_147_483_647,
        help: "GiB of the backend's image cache; the longest unused image goes first. 0: no limit.")
    public let imageCacheCount = Option(
        "image_volume_cache_max_count", in: .backend, default: 0, range: 0...2_147_483_647,
        help: "Images in the backend's image cache; the longest unused goes first. 0: no limit.")

    public init() {}
}

extension Options {
    /// Options of a backend's section that are the host's, not its driver's.
    public static let backend = BackendOptions()
}
