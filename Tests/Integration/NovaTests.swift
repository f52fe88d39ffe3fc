import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes that instances use, and a Nova that answers, refuses, fails or says nothing: what is migrated through it, and what it is told.
@Suite("Volumes and Nova", .serialized)
struct NovaTests {
    private static let instance = "10000000-0000-4000-8000-000000000000"

    /// A service with two backends, a Nova, and a volume of alice's that an instance uses.
    private final class World {
        let keystone: KeystoneUnderTest
        let nova: NovaUnderTest
        let service: ServiceUnderTest
        let root, alice, vouching: String
        private let compute: String
        /// What instances use: volume to attachment.
        private var used: JSONObject = [:]

        init() throws {
            keystone = try KeystoneUnderTest.shared.get()
            nova = try NovaUnderTest(keystone, program: "compute.py")
            root = try keystone.token("root", project: "alpha")
            alice = try keystone.token("alice", project: "alpha")
            vouching = try keystone.token("nova", project: "service")
            compute = try nova.register(with: keystone, root)
            service = try keystone.service(
                options: "quota_volumes = -1", account: "glance", backends: "file,two",
                sections: "[two]\nvolume_driver = file\n[nova]\nregion_name = RegionTwo\ninterface = internal\ntimeout = 20")
            try nova.set(["api": .string("http://127.0.0.1:\(service.port)")])
        }

        deinit { _ = try? keystone.ask("DELETE", "/services/\(compute)", token: root) }

        func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String? = nil, service other: String? = nil) throws
            -> ServiceUnderTest.Answer
        {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)",
                headers: [("X-Auth-Token", token ?? alice)] + (other.map { [("X-Service-Token", $0)] } ?? []), body: body?.text)
        }

        func act(_ id: String, _ name: String, _ body: JSON, token: String? = nil) throws -> ServiceUnderTest.Answer {
            try ask("POST", "/volumes/\(id)/action", .object(JSONObject([(name: name, value: body)])), token: token ?? root)
        }

        func volume(_ id: String) throws -> JSON { try ask("GET", "/volumes/\(id)", token: root).json["volume"] ?? .null }

        /// Waits until the volume has the value.
        @discardableResult
        func wait(_ id: String, _ member: String, _ value: String) throws -> JSON {
            let limit = Timestamp.monotonic() + 60
            while true {
                let shown = try volume(id)
                if shown[member]?.string == value { return shown }
                guard Timestamp.monotonic() < limit else {
                    throw ServiceUnderTest.Failure("\(member) is not \(value): \(shown)\n\(try nova.story())\n\(service.story)")
                }
                usleep(20_000)
            }
        }

        func attached() throws -> (volume: String, attachment: String) {
            let made = try ask("POST", "/volumes", ["volume": ["size": 1, "name": "data"]])
            let id = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
            try wait(id, "status", "available")
            let connector: JSON = ["host": "compute", "ip": "127.0.0.1", "initiator": "iqn.2026-11.example:compute"]
            let attachment = try ask(
                "POST", "/attachments",
                ["attachment": ["volume_uuid": .string(id), "instance_uuid": .string(NovaTests.instance), "connector": connector]])
            let attachmentID = try #require(attachment.json["attachment"]?["id"]?.string, "\(attachment.text)")
            #expect(try ask("POST", "/attachments/\(attachmentID)/action", ["os-complete": [:]]).status == 204)
            used[id] = .string(attachmentID)
            try nova.set(["servers": .object(JSONObject([(name: NovaTests.instance, value: .object(used))]))])
            let file = open(try path(id), O_WRONLY | O_CLOEXEC)
            defer { close(file) }
            #expect(pwrite(file, "guest", 5, 0) == 5)
            return (id, attachmentID)
        }

        func backend(_ id: String) throws -> String {
            let host = try volume(id)["os-vol-host-attr:host"]?.string ?? ""
            return host.hasPrefix("node@two") ? "two" : "file"
        }
        func other(_ id: String) throws -> String { try backend(id) == "two" ? "node@file" : "node@two" }
        func path(_ id: String) throws -> String {
            service.state + "/volumes/\(try backend(id))/volume-\(try volume(id)["os-vol-mig-status-attr:name_id"]?.string ?? id)"
        }
        func files() -> [String] {
            var found: [String] = []
            for backend in ["file", "two"] {
                guard let listing = opendir(service.state + "/volumes/\(backend)") else { continue }
                defer { closedir(listing) }
                while let entry = readdir(listing) {
                    let name = withUnsafePointer(to: &entry.pointee.d_name) {
                        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
                    }
                    if name.hasPrefix("volume-") { found.append(name) }
                }
            }
            return found
        }
        func text(_ path: String, at offset: off_t, count: Int) -> String {
            let file = open(path, O_RDONLY | O_CLOEXEC)
            defer { close(file) }
            var bytes = [UInt8](repeating: 0, count: count)
            return pread(file, &bytes, count, offset) == count ? String(decoding: bytes, as: UTF8.self) : ""
        }
        func volumes(_ token: String) throws -> Int {
            try ask("GET", "/volumes?limit=100", token: token).json["volumes"]?.array?.count ?? -1
        }
        func migrate(_ id: String, mode: String) throws {
            try nova.set(["mode": .string(mode)])
            let answer = try act(id, "os-migrate_volume", ["host": .string(try other(id))])
            #expect(answer.status == 202, "\(answer.text)")
        }
        /// Waits until Nova has attached the copy of a volume, and works no further; its id.
        func heldCopy(of id: String) throws -> String {
            func copy() throws -> JSON? {
                try ask("GET", "/volumes/detail?limit=100", token: root).json["volumes"]?.array?
                    .first { $0["migration_status"]?.string == "target:\(id)" && $0["status"] == "reserved" }
            }
            let limit = Timestamp.monotonic() + 60
            while try copy() == nil, Timestamp.monotonic() < limit { usleep(20_000) }
            return try #require(try copy()?["id"]?.string)
        }
        /// One volume is left, in use by the instance with what was written to it; nobody but a service may detach it.
        func requireWhole(_ id: String, host: String, isMoved: Bool) async throws {
            let shown = try volume(id)
            #expect(shown["status"] == "in-use" && shown["os-vol-host-attr:host"]?.string?.hasPrefix(host) == true, "\(shown)")
            let attachments = shown["attachments"]?.array ?? []
            #expect(attachments.count == 1 && attachments.first?["server_id"]?.string == NovaTests.instance)
            let limit = Timestamp.monotonic() + 30
            while try volumes(root) != used.members.count, Timestamp.monotonic() < limit { usleep(20_000) }
            #expect(try volumes(root) == used.members.count)
            #expect(try volumes(alice) == used.members.count)
            #expect(files().count == used.members.count, "\(files())")
            let path = try path(id)
            #expect(text(path, at: 0, count: 5) == "guest")
            #expect((text(path, at: 4096, count: 22) == "written after the swap") == isMoved)
            let attachment = attachments.first?["attachment_id"]?.string ?? ""
            let refused = try ask("DELETE", "/attachments/\(attachment)")
            #expect(refused.status == 409 && refused.message == "Detach volume from instance \(NovaTests.instance) using the Compute API")
            let story = try nova.story()
            #expect(story["problems"] == [], "\(story)")
            try await DoctorTests.expectNothing(service)
        }
    }

    @Test("a volume that an instance uses moves with the instance: the guest's bytes, the attachment, and nothing beside")
    func swap() async throws {
        let world = try World()
        let (id, old) = try world.attached()
        let target = try world.other(id)
        try world.migrate(id, mode: "swap")
        try world.wait(id, "migration_status", "success")
        try await world.requireWhole(id, host: target, isMoved: true)
        let shown = try world.volume(id)
        #expect(shown["attachments"]?.array?.first?["attachment_id"]?.string != old && shown["name"] == "data")
        // It is a volume as any other: it moves on, and goes when the instance lets go of it.
        let back = try world.other(id)
        #expect(try world.act(id, "os-reset_status", ["migration_status": "none"]).status == 202)
        try world.migrate(id, mode: "swap")
        try world.wait(id, "migration_status", "success")
        try await world.requireWhole(id, host: back, isMoved: true)
        let attachment = try world.volume(id)["attachments"]?.array?.first?["attachment_id"]?.string ?? ""
        #expect(try world.ask("DELETE", "/attachments/\(attachment)", service: world.vouching).status == 200)
        #expect(try world.ask("DELETE", "/volumes/\(id)").status == 202)
        let limit = Timestamp.monotonic() + 30
        while !world.files().isEmpty, Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(world.files().isEmpty)
    }

    @Test("a Nova that refuses, fails, is in trouble or says nothing leaves the volume where it is, in use, and nothing beside it")
    func failures() async throws {
        let world = try World()
        let (id, attachment) = try world.attached()
        for mode in ["refuse", "error", "hang", "fail"] {
            try world.migrate(id, mode: mode)
            try world.wait(id, "migration_status", "error")
            try world.nova.set(["mode": "swap"])
            try await world.requireWhole(id, host: "node@\(try world.backend(id))", isMoved: false)
            #expect(try world.volume(id)["attachments"]?.array?.first?["attachment_id"]?.string == attachment, "\(mode)")
            let messages = try world.ask("GET", "/messages?resource_uuid=\(id)", token: world.root).json["messages"]?.array ?? []
            #expect(messages.first?["event_id"] == "VOLUME_VOLUME_103_107", "\(mode): \(messages)")
            #expect(try world.act(id, "os-reset_status", ["migration_status": "none"]).status == 202)
        }
        // Its answer is lost, but it heard.
        let target = try world.other(id)
        try world.migrate(id, mode: "lost")
        try world.wait(id, "migration_status", "success")
        try await world.requireWhole(id, host: target, isMoved: true)
        #expect(!world.service.log.contains("glance-secret"))
    }

    @Test("the core is killed while Nova works: the migration goes on, and what nobody may do meanwhile is refused")
    func death() async throws {
        let world = try World()
        let (id, _) = try world.attached()
        let target = try world.other(id)
        try world.migrate(id, mode: "hold")
        let found = try world.heldCopy(of: id)
        // Whose volume it is sees no copy, whatever he asks for.
        #expect(try world.volumes(world.alice) == 1)
        #expect(try world.ask("GET", "/volumes").json["volumes"]?.array?.map { $0["id"]?.string } == [id])
        #expect(try world.ask("GET", "/volumes/\(found)").status == 404)
        let stranger: JSON = ["attachment": ["volume_uuid": .string(found), "instance_uuid": "30000000-0000-4000-8000-000000000000"]]
        #expect(try world.ask("POST", "/attachments", stranger).status == 404)
        let attached = try world.ask("GET", "/attachments?volume_id=\(found)", token: world.root).json["attachments"]?.array?.first
        #expect(try world.ask("DELETE", "/attachments/\(attached?["id"]?.string ?? "")").status == 404)
        for core in world.service.processes("core") { kill(core, SIGKILL) }
        try world.service.waitUntilServing()
        let extended = try world.ask("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 2]])
        #expect(extended.status == 400 && extended.message?.contains("is being migrated by the Compute service") == true)
        for (volume, status, token) in [(id, 400, world.alice), (found, 404, world.alice), (found, 400, world.root)] {
            #expect(try world.ask("DELETE", "/volumes/\(volume)", token: token).status == status)
        }
        #expect(try world.act(found, "os-extend", ["new_size": 2]).status == 400)
        // Who says that it is done when it is not is not believed.
        let answer = try world.act(id, "os-migrate_volume_completion", ["new_volume": .string(found)])
        #expect(answer.status == 400 && answer.message?.contains("is not attached") == true, "\(answer.text)")
        try world.nova.set(["mode": "swap"])
        try world.wait(id, "migration_status", "success")
        try await world.requireWhole(id, host: target, isMoved: true)
        #expect(try world.nova.story()["swaps"]?.array?.count == 1)
    }

    @Test("an instance's volume gets another backend's type by Nova's swap, though the core is killed meanwhile, or keeps its own")
    func retype() async throws {
        let world = try World()
        let (id, _) = try world.attached()
        let target = try world.backend(id) == "two" ? "file" : "two"
        let type: JSON = ["volume_type": ["name": "elsewhere", "extra_specs": ["volume_backend_name": .string(target)]]]
        #expect(try world.ask("POST", "/types", type, token: world.root).status == 200)
        func retype(mode: String) throws {
            try world.nova.set(["mode": .string(mode)])
            let answer = try world.act(id, "os-retype", ["new_type": "elsewhere", "migration_policy": "on-demand"], token: world.alice)
            #expect(answer.status == 202, "\(answer.text)")
        }
        /// Volumes that are charged under the name of each type.
        func charged() throws -> [Int64?] {
            let path = "/os-quota-sets/\(world.keystone.project("alpha"))?usage=true"
            let quotas = try world.ask("GET", path, token: world.root).json["quota_set"]
            return ["volumes", "volumes___DEFAULT__", "volumes_elsewhere"].map { quotas?[$0]?["in_use"]?.integer }
        }
        // Before and after it has copied it gives up.
        for mode in ["refuse", "fail"] {
            try retype(mode: mode)
            try world.wait(id, "migration_status", "error")
            #expect(try world.wait(id, "status", "in-use")["volume_type"] == "__DEFAULT__")
            try world.nova.set(["mode": "swap"])
            try await world.requireWhole(id, host: "node@\(try world.backend(id))", isMoved: false)
            #expect(try charged() == [1, 1, 0], "\(mode)")
        }
        try retype(mode: "hold")
        _ = try world.heldCopy(of: id)
        for core in world.service.processes("core") { kill(core, SIGKILL) }
        try world.service.waitUntilServing()
        let shown = try world.volume(id)
        #expect(shown["status"] == "retyping" && shown["migration_status"] == "migrating" && shown["volume_type"] == "__DEFAULT__")
        #expect(try charged() == [1, 1, 1])
        try await DoctorTests.expectNothing(world.service)
        try world.nova.set(["mode": "swap"])
        try world.wait(id, "migration_status", "success")
        try await world.requireWhole(id, host: "node@\(target)", isMoved: true)
        #expect(try world.volume(id)["volume_type"] == "elsewhere")
        #expect(try charged() == [1, 0, 1])
        // Where its pool fits the type Nova has nothing to do; and it is asked only where the request lets the volume move.
        for (name, policy) in [("near", "on-demand"), ("__DEFAULT__", "never")] {
            if name == "near" {
                let type: JSON = ["volume_type": ["name": "near", "extra_specs": ["volume_backend_name": .string(target)]]]
                #expect(try world.ask("POST", "/types", type, token: world.root).status == 200)
            }
            let answer = try world.act(id, "os-retype", ["new_type": .string(name), "migration_policy": .string(policy)])
            #expect(answer.status == 202, "\(answer.text)")
            try world.wait(id, "volume_type", name)
            try world.wait(id, "status", "in-use")
        }
        #expect(try world.nova.story()["swaps"]?.array?.count == 3)
        #expect(try charged() == [1, 1, 0])
    }

    @Test("Nova hears that an instance's volume is larger, and its user where it does not")
    func extended() throws {
        let world = try World()
        let (id, _) = try world.attached()
        func events() throws -> [JSON] { try world.nova.story()["events"]?.array ?? [] }
        for (mode, size) in [("swap", 2), ("error", 3)] {
            try world.nova.set(["mode": .string(mode)])
            #expect(try world.ask("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": JSON(size)]]).status == 202)
            let limit = Timestamp.monotonic() + 30
            while try world.volume(id)["size"]?.integer != Int64(size), Timestamp.monotonic() < limit { usleep(20_000) }
            #expect(try world.wait(id, "status", "in-use")["size"]?.integer == Int64(size))
            // Nova is told after the volume is in use again: its answer must not be that of the next mode.
            while try mode == "swap" && events().isEmpty, Timestamp.monotonic() < limit { usleep(20_000) }
        }
        let limit = Timestamp.monotonic() + 30
        func messages() throws -> [JSON] { try world.ask("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array ?? [] }
        while try messages().isEmpty, Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(try messages().map { $0["event_id"]?.string } == ["VOLUME_VOLUME_007_009"])
        #expect(try events() == [[.string(Self.instance), .string(id)]])
    }

    @Test("what is attached to a host or to several is not migrated, nor without Nova")
    func refusals() throws {
        let world = try World()
        let made = try world.ask("POST", "/volumes", ["volume": ["size": 1]])
        let id = try #require(made.json["volume"]?["id"]?.string)
        try world.wait(id, "status", "available")
        #expect(try world.act(id, "os-attach", ["host_name": "host", "mountpoint": "/mnt"]).status == 202)
        let answer = try world.act(id, "os-migrate_volume", ["host": .string(try world.other(id))])
        #expect(answer.status == 400 && answer.message?.contains("must be attached to one instance") == true, "\(answer.text)")
        // Nobody extends through Nova; and where nothing is migrated, a completion says which volume is in use.
        for state in ["in-use", "extending"] {
            #expect(try world.act(id, "os-reset_status", ["status": .string(state)]).status == 202)
            let words = state == "extending" ? "Required volume admin metadata is malformed or missing." : "Volume is not being extended."
            let answer = try world.act(id, "os-extend_volume_completion", ["error": false])
            #expect(answer.status == 400 && answer.message == "Invalid volume: " + words)
        }
        #expect(try world.act(id, "os-extend_volume_completion", [:], token: world.alice).status == 403)
        #expect(try world.act(id, "os-detach", [:]).status == 202)
        let done = try world.act(id, "os-migrate_volume_completion", ["new_volume": .string(id)])
        #expect(done.status == 200 && done.json == ["save_volume_id": .string(id)])
    }
}
