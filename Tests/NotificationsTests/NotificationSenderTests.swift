import Database
import Glibc
import JSON
import Logging
import Observability
import Primitives
import Processes
import Settings
import TestSupport
import Testing

@testable import BlockStorage
@testable import Notifications

/// The outbox, its sender and a real RabbitMQ.
@Suite(.serialized, .enabled(if: RabbitMQ.isInstalled))
struct NotificationSenderTests {
    private static let broker = Result { try RabbitMQ() }

    private let database: SQLiteDatabase
    private let broker: RabbitMQ
    private let queue = "q\(UInt32.random(in: 0...UInt32.max))"
    private let caller = Caller(userID: "u", projectID: "p", isAdmin: false, requestID: "req-1")

    init() async throws {
        broker = try Self.broker.get()
        database = try SQLiteDatabase(path: temporaryDirectory("notifications") + "/db")
        database.accompany(by: NotificationOutbox(node: "node"))
        try await database.migrate(Schema.migrations)
        try await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
    }

    private func sender(_ more: String = "", limit: Int = 100_000, trimming: Double = 10) throws -> NotificationSender {
        let text = """
            [DEFAULT]
            transport_url = \(broker.url())
            notification_outbox_limit = \(limit)
            [oslo_messaging_notifications]
            driver = messagingv2
            topics = \(queue)
            [oslo_messaging_rabbit]
            amqp_durable_queues = true
            rabbit_interval_max = 1
            \(more)
            """
        let settings = try Settings(text: text, known: OptionCatalogue(Options.service, Options.notifications, Options.rabbit))
        let wanted = try #require(try NotificationSettings(settings, node: "node"))
        let log = LogSink()
        return NotificationSender(wanted, database: database, trimming: trimming) { log.logger($0) }
    }

    private func volumes(_ count: Int) async throws -> [String] {
        let requests = VolumeRequests(try Settings(text: "[DEFAULT]\nquota_volumes = -1\nquota_gigabytes = -1\n"))
        return try await database.write { [caller] tx in
            var ids: [String] = []
            for _ in 0..<count {
                var new = NewVolume()
                new.size = 1
                ids.append(try requests.create(new, caller: caller, in: tx))
            }
            return ids
        }
    }

    private func rename(_ id: String, _ name: String) async throws {
        try await database.write { [caller] tx in
            try Volumes.update(id, name: .string(name), description: nil, metadata: nil, caller: caller, in: tx)
        }
    }

    private func waiting() throws -> Int { try database.readBlocking { try PendingNotifications.summary(in: $0).count } }

    private func drained() throws {
        let limit = Timestamp.monotonic() + 120
        while try waiting() > 0 {
            try #require(Timestamp.monotonic() < limit)
            usleep(20_000)
        }
    }

    /// Volume, name and message id of each update that lies in the queue, in its order.
    private func received() throws -> [(volume: String, name: String, id: String)] {
        try broker.take(queue + ".info").map { delivery in
            let message = try JSON(parsing: try JSON(parsing: delivery.body)["oslo.message"]?.string ?? "")
            #expect(message["message_id"]?.string == delivery.messageID)
            return (
                message["payload"]?["volume_id"]?.string ?? "", message["payload"]?["display_name"]?.string ?? "",
                message["message_id"]?.string ?? ""
            )
        }
    }

    @Test func whatHappenedIsSentInItsOrderAndRemoved() async throws {
        let ids = try await volumes(3)
        let sender = try sender()
        sender.start()
        for number in 0..<20 { for id in ids { try await rename(id, "\(number)") } }
        try drained()
        sender.stop(within: 5)
        let all = try received()
        for id in ids { #expect(all.filter { $0.volume == id }.map(\.name) == (0..<40).map { "\($0 / 2)" }) }
        #expect(Set(all.map(\.id)).count == 120 && all.count == 120)
        let status = try await sender.status()
        #expect(status["sent"] == 120 && status["waiting"] == 0 && status["broker"]?["state"] == "connected")
    }

    @Test func nothingIsLostOrOvertakenWhileTheBrokerDiesAgainAndAgain() async throws {
        let ids = try await volumes(5)
        let sender = try sender()
        sender.start()
        let (broker, done) = (broker, Guarded(false))
        startThread("killer") {
            for _ in 0..<2 {
                usleep(1_000_000)
                try? broker.kill()
                usleep(300_000)
                try? broker.start()
            }
            done.withLock { $0 = true }
        }
        var number = 0
        while !done.withLock({ $0 }) {
            for id in ids { try await rename(id, "\(number)") }
            number += 1
            try await Task.sleep(nanoseconds: 50_000_000)
        }
        try drained()
        sender.stop(within: 5)
        let all = try received()
        for id in ids {
            // What was sent twice has the same id; without the repetitions everything is there, in its order.
            var seen: Set<String> = []
            let names = all.filter { $0.volume == id && seen.insert($0.id).inserted }.map(\.name)
            #expect(names == (0..<2 * number).map { "\($0 / 2)" })
        }
    }

    @Test func whileTheBrokerRefusesEverythingWaits() async throws {
        let ids = try await volumes(1)
        try broker.control("change_password", "openstack", "other")
        let sender = try sender()
        sender.start()
        try await rename(ids[0], "n")
        let limit = Timestamp.monotonic() + 60
        while try await sender.status()["broker"]?["kind"] != "refused" {
            try #require(Timestamp.monotonic() < limit)
            usleep(50_000)
        }
        #expect(try waiting() == 2)
        try broker.control("change_password", "openstack", "secret")
        try drained()
        sender.stop(within: 5)
        #expect(try received().count == 2)
    }

    @Test func whileTheBrokerTakesNothingNoMoreThanTheLimitWait() async throws {
        let ids = try await volumes(100).sorted()
        func renameAll(_ name: String) async throws {
            try await database.write { [caller] tx in
                for id in ids { try Volumes.update(id, name: .string(name), description: nil, metadata: nil, caller: caller, in: tx) }
            }
        }
        let sender = try sender(limit: 1000, trimming: 0.1)
        sender.start()
        try await rename(ids[0], "first")
        try drained()
        try broker.control("set_vm_memory_high_watermark", "0.0000001")
        // What is sent now is neither taken nor confirmed.
        try await rename(ids[0], "blocked")
        let limit = Timestamp.monotonic() + 60
        while try await sender.status()["broker"]?["state"] != "blocked" {
            try #require(Timestamp.monotonic() < limit)
            usleep(50_000)
        }
        for number in 0..<6 { try await renameAll("\(number)") }
        while try waiting() > 1000 {
            try #require(Timestamp.monotonic() < limit)
            usleep(50_000)
        }
        #expect(try await sender.status()["dropped"]?.integer ?? 0 >= 200)
        try broker.control("set_vm_memory_high_watermark", "absolute", "512MB")
        try drained()
        sender.stop(within: 5)
        let all = try received()
        // The newest are those that were kept.
        for id in ids { #expect(all.last { $0.volume == id }?.name == "5") }
    }

    @Test(.enabled(if: access(RabbitMQ.root() + "/.oracle/bin/python", X_OK) == 0))
    func aListenerOfOslosReadsThem() async throws {
        let ids = try await volumes(1)
        let sender = try sender()
        sender.start()
        try await rename(ids[0], "heard")
        try drained()
        sender.stop(within: 5)
        let root = RabbitMQ.root()
        let output = temporaryDirectory("listener") + "/output"
        let descriptor = open(output, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        let pid = try spawn(
            root + "/.oracle/bin/python", [root + "/Tests/Storage/oslo-listener", broker.url(), queue, "2"],
            descriptors: [(source: descriptor, target: 1)])
        awaitEnd(of: pid)
        _ = reap(pid)
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        let heard = try String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: "\n").map {
            try JSON(parsing: String($0))
        }
        #expect(heard.map { $0["event_type"]?.string } == ["volume.update.start", "volume.update.end"])
        let last = try #require(heard.last)
        #expect(last["publisher_id"] == "volume.node" && last["payload"]?["display_name"] == "heard")
        #expect(last["payload"]?["volume_id"]?.string == ids[0] && last["metadata"]?["message_id"]?.string?.utf8.count == 36)
        #expect(last["context"]?["project_id"] == "p" && last["context"]?["request_id"] == "req-1")
    }

    @Test func aThousandAndMoreAreSentInASecond() async throws {
        // Rows are locked in the order of their ids.
        let ids = try await volumes(200).sorted()
        for number in 0..<15 {
            try await database.write { [caller] tx in
                for id in ids {
                    try Volumes.update(id, name: .string("\(number)"), description: nil, metadata: nil, caller: caller, in: tx)
                }
            }
        }
        let sender = try sender()
        let started = Timestamp.monotonic()
        sender.start()
        try drained()
        // For people: nothing is asserted of time.
        print("6000 notifications in \(Timestamp.monotonic() - started) s")
        sender.stop(within: 5)
        #expect(try received().count == 6000)
    }
}
