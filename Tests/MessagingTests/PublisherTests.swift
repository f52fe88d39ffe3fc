import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import Messaging

/// Against a real RabbitMQ.
@Suite(.serialized, .enabled(if: RabbitMQ.isInstalled))
struct PublisherTests {
    private static let tls = Result { try certificates() }
    private static let shared = Result { try RabbitMQ(tls: tls.get()) }

    private static func certificates() throws -> String {
        let directory = temporaryDirectory("rabbit-tls", elseRemovesIt: true)
        let script = """
            cd "$1"
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
            openssl req -newkey rsa:2048 -nodes -subj /CN=broker -keyout server.key -out server.csr
            printf 'subjectAltName=DNS:localhost' > names
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stranger -keyout stranger.key -out stranger.pem
            """
        let nothing = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(nothing) }
        let pid = try spawn(
            "/bin/sh", ["-ec", script, "sh", directory],
            descriptors: [(source: nothing, target: 0), (source: nothing, target: 1), (source: nothing, target: 2)])
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        return directory
    }

    private let broker: RabbitMQ

    init() throws { broker = try Self.shared.get() }

    private func settings(_ url: String? = nil, exchange: String = "openstack") throws -> BrokerSettings {
        var settings = BrokerSettings(url: try TransportURL(parsing: url ?? broker.url()), exchange: exchange)
        settings.connectPatience = 3
        return settings
    }

    private func messages(_ ids: [String], _ topic: String) -> [Publisher.Message] {
        ids.map { Publisher.Message(id: $0, topic: topic, body: "{\"id\":\"\($0)\"}") }
    }

    @Test func whatIsConfirmedLiesInTheQueueInItsOrder() throws {
        let publisher = Publisher(try settings())
        let ids = (0..<300).map { "m\($0)" }
        let (confirmed, failure) = publisher.send(messages(ids, "order.info"))
        #expect(failure == nil && confirmed.count == 300)
        let found = try broker.take("order.info")
        #expect(found.map(\.messageID) == ids)
        #expect(found.allSatisfy { $0.isPersistent && $0.contentType == "application/json" })
        #expect(publisher.state.condition == .connected && publisher.state.confirmed == 300)
        publisher.end()
    }

    @Test func aDurableQueueOfSomebodyElseIsUsedAsItIs() throws {
        var durable = try settings(exchange: "shared")
        durable.isDurable = true
        #expect(Publisher(durable).send(messages(["first"], "shared.info")).failure == nil)
        let notes = Guarded<[String]>([])
        let publisher = Publisher(try settings(exchange: "shared")) { note in notes.withLock { $0.append(note) } }
        #expect(publisher.send(messages(["second"], "shared.info")).failure == nil)
        #expect(try broker.take("shared.info").map(\.messageID) == ["first", "second"])
        #expect(notes.withLock { $0 }.contains { $0.contains("queue shared.info is used as it is") })
    }

    @Test func aQueueThatSomebodyRemovedIsMadeAnewAndNothingIsLost() throws {
        let publisher = Publisher(try settings())
        #expect(publisher.send(messages(["a"], "removed.info")).failure == nil)
        try broker.control("delete_queue", "removed.info")
        let (confirmed, failure) = publisher.send(messages(["b"], "removed.info"))
        #expect(confirmed.isEmpty && failure?.kind == .returned)
        #expect(failure?.description.contains("NO_ROUTE") == true)
        #expect(publisher.send(messages(["b"], "removed.info")).failure == nil)
        #expect(try broker.take("removed.info").map(\.messageID) == ["b"])
        #expect(publisher.state.returned == 1)
    }

    @Test func aFullQueueThatRejectsSaysSo() throws {
        let publisher = Publisher(try settings())
        #expect(publisher.send(messages(["a"], "full.info")).failure == nil)
        try broker.control("set_policy", "full", "^full\\.", #"{"max-length":1,"overflow":"reject-publish"}"#)
        // The policy reaches the queue a moment later.
        var outcome = publisher.send(messages(["b"], "full.info"))
        for _ in 0..<100 where outcome.failure == nil {
            usleep(50_000)
            outcome = publisher.send(messages(["b"], "full.info"))
        }
        #expect(outcome.failure?.kind == .nacked && outcome.confirmed.isEmpty)
        #expect(publisher.state.condition == .failed && publisher.state.nacked >= 1)
        try broker.control("clear_policy", "full")
        #expect(try broker.take("full.info").first?.messageID == "a")
    }

    @Test(arguments: [("openstack:wrong", "/", "403"), ("nobody:x", "/", "403"), ("openstack:secret", "/nowhere", "nowhere")])
    func whoIsNotLetInIsToldWhy(user: String, path: String, words: String) throws {
        let publisher = Publisher(try settings("rabbit://\(user)@127.0.0.1:\(broker.port)\(path)"))
        let failure = publisher.tryConnecting()
        #expect(failure?.kind == .refused)
        #expect(failure?.description.contains(words) == true, "\(failure?.description ?? "")")
        #expect(failure?.description.contains("wrong") == false)
        #expect(publisher.state.condition == .failed)
    }

    @Test func theNextHostIsTakenWhereTheFirstIsAway() throws {
        let publisher = Publisher(
            try settings("rabbit://openstack:secret@127.0.0.1:1,openstack:secret@127.0.0.1:\(broker.port)/"))
        #expect(publisher.send(messages(["x"], "hosts.info")).failure == nil)
        #expect(publisher.state.host == "127.0.0.1:\(broker.port)")
        #expect(try broker.take("hosts.info").count == 1)
    }

    @Test func anAbsentBrokerIsTriedLessAndLessOften() throws {
        let publisher = Publisher(try settings("rabbit://127.0.0.1:1"))
        var pauses: [Double] = []
        for _ in 0..<20 {
            #expect(publisher.send(messages(["x"], "t")).failure?.kind == .unreachable)
            pauses.append(publisher.pause)
        }
        #expect(pauses.prefix(4) == [1, 3, 5, 7] && pauses.last == 30)
    }

    @Test func overTLSTheCertificateIsChecked() throws {
        let directory = try Self.tls.get()
        func attempt(host: String, authorities: String, checksName: Bool = true) throws -> BrokerFailure? {
            var settings = try settings("rabbit://openstack:secret@\(host):\(broker.port + 3)/")
            settings.tls = BrokerSettings.TLS(authorities: "\(directory)/\(authorities)")
            settings.tls?.checksName = checksName
            let publisher = Publisher(settings)
            return publisher.send(messages(["s"], "tls.info")).failure
        }
        #expect(try attempt(host: "localhost", authorities: "ca.pem") == nil)
        #expect(try attempt(host: "localhost", authorities: "stranger.pem")?.kind == .refused)
        #expect(try attempt(host: "127.0.0.1", authorities: "ca.pem")?.kind == .refused)
        #expect(try attempt(host: "127.0.0.1", authorities: "ca.pem", checksName: false) == nil)
        #expect(try attempt(host: "localhost", authorities: "missing.pem")?.description.contains("missing.pem") == true)
        #expect(try broker.take("tls.info").count == 2)
    }

    @Test func aBlockedBrokerIsWaitedFor() throws {
        let notes = Guarded<[String]>([])
        var settings = try settings()
        settings.confirmPatience = 1
        let publisher = Publisher(settings) { note in notes.withLock { $0.append(note) } }
        #expect(publisher.send(messages(["a"], "blocked.info")).failure == nil)
        try broker.control("set_vm_memory_high_watermark", "0.0000001")
        let (broker, done) = (broker, Semaphore())
        // What is published tells the broker to block; it is confirmed once that is over.
        startThread("unblock") {
            while !notes.withLock({ $0.contains { $0.contains("takes no messages") } }) { usleep(20_000) }
            usleep(1_500_000)
            try? broker.control("set_vm_memory_high_watermark", "absolute", "512MB")
            done.post()
        }
        let outcome = publisher.send(messages(["b"], "blocked.info"))
        done.wait()
        #expect(outcome.failure == nil && outcome.confirmed == [0])
        #expect(try broker.take("blocked.info").map(\.messageID) == ["a", "b"])
        #expect(!publisher.isRefusing)
    }

    @Test func aBlockedBrokerIsWaitedForAsLongAsTheCallerWants() throws {
        let publisher = Publisher(try settings())
        #expect(publisher.send(messages(["a"], "given-up.info")).failure == nil)
        try broker.control("set_vm_memory_high_watermark", "0.0000001")
        var asked = 0
        let (confirmed, failure) = publisher.send(messages(["b"], "given-up.info")) {
            asked += 1
            return asked < 2
        }
        try broker.control("set_vm_memory_high_watermark", "absolute", "512MB")
        #expect(confirmed.isEmpty && failure?.kind == .unconfirmed && asked == 2)
        #expect(publisher.send(messages(["b"], "given-up.info")).failure == nil)
        // It may have been taken the first time: then it has the same id.
        #expect(try Set(broker.take("given-up.info").compactMap(\.messageID)) == ["a", "b"])
    }

    @Test func whatADyingBrokerDidNotConfirmIsNotCalledConfirmed() throws {
        let publisher = Publisher(try settings())
        #expect(publisher.send(messages(["a"], "dying.info")).failure == nil)
        try broker.kill()
        let (confirmed, failure) = publisher.send(messages(["b"], "dying.info"))
        #expect(confirmed.isEmpty && failure?.kind == .lost)
        #expect(publisher.send(messages(["b"], "dying.info")).failure?.kind == .unreachable)
        try broker.start()
        #expect(publisher.send(messages(["b"], "dying.info")).failure == nil)
        #expect(try broker.take("dying.info").map(\.messageID) == ["b"])
        #expect(publisher.state.connections == 2)
    }

    @Test func aBrokerThatGoesSilentIsLeft() throws {
        var settings = try settings()
        settings.heartbeat = 1
        let publisher = Publisher(settings)
        #expect(publisher.send(messages(["a"], "silent.info")).failure == nil)
        try broker.pause()
        defer { try? broker.resume() }
        for _ in 0..<60 where publisher.state.condition == .connected { publisher.wait(0.2) }
        #expect(publisher.state.condition == .failed && publisher.state.kind == .lost)
    }
}
