import JSON
import Messaging
import Testing

@Suite struct NotificationTests {
    private let notification = Notification(
        id: "0f7c2a1e-8f0c-4c3e-9d51-0a1b2c3d4e5f", publisher: "volume.node@file", eventType: "volume.create.end", priority: .info,
        timestamp: "2026-11-30 16:00:00.000001", payload: #"{"display_name":"a \"quoted\" – name","size":1}"#,
        context: ["request_id": "req-1", "is_admin": true, "roles": ["admin", "reader"], "auth_token": nil])

    @Test func anEnvelopeHoldsTheMessageAsText() throws {
        let envelope = try JSON(parsing: notification.body(.envelope))
        #expect(envelope.object?.names == ["oslo.version", "oslo.message"])
        #expect(envelope["oslo.version"]?.string == "2.0")
        let message = try JSON(parsing: envelope["oslo.message"]?.string ?? "")
        #expect(message == (try JSON(parsing: notification.body(.bare))))
    }

    @Test func aMessageHasOslosMembers() throws {
        let message = try JSON(parsing: notification.body(.bare))
        #expect(
            message == [
                "message_id": "0f7c2a1e-8f0c-4c3e-9d51-0a1b2c3d4e5f", "publisher_id": "volume.node@file", "event_type": "volume.create.end",
                "priority": "INFO", "payload": ["display_name": "a \"quoted\" – name", "size": 1],
                "timestamp": "2026-11-30 16:00:00.000001", "_unique_id": "0f7c2a1e8f0c4c3e9d510a1b2c3d4e5f",
                "_context_request_id": "req-1", "_context_is_admin": true, "_context_roles": ["admin", "reader"],
                "_context_auth_token": nil,
            ])
    }

    @Test func theLogIsToldNothingOfTheContext() throws {
        let summary = try JSON(parsing: notification.summary)
        #expect(summary.object?.names == ["message_id", "publisher_id", "event_type", "priority", "payload", "timestamp"])
    }
}
