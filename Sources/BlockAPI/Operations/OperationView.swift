import BlockStorage
import JSON

/// Operations as clients see them.
enum OperationView {
    /// An operation with what the engine and the history know of it.
    struct Source: Sendable {
        let operation: Operation
        /// 0...1; nil where nothing was reported.
        let progress: Double?
        /// So many transfers are under way that its own has to wait.
        let waitsForTransfer: Bool
        /// What its error means, for those who may not read it.
        let sentence: String?
        /// For an operation that is shown, not listed.
        var steps: [JSON] = []
        var verdicts: JSON?
    }

    static let view = View<Source>(
        "operation", "operations",
        [
            .text("id") { $0.operation.id },
            .text("flow") { $0.operation.flow.name },
            .text("state") { $0.operation.finishedAt == nil && $0.operation.isReverting ? "reverting" : $0.operation.state.rawValue },
            .text("resource_type") { $0.operation.resourceType },
            .text("resource_id") { $0.operation.resourceID },
            .text("project_id") { $0.operation.projectID },
            .text("user_id") { $0.operation.userID },
            .text("request_id") { $0.operation.requestID },
            .time("created_at") { $0.operation.createdAt },
            .time("updated_at") { $0.operation.updatedAt },
            .optionalTime("finished_at") { $0.operation.finishedAt },
            .flag("cancelled") { $0.operation.isCancelled },
            .integer("attempts") { $0.operation.attempts + 1 },
            .written("progress", .nullable(.number)) { source, _, writer in
                if let fraction = source.progress { writer.real((fraction * 1000).rounded() / 1000) } else { writer.null() }
            },
            .flag("waits_for_transfer") { $0.waitsForTransfer },
            .written("error", .nullable(.text)) { source, request, writer in
                guard let error = source.operation.error else { return writer.null() }
                // What a backend says is for its administrators; users are told what its code means, and find theirs in the messages.
                if request.identity.isAdmin { return writer.string(error) }
                let sentence = source.sentence.map { " " + $0 } ?? ""
                writer.string("The operation failed.\(sentence) The messages of the resource say more.")
            },
            Field.written("steps", .list(step)) { source, _, writer in writer.value(.array(source.steps)) }.part(.detail),
            Field.written("verdicts", .list(.any)) { source, _, writer in writer.value(source.verdicts ?? []) }.part(.detail)
                .forAdministrators(),
        ])

    private static let step = Shape.object([
        Shape.Member("name", .text), Shape.Member("state", .choice(["pending", "running", "done", "failed", "reverted"])),
        Shape.Member("started_at", .nullable(.time)), Shape.Member("seconds", .nullable(.number)),
    ])

    /// The flow's steps with what the history says of each; the last attempt counts.
    static func steps(_ names: [String], _ events: [Event]) -> [JSON] {
        var found: [String: JSONObject] = [:]
        for event in events {
            guard let data = try? JSON(parsing: event.data), let name = data["step"]?.string else { continue }
            var step = found[name] ?? [:]
            switch event.kind {
            case "step.start":
                step["state"] = "running"
                step["started_at"] = .string(event.time)
            case "step.end":
                step["state"] = "done"
                step["seconds"] = data["seconds"] ?? .null
            case "step.failed": step["state"] = "failed"
            case "step.revert": step["state"] = step["state"] == "failed" ? "failed" : "reverted"
            default: break
            }
            found[name] = step
        }
        return names.map { name in
            let step = found[name] ?? [:]
            return [
                "name": .string(name), "state": step["state"] ?? "pending", "started_at": step["started_at"] ?? .null,
                "seconds": step["seconds"] ?? .null,
            ]
        }
    }
}
