public import Settings

/// Options of the API.
public struct APIOptions: DeclaredOptions {
    public let publicEndpoint = Option(
        "public_endpoint", default: "", rule: .httpURL, help: "URL put into links instead of the request's host.")
    public let maxLimit = Option(
        "osapi_max_limit", default: 1000, range: 1...1_000_000, help: "Most items in one answer of a list.")
    public let projectIDRegex = Option(
        "project_id_regex", default: "[0-9a-f\\-]+", help: "Form of a project id in a URL.")
    public let resourceFilterFile = Option(
        "resource_query_filters_file", default: "resource_filters.json",
        help: "What users may filter each list by, in JSON, read again when it changes; relative to the configuration file.")
    public let serviceDownTime = Option(
        "service_down_time", default: 60, range: 1...86_400, help: "Seconds without a heartbeat after which a service is down.")
    public let streamsPerUser = Option(
        "event_streams_per_user", default: 1024, range: 1...1_000_000,
        help: "Streams of events that one user may follow at the same time in one project.")

    public init() {}
}

extension Options {
    /// Options of the API.
    public static let api = APIOptions()
}
