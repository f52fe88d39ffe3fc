import Observability
import Primitives
import Synchronization

/// The name of an operation for logs and metrics, with its request counters.
public final class Route: @unchecked Sendable {
    /// Name in logs and metrics: `volumes:create`.
    public let name: String
    private static let statuses = [200, 201, 202, 204, 300, 302, 400, 401, 403, 404, 405, 406, 409, 413, 415, 429, 500, 501, 503, 504]
    private static let index: [Int] = {
        // Statuses that are not listed share the last counter.
        var index = [Int](repeating: statuses.count, count: 600)
        for (position, status) in statuses.enumerated() { index[status] = position }
        return index
    }()
    private let counts: UnsafeMutablePointer<Atomic<Int>>
    private let durations = Histogram()

    public init(_ name: String) {
        self.name = name
        counts = .allocate(capacity: Self.statuses.count + 1)
        for index in 0...Self.statuses.count { (counts + index).initialize(to: Atomic(0)) }
    }

    /// For requests that no operation answers.
    public static let none = Route("-")

    func count(status: Int, seconds: Double) {
        counts[Self.index[min(max(status, 0), 599)]].wrappingAdd(1, ordering: .relaxed)
        durations.add(seconds)
    }

    /// Writes the metrics of routes that have had at least one request.
    public static func write(_ routes: [Route], into text: inout MetricsText) {
        let used = routes.filter { $0.durations.snapshot.count > 0 }
        text.family("clinker_http_requests_total", .counter, "Requests answered, by operation and status.")
        for route in used {
            for (position, status) in (statuses.map(String.init) + ["other"]).enumerated() {
                let value = route.counts[position].load(ordering: .relaxed)
                if value > 0 { text.sample("clinker_http_requests_total", value, ["operation": route.name, "status": status]) }
            }
        }
        text.family("clinker_http_request_duration_seconds", .histogram, "Seconds from a request's head to its answer.")
        for route in used { text.histogram("clinker_http_request_duration_seconds", route.durations, ["operation": route.name]) }
    }
}
