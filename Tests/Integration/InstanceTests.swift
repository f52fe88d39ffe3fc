import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Volumes near the instances that will use them: the scheduler asks the compute service of Keystone's catalogue.
@Suite("Instances", .serialized)
struct InstanceTests {
    private static func id(_ digit: Int) -> String { "\(digit)0000000-0000-4000-8000-000000000000" }

    @Test("the hint local_to_instance is the host that Nova names; where nobody can say, the volume fails and says why")
    func locality() throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let nova = try NovaUnderTest(keystone)
        let root = try keystone.token("root", project: "alpha")
        let compute = try nova.register(with: keystone, root)
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
    @Test("what an instance uses is detached by nobody but a service: 409 for its owner and for administrators, whatever call they make")
    func detachment() throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let nova = try NovaUnderTest(keystone)
        let root = try keystone.token("root", project: "alpha")
        let compute = try nova.register(with: keystone, root)
        let service = try keystone.service(
            options: "quota_volumes = -1", sections: "[nova]\nregion_name = RegionTwo\ninterface = internal")
        let alice = try keystone.token("alice", project: "alpha")
        let vouching = try keystone.token("nova", project: "service")
        let rita = try keystone.token("rita", project: "alpha")
        func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String? = nil, service other: String? = nil) throws
            -> ServiceUnderTest.Answer
        {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)",
                headers: [("X-Auth-Token", token ?? alice)] + (other.map { [("X-Service-Token", $0)] } ?? []), body: body?.text)
        }
        func attached(to instance: String?, connected: Bool = true, complete: Bool = true) throws -> (volume: String, attachment: String) {
            let volume = try #require(try ask("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
            let limit = Timestamp.monotonic() + 30
            while try status(volume) != "available", Timestamp.monotonic() < limit { usleep(10_000) }
            var asked: JSONObject = ["volume_uuid": .string(volume)]
            if let instance { asked["instance_uuid"] = .string(instance) }
            if connected { asked["connector"] = ["host": "node", "ip": "127.0.0.1", "initiator": "iqn.2026-11.example:me"] }
            let made = try ask("POST", "/attachments", ["attachment": .object(asked)])
            let attachment = try #require(made.json["attachment"]?["id"]?.string, "\(made.text)")
            if connected && complete {
                #expect(try ask("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
            }
            return (volume, attachment)
        }
        func status(_ volume: String) throws -> String { try ask("GET", "/volumes/\(volume)").json["volume"]?["status"]?.string ?? "" }

        let used = try attached(to: Self.id(1))
        try nova.use(Self.id(1), used.volume, used.attachment)
        let action = "/volumes/\(used.volume)/action"
        for token in [alice, root] {
            for (method, path, body) in [
                ("DELETE", "/attachments/\(used.attachment)", nil as JSON?), ("POST", action, ["os-detach": [:]]),
                ("POST", action, ["os-detach": ["attachment_id": .string(used.attachment)]]),
                ("POST", action, ["os-terminate_connection": ["connector": ["host": "node"]]]),
                ("POST", action, ["os-terminate_connection": ["connector": nil]]),
                ("POST", action, ["os-force_detach": ["attachment_id": .string(used.attachment)]]),
            ] {
                let answer = try ask(method, path, body, token: token)
                if token == alice, body?["os-force_detach"] != nil {
                    #expect(answer.status == 403)
                    continue
                }
                #expect(answer.status == 409, "\(method) \(path) \(body?.text ?? ""): \(answer.status) \(answer.text)")
                #expect(answer.message == "Detach volume from instance \(Self.id(1)) using the Compute API")
            }
        }
        // Neither is a token of no service's role one, nor one that Keystone does not know.
        #expect(try ask("DELETE", "/attachments/\(used.attachment)", service: rita).status == 409)
        #expect(try ask("DELETE", "/attachments/\(used.attachment)", service: "gAAAAABnothing").status == 401)
        #expect(try status(used.volume) == "in-use")
        #expect(try ask("GET", "/attachments/\(used.attachment)").json["attachment"]?["status"] == "attached")
        #expect(try ask("DELETE", "/attachments/\(used.attachment)", service: vouching).status == 200)
        #expect(try status(used.volume) == "available")

        // Told where it is, but not complete: as good as used.
        let told = try attached(to: Self.id(1), complete: false)
        try nova.use(Self.id(1), told.volume, told.attachment)
        #expect(try ask("DELETE", "/attachments/\(told.attachment)").status == 409)
        // Nova uses the volume by another attachment, does not use it, does not know the instance.
        let stale = try attached(to: Self.id(1))
        try nova.use(Self.id(1), stale.volume, Self.id(9))
        #expect(try ask("DELETE", "/attachments/\(stale.attachment)").status == 200)
        for instance in [Self.id(1), Self.id(7)] {
            #expect(try ask("DELETE", "/attachments/\(try attached(to: instance).attachment)").status == 200)
        }
        // Nothing is bound: no instance, no connection; Nova is not asked.
        let before = try nova.asked().count
        #expect(try ask("DELETE", "/attachments/\(try attached(to: nil).attachment)").status == 200)
        #expect(try ask("DELETE", "/attachments/\(try attached(to: Self.id(1), connected: false).attachment)").status == 200)
        #expect(try nova.asked().count == before)
        // Nobody can say: nothing is ended.
        let broken = try attached(to: Self.id(6))
        let strange = try attached(to: Self.id(5))
        for attachment in [broken.attachment, strange.attachment] {
            let answer = try ask("DELETE", "/attachments/\(attachment)")
            #expect(answer.status == 503 && answer.header("Retry-After") != nil, "\(answer.text)")
        }
        nova.stop()
        #expect(try ask("DELETE", "/attachments/\(told.attachment)").status == 503)
        #expect(try keystone.ask("DELETE", "/services/\(compute)", token: root).status == 204)
        #expect(try status(broken.volume) == "in-use")
        #expect(try ask("DELETE", "/attachments/\(told.attachment)", service: vouching).status == 200)

        // What opens the storage is for those who use it.
        let shown = "/attachments/\(broken.attachment)"
        for (token, status, isShown) in [(alice, 200, true), (root, 200, true), (rita, 200, false)] {
            for path in [shown, "/attachments/detail"] {
                let answer = try ask("GET", path, token: token)
                #expect(answer.status == status)
                #expect(answer.text.contains("device_path") == isShown, "\(path): \(answer.text)")
            }
        }
        #expect(try ask("GET", shown, token: rita).json["attachment"]?["connection_info"] == [:])
        let norma = try keystone.token("norma", project: "alpha")
        for path in [shown, "/attachments", "/attachments/detail"] { #expect(try ask("GET", path, token: norma).status == 403) }
        #expect(try ask("GET", shown, token: norma, service: vouching).text.contains("device_path"))
        #expect(!service.log.contains(alice) && !service.log.contains(vouching))
    }
}
