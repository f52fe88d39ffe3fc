public import Settings

/// Options of the engine and of the periodic tasks.
public struct FlowOptions: DeclaredOptions {
    public let maxAttempts = Option(
        "scheduler_max_attempts", default: 3, range: 1...100, help: "Backends tried for one volume.")
    public let reportInterval = Option(
        "report_interval", default: 10, range: 1...3600, help: "Seconds between heartbeats of a service.")
    public let enablesNewServices = Option(
        "enable_new_services", default: true,
        help: "Whether a service takes new volumes from its first start on, before an administrator enables it.")
    public let operationRetention = Option(
        "operation_retention_days", default: 7, range: 0...3650, help: "Days that finished operations and events are kept.")
    public let messageLifetime = Option(
        "message_ttl", default: 2_592_000, range: 1...315_360_000,
        help: "Seconds that a message of why an operation failed is kept for its user.")

    public let policyInterval = Option(
        "backup_policy_interval", default: 5, range: 1...300,
        help: "Seconds between looks at the schedules of backup policies and at their runs.")

    public let historyLimit = Option(
        "history_limit", default: 1_000_000, range: 1000...1_000_000_000,
        help: "Events, finished operations and messages that are kept, each; the oldest make room.")
    public let projectHistoryLimit = Option(
        "history_limit_per_project", default: 100_000, range: 100...1_000_000_000,
        help: "Events, finished operations and messages of one project that are kept, each.")

    public let policyRunLimit = Option(
        "backup_policy_run_limit", default: 1000, range: 10...1_000_000,
        help: "Runs of one backup policy that are kept; the oldest make room.")
    public let projectPolicyRunLimit = Option(
        "backup_policy_run_limit_per_project", default: 20_000, range: 100...10_000_000,
        help: "Runs of one project's backup policies that are kept.")
    public let projectPolicyItemLimit = Option(
        "backup_policy_item_limit_per_project", default: 500_000, range: 1000...100_000_000,
        help: "Volumes of which the kept runs of one project's backup policies tell, each as often as there was a run for it.")

    public let wholeReadDays = Option(
        "backup_whole_read_days", default: 30, range: 0...36_500,
        help:
            "Days after which an increment reads its whole volume again, where others read what the driver says has changed; 0: never."
    )

    public let transferLimit = Option(
        "transfer_process_limit", default: 0, range: 0...10_000,
        help:
            "Copies, backups, restorations and images that are under way at once; others wait. 0: twice the number of processors, at least 4."
    )
    public let backupLimit = Option(
        "backup_max_operations", default: 15, range: 0...10_000,
        help: "Of these, backups, restorations, verifications and other work on backups that needs much memory; 0: no limit of their own.")

    public let serveLimit = Option(
        "backup_serve_limit", default: 4, range: 0...64, help: "Backups that are served over NBD at once by clinker:serve.")
    public let projectServeLimit = Option(
        "backup_serve_limit_per_project", default: 2, range: 1...64, help: "Backups of one project that are served at once.")
    public let serveSeconds = Option(
        "backup_serve_seconds", default: 3600, range: 1...604_800, help: "Seconds that a backup is served at most.")
    public let serveAddress = Option(
        "backup_serve_address", default: "",
        help:
            "IP address on which backups are served; empty: Unix sockets in the state directory, for administrators only. NBD is not encrypted."
    )

    public let scrubInterval = Option(
        "backup_scrub_interval", default: 86_400, range: 0...31_536_000,
        help: "Seconds between two parts of the repositories that are read to see whether they are good; 0: none is.")
    public let scrubParts = Option(
        "backup_scrub_parts", default: 30, range: 1...3650, help: "In how many parts all of a repository is read.")

    public init() {}
}

extension Options {
    /// Options of the engine and of the periodic tasks.
    public static let flows = FlowOptions()
}
