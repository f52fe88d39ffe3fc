import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// A service with two backends, a Nova, and a volume of alice's that an instance uses.
final class SwapWorld {
    static let instance = "10000000-0000-4000-8000-000000000000"

    let keystone: KeystoneUnderTest
    let nova: NovaUnderTest
    let service: ServiceUnderTest
    let root, alice, vouching: String
    private let compute: String
    /// What instances use: volume to attachment.
    private var used: JSONObject = [:]

    /// Where each backend's files lie.
    private let directories: [String: String]

    /// - Parameter faulty: the second backend; nil: it makes no faults.
    init(faulty: FaultyBackend? = nil) throws {
        keystone = try KeystoneUnderTest.shared.get()
        nova = try NovaUnderTest(keystone, program: "compute.py")
        root = try keystone.token("root", project: "alpha")
        alice = try keystone.token("alice", project: "alpha")
        vouching = try keystone.token("nova", project: "service")
        compute = try nova.register(with: keystone, root)
        service = try keystone.service(
            options: "quota_volumes = -1", account: "glance", backends: "file,two",
            sections: (faulty.map { $0.section(callTimeout: 30, name: "two") } ?? "[two]\nvolume_driver = file")
                + "\n[nova]\nregion_name = RegionTwo\ninterface = internal\ntimeout = 20")
        directories = [
            "file": service.state + "/volumes/file", "two": faulty.map { $0.directory + "/volumes" } ?? service.state + "/volumes/two",
        ]
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

    /// - Parameter type: nil: the usual one.
    func attached(_ type: String? = nil) throws -> (volume: String, attachment: String) {
        let made = try ask("POST", "/volumes", ["volume": ["size": 1, "name": "data", "volume_type": JSON(type)]])
        let id = try #require(made.json["volume"]?["id"]?.string, "\(made.text)")
        try wait(id, "status", "available")
        let connector: JSON = ["host": "compute", "ip": "127.0.0.1", "initiator": "iqn.2026-11.example:compute"]
        let attachment = try ask(
            "POST", "/attachments",
            ["attachment": ["volume_uuid": .string(id), "instance_uuid": .string(Self.instance), "connector": connector]])
        let attachmentID = try #require(attachment.json["attachment"]?["id"]?.string, "\(attachment.text)")
        #expect(try ask("POST", "/attachments/\(attachmentID)/action", ["os-complete": [:]]).status == 204)
        used[id] = .string(attachmentID)
        try nova.set(["servers": .object(JSONObject([(name: Self.instance, value: .object(used))]))])
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
        (directories[try backend(id)] ?? "") + "/volume-\(try volume(id)["os-vol-mig-status-attr:name_id"]?.string ?? id)"
    }
    func files() -> [String] {
        directories.values.flatMap { ServiceUnderTest.entries($0) }.filter { $0.hasPrefix("volume-") }
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
    func requireWhole(_ id: String, host: String, isMoved: Bool, aborts: Bool = false) async throws {
        let shown = try volume(id)
        #expect(shown["status"] == "in-use" && shown["os-vol-host-attr:host"]?.string?.hasPrefix(host) == true, "\(shown)")
        let attachments = shown["attachments"]?.array ?? []
        #expect(attachments.count == 1 && attachments.first?["server_id"]?.string == Self.instance)
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
        #expect(refused.status == 409 && refused.message == "Detach volume from instance \(Self.instance) using the Compute API")
        let story = try nova.story()
        #expect(story["problems"] == [] && (aborts || story["aborts"] == []), "\(story)")
        try await DoctorTests.expectNothing(service)
    }

    /// The instance lets go of the volume, which is deleted.
    func remove(_ id: String) throws {
        let attachment = try volume(id)["attachments"]?.array?.first?["attachment_id"]?.string ?? ""
        #expect(try ask("DELETE", "/attachments/\(attachment)", service: vouching).status == 200)
        #expect(try ask("DELETE", "/volumes/\(id)").status == 202)
        used[id] = nil
        let limit = Timestamp.monotonic() + 60
        while try ask("GET", "/volumes/\(id)").status != 404, Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(files().isEmpty, "\(files())")
    }

    /// What the project is charged.
    func charged(_ resources: [String]) throws -> [Int64?] {
        let quotas = try ask("GET", "/os-quota-sets/\(keystone.project("alpha"))?usage=true", token: root).json["quota_set"]
        return resources.map { quotas?[$0]?["in_use"]?.integer }
    }
}
