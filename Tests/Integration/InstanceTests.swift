import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes near the instances that will use them: the scheduler asks the compute service of Keystone's catalogue.
@Suite("Instances", .serialized)
struct InstanceTests {
    private final class Nova: Sendable {
        let port: UInt16
        private let lifeline: Int32
        private let pid: pid_t
        private let isRunning = Guarded(true)

        init(_ keystone: KeystoneUnderTest) throws {
            port = try Loopback.freePort()
            let (mine, theirs) = try socketPair()
            lifeline = mine
            defer { close(theirs) }
            pid = try spawn(
                "/usr/bin/env", ["python3", ServiceUnderTest.sources + "/keystone/nova.py", "\(port)", "\(keystone.port)"],
                descriptors: [(source: theirs, target: 0)])
            let limit = Timestamp.monotonic() + 20
            while true {
                if let descriptor = try? Loopback.connect(port) {
                    close(descriptor)
                    break
                }
                guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("nova.py does not answer") }
                usleep(20_000)
            }
        }

        deinit { stop() }

        func stop() {
            guard
                isRunning.withLock({ running in
                    defer { running = false }; return running
                })
            else { return }
            close(lifeline)
            _ = reap(pid)
        }

        /// Ids of the servers that it was asked for.
        func asked() throws -> [String] {
            let answer = try ServiceUnderTest.parse(
                try Loopback.exchange(port, Array("GET /asked HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".utf8)))
            return answer.json["asked"]?.array?.compactMap(\.string) ?? []
        }
    }

    private static func id(_ digit: Int) -> String { "\(digit)0000000-0000-4000-8000-000000000000" }

    @Test("the hint local_to_instance is the host that Nova names; where nobody can say, the volume fails and says why")
    func locality() throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let nova = try Nova(keystone)
        let root = try keystone.token("root", project: "alpha")
        let made = try keystone.ask("POST", "/services", ["service": ["type": "compute", "name": "nova"]], token: root)
        let compute = try #require(made.json["service"]?["id"]?.string)
        for (region, url) in [("RegionOne", "http://127.0.0.1:9/v2.1"), ("RegionTwo", "http://127.0.0.1:\(nova.port)/v2.1/")] {
            if region != "RegionOne" { _ = try keystone.ask("POST", "/regions", ["region": ["id": .string(region)]], token: root) }
            let endpoint = try keystone.ask(
                "POST", "/endpoints",
                ["endpoint": ["service_id": .string(compute), "interface": "internal", "region_id": .string(region), "url": .string(url)]],
                token: root)
            #expect(endpoint.status == 201, "\(endpoint.text)")
        }
        let service = try keystone.service(
            options: "quota_volumes = -1\nscheduler_default_filters = CapacityFilter,InstanceLocalityFilter",
            sections: "[nova]\nregion_name = RegionTwo\ninterface = internal")
        let token = try keystone.token("alice", project: "alpha")
        func ask(_ method: String, _ path: String, _ token: String, _ body: JSON? = nil) throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)", headers: [("X-Auth-Token", token)], body: body?.text)
        }
        func end(_ hint: JSON?) throws -> String {
            var body: JSONObject = ["volume": ["size": 1]]
            if let hint { body["OS-SCH-HNT:scheduler_hints"] = ["local_to_instance": hint] }
            let answer = try ask("POST", "/volumes", token, .object(body))
            let id = try #require(answer.json["volume"]?["id"]?.string, "\(answer.text)")
            let limit = Timestamp.monotonic() + 60
            while true {
                let status = try ask("GET", "/volumes/\(id)", token).json["volume"]?["status"]?.string ?? ""
                if status != "creating" || Timestamp.monotonic() > limit {
                    if status == "error" {
                        #expect(try ask("GET", "/messages?resource_uuid=\(id)", token).json["messages"]?.array?.count == 1)
                    }
                    return status
                }
                usleep(20_000)
            }
        }
        func reasons(_ instance: String) throws -> String {
            try ask(
                "POST", "/operations/explain", root,
                ["volume": ["size": 1], "OS-SCH-HNT:scheduler_hints": ["local_to_instance": .string(instance)]]
            ).text
        }
        #expect(try end(nil) == "available")
        #expect(try nova.asked().isEmpty)
        #expect(try end(.string(Self.id(1))) == "available")
        #expect(try end(.string(Self.id(1))) == "available")
        #expect(try nova.asked() == [Self.id(1)])
        #expect(try end("nonsense") == "error")
        for (digit, words) in [
            (2, "the instance runs on elsewhere"), (3, "does not tell the host"), (5, "Nova's answer"), (6, "Nova answered 500"),
            (7, "there is no instance 7"), (4, "could not be found out: compute at"),
        ] {
            // Who is slow is asked once.
            if digit != 4 { #expect(try end(.string(Self.id(digit))) == "error") }
            let found = try reasons(Self.id(digit))
            #expect(found.contains(words), "\(found)")
        }
        // What is known stays known for a while; what is not can be asked for again.
        nova.stop()
        #expect(try end(.string(Self.id(1))) == "available")
        #expect(try end(.string(Self.id(8))) == "error")
        #expect(try keystone.ask("DELETE", "/services/\(compute)", token: root).status == 204)
        #expect(!service.log.contains("clinker-secret"))
    }
}
