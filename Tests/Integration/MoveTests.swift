import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Another type, another place: what is moved, what it costs, and what happens when it fails or a process dies meanwhile.
@Suite("Retype and migrate", .serialized)
struct MoveTests {
    static func service(options: String = "", one: String = "", two: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(
            options: options, backends: "one,two",
            sections: "[one]\nvolume_driver = file\n\(one)\n[two]\nvolume_driver = file\n\(two)\n")
    }

    static func type(_ service: ServiceUnderTest, _ name: String, _ specs: JSONObject) throws -> String {
        let answer = try service.api("POST", "/types", ["volume_type": ["name": .string(name), "extra_specs": .object(specs)]])
        guard let id = answer.json["volume_type"]?["id"]?.string else { throw ServiceUnderTest.Failure("type: \(answer.text)") }
        return id
    }

    static func types(_ service: ServiceUnderTest) throws {
        for name in ["one", "two"] { _ = try type(service, name, ["volume_backend_name": .string(name)]) }
    }

    static func action(_ service: ServiceUnderTest, _ id: String, _ name: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
        try service.api("POST", "/volumes/\(id)/action", .object(JSONObject([(name: name, value: body)])))
    }

    static func path(_ service: ServiceUnderTest, _ backend: String, _ id: String) -> String {
        service.state + "/volumes/\(backend)/volume-\(id)"
    }

    /// An available volume of the type with text at its beginning and at its end.
    static func volume(_ service: ServiceUnderTest, _ type: String, size: Int = 1, _ text: String = "first and last") throws -> String {
        let id = try service.create(["volume_type": .string(type), "size": JSON(size)])
        try service.wait(id, "available")
        let file = open(path(service, type, id), O_WRONLY | O_CLOEXEC)
        defer { close(file) }
        for offset in [0, size << 30 - text.utf8.count] {
            guard pwrite(file, text, text.utf8.count, off_t(offset)) == text.utf8.count else {
                throw ServiceUnderTest.Failure("cannot write")
            }
        }
        return id
    }

    static func text(_ path: String, size: Int = 1, count: Int = 14) -> [String] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        return [0, size << 30 - count].map { offset in
            var bytes = [UInt8](repeating: 0, count: count)
            return pread(file, &bytes, count, off_t(offset)) == count ? String(decoding: bytes, as: UTF8.self) : ""
        }
    }

    static func blocks(_ path: String) -> Int {
        var info = stat()
        return stat(path, &info) == 0 ? Int(info.st_blocks) : -1
    }

    /// Waits until the volume is migrated or not; the volume.
    static func settled(_ service: ServiceUnderTest, _ id: String, seconds: Double = 30) throws -> JSON {
        let limit = Timestamp.monotonic() + seconds
        while Timestamp.monotonic() < limit {
            if let volume = try? service.volume(id), let status = volume["migration_status"]?.string, ["success", "error"].contains(status)
            {
                return volume
            }
            usleep(10_000)
        }
        let log = service.log.split(separator: "\n").filter { !$0.contains(" ACCESS ") }.suffix(20).joined(separator: "\n")
        throw ServiceUnderTest.Failure("the migration has no end: \(try service.volume(id)?.text ?? "")\n\(log)")
    }

    private func allocated(_ service: ServiceUnderTest) throws -> [String: Int64] {
        let pools = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array ?? []
        return Dictionary(
            pools.map { ($0["name"]?.string ?? "", $0["capabilities"]?["allocated_capacity_gb"]?.integer ?? -1) }, uniquingKeysWith: { $1 })
    }

    @Test("a volume is migrated with its bytes, keeps its name, and leaves nothing behind")
    func migrate() async throws {
        let service = try Self.service()
        try Self.types(service)
        let id = try service.create(["name": "moves"])
        let from = try service.wait(id, "available")?["os-vol-host-attr:host"]?.string ?? ""
        let (source, target) = from.contains("@one") ? ("one", "two") : ("two", "one")
        try ServiceUnderTest.write(Self.path(service, source, id), "some data here", keepingSize: true)
        let answer = try Self.action(service, id, "os-migrate_volume", ["host": .string("node@\(target)"), "lock_volume": true])
        #expect(answer.status == 202)
        let moved = try Self.settled(service, id)
        #expect(moved["os-vol-host-attr:host"]?.string == "node@\(target)#files" && moved["migration_status"] == "success")
        #expect(moved["status"] == "available" && moved["name"] == "moves" && moved["os-vol-mig-status-attr:name_id"] == .null)
        #expect(Self.text(Self.path(service, target, id))[0] == "some data here")
        #expect(Self.blocks(Self.path(service, target, id)) < 4096, "a sparse volume stays sparse")
        #expect(ServiceUnderTest.entries(service.state + "/volumes/" + source).isEmpty)
        #expect(try allocated(service) == ["node@\(target)#files": 1, "node@\(source)#files": 0])
        try await DoctorTests.expectNothing(service)
        // And on from there, and away.
        #expect(try Self.action(service, id, "os-migrate_volume", ["host": .string("node@\(source)#files")]).status == 202)
        usleep(200_000)
        #expect(try Self.settled(service, id)["os-vol-host-attr:host"]?.string == "node@\(source)#files")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        try await DoctorTests.expectNothing(service)
    }

    @Test("a volume gets another type in place, or by a copy where its pool does not fit")
    func retype() async throws {
        let service = try Self.service()
        try Self.types(service)
        _ = try Self.type(service, "also-one", ["volume_backend_name": "one"])
        let id = try Self.volume(service, "one")
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        #expect(try Self.action(service, id, "os-retype", ["new_type": "also-one"]).status == 202)
        let there = try service.wait(id, "available")
        #expect(there?["volume_type"] == "also-one" && there?["os-vol-host-attr:host"] == "node@one#files")
        #expect(try service.usage("volumes_one") == 0 && service.usage("volumes_also-one") == 1)
        #expect(try service.usage("snapshots_also-one") == 1 && service.usage("gigabytes_also-one") == 2)
        // Its snapshots cannot follow it to another backend.
        #expect(try Self.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        #expect(try service.wait(id, "available")?["volume_type"] == "also-one")
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
        // Without leave to move it stays what it is.
        #expect(try Self.action(service, id, "os-retype", ["new_type": "two"]).status == 202)
        #expect(try service.wait(id, "available")?["volume_type"] == "also-one")
        #expect(service.log.contains("volume_backend_name is one, the type wants two"))
        #expect(try service.usage("volumes_two") == 0)
        #expect(try Self.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        let moved = try Self.settled(service, id)
        #expect(moved["volume_type"] == "two" && moved["os-vol-host-attr:host"] == "node@two#files" && moved["status"] == "available")
        #expect(Self.text(Self.path(service, "two", id)) == ["first and last", "first and last"])
        #expect(try service.usage("volumes_two") == 1 && service.usage("volumes_also-one") == 0 && service.usage("volumes") == 1)
        try await DoctorTests.expectNothing(service)
    }

    @Test("a volume is made of a snapshot on another backend where its type says so")
    func fromSnapshot() async throws {
        let service = try Self.service()
        try Self.types(service)
        let id = try Self.volume(service, "one")
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        let copy = try service.create(["snapshot_id": .string(snapshot), "volume_type": "two", "size": 2])
        #expect(try service.wait(copy, "available")?["os-vol-host-attr:host"] == "node@two#files")
        #expect(Self.text(Self.path(service, "two", copy)) == ["first and last", "first and last"])
        try await DoctorTests.expectNothing(service)
    }

    @Test("what cannot be moved is refused with the rule")
    func refusals() throws {
        let service = try Self.service(options: "default_volume_type = one")
        try Self.types(service)
        _ = try Self.type(service, "many", ["multiattach": "<is> True"])
        _ = try Self.type(service, "small", ["volume_backend_name": "one"])
        let id = try Self.volume(service, "one")
        let rule =
            "Invalid volume: Retype needs volume to be in available or in-use state, not be part of an active migration or a consistency group, requested type has to be different that the one from the volume, and for in-use volumes front-end qos specs cannot change."
        #expect(try Self.action(service, id, "os-retype", ["new_type": "one"]).message == rule)
        #expect(try Self.action(service, id, "os-retype", ["new_type": "nope"]).status == 404)
        #expect(try Self.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "x"]).status == 400)
        #expect(
            try service.api("PUT", "/os-quota-sets/\(ServiceUnderTest.project)", ["quota_set": ["volumes_small": 0]]).status == 200)
        #expect(try Self.action(service, id, "os-retype", ["new_type": "small"]).status == 413)
        #expect(try service.volume(id)?["status"] == "available")
        for (host, message) in [
            ("node@nowhere", "Invalid host: No available service named 'node@nowhere'"),
            ("node@one", "Invalid host: Destination host must be different than the current host."),
            ("node@one#files", "Invalid host: Destination host must be different than the current host."),
        ] {
            let answer = try Self.action(service, id, "os-migrate_volume", ["host": .string(host)])
            #expect(answer.status == 400 && answer.message == message, "\(host): \(answer.text)")
        }
        for body: JSON in [[:], ["host": "a", "cluster": "b"], ["cluster": "b"], ["host": 1], ["host": "node@two", "x": 1]] {
            #expect(try Self.action(service, id, "os-migrate_volume", body).status == 400, "\(body)")
        }
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        #expect(try Self.action(service, id, "os-migrate_volume", ["host": "node@two"]).status == 400)
        #expect(try Self.action(service, id, "os-migrate_volume_completion", ["new_volume": .string(id)]).status == 200)
        // A pool that cannot take it: nothing changes but what the volume says of the migration.
        let other = try Self.volume(service, "one")
        #expect(try Self.action(service, other, "os-migrate_volume", ["host": "node@two", "lock_volume": "yes"]).status == 202)
        let refused = try Self.settled(service, other)
        #expect(refused["status"] == "available" && refused["migration_status"] == "error")
        #expect(refused["os-vol-host-attr:host"] == "node@one#files")
        #expect(try service.api("GET", "/messages?resource_uuid=\(other)").json["messages"]?.array?.isEmpty == false)
    }

    @Test(
        "whatever dies while a volume is copied, it is at one place with all its bytes in the end",
        arguments: ["transfer", "driver-host", "core", "serve"])
    func deaths(victim: String) async throws {
        let service = try Self.service(one: "volume_copy_bps_limit = 150000000")
        try Self.types(service)
        let id = try service.create(["volume_type": "one"])
        try service.wait(id, "available")
        let filler = try await ServiceUnderTest.run(
            "/bin/dd",
            ["if=/dev/urandom", "of=" + Self.path(service, "one", id), "bs=1M", "count=400", "conv=notrunc", "status=none"])
        try #require(filler.status == 0)
        let kept = service.directory + "/kept"
        _ = try await ServiceUnderTest.run("/bin/cp", ["--sparse=auto", Self.path(service, "one", id), kept])
        #expect(try Self.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        // Well behind the first checkpoint, of 256 MiB of the volume's 1,024.
        let limit = Timestamp.monotonic() + 60
        while Timestamp.monotonic() < limit {
            let operations = try service.api("GET", "/operations?resource_id=\(id)").json["operations"]?.array ?? []
            if operations.contains(where: { if case .real(let done)? = $0["progress"] { done > 0.3 } else { false } }) { break }
            usleep(5_000)
        }
        let found = victim == "serve" ? [service.pid] : service.processes(victim)
        #expect(!found.isEmpty, "\(victim) runs")
        for process in found { kill(process, SIGKILL) }
        if victim == "serve" {
            _ = service.waitForEnd()
            try service.start()
        }
        let moved = try Self.settled(service, id, seconds: 40)
        #expect(moved["os-vol-host-attr:host"] == "node@two#files" && moved["volume_type"] == "two" && moved["status"] == "available")
        #expect(try FileContent.difference(kept, Self.path(service, "two", id)) == nil)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/one").isEmpty)
        if victim == "transfer" { #expect(service.log.contains("is repeated from 2684"), "it goes on where it was") }
        try await DoctorTests.expectNothing(service)
    }
}
