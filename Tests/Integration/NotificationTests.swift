import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What a reader gets of the service's notifications, from a real RabbitMQ.
@Suite("Notifications", .serialized, .enabled(if: RabbitMQ.isInstalled))
struct NotificationTests {
    private func service(_ broker: RabbitMQ, url: String? = nil) throws -> ServiceUnderTest {
        try ServiceUnderTest(
            options: "quota_volumes = -1\nquota_gigabytes = -1\ntransport_url = \(url ?? broker.url())\n",
            sections: """
                [file]
                volume_driver = file
                [oslo_messaging_notifications]
                driver = messagingv2
                [oslo_messaging_rabbit]
                amqp_durable_queues = true
                rabbit_interval_max = 1
                [audit_middleware_notifications]
                driver = log

                """)
    }

    /// Waits until nothing waits.
    private func drained(_ service: ServiceUnderTest) throws {
        let limit = Timestamp.monotonic() + 120
        while try service.api("GET", "/notifications").json["notifications"]?["waiting"] != 0 {
            try #require(Timestamp.monotonic() < limit)
            usleep(50_000)
        }
    }

    /// The messages in the queue, each the first time it is there.
    private func received(_ broker: RabbitMQ, _ queue: String = "notifications.info") throws -> [JSON] {
        var seen: Set<String> = []
        return try broker.take(queue).map { try JSON(parsing: try JSON(parsing: $0.body)["oslo.message"]?.string ?? "") }.filter {
            seen.insert($0["message_id"]?.string ?? "").inserted
        }
    }

    @Test("over deaths of the broker and of the core nothing is lost, and what is told of a volume keeps its order")
    func deaths() throws {
        let broker = try RabbitMQ()
        let service = try service(broker)
        var ids: [String] = []
        for round in 0..<3 {
            for _ in 0..<4 { ids.append(try service.create(["name": "n", "size": 1])) }
            switch round {
            case 0: if let core = service.processes("core").first { kill(core, SIGKILL) }
            case 1: try broker.kill()
            default: try broker.start()
            }
        }
        for id in ids { try service.wait(id, "available") }
        for id in ids.prefix(6) { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
        for id in ids.prefix(6) { try service.wait(id, nil) }
        try drained(service)
        let messages = try received(broker)
        for (index, id) in ids.enumerated() {
            let mine = messages.filter { $0["payload"]?["volume_id"]?.string == id }
            let expected =
                ["volume.create.start", "volume.create.end"] + (index < 6 ? ["volume.delete.start", "volume.delete.end"] : [])
            #expect(mine.map { $0["event_type"]?.string } == expected)
            let states = ["creating", "available", "deleting", "deleting"].prefix(expected.count)
            #expect(mine.map { $0["payload"]?["status"]?.string ?? "" } == Array(states))
            #expect(
                mine.allSatisfy { $0["publisher_id"]?.string?.hasPrefix("volume.") == true && $0["_context_request_id"]?.string != nil })
        }
    }

    @Test("without a broker the service works; what happened waits, and no password is told")
    func absent() async throws {
        let broker = try RabbitMQ()
        try broker.stop()
        let service = try service(broker, url: "rabbit://openstack:hushhush@127.0.0.1:\(broker.port)/")
        let id = try service.create(["size": 1])
        try service.wait(id, "available")
        let limit = Timestamp.monotonic() + 30
        var status = JSON.null
        while status["broker"]?["state"] != "failed", Timestamp.monotonic() < limit {
            status = try service.api("GET", "/notifications").json["notifications"] ?? .null
        }
        #expect(status["waiting"] == 2 && status["broker"]?["kind"] == "unreachable")
        #expect(try service.request("GET", "/metrics").text.contains("clinker_notifications_waiting 2"))
        let found = try await DoctorTests.examine(service).findings.first { $0["kind"] == "notifications" }
        #expect(found?["text"]?.string?.hasPrefix("2 notifications wait since 20") == true, "\(found ?? .null)")
        #expect(found?["text"]?.string?.contains("the message broker is failed: 127.0.0.1:\(broker.port): ") == true, "\(found ?? .null)")
        #expect(!service.log.contains("hushhush"))
        #expect(service.log.contains("http://schemas.dmtf.org/cloud/audit/1.0/event"))
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
    }

    @Test("a volume for which there is no place is told as the scheduler's error")
    func scheduling() throws {
        let broker = try RabbitMQ()
        let service = try service(broker)
        let id = try service.create(["size": 900_000_000])
        try service.wait(id, "error")
        try drained(service)
        let message = try #require(try received(broker, "notifications.error").first)
        #expect(message["event_type"] == "scheduler.create_volume" && message["priority"] == "ERROR")
        #expect(message["payload"]?["volume_id"]?.string == id && message["payload"]?["state"] == "error")
    }
}
