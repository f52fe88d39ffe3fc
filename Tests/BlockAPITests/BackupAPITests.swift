import BlockStorage
import HTTPServer
import JSON
import Primitives
import Testing

@testable import BlockAPI

@Suite("Backups by the API")
struct BackupAPITests {
    private let api: InMemoryAPI

    init() async throws {
        api = try await InMemoryAPI()
        try await api.database.write {
            try Services.beat(binary: "cinder-backup", host: "node", zone: "nova", backendState: "up", in: $0)
        }
    }

    private func volume() async throws -> String {
        let id = try #require(try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
        try await settle()
        return id
    }

    /// As if all that was begun had succeeded.
    private func settle() async throws {
        try await api.database.write { tx in
            for operation in try Operations.runnable(in: tx) {
                if let volume = try Volumes.lock(operation.resourceID, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
                if let backup = try Backups.lock(operation.resourceID, in: tx) {
                    try Backups.made(backup, objectCount: 2, in: tx)
                    try Backups.forgetSnapshot(of: backup, in: tx)
                }
                try Operations.finish(operation, state: .done, error: nil, in: tx)
            }
        }
    }

    private func backup(of volume: String, _ members: JSONObject = [:]) async throws -> String {
        var body = members
        body["volume_id"] = .string(volume)
        let made = try await api.send("POST", "/backups", ["backup": .object(body)])
        #expect(made.status == 202, "\(made.text)")
        #expect(made.json["backup"]?.object?.names == ["id", "name", "links"])
        try await settle()
        return try #require(made.json["backup"]?["id"]?.string)
    }

    @Test("a backup is made, shown, changed and listed; what it shows comes with its microversions")
    func life() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume, ["name": " b ", "description": "d", "metadata": ["k": "v"]])
        let shown = try await api.send("GET", "/backups/\(id)").json["backup"]
        #expect(shown?["name"] == "b" && shown?["status"] == "available" && shown?["size"] == 1 && shown?["object_count"] == 2)
        #expect(shown?["is_incremental"] == false && shown?["has_dependent_backups"] == false && shown?["metadata"]?["k"] == "v")
        #expect(shown?["data_timestamp"] == shown?["created_at"] && shown?["volume_id"] == .string(volume))
        for (version, more) in [
            (17, []), (18, ["os-backup-project-attr:project_id"]), (43, ["os-backup-project-attr:project_id", "metadata"]),
            (56, ["os-backup-project-attr:project_id", "metadata", "user_id"]),
        ] {
            let names = try #require(try await api.send("GET", "/backups/\(id)", version: version).json["backup"]?.object?.names)
            #expect(names.count == 17 + more.count && Set(more).isSubset(of: names), "3.\(version): \(names)")
        }
        #expect(try await api.send("PUT", "/backups/\(id)", version: 8, ["backup": ["name": "c"]]).status == 404)
        #expect(try await api.send("PUT", "/backups/\(id)", version: 42, ["backup": ["metadata": [:]]]).status == 400)
        let changed = try await api.send("PUT", "/backups/\(id)", ["backup": ["name": "c", "metadata": ["x": "y"]]])
        #expect(changed.status == 200 && changed.json["backup"]?["name"] == "c")
        let after = try await api.send("GET", "/backups/\(id)").json["backup"]
        #expect(after?["description"] == "d" && after?["metadata"] == ["x": "y"])
        let listed = try await api.send("GET", "/backups?with_count=true&limit=1&name=c")
        #expect(listed.json["count"] == 1 && listed.json["backups"]?.array?.count == 1 && listed.json["backups_links"] != nil)
        #expect(try await api.send("GET", "/backups/detail?volume_id=\(volume)&sort=name:asc").json["backups"]?.array?.count == 1)
        #expect(try await api.send("GET", "/backups?status=error").json["backups"] == [])
    }

    @Test("a chain: what others rest on says so, and is not deleted")
    func chain() async throws {
        let volume = try await volume()
        let first = try await backup(of: volume)
        let second = try await backup(of: volume, ["incremental": "True"])
        #expect(try await api.send("GET", "/backups/\(first)").json["backup"]?["has_dependent_backups"] == true)
        #expect(try await api.send("GET", "/backups/\(second)").json["backup"]?["is_incremental"] == true)
        let refused = try await api.send("DELETE", "/backups/\(first)")
        #expect(refused.status == 400 && refused.text.contains("Invalid backup: Incremental backups exist for this backup."))
        #expect(try await api.send("DELETE", "/backups/\(second)").status == 202)
        #expect(try await api.send("GET", "/backups/\(second)").json["backup"]?["status"] == "deleting")
    }

    @Test("a restoration makes a volume, or takes one; a volume is made of a backup since 3.47")
    func restorations() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume)
        let made = try await api.send("POST", "/backups/\(id)/restore", ["restore": ["name": "again"]])
        #expect(made.status == 202 && made.json["restore"]?["volume_name"] == "again" && made.json["restore"]?["backup_id"] == .string(id))
        let restored = try #require(made.json["restore"]?["volume_id"]?.string)
        #expect(
            try await api.send("GET", "/volumes/\(restored)").json["volume"]?["description"] == "auto-created_from_restore_from_backup")
        #expect(try await api.send("GET", "/backups/\(id)").json["backup"]?["status"] == "restoring")
        let busy = try await api.send("POST", "/volumes", ["volume": ["backup_id": .string(id)]])
        #expect(busy.status == 400 && busy.text.contains("Originating backup status must be one of 'available' values"))
        try await settle()
        _ = try await api.send("POST", "/backups/\(id)/action", ["os-reset_status": ["status": "available"]])
        let small = try await api.send("POST", "/volumes", ["volume": ["size": 1, "backup_id": .string(id), "snapshot_id": .null]])
        #expect(small.status == 202, "\(small.text)")
    }

    @Test("states are set by administrators to two values; a record is exported and read back")
    func administration() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume, ["name": "kept"])
        let bad = try await api.send("POST", "/backups/\(id)/action", ["os-reset_status": ["status": "creating"]])
        #expect(bad.text.contains("Backup status: creating is invalid, valid statuses are: ['available', 'error']."))
        let record = try await api.send("GET", "/backups/\(id)/export_record")
        let url = try #require(record.json["backup-record"]?["backup_url"]?.string)
        let text = String(decoding: try #require(Base64.decode(url)), as: UTF8.self)
        #expect(try JSON(parsing: text)["display_name"] == "kept")
        let body: JSON = ["backup-record": ["backup_service": "s", "backup_url": .string(url)]]
        #expect(try await api.send("POST", "/backups/import_record", body).text.contains("Backup already exists in database."))
        #expect(try await api.send("POST", "/backups/\(id)/action", ["os-reset_status": ["status": "error"]]).status == 202)
        #expect(try await api.send("GET", "/backups/\(id)/export_record").text.contains("Backup status must be available and not error."))
        #expect(try await api.send("POST", "/backups/\(id)/action", ["os-force_delete": [:]]).status == 202)
        try await api.database.write { tx in
            for operation in try Operations.runnable(in: tx) { try Operations.finish(operation, state: .done, error: nil, in: tx) }
            if let backup = try Backups.lock(id, in: tx) { try Backups.remove(backup, in: tx) }
        }
        let imported = try await api.send("POST", "/backups/import_record", body)
        #expect(imported.status == 201 && imported.json["backup"]?["id"] == .string(id))
        // No store of this service is for that driver.
        let shown = try await api.send("GET", "/backups/\(id)").json["backup"]
        #expect(shown?["status"] == "error" && shown?["fail_reason"]?.string?.contains("cannot find backup service") == true)
    }

    @Test("a backup is verified once at a time, and two of a project")
    func verifications() async throws {
        let volume = try await volume()
        var ids: [String] = []
        for _ in 0..<3 { ids.append(try await backup(of: volume)) }
        func verify(_ id: String) async throws -> (status: Int, text: String) {
            let answer = try await api.send("POST", "/backups/\(id)/action", ["clinker:verify": [:]])
            return (answer.status, answer.text)
        }
        #expect(try await verify(ids[0]).status == 202)
        let again = try await verify(ids[0])
        #expect(again.status == 409 && again.text.contains("is being verified already"), "\(again)")
        #expect(try await verify(ids[1]).status == 202)
        let third = try await verify(ids[2])
        #expect(third.status == 409 && third.text.contains("2 backups of the project are being verified"), "\(third)")
        try await api.database.write { tx in
            for operation in try Operations.runnable(in: tx) { try Operations.finish(operation, state: .done, error: nil, in: tx) }
        }
        #expect(try await verify(ids[2]).status == 202)
    }

    @Test("without a backup service nothing is begun")
    func noService() async throws {
        let api = try await InMemoryAPI()
        let id = try #require(try await api.send("POST", "/volumes", ["volume": ["size": 1]]).json["volume"]?["id"]?.string)
        try await api.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
        }
        let answer = try await api.send("POST", "/backups", ["backup": ["volume_id": .string(id)]])
        #expect(answer.status == 503 && answer.text.contains("Service cinder-backup could not be found."))
        #expect(try await api.send("GET", "/backups").json["backups"] == [])
    }

    @Test(
        "base64 is read as Python reads it",
        arguments: [
            ("", ""), ("aGVsbG8=", "hello"), ("aGVs bG8=\n", "hello"), ("aGVsbG8=more", "hello"), ("aGVsbG8", nil), ("zz", nil), ("a", nil),
            ("=", ""), ("aGk=", "hi"), ("aA==", "h"), ("aA=", nil),
        ] as [(String, String?)])
    func base64(text: String, expected: String?) {
        #expect(Base64.decodeLeniently(text).map { String(decoding: $0, as: UTF8.self) } == expected)
        if let expected { #expect(Base64.decode(Base64.encode(Array(expected.utf8))) == Array(expected.utf8)) }
    }
}
