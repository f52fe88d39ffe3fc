import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes that instances use, and a Nova that answers, refuses, fails or says nothing: what is migrated through it, and what it is told.
@Suite("Volumes and Nova", .serialized)
struct NovaTests {
    private typealias World = SwapWorld

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
        for (token, count) in [(world.alice, 1), (world.root, 2)] {
            let summary = try world.ask("GET", "/volumes/summary", token: token).json["volume-summary"]
            #expect(summary?["total_count"] == JSON(count) && summary?["total_size"] == JSON(count), "\(summary ?? .null)")
        }
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
        #expect(try events() == [[.string(World.instance), .string(id)]])
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
