import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The operations behind requests: shown, explained, cancelled, followed.
@Suite("Operations and events", .serialized)
struct OperationTests {
    /// Runs a command of `clinker` against the service.
    static func clinker(_ service: ServiceUnderTest, _ arguments: [String]) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(
            ServiceUnderTest.binary, arguments + ["--config", service.configuration, "--state-dir", service.state])
    }

    static func operations(_ service: ServiceUnderTest, _ query: String) throws -> [JSON] {
        let answer = try service.api("GET", "/operations?" + query)
        guard answer.status == 200 else { throw ServiceUnderTest.Failure(answer.text) }
        return answer.json["operations"]?.array ?? []
    }

    @Test("an operation is shown with its steps, the scheduler's verdicts and its end")
    func show() async throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let listed = try Self.operations(service, "resource_id=\(id)")
        #expect(listed.count == 1 && listed[0]["flow"] == "volume.create" && listed[0]["state"] == "done")
        let operation = try service.api("GET", "/operations/\(listed[0]["id"]?.string ?? "")").json["operation"]
        #expect(operation?["steps"]?.array?.compactMap { $0["name"]?.string } == ["place", "make"])
        #expect(operation?["steps"]?.array?.allSatisfy { $0["state"] == "done" && $0["started_at"] != .null } == true)
        #expect(operation?["verdicts"]?.array?.first?["pool"] == "node@file#files")
        #expect(operation?["verdicts"]?.array?.first?["weights"]?["CapacityWeigher"] != nil)
        #expect(operation?["error"] == .null && operation?["finished_at"] != .null && operation?["progress"] == .null)
        let shown = try await Self.clinker(service, ["operation", "show", operation?["id"]?.string ?? ""])
        #expect(shown.status == 0 && shown.output.contains("step make: done") && shown.output.contains("pool node@file#files: weight"))
        let all = try await Self.clinker(service, ["operation", "list", "--all"])
        #expect(all.status == 0 && all.output.contains("volume.create") && all.output.contains(id))
        for query in ["nope=1", "unfinished=x", "limit=-1"] { #expect(try service.api("GET", "/operations?" + query).status == 400) }
        for path in ["/operations/nope", "/operations?marker=nope"] { #expect(try service.api("GET", path).status == 404) }
        #expect(try service.api("GET", "/extensions").text.contains("clinker-operations"))
    }

    @Test("a failed placement names the filter that refused each pool")
    func failure() throws {
        let service = try ServiceUnderTest()
        _ = try MoveTests.type(service, "gold", ["volume_backend_name": "gold"])
        let id = try service.create(["volume_type": "gold"])
        try service.wait(id, "error")
        let operation = try #require(try Self.operations(service, "resource_id=\(id)").first)
        #expect(operation["state"] == "failed" && operation["error"]?.string?.contains("CapabilitiesFilter") == true)
        let shown = try service.api("GET", "/operations/\(operation["id"]?.string ?? "")").json["operation"]
        #expect(shown?["verdicts"]?.array?.first?["filter"] == "CapabilitiesFilter")
        let message = try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.first?["user_message"]?.string
        #expect(message?.contains("Could not find any available weighted backend") == true && message?.contains("node@") == false)
    }

    @Test("what extra_capabilities says of a backend's pools is shown, and types can ask for it")
    func extraCapabilities() throws {
        let service = try MoveTests.service(two: "extra_capabilities = {\"tier\": \"gold\", \"multiattach\": false}")
        _ = try MoveTests.type(service, "gold", ["capabilities:tier": "gold"])
        let made = try service.wait(try service.create(["volume_type": "gold"]), "available")
        #expect(made?["os-vol-host-attr:host"] == "node@two#files")
        let pools = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array ?? []
        let two = pools.first { $0["name"] == "node@two#files" }?["capabilities"]
        #expect(two?["tier"] == "gold" && two?["multiattach"] == false, "\(pools)")
    }

    @Test("explain says where a volume would go and why not elsewhere, without making it")
    func explain() throws {
        let service = try MoveTests.service(
            options:
                "scheduler_default_filters = AvailabilityZoneFilter,CapacityFilter,CapabilitiesFilter,DriverFilter,DifferentBackendFilter",
            two: "filter_function = \"volume.size < 5\"")
        try MoveTests.types(service)
        func explain(_ body: JSON) throws -> JSON? {
            let answer = try service.api("POST", "/operations/explain", body)
            #expect(answer.status == 200, "\(answer.text)")
            return answer.json["placement"]
        }
        let one = try explain(["volume": ["size": 1, "volume_type": "one"]])
        #expect(one?["pool"] == "node@one#files")
        let refused = one?["verdicts"]?.array?.first { $0["pool"] == "node@two#files" }
        #expect(refused?["filter"] == "CapabilitiesFilter")
        let big = try explain(["volume": ["size": 5]])
        #expect(big?["pool"] == "node@one#files")
        #expect(big?["verdicts"]?.array?.first { $0["filter"] == "DriverFilter" }?["reason"]?.string?.contains("volume.size < 5") == true)
        #expect(try explain(["volume": ["size": 5, "volume_type": "two"]])?["pool"] == .null)
        #expect(try service.usage("volumes") == 0)
        #expect(try service.api("GET", "/volumes").json["volumes"] == [])
        #expect(try Self.operations(service, "").isEmpty)
        // A hint of the user's, and a volume that it keeps away from.
        let id = try service.create(["volume_type": "one"])
        try service.wait(id, "available")
        let apart = try explain(["volume": ["size": 1], "OS-SCH-HNT:scheduler_hints": ["different_host": .string(id)]])
        #expect(apart?["pool"] == "node@two#files")
        let answer = try service.api(
            "POST", "/volumes", ["volume": ["size": 1], "OS-SCH-HNT:scheduler_hints": ["different_host": .string(id)]])
        let made = try service.wait(answer.json["volume"]?["id"]?.string ?? "", "available")
        #expect(made?["os-vol-host-attr:host"] == "node@two#files")
        #expect(try service.api("POST", "/operations/explain", ["volume": ["size": 0]]).status == 400)
        #expect(try service.api("POST", "/operations/explain", [:]).status == 400)
    }

    @Test(
        "an expression or a filter that is wrong is refused at the start",
        arguments: [
            ("", "filter_function = volume.size >", "filter_function is no expression"),
            ("", "goodness_function = (1", "goodness_function is no expression"),
            ("", "extra_capabilities = fast", "extra_capabilities must be a JSON object"),
            ("scheduler_default_filters = Nope", "", "there is no 'Nope'"),
            ("scheduler_default_weighers = Nope", "", "there is no 'Nope'"),
            ("scheduler_default_filters = InstanceLocalityFilter", "", "InstanceLocalityFilter asks Nova"),
        ])
    func badStart(options: String, backend: String, words: String) throws {
        let service = try ServiceUnderTest(options: options, sections: "[file]\nvolume_driver = file\n\(backend)\n", start: false)
        try service.launch()
        #expect(service.waitForEnd() != 0)
        #expect(service.log.contains(words), "\(service.log)")
    }

    @Test("a copy is cancelled, and everything is as it was")
    func cancel() async throws {
        let service = try MoveTests.service(one: "volume_copy_bps_limit = 10000000")
        try MoveTests.types(service)
        let id = try MoveTests.volume(service, "one")
        _ = try await ServiceUnderTest.run(
            "/bin/dd", ["if=/dev/urandom", "of=" + MoveTests.path(service, "one", id), "bs=1M", "count=100", "conv=notrunc", "status=none"])
        #expect(try MoveTests.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        let limit = Timestamp.monotonic() + 60
        var operation = ""
        var progress = 0.0
        while progress == 0, Timestamp.monotonic() < limit {
            let found = try Self.operations(service, "unfinished=1&flow=volume.retype").first
            operation = found?["id"]?.string ?? ""
            if case .real(let fraction)? = found?["progress"] { progress = fraction }
            usleep(20_000)
        }
        #expect(progress > 0 && progress < 0.5, "progress is shown: \(progress)")
        #expect(!service.processes("transfer").isEmpty)
        for body in [["volume_uuid": .string(id)], ["volume_uuid": .string(id), "connector": LifecycleTests.connector]] as [JSON] {
            #expect(try service.api("POST", "/attachments", ["attachment": body]).status == 400, "a copy is not waited for")
        }
        let connection = try MoveTests.action(service, id, "os-initialize_connection", ["connector": LifecycleTests.connector])
        #expect(connection.status == 400 && connection.message?.contains("is being migrated or retyped") == true, "\(connection.text)")
        #expect(try service.api("POST", "/operations/\(operation)/cancel").status == 202)
        let volume = try service.wait(id, "available")
        #expect(volume?["volume_type"] == "one" && volume?["migration_status"] == "error")
        #expect(service.processes("transfer").isEmpty && ServiceUnderTest.entries(service.state + "/volumes/two").isEmpty)
        #expect(try service.usage("volumes_two") == 0)
        let after = try service.api("GET", "/operations/\(operation)").json["operation"]
        #expect(after?["state"] == "failed" && after?["cancelled"] == true && after?["error"] == "cancelled")
        let again = try service.api("POST", "/operations/\(operation)/cancel")
        #expect(again.status == 409 && again.message?.contains("it is failed") == true)
        try await DoctorTests.expectNothing(service)
        // A deletion is not for cancelling.
        let other = try service.create()
        try service.wait(other, "available")
        #expect(try service.api("DELETE", "/volumes/\(other)").status == 202)
        try service.wait(other, nil)
        let deletion = try #require(try Self.operations(service, "resource_id=\(other)&flow=volume.delete").first?["id"]?.string)
        #expect(try service.api("POST", "/operations/\(deletion)/cancel").status == 409)
    }

    @Test("behind the point of no return nothing is cancelled: the volume is at its new place")
    func pastReturn() throws {
        let backend = try FaultyBackend()
        let service = try backend.service(callTimeout: 30, beside: (name: "plain", section: "[plain]\nvolume_driver = file"))
        for (type, name) in [("faulty", "fault"), ("plain", "plain")] {
            _ = try MoveTests.type(service, type, ["volume_backend_name": .string(name)])
        }
        let id = try service.create(["volume_type": "faulty"])
        try service.wait(id, "available")
        try backend.set("delete_volume delay-1500 1\n")
        #expect(try MoveTests.action(service, id, "os-retype", ["new_type": "plain", "migration_policy": "on-demand"]).status == 202)
        let limit = Timestamp.monotonic() + 60
        while try service.volume(id)?["volume_type"] != "plain", Timestamp.monotonic() < limit { usleep(10_000) }
        let operation = try #require(try Self.operations(service, "unfinished=1").first?["id"]?.string)
        let steps = try service.api("GET", "/operations/\(operation)").json["operation"]?["steps"]?.array ?? []
        #expect(steps.map { $0["state"] } == ["done", "done", "done", "done", "running", "pending"])
        let refused = try service.api("POST", "/operations/\(operation)/cancel")
        #expect(refused.status == 409 && refused.message?.contains("past the point of no return") == true)
        let volume = try service.wait(id, "available")
        #expect(volume?["os-vol-host-attr:host"] == "node@plain#files" && volume?["migration_status"] == "success")
        #expect(backend.files.isEmpty)
    }

    // MARK: events

    /// A stream of events read line by line.
    final class Follower {
        private let descriptor: Int32
        private var buffer: [UInt8] = []
        let head: String

        init(_ service: ServiceUnderTest, _ target: String, headers: [String] = []) throws {
            let descriptor = try Loopback.connect(UInt16(service.port))
            self.descriptor = descriptor
            // As long as a busy machine may take; what never comes is a failure all the same.
            var timeout = timeval(tv_sec: 60, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
            let request =
                (["GET \(target) HTTP/1.1", "Host: localhost", "Accept: text/event-stream"] + headers).joined(separator: "\r\n")
                + "\r\n\r\n"
            _ = Loopback.send(descriptor, Array(request.utf8))
            var head = ""
            while !head.hasSuffix("\r\n\r\n") {
                var byte: UInt8 = 0
                guard recv(descriptor, &byte, 1, 0) == 1 else { throw ServiceUnderTest.Failure("no head: \(head)") }
                head.append(Character(UnicodeScalar(byte)))
            }
            self.head = head
        }

        deinit { close(descriptor) }

        /// The next event's data; chunk borders never split what is looked for, for events are small and come in chunks of their own.
        func next() throws -> JSON {
            while true {
                let text = String(decoding: buffer, as: UTF8.self)
                if let start = text.firstRange(of: "data: "), let end = text[start.upperBound...].firstIndex(of: "\n") {
                    let line = String(text[start.upperBound..<end])
                    buffer = Array(text[end...].utf8)
                    return try JSON(parsing: line)
                }
                var chunk = [UInt8](repeating: 0, count: 65536)
                let count = recv(descriptor, &chunk, chunk.count, 0)
                guard count > 0 else { throw ServiceUnderTest.Failure("the stream ended: \(text)") }
                buffer += chunk[..<count]
            }
        }

        /// Reads on until the stream ends; false if it does not.
        func ends() -> Bool {
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = recv(descriptor, &chunk, chunk.count, 0)
                if count <= 0 { return count == 0 }
            }
        }

        func next(_ kind: String) throws -> JSON {
            while true {
                let event = try next()
                if event["kind"]?.string == kind { return event }
            }
        }
    }

    private let events = "/v3/\(ServiceUnderTest.project)/events"

    @Test("events come as they happen, and again from where a client left")
    func follow() throws {
        let service = try ServiceUnderTest()
        let follower = try Follower(service, events)
        #expect(follower.head.hasPrefix("HTTP/1.1 200") && follower.head.contains("text/event-stream"))
        let first = try service.create()
        let accepted = try follower.next("operation.accepted")
        #expect(accepted["resource_id"]?.string == first && accepted["data"]?["flow"] == "volume.create")
        let done = try follower.next("operation.done")
        #expect(done["resource_id"]?.string == first)
        let second = try service.create()
        try service.wait(second, "available")
        let resumed = try Follower(service, events, headers: ["Last-Event-ID: \(done["id"]?.integer ?? 0)"])
        #expect(try resumed.next()["resource_id"]?.string == second)
        let one = try Follower(service, events + "?last_event_id=0&resource_id=\(second)&kind=operation")
        #expect(try one.next()["kind"] == "operation.accepted" && one.next()["kind"] == "operation.done")
        for query in ["last_event_id=x", "last_event_id=-1", "nope=1"] {
            #expect(try service.request("GET", events + "?" + query).status == 400, "\(query)")
        }
        // Numbers of another database do no harm.
        let far = try Follower(service, events + "?last_event_id=9000000000000000000")
        let third = try service.create()
        #expect(try far.next()["resource_id"]?.string == third)
    }

    @Test("a ticket opens one stream, for those who cannot send headers")
    func tickets() throws {
        let service = try ServiceUnderTest()
        let answer = try service.api("POST", "/events/tickets")
        let ticket = answer.json["ticket"]?["id"]?.string ?? ""
        #expect(answer.status == 201 && ticket.utf8.count == 64)
        let follower = try Follower(service, "\(events)?ticket=\(ticket)")
        let id = try service.create()
        #expect(try follower.next()["resource_id"]?.string == id)
        for word in [ticket, "nope", ""] { #expect(try service.request("GET", "\(events)?ticket=\(word)").status == 401) }
        #expect(!service.log.contains(ticket), "tickets are in no log")
    }

    @Test("a ticket is good for the stream alone, and nobody takes more than a few dozen")
    func ticketsAreBounded() throws {
        let users = temporaryDirectory("users") + "/users"
        try ServiceUnderTest.write(users, "")
        chmod(users, 0o600)
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(users)")
        // Nobody is known, so whatever a ticket opened would be seen; its word is checked only where it counts.
        let project = ServiceUnderTest.project
        for (method, path) in [
            ("GET", "/v3/\(project)/volumes/events"), ("DELETE", "/v3/\(project)/events"), ("POST", events), ("GET", "/events"),
            ("GET", "/v3/\(project)/types/x/events"), ("PUT", "/v3/\(project)/volumes/x/metadata/events"),
        ] {
            let answer = try service.request(method, "\(path)?ticket=nope")
            #expect(answer.status == 401 && !answer.text.contains("ticket"), "\(method) \(path): \(answer.status) \(answer.text)")
        }
        #expect(try service.request("GET", "\(events)?ticket=nope").text.contains("ticket"))
        let open = try ServiceUnderTest()
        var statuses: [Int] = []
        for _ in 0..<65 { statuses.append(try open.api("POST", "/events/tickets").status) }
        #expect(statuses == Array(repeating: 201, count: 64) + [429])
    }

    @Test("streams end when the service stops, and what watches hears of its operation's end")
    func ends() async throws {
        let service = try ServiceUnderTest()
        let follower = try Follower(service, events)
        let id = try service.create()
        try service.wait(id, "available")
        let operation = try #require(try Self.operations(service, "resource_id=\(id)").first?["id"]?.string)
        let watched = try await Self.clinker(service, ["operation", "watch", operation])
        #expect(watched.status == 0 && watched.output.contains("operation.done"), "\(watched.output)")
        _ = try follower.next("operation.done")
        #expect(service.stop() == 0)
        #expect(throws: (any Error).self) { while true { _ = try follower.next() } }
        let alone = try await Self.clinker(service, ["operation", "list"])
        #expect(alone.status == 1 && alone.output.contains("no service runs"))
    }

    @Test("many followers all hear of one event")
    func many() throws {
        let service = try ServiceUnderTest()
        let followers = try (0..<300).map { _ in try Follower(service, events) }
        let id = try service.create()
        for follower in followers { #expect(try follower.next()["resource_id"]?.string == id) }
    }
}
