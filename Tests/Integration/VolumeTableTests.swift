import Glibc
import JSON
import Primitives
import Testing

/// The table of volume operations: in which states each may begin. An administrator puts a volume into every state, and
/// every operation is tried from there.
@Suite("Table of volume operations", .serialized)
struct VolumeTableTests {
    /// A row: the operation, the states it may begin in (nil: any), what it is answered there and elsewhere.
    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        let from: [String]?
        let accepted: Int
        let refused: Int
        let method, path: String
        let body: JSON?

        init(_ name: String, from: [String]?, action: JSON) {
            self.init(name, from: from, 202, "POST", "/volumes/VOLUME/action", action)
        }
        init(
            _ name: String, from: [String]?, _ accepted: Int, else refused: Int = 400, _ method: String, _ path: String, _ body: JSON? = nil
        ) {
            self.name = name
            self.from = from
            self.accepted = accepted
            self.refused = refused
            self.method = method
            self.path = path
            self.body = body
        }

        var testDescription: String { name }
    }

    static let deletable = ["available", "error", "error_restoring", "error_extending", "error_managing"]
    static let states = [
        "creating", "available", "error", "error_deleting", "error_managing", "managing", "attaching", "detaching", "maintenance",
        "restoring-backup", "error_restoring", "reserved", "awaiting-transfer", "backing-up", "error_backing-up", "error_extending",
        "downloading", "uploading", "retyping", "extending",
    ]

    static let rows: [Row] = [
        Row("delete", from: deletable + ["error_deleting"], 202, "DELETE", "/volumes/VOLUME"),
        Row("delete cascade", from: deletable + ["error_deleting"], 202, "DELETE", "/volumes/VOLUME?cascade=true"),
        Row("force delete", from: nil, action: ["os-force_delete": [:]]), Row("unmanage", from: deletable, action: ["os-unmanage": [:]]),
        Row("reserve", from: ["available"], action: ["os-reserve": [:]]), Row("unreserve", from: nil, action: ["os-unreserve": [:]]),
        Row("begin_detaching", from: [], action: ["os-begin_detaching": [:]]),
        Row("roll_detaching", from: nil, action: ["os-roll_detaching": [:]]),
        Row(
            "attach (legacy)", from: ["available", "attaching", "reserved"],
            action: ["os-attach": ["host_name": "h", "mountpoint": "/dev/vdb"]]),
        Row("detach (legacy)", from: states.filter { $0 != "maintenance" }, action: ["os-detach": [:]]),
        Row(
            "attachment create", from: ["available", "downloading"], 200, "POST", "/attachments",
            ["attachment": ["volume_uuid": "VOLUME", "instance_uuid": "00000000-0000-0000-0000-000000000001"]]),
        Row("extend", from: ["available"], action: ["os-extend": ["new_size": 2]]),
        Row("retype", from: ["available"], action: ["os-retype": ["new_type": "other"]]),
        Row("migrate", from: ["available"], action: ["os-migrate_volume": ["host": "node@two"]]),
        Row("migrate, locking", from: ["available"], action: ["os-migrate_volume": ["host": "node@two", "lock_volume": true]]),
        Row("update readonly flag", from: ["available"], action: ["os-update_readonly_flag": ["readonly": true]]),
        Row(
            "user metadata change", from: states.filter { !["maintenance", "uploading"].contains($0) }, 200, "POST",
            "/volumes/VOLUME/metadata",
            ["metadata": ["a": "b"]]),
        Row("update", from: states.filter { $0 != "maintenance" }, 200, "PUT", "/volumes/VOLUME", ["volume": ["name": "n"]]),
        Row("snapshot create", from: ["available"], 202, "POST", "/snapshots", ["snapshot": ["volume_id": "VOLUME"]]),
        Row("clone", from: ["available"], 202, "POST", "/volumes", ["volume": ["source_volid": "VOLUME"]]),
        Row("revert to snapshot", from: [], action: ["revert": ["snapshot_id": "00000000-0000-0000-0000-000000000001"]]),
        Row("reset status", from: nil, action: ["os-reset_status": ["status": "error"]]),
    ]

    @Test("each row, from each state", arguments: rows)
    func row(row: Row) throws {
        let service = try MoveTests.service(options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1")
        _ = try MoveTests.type(service, "other", [:])
        _ = try MoveTests.type(service, "one", ["volume_backend_name": "one"])
        for state in Self.states {
            let id = try service.create(["volume_type": "one"])
            try service.wait(id, "available")
            #expect(try MoveTests.action(service, id, "os-reset_status", ["status": .string(state)]).status == 202, "\(state)")
            let body = try row.body.map { try JSON(parsing: $0.text.replacing("VOLUME", with: id)) }
            let answer = try service.api(row.method, row.path.replacing("VOLUME", with: id), body)
            let allowed = row.from?.contains(state) ?? true
            #expect(answer.status == (allowed ? row.accepted : row.refused), "\(row.name) from \(state): \(answer.status) \(answer.text)")
            if !allowed { #expect((answer.message?.count ?? 0) > 10, "\(row.name) from \(state): \(answer.text)") }
        }
    }

    /// What ends elsewhere than it began.
    @Test("rows of other states: attachments, the source of a clone, the end of each operation")
    func ends() throws {
        let service = try MoveTests.service()
        try MoveTests.types(service)
        let id = try service.create(["volume_type": "one"])
        try service.wait(id, "available")
        // attachment create, update, complete, delete; begin and roll detaching; unreserve
        let reserved = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(id)]])
        let attachment = reserved.json["attachment"]?["id"]?.string ?? ""
        #expect(try service.volume(id)?["status"] == "reserved")
        #expect(
            try service.api("PUT", "/attachments/\(attachment)", ["attachment": ["connector": LifecycleTests.connector]]).status == 200)
        #expect(try service.volume(id)?["status"] == "attaching")
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        #expect(try service.volume(id)?["status"] == "in-use")
        for (name, body) in [
            ("os-retype", ["new_type": "two"]), ("os-migrate_volume", ["host": "node@two"]), ("os-unmanage", [:]), ("os-reserve", [:]),
            ("os-update_readonly_flag", ["readonly": true]),
        ] as [(String, JSON)] where name != "os-retype" {
            #expect(try MoveTests.action(service, id, name, body).status == 400, "\(name) of a volume in use")
        }
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 400)
        // An attached volume that would have to move stays what and where it is.
        #expect(try MoveTests.action(service, id, "os-retype", ["new_type": "two", "migration_policy": "on-demand"]).status == 202)
        #expect(try service.wait(id, "in-use")?["volume_type"] == "one")
        #expect(try MoveTests.action(service, id, "os-begin_detaching", [:]).status == 202)
        #expect(try service.volume(id)?["status"] == "detaching")
        #expect(try MoveTests.action(service, id, "os-roll_detaching", [:]).status == 202)
        #expect(try service.volume(id)?["status"] == "in-use")
        #expect(try MoveTests.action(service, id, "os-extend", ["new_size": 2]).status == 202)
        #expect(try service.wait(id, "in-use")?["size"] == 2)
        #expect(try service.api("DELETE", "/attachments/\(attachment)").status == 200)
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try MoveTests.action(service, id, "os-reserve", [:]).status == 202)
        #expect(try service.volume(id)?["status"] == "attaching")
        #expect(try MoveTests.action(service, id, "os-unreserve", [:]).status == 202)
        #expect(try service.volume(id)?["status"] == "available")
        // delete with host null: nothing was placed, nothing is asked of a backend
        let lost = try service.create([
            "size": 1, "volume_type": .string(try MoveTests.type(service, "nowhere", ["volume_backend_name": "x"])),
        ])
        try service.wait(lost, "error")
        #expect(try service.volume(lost)?["os-vol-host-attr:host"] == .null)
        #expect(try service.api("DELETE", "/volumes/\(lost)").status == 202)
        try service.wait(lost, nil)
    }
}
