import HTTPServer
import JSON

/// `/notifications`: beside Cinder's API, for `clinker notification status`.
struct NotificationResource: Resource {
    /// What waits, and what the broker does; nil: none are sent.
    let status: (@Sendable () async throws -> JSON)?

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-notifications", name: "Notifications",
                description: "Tells which notifications wait for the message broker, and what it does.",
                updated: "2026-11-30T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "notifications:status", "GET", "/notifications", policies: ["clinker:notifications"], answers: .json(.map(.any)),
                        summary: "Show the notifications that wait"
                    ) { _ in ["notifications": try await status?() ?? ["drivers": []]] }
                ])
        ]
    }
}
