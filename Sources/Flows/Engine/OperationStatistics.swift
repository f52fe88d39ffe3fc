import BlockStorage
import Observability
import Primitives

/// What became of the operations of each flow since the start.
final class OperationStatistics: Sendable {
    private struct Counts {
        var done = 0
        var failed = 0
        let seconds = Histogram()
    }
    private let flows = Guarded<[String: Counts]>([:])

    func count(_ flow: String, succeeded: Bool, seconds: Double) {
        flows.withLock { flows in
            if succeeded { flows[flow, default: Counts()].done += 1 } else { flows[flow, default: Counts()].failed += 1 }
            flows[flow]?.seconds.add(seconds)
        }
    }

    /// Writes what is in the log (`unfinished`), how old the oldest of it is, and what became of the rest.
    func write(
        into text: inout MetricsText, unfinished: [(flow: String, state: String, count: Int, oldest: String)]
    ) {
        text.family("clinker_operations", .gauge, "Operations that are not finished, by flow and state.")
        for entry in unfinished { text.sample("clinker_operations", entry.count, ["flow": entry.flow, "state": entry.state]) }
        text.family("clinker_operations_oldest_age_seconds", .gauge, "Age of the oldest operation that is not finished.")
        for state in [OperationState.running, .waiting].map(\.rawValue) {
            let oldest = unfinished.filter { $0.state == state }.map(\.oldest).min().flatMap { Timestamp.parse($0) }
            text.sample(
                "clinker_operations_oldest_age_seconds", oldest.map { max(0, Timestamp.seconds() - $0) } ?? 0, ["state": state])
        }
        let counted = flows.withLock { $0 }.sorted { $0.key < $1.key }
        text.family("clinker_operations_finished_total", .counter, "Operations finished since the core started, by flow and outcome.")
        for (flow, counts) in counted {
            text.sample("clinker_operations_finished_total", counts.done, ["flow": flow, "state": OperationState.done.rawValue])
            text.sample("clinker_operations_finished_total", counts.failed, ["flow": flow, "state": OperationState.failed.rawValue])
        }
        text.family("clinker_operation_duration_seconds", .histogram, "Seconds that an operation ran.")
        for (flow, counts) in counted { text.histogram("clinker_operation_duration_seconds", counts.seconds, ["flow": flow]) }
    }
}
