import Glibc
import JSON
import Primitives
import Testing

/// Snapshots: what they hold, what may be done with them when, and what they cost.
@Suite("Snapshots", .serialized)
struct SnapshotTests {
    static func snapshot(_ service: ServiceUnderTest, of volume: String, _ fields: JSONObject = [:]) throws -> String {
        var body: JSONObject = ["volume_id": .string(volume)]
        for member in fields.members { body[member.name] = member.value }
        let answer = try service.api("POST", "/snapshots", ["snapshot": .object(body)])
        guard answer.status == 202, let id = answer.json["snapshot"]?["id"]?.string else {
            throw ServiceUnderTest.Failure("snapshot: \(answer.status) \(answer.text)")
        }
        return id
    }

    @discardableResult
    static func wait(_ service: ServiceUnderTest, _ id: String, _ status: String?) throws -> JSON? {
        let limit = Timestamp.monotonic() + 20
        var seen = ""
        while Timestamp.monotonic() < limit {
            if let answer = try? service.api("GET", "/snapshots/\(id)") {
                let snapshot = answer.status == 200 ? answer.json["snapshot"] : nil
                seen = snapshot?["status"]?.string ?? "\(answer.status)"
                if snapshot?["status"]?.string == status { return snapshot }
            }
            usleep(10_000)
        }
        throw ServiceUnderTest.Failure("snapshot \(id) is \(seen), not \(status ?? "gone")\n\(service.log.suffix(2000))")
    }

    private func volume(_ service: ServiceUnderTest, _ data: String) throws -> String {
        let id = try service.create()
        try service.wait(id, "available")
        try write(service, id, data)
        return id
    }
    private func write(_ service: ServiceUnderTest, _ id: String, _ data: String) throws {
        try ServiceUnderTest.write(service.state + "/volumes/file/volume-" + id, data, keepingSize: true)
    }
    private func read(_ service: ServiceUnderTest, _ id: String, _ count: Int) throws -> String {
        try ServiceUnderTest.read(service.state + "/volumes/file/volume-" + id, atMost: count)
    }
    private func action(_ service: ServiceUnderTest, _ path: String, _ name: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
        try service.api("POST", path + "/action", .object(JSONObject([(name: name, value: body)])))
    }

    @Test("a snapshot keeps its volume's content: volumes are made from it, and the volume goes back to it")
    func content() async throws {
        let service = try ServiceUnderTest()
        let id = try volume(service, "before")
        let snapshot = try Self.snapshot(service, of: id, ["name": "s1", "metadata": ["a": "b"]])
        let made = try Self.wait(service, snapshot, "available")
        #expect(made?["os-extended-snapshot-attributes:progress"] == "100%" && made?["size"] == 1 && made?["metadata"] == ["a": "b"])
        try write(service, id, "after!")
        let copy = try service.create(["snapshot_id": .string(snapshot), "size": 2])
        #expect(try service.wait(copy, "available")?["snapshot_id"]?.string == snapshot)
        #expect(try read(service, copy, 6) == "before" && read(service, id, 6) == "after!")
        #expect(try action(service, "/volumes/\(id)", "revert", ["snapshot_id": .string(snapshot)]).status == 202)
        try service.wait(id, "available")
        try Self.wait(service, snapshot, "available")
        #expect(try read(service, id, 6) == "before")
        // What was made from it does not need it.
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try Self.wait(service, snapshot, nil)
        #expect(try read(service, copy, 6) == "before")
        try await DoctorTests.expectNothing(service)
    }

    @Test("snapshots are charged, and their volume can be deleted only with them")
    func cascade() async throws {
        let service = try ServiceUnderTest(options: "quota_snapshots = 2\nquota_gigabytes = 5")
        let id = try volume(service, "x")
        let snapshots = try (0..<2).map { _ in try Self.snapshot(service, of: id) }
        for snapshot in snapshots { try Self.wait(service, snapshot, "available") }
        #expect(try service.usage("snapshots") == 2 && service.usage("gigabytes") == 3 && service.usage("volumes") == 1)
        let over = try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(id)]])
        #expect(over.status == 413 && over.message == "SnapshotLimitExceeded: Maximum number of snapshots allowed (2) exceeded")
        for path in ["/volumes/\(id)", "/volumes/\(id)?cascade=false"] {
            let refused = try service.api("DELETE", path)
            #expect(refused.status == 400 && refused.message?.contains("have snapshots") == true)
        }
        #expect(try service.api("DELETE", "/volumes/\(id)?cascade=true").status == 202)
        try service.wait(id, nil)
        for snapshot in snapshots { #expect(try service.api("GET", "/snapshots/\(snapshot)").status == 404) }
        #expect(try service.usage("snapshots") == 0 && service.usage("gigabytes") == 0)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
        try await DoctorTests.expectNothing(service)
    }

    @Test("the gigabytes of a snapshot are charged like a volume's, unless the operator says not")
    func gigabytes() throws {
        let strict = try ServiceUnderTest(options: "quota_gigabytes = 1")
        let full = try strict.create()
        try strict.wait(full, "available")
        #expect(
            try strict.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(full)]]).message
                == "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is 1G and 1G has been consumed."
        )
        let mild = try ServiceUnderTest(options: "quota_gigabytes = 1\nno_snapshot_gb_quota = True")
        let id = try mild.create()
        try mild.wait(id, "available")
        let snapshot = try Self.snapshot(mild, of: id)
        try Self.wait(mild, snapshot, "available")
        #expect(try mild.usage("gigabytes") == 1 && mild.usage("snapshots") == 1)
        #expect(try mild.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try Self.wait(mild, snapshot, nil)
        #expect(try mild.usage("gigabytes") == 1 && mild.usage("snapshots") == 0)
    }

    @Test("volumes in use: with force before 3.66, always since")
    func inUse() throws {
        let service = try ServiceUnderTest()
        let id = try volume(service, "x")
        let attachment = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
        _ = try service.api("POST", "/attachments/\(attachment.json["attachment"]?["id"]?.string ?? "")/action", ["os-complete": [:]])
        func make(_ version: String, _ fields: JSONObject = [:]) throws -> ServiceUnderTest.Answer {
            var body: JSONObject = ["volume_id": .string(id)]
            for member in fields.members { body[member.name] = member.value }
            return try service.api("POST", "/snapshots", version: version, ["snapshot": .object(body)])
        }
        #expect(try make("3.51").message == "Invalid volume: Volume \(id) status must be available, but current status is: in-use.")
        #expect(try make("3.51", ["force": true]).status == 202)
        #expect(try make("3.66").status == 202)
        #expect(try make("3.66", ["force": true]).status == 202)
        #expect(
            try make("3.66", ["force": false]).message?.hasPrefix("Since microversion 3.66 the 'force' flag is invalid for this request.")
                == true)
        let limit = Timestamp.monotonic() + 20
        while try service.api("GET", "/snapshots?status=available").json["snapshots"]?.array?.count != 3, Timestamp.monotonic() < limit {
            usleep(10_000)
        }
        #expect(try service.volume(id)?["status"] == "in-use")
    }

    @Test("what cannot be is refused in Cinder's words")
    func refusals() throws {
        let service = try ServiceUnderTest()
        let id = try volume(service, "x")
        let none = "11111111-2222-3333-4444-555555555555"
        #expect(
            try action(service, "/volumes/\(id)", "revert", ["snapshot_id": .string(none)]).message
                == "Volume \(id) doesn't have any snapshots.")
        let old = try Self.snapshot(service, of: id)
        try Self.wait(service, old, "available")
        let new = try Self.snapshot(service, of: id)
        try Self.wait(service, new, "available")
        #expect(try action(service, "/volumes/\(id)", "revert", ["snapshot_id": .string(old)]).status == 400)
        #expect(try service.api("GET", "/snapshots/\(none)").message == "Snapshot \(none) could not be found.")
        #expect(try service.api("DELETE", "/snapshots/\(none)").status == 404)
        #expect(
            try service.api("POST", "/volumes", ["volume": ["snapshot_id": .string(none)]]).message
                == "Snapshot \(none) could not be found.")
        let path = "/snapshots/\(new)"
        #expect(
            try action(service, path, "os-reset_status", ["status": "x"]).message
                == "Snapshot status: x is invalid, valid statuses are: ('error', 'available', 'creating', 'deleting', 'deleted', 'updating', 'error_deleting', 'unmanaging', 'backing-up', 'restoring')."
        )
        #expect(
            try action(service, path, "os-update_snapshot_status", ["status": "creating"]).message
                == "Snapshot status available not allowed for update_snapshot_status")
        #expect(try action(service, path, "os-reset_status", ["status": "creating"]).status == 202)
        #expect(try action(service, path, "os-update_snapshot_status", ["status": "creating", "progress": "x"]).status == 400)
        #expect(try action(service, path, "os-update_snapshot_status", ["status": "creating", "progress": "40%"]).status == 202)
        #expect(try service.api("GET", path).json["snapshot"]?["os-extended-snapshot-attributes:progress"] == "40%")
        #expect(try service.api("DELETE", path).status == 400)
        #expect(
            try service.api("POST", "/volumes", ["volume": ["snapshot_id": .string(new)]]).message
                == "Invalid snapshot: Originating snapshot status must be one of 'available' values")
        #expect(try service.api("DELETE", "/volumes/\(id)?cascade=true").status == 400)
        #expect(try service.volume(id)?["status"] == "available" && Self.wait(service, old, "available") != nil)
        #expect(try action(service, path, "os-force_delete", [:]).status == 202)
        try Self.wait(service, new, nil)
        let larger = try action(service, "/volumes/\(id)", "os-extend", ["new_size": 2])
        #expect(larger.status == 202)
        try service.wait(id, "available")
        #expect(
            try action(service, "/volumes/\(id)", "revert", ["snapshot_id": .string(old)]).message?.contains("size must be equal") == true)
        let small = try service.api(
            "POST", "/volumes",
            [
                "volume": [
                    "snapshot_id": .string(
                        try {
                            let s = try Self.snapshot(service, of: id); try Self.wait(service, s, "available"); return s
                        }()), "size": 1,
                ]
            ])
        #expect(
            small.message
                == "Invalid input received: Volume size '1'GB cannot be smaller than the snapshot size 2GB. They must be >= original snapshot size."
        )
    }

    @Test("lists: pages, order, filters, counts, and fields by microversion")
    func lists() throws {
        let service = try ServiceUnderTest()
        let id = try volume(service, "x")
        var ids: [String] = []
        for index in 0..<5 {
            ids.append(try Self.snapshot(service, of: id, ["name": .string("s\(index)"), "metadata": ["n": .string("\(index % 2)")]]))
            try Self.wait(service, ids[index], "available")
        }
        func list(_ query: String, version: String = "3.71") throws -> [String] {
            try service.api("GET", "/snapshots" + query, version: version).json["snapshots"]?.array?.compactMap { $0["id"]?.string } ?? []
        }
        #expect(try list("") == ids.reversed())
        #expect(try list("?sort=name:asc&limit=2") == Array(ids[..<2]))
        #expect(try list("?limit=2&marker=\(ids[3])") == [ids[2], ids[1]])
        #expect(
            try list("?name=s3") == [ids[3]] && list("?name~=s") == ids.reversed() && list("?volume_id=\(id)&offset=3") == [ids[1], ids[0]])
        #expect(try list("?metadata=%7B'n':'1'%7D") == [ids[3], ids[1]] && list("?status=error") == [] && list("?nosuch=1") == [])
        #expect(try list("?availability_zone=nova").count == 5 && list("?availability_zone=mars") == [])
        let counted = try service.api("GET", "/snapshots?with_count=true&limit=1").json
        #expect(counted["count"] == 5 && counted["snapshots_links"]?.array?.first?["href"]?.string?.contains("marker=\(ids[4])") == true)
        #expect(
            try service.api("GET", "/snapshots?marker=nothing").status == 404 && service.api("GET", "/snapshots?sort=foo:asc").status == 400
        )
        func names(_ version: String, _ path: String, _ key: String) throws -> Set<String> {
            let json = try service.api("GET", path, version: version).json[key]
            return Set((json?.array?.first ?? json)?.object?.names ?? [])
        }
        let summary: Set<String> = ["id", "created_at", "updated_at", "name", "description", "volume_id", "status", "size", "metadata"]
        let attributes: Set<String> = ["os-extended-snapshot-attributes:project_id", "os-extended-snapshot-attributes:progress"]
        #expect(try names("3.71", "/snapshots", "snapshots") == summary)
        #expect(try names("3.0", "/snapshots/\(ids[0])", "snapshot") == summary.union(attributes))
        #expect(try names("3.14", "/snapshots/\(ids[0])", "snapshot") == summary.union(attributes).union(["group_snapshot_id"]))
        #expect(
            try names("3.71", "/snapshots/detail", "snapshots")
                == summary.union(attributes).union(["group_snapshot_id", "user_id", "consumes_quota"]))
        #expect(
            try service.api("PUT", "/snapshots/\(ids[0])", ["snapshot": ["name": "new", "description": "d"]]).json["snapshot"]?["name"]
                == "new")
        let metadata = "/snapshots/\(ids[0])/metadata"
        #expect(try service.api("POST", metadata, ["metadata": ["a": "b"]]).json["metadata"] == ["n": "0", "a": "b"])
        #expect(try service.api("PUT", metadata + "/a", ["meta": ["a": "c"]]).json == ["meta": ["a": "c"]])
        #expect(try service.api("PUT", metadata + "/a", ["meta": ["x": "c"]]).status == 400)
        #expect(try service.api("PUT", metadata, ["metadata": ["only": "1"]]).json["metadata"] == ["only": "1"])
        #expect(try service.api("GET", metadata + "/only").json == ["meta": ["only": "1"]])
        #expect(try service.api("DELETE", metadata + "/only").status == 200 && service.api("DELETE", metadata + "/only").status == 404)
    }

    @Test("a snapshot that the storage says is in use stays available, and its owner is told why")
    func busy() throws {
        let backend = try FaultyBackend()
        let service = try backend.service()
        let id = try service.create()
        try service.wait(id, "available")
        let snapshot = try Self.snapshot(service, of: id)
        try Self.wait(service, snapshot, "available")
        try backend.set("delete_snapshot 3 1\n")
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        let limit = Timestamp.monotonic() + 60
        var messages: [JSON] = []
        while messages.isEmpty, Timestamp.monotonic() < limit {
            messages = try service.api("GET", "/messages?resource_uuid=\(snapshot)").json["messages"]?.array ?? []
        }
        #expect(messages.first?["event_id"] == "VOLUME_VOLUME_SNAPSHOT_010_015" && messages.first?["resource_type"] == "VOLUME_SNAPSHOT")
        try Self.wait(service, snapshot, "available")
        #expect(try service.api("DELETE", "/snapshots/\(snapshot)").status == 202)
        try Self.wait(service, snapshot, nil)
    }
}
