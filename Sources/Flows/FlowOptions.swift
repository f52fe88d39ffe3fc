public import Settings

/// Options of the engine and of the periodic tasks.
public struct FlowOptions: DeclaredOptions {
    public let maxAttempts = Option(
        "scheduler_max_attempts", default: 3, range: 1...100, help: "Backends tried for one volume.")
    public let reportInterval = Option(
        "report_interval", default: 10, range: 1...3600, help: "Seconds between heartbeats of a service.")
    public let operationRetention = Option(
        "operation_retention_days", default: 7, range: 0...3650, help: "Days that finished operations and events are kept.")

    public let historyLimit = Option(
        "history_limit", default: 1_000_000, range: 1000...1_000_000_000,
        help: "Events, finished operations and messages that are kept, each; the oldest make room.")
    public let projectHistoryLimit = Option(
        "history_limit_per_project", default: 100_000, range: 100...1_000_000_000,
        help: "Events, finished operations and messages of one project that are kept, each.")

    public init() {}
}

extension Options {
    /// Options of the engine and of the periodic tasks.
    public static let flows = FlowOptions()
}
