import BlockStorage
import Database
import JSON

/// What waits for the message broker, and whether it takes it.
struct NotificationExamination {
    /// What the sender tells of itself; nil: none are sent, or no service runs.
    let status: (@Sendable () async throws -> JSON)?
    let database: any Database

    func run() async throws -> (summary: JSON, findings: [Finding]) {
        let (count, oldest) = try await database.read { try PendingNotifications.summary(in: $0) }
        let told = try await status?()
        let broker = told?["broker"] ?? .null
        let summary: JSON = ["waiting": JSON(count), "oldest": JSON(oldest), "areSent": .bool(told != nil), "broker": broker]
        guard count > 0, let told else { return (summary, []) }
        let state = broker["state"]?.string ?? ""
        let isFailed = state == "failed" || state == "blocked"
        guard isFailed else { return (summary, []) }
        let limit = told["limit"]?.integer ?? 0
        let since = oldest.map { " since \($0)" } ?? ""
        let reason = broker["reason"]?.string ?? ""
        return (
            summary,
            [
                Finding(
                    .notifications, broker["host"]?.string ?? "",
                    "\(count) notifications wait\(since): the message broker is \(state)\(reason.isEmpty ? "" : ": " + reason)",
                    advice: "They are sent when it takes them again; beyond \(limit) the oldest are dropped.")
            ]
        )
    }
}
