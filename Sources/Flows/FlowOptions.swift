public import Settings

/// Options of the engine and of the periodic tasks.
public struct FlowOptions: DeclaredOptions {
    public let maxAttempts = Option(
        "scheduler_max_attempts", default: 3, range: 1...100, help: "Backends tried for one volume.")
    public let reportInterval = Option(
        "report_interval", default: 10, range: 1...3600, help: "Seconds between heartbeats of a service.")
    public let operationRetention = Option(
        "operation_retention_days", default: 7, range: 0...3650, help: "Days that finished operations and events are kept.")

    public init() {}
}

extension Options {
    /// Options of the engine and of the periodic tasks.
    public static let flows = FlowOptions()
}
