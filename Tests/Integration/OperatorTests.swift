import Glibc
import JSON
import Primitives
import Testing

/// What operators do with backends and types.
@Suite("Operators", .serialized)
struct OperatorTests {
    private static let two = "[a]\nvolume_driver = file\n[b]\nvolume_driver = file\n"

    private func put(_ service: ServiceUnderTest, _ what: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
        try service.api("PUT", "/os-services/\(what)", body)
    }

    @Test("a disabled backend takes no new volumes and keeps what it has; the reason is shown; enabled again it takes them")
    func disable() throws {
        let service = try ServiceUnderTest(backends: "a, b", sections: Self.two)
        let a: JSON = ["host": "node@a", "binary": "cinder-volume"]
        let disabled = try put(service, "disable-log-reason", ["host": "node@a", "binary": "cinder-volume", "disabled_reason": "maint"])
        #expect(
            disabled.json == [
                "host": "node@a", "service": "", "binary": "cinder-volume", "status": "disabled", "disabled": true,
                "disabled_reason": "maint",
            ])
        for _ in 0..<4 {
            let volume = try service.wait(try service.create(), "available")
            #expect(volume?["os-vol-host-attr:host"]?.string?.hasPrefix("node@b#") == true)
        }
        let shown = try service.api("GET", "/os-services?host=node@a").json["services"]?.array?.first
        #expect(shown?["status"] == "disabled" && shown?["disabled_reason"] == "maint")
        #expect(try put(service, "disable", ["host": "node@b", "binary": "cinder-volume"]).status == 200)
        try service.wait(try service.create(), "error")
        #expect(try put(service, "enable", a).json["disabled"] == false)
        try service.wait(try service.create(), "available")
        #expect(
            try put(service, "disable", ["host": "nohost", "binary": "cinder-volume"]).message
                == "Service cinder-volume could not be found on host nohost.")
        #expect(try put(service, "disable", ["host": "node@a"]).status == 400)
        #expect(try put(service, "disable", ["binary": "cinder-volume"]).status == 400)
        #expect(try put(service, "nonsense", a).status == 404)
    }

    @Test("a frozen backend lets no snapshot be made or removed")
    func freeze() throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        #expect(try put(service, "freeze", ["host": "node@file"]).status == 200)
        #expect(try put(service, "freeze", ["host": "node@file"]).status == 400)
        #expect(try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(id)]]).status == 400)
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 400)
        try SnapshotTests.wait(service, snapshot, "available")
        try service.wait(try service.create(), "error")
        #expect(try put(service, "thaw", ["host": "node@file"]).status == 200)
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
    }

    @Test("a private type is there for the projects that have access, and for administrators")
    func privateTypes() throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service()
        func ask(_ method: String, _ path: String, _ user: String, _ project: String, _ body: JSON? = nil) throws -> ServiceUnderTest.Answer
        {
            let token = try keystone.token(user, project: project)
            return try service.request(
                method, "/v3/\(keystone.project(project))\(path)", headers: [("X-Auth-Token", token)], body: body?.text)
        }
        let made = try ask("POST", "/types", "root", "alpha", ["volume_type": ["name": "gold", "os-volume-type-access:is_public": false]])
        let id = made.json["volume_type"]?["id"]?.string ?? ""
        func sees(_ user: String, _ project: String) throws -> [Bool] {
            [
                try ask("GET", "/types/\(id)", user, project).status == 200,
                try ask("GET", "/types", user, project).text.contains(id),
                try ask("POST", "/volumes", user, project, ["volume": ["size": 1, "volume_type": "gold"]]).status == 202,
            ]
        }
        #expect(try sees("alice", "alpha") == [false, false, false])
        let grant: JSON = ["addProjectAccess": ["project": .string(keystone.project("alpha"))]]
        #expect(try ask("POST", "/types/\(id)/action", "root", "alpha", grant).status == 202)
        #expect(
            try ask("POST", "/types/\(id)/action", "root", "alpha", grant).message
                == "Volume type access for \(id) / \(keystone.project("alpha")) combination already exists.")
        #expect(try sees("alice", "alpha") == [true, true, true])
        #expect(try sees("bob", "beta") == [false, false, false])
        #expect(
            try ask("GET", "/types/\(id)/os-volume-type-access", "root", "alpha").json["volume_type_access"]
                == [["volume_type_id": .string(id), "project_id": .string(keystone.project("alpha"))]])
        let revoke: JSON = ["removeProjectAccess": ["project": .string(keystone.project("alpha"))]]
        #expect(try ask("POST", "/types/\(id)/action", "root", "alpha", revoke).status == 202)
        #expect(try ask("POST", "/types/\(id)/action", "root", "alpha", revoke).status == 404)
        #expect(try sees("alice", "alpha") == [false, false, false])
        let standard = try ask("GET", "/types/default", "root", "alpha").json["volume_type"]?["id"]?.string ?? ""
        #expect(
            try ask("GET", "/types/\(standard)/os-volume-type-access", "root", "alpha").message
                == "Access list not available for public volume types.")
    }
}
