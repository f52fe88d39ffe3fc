import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes and a real Nova, which asks for what it needs in its own words: a server that boots from a volume, another volume that it uses,
/// which grows and moves while it does.
@Suite("A real Nova", .serialized)
struct NovaServerTests {
    /// A Nova, and the service as its volume service, with two backends.
    private final class World {
        let keystone: KeystoneUnderTest
        let nova: NovaServerUnderTest
        let service: ServiceUnderTest
        let root, alice: String

        init() throws {
            keystone = try KeystoneUnderTest.shared.get()
            root = try keystone.token("root", project: "alpha")
            alice = try keystone.token("alice", project: "alpha")
            nova = try NovaServerUnderTest(keystone)
            service = try keystone.service(
                account: "cinder", backends: "file,two", sections: "[two]\nvolume_driver = file\n[nova]\ninterface = internal")
            try nova.register("block-storage", "http://127.0.0.1:\(service.port)/v3")
        }

        func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String? = nil) throws -> ServiceUnderTest.Answer {
            try service.request(
                method, "/v3/\(keystone.project("alpha"))\(path)", headers: [("X-Auth-Token", token ?? alice)], body: body?.text)
        }

        /// Waits until the value is found, and returns what has it.
        @discardableResult
        private func wait(_ words: String, for value: String, _ find: () throws -> (found: String?, in: JSON)) throws -> JSON {
            let limit = Timestamp.monotonic() + 120
            while true {
                let (found, shown) = try find()
                if found == value { return shown }
                guard Timestamp.monotonic() < limit else {
                    throw ServiceUnderTest.Failure("\(words) is not \(value): \(shown)\n\(service.story)")
                }
                usleep(100_000)
            }
        }

        @discardableResult
        func waitForVolume(_ id: String, _ member: String, _ value: String) throws -> JSON {
            try wait("\(member) of volume \(id)", for: value) {
                let shown = try ask("GET", "/volumes/\(id)", token: root).json["volume"] ?? .null
                return (shown[member].map { $0.string ?? $0.text }, shown)
            }
        }

        func waitForServer(_ id: String) throws {
            try wait("server \(id)", for: "ACTIVE") {
                let shown = try nova.ask("GET", "/servers/\(id)", token: root).json["server"] ?? .null
                return (shown["status"]?.string, shown)
            }
        }

        func volume() throws -> String {
            let made = try ask("POST", "/volumes", ["volume": ["size": 1]])
            let id = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
            try waitForVolume(id, "status", "available")
            return id
        }

        /// A server of alice's that boots from the volume.
        func server(bootingFrom volume: String) throws -> String {
            #expect(try ask("POST", "/volumes/\(volume)/action", ["os-set_bootable": ["bootable": true]]).status == 200)
            let flavor = try nova.ask(
                "POST", "/flavors", ["flavor": ["name": "tiny", "ram": 64, "vcpus": 1, "disk": 0]], token: root)
            let disk: JSON = ["boot_index": 0, "uuid": .string(volume), "source_type": "volume", "destination_type": "volume"]
            let made = try nova.ask(
                "POST", "/servers",
                [
                    "server": [
                        "name": "guest", "flavorRef": flavor.json["flavor"]?["id"] ?? .null, "networks": "none",
                        "block_device_mapping_v2": [disk],
                    ]
                ], token: alice)
            let id = try #require(made.json["server"]?["id"]?.string, "\(made.text)")
            try waitForServer(id)
            return id
        }

        /// The attachment by which the server uses the volume when it is not that one any more; nil where it stays.
        func waitForAttachment(of volume: String, to server: String, after first: String) throws -> String? {
            let limit = Timestamp.monotonic() + 120
            while Timestamp.monotonic() < limit {
                if let id = try use(server, volume)?["attachment_id"]?.string, id != first { return id }
                usleep(100_000)
            }
            return nil
        }

        /// What Nova says of how the server uses the volume; nil: it does not.
        func use(_ server: String, _ volume: String) throws -> JSON? {
            try nova.ask("GET", "/servers/\(server)/os-volume_attachments/\(volume)", token: alice).json["volumeAttachment"]
        }
    }

    @Test("a server boots from a volume; another one is attached, extended and migrated while it is used, and detached")
    func walk() throws {
        let world = try World()
        let disk = try world.volume()
        let data = try world.volume()
        let server = try world.server(bootingFrom: disk)
        try world.waitForVolume(disk, "status", "in-use")
        let path = "/servers/\(server)/os-volume_attachments"
        let attached = try world.nova.ask(
            "POST", path, ["volumeAttachment": ["volumeId": .string(data)]], token: world.alice)
        #expect(attached.status == 200, "\(attached.text)")
        let shown = try world.waitForVolume(data, "status", "in-use")
        #expect(shown["attachments"]?.array?.first?["server_id"] == .string(server))
        let first = try #require(try world.use(server, data)?["attachment_id"]?.string)

        // Only Nova removes what an instance uses, and is asked; 503: it did not answer in time.
        var refused = try world.ask("DELETE", "/attachments/\(first)")
        for _ in 0..<60 where refused.status == 503 { refused = try world.ask("DELETE", "/attachments/\(first)") }
        #expect(refused.status == 409, "\(refused.text)")

        #expect(try world.ask("POST", "/volumes/\(data)/action", ["os-extend": ["new_size": 2]]).status == 202)
        try world.waitForVolume(data, "size", "2")
        try world.waitForVolume(data, "status", "in-use")

        let host = shown["os-vol-host-attr:host"]?.string ?? ""
        let other = host.hasPrefix("node@two") ? "node@file" : "node@two"
        let migration: JSON = ["os-migrate_volume": ["host": .string(other)]]
        #expect(try world.ask("POST", "/volumes/\(data)/action", migration, token: world.root).status == 202)
        let moved = try world.waitForVolume(data, "migration_status", "success")
        #expect(moved["os-vol-host-attr:host"]?.string?.hasPrefix(other) == true && moved["status"] == "in-use", "\(moved)")
        #expect(moved["size"] == 2 && moved["attachments"]?.array?.map { $0["server_id"] } == [.string(server)], "\(moved)")
        // Nova notes the new attachment when it has been answered.
        let second = try #require(try world.waitForAttachment(of: data, to: server, after: first))
        #expect(moved["attachments"]?.array?.first?["attachment_id"] == .string(second))
        #expect(try world.ask("GET", "/messages").json["messages"] == [])
        let all = try world.ask("GET", "/volumes/detail?all_tenants=1", token: world.root).json["volumes"]?.array ?? []
        #expect(
            all.count { [disk, data].contains($0["id"]?.string) } == 2
                && all.allSatisfy { $0["migration_status"] != .string("target:\(data)") })

        #expect(try world.nova.ask("DELETE", "\(path)/\(data)", token: world.alice).status == 202)
        try world.waitForVolume(data, "status", "available")
        #expect(try world.nova.ask("DELETE", "/servers/\(server)", token: world.alice).status == 204)
        try world.waitForVolume(disk, "status", "available")
        for id in [disk, data] { #expect(try world.ask("DELETE", "/volumes/\(id)").status == 202) }
    }
}
