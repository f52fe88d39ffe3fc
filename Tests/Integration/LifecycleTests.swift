import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Volumes from their creation to their end, over the wire, on the embedded default.
@Suite("Life of a volume")
struct LifecycleTests {
    static let connector: JSON = [
        "ip": "127.0.0.1", "host": "peer", "initiator": "iqn.1993-08.org.debian:01:abc", "os_type": "linux2", "platform": "x86_64",
        "multipath": false, "mountpoint": "/dev/vdb", "mode": "rw",
    ]

    private func action(_ service: ServiceUnderTest, _ id: String, _ name: String, _ body: JSON = [:], version: String = "3.71") throws
        -> ServiceUnderTest.Answer
    {
        try service.api("POST", "/volumes/\(id)/action", version: version, .object(JSONObject([(name: name, value: body)])))
    }

    /// Writes at the start of the volume's file, through the path that a connection returns.
    private func write(_ path: String, _ text: String) {
        let descriptor = open(path, O_WRONLY)
        #expect(descriptor >= 0)
        _ = Array(text.utf8).withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 4096) }
        fsync(descriptor)
        close(descriptor)
    }

    private func read(_ path: String, _ count: Int) -> String {
        let descriptor = open(path, O_RDONLY)
        var bytes = [UInt8](repeating: 0, count: count)
        _ = pread(descriptor, &bytes, count, 4096)
        close(descriptor)
        return String(decoding: bytes, as: UTF8.self)
    }

    private func path(_ service: ServiceUnderTest, _ id: String) throws -> String {
        let answer = try action(service, id, "os-initialize_connection", ["connector": Self.connector])
        #expect(answer.status == 200, "\(answer.text)")
        return answer.json["connection_info"]?["data"]?["device_path"]?.string ?? ""
    }

    @Test("create, fill, clone, extend, read back, delete; quota and directory end as they began")
    func life() throws {
        let service = try ServiceUnderTest()
        let one = try service.create(["name": "one", "metadata": ["k": "v"]])
        let shown = try #require(try service.wait(one, "available"))
        #expect(shown["os-vol-host-attr:host"] == "node@file#files" && shown["metadata"] == ["k": "v"] && shown["shared_targets"] == false)
        #expect(shown["volume_type"] == "__DEFAULT__" && shown["bootable"] == "false" && shown["service_uuid"]?.string != nil)
        let device = try path(service, one)
        write(device, "data of one")
        let two = try service.create(["name": "two", "source_volid": .string(one), "size": 2])
        try service.wait(two, "available")
        #expect(try action(service, two, "os-extend", ["new_size": 3]).status == 202)
        #expect(try service.wait(two, "available")?["size"] == 3)
        let copy = try path(service, two)
        #expect(read(copy, 11) == "data of one")
        write(copy, "data of two")
        #expect(read(device, 11) == "data of one")
        #expect(try service.usage("volumes") == 2 && service.usage("gigabytes") == 4)
        for id in [one, two] { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
        for id in [one, two] { try service.wait(id, nil) }
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
        #expect(service.stop() == 0)
    }

    @Test("attach and detach by attachments, the newer style")
    func attachments() throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let instance = "11111111-2222-3333-4444-555555555555"
        let reserved = try service.api(
            "POST", "/attachments", version: "3.27", ["attachment": ["instance_uuid": .string(instance), "volume_uuid": .string(id)]])
        #expect(
            reserved.status == 200 && reserved.json["attachment"]?["status"] == "reserved"
                && reserved.json["attachment"]?["attach_mode"] == "null")
        #expect(try service.volume(id)?["status"] == "reserved")
        let attachment = try #require(reserved.json["attachment"]?["id"]?.string)
        let second = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(id)]])
        #expect(second.status == 400)
        #expect(
            second.message
                == "Invalid volume: Volume \(id) status must be available or downloading to reserve, but the current status is reserved.")
        let updated = try service.api("PUT", "/attachments/\(attachment)", version: "3.54", ["attachment": ["connector": Self.connector]])
        #expect(updated.status == 200, "\(updated.text)")
        let info = try #require(updated.json["attachment"]?["connection_info"])
        #expect(info["driver_volume_type"] == "local" && info["attachment_id"] == .string(attachment) && info["access_mode"] == "rw")
        #expect(info["enforce_multipath"] == false && info["encrypted"] == false && info["qos_specs"] == .null)
        #expect(try service.volume(id)?["status"] == "attaching")
        #expect(try service.api("POST", "/attachments/\(attachment)/action", version: "3.44", ["os-complete": [:]]).status == 204)
        let shown = try #require(try service.volume(id))
        #expect(shown["status"] == "in-use" && shown["attachments"]?.array?.first?["server_id"] == .string(instance))
        #expect(shown["attachments"]?.array?.first?["device"] == "/dev/vdb" && shown["attachments"]?.array?.first?["host_name"] == "peer")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 400)
        #expect(try service.api("GET", "/attachments?volume_id=\(id)").json["attachments"]?.array?.count == 1)
        #expect(try action(service, id, "os-extend", ["new_size": 2], version: "3.41").status == 400)
        #expect(try action(service, id, "os-extend", ["new_size": 2], version: "3.42").status == 202)
        #expect(try service.wait(id, "in-use")?["size"] == 2)
        #expect(try service.api("DELETE", "/attachments/\(attachment)").json == ["attachments": []])
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try service.api("GET", "/attachments/\(attachment)").status == 404)
    }

    @Test("attach and detach by actions, the older style")
    func actions() throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        #expect(try action(service, id, "os-reserve").status == 202)
        let again = try action(service, id, "os-reserve")
        #expect(again.message == "Invalid volume: Volume status must be available to reserve, but the status is attaching.")
        #expect(
            try action(service, id, "os-extend", ["new_size": 5]).message
                == "Invalid volume: Volume \(id) status must be '{'status': 'available'}' to extend, currently attaching.")
        #expect(try action(service, id, "os-unreserve").status == 202)
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try action(service, id, "os-reserve").status == 202)
        _ = try path(service, id)
        let attach: JSON = ["instance_uuid": "11111111-2222-3333-4444-555555555555", "mountpoint": "/dev/vdb", "mode": "rw"]
        #expect(try action(service, id, "os-attach", attach).status == 202)
        let shown = try #require(try service.volume(id))
        #expect(shown["status"] == "in-use" && shown["metadata"] == ["readonly": "False", "attached_mode": "rw"])
        #expect(try action(service, id, "os-begin_detaching").status == 202)
        #expect(try service.volume(id)?["status"] == "detaching")
        #expect(try action(service, id, "os-roll_detaching").status == 202)
        #expect(try service.volume(id)?["status"] == "in-use")
        #expect(try action(service, id, "os-detach").status == 202)
        #expect(try action(service, id, "os-terminate_connection", ["connector": Self.connector]).status == 202)
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try action(service, id, "os-attach", attach).status == 202)
        #expect(try action(service, id, "os-force_detach", [:]).status == 202)
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try action(service, id, "os-update_readonly_flag", ["readonly": "yes"]).status == 202)
        #expect(try action(service, id, "os-attach", attach).message == "Invalid attaching mode 'rw' for volume \(id).")
    }

    @Test("lists: order, pages, filters, count, and links that lead on")
    func lists() throws {
        let service = try ServiceUnderTest()
        var ids: [String] = []
        for index in 0..<5 { ids.append(try service.create(["name": .string("v\(index % 2)"), "metadata": ["i": .string("\(index)")]])) }
        for id in ids { try service.wait(id, "available") }
        func names(_ query: String, version: String = "3.71") throws -> [String] {
            try service.api("GET", "/volumes\(query)", version: version).json["volumes"]?.array?.compactMap { $0["id"]?.string } ?? []
        }
        #expect(try names("") == ids.reversed())
        #expect(try names("?sort=created_at:asc") == ids)
        #expect(try names("?limit=2&offset=1") == [ids[3], ids[2]])
        #expect(try names("?name=v1") == [ids[3], ids[1]])
        #expect(try names("?name~=v&status=available&size=1").count == 5)
        #expect(try names("?metadata=%7B'i':'3'%7D") == [ids[3]])
        #expect(try names("?created_at=gt:2020-01-01T00:00:00,lt:2999-01-01T00:00:00").count == 5)
        #expect(try names("?host=node@file").count == 5 && names("?host=nod").isEmpty)
        #expect(try names("?bootable=true").isEmpty)
        #expect(try service.api("GET", "/volumes?bootable=maybe").status == 400)
        #expect(try service.api("GET", "/volumes?created_at=when:now").status == 400)
        var next: String? = "/v3/\(ServiceUnderTest.project)/volumes/detail?limit=2&with_count=true"
        var seen: [String] = []
        var pages = 0
        while let url = next {
            let answer = try service.request("GET", url)
            #expect(answer.json["count"] == 5)
            seen += answer.json["volumes"]?.array?.compactMap { $0["id"]?.string } ?? []
            next = answer.json["volumes_links"]?.array?.first?["href"]?.string.map {
                String($0.drop { $0 != ":" }.dropFirst(3).drop { $0 != "/" })
            }
            pages += 1
        }
        #expect(seen == ids.reversed() && pages == 3)
        let summary = try service.api("GET", "/volumes/summary").json["volume-summary"]
        #expect(summary?["total_count"] == 5 && summary?["metadata"]?["i"]?.array?.count == 5)
    }

    @Test("metadata changes are guarded by entity tags since 3.15")
    func entityTags() throws {
        let service = try ServiceUnderTest()
        let id = try service.create(["metadata": ["k": "v"]])
        try service.wait(id, "available")
        let tag = try #require(try service.api("GET", "/volumes/\(id)/metadata").header("Etag"))
        let path = "/v3/\(ServiceUnderTest.project)/volumes/\(id)/metadata"
        #expect(try service.request("PUT", path, headers: [("If-Match", "wrong")], body: "{\"metadata\":{\"a\":\"b\"}}").status == 412)
        #expect(
            try service.request("PUT", path, headers: [("If-Match", tag)], body: "{\"metadata\":{\"a\":\"b\"}}").json == [
                "metadata": ["a": "b"]
            ])
        #expect(try service.request("PUT", path, headers: [("If-Match", tag)], body: "{\"metadata\":{\"a\":\"c\"}}").status == 412)
        #expect(
            try service.request("PUT", path, version: "3.14", headers: [("If-Match", tag)], body: "{\"metadata\":{\"a\":\"c\"}}").status
                == 200)
    }

    @Test("quotas: limits, the refusals' words, and the way back to the defaults")
    func quotas() throws {
        let service = try ServiceUnderTest()
        let set = "/os-quota-sets/\(ServiceUnderTest.project)"
        #expect(try service.api("PUT", set, ["quota_set": ["volumes": 1, "gigabytes": 2]]).json["quota_set"]?["volumes"] == 1)
        let id = try service.create()
        let volumes = try service.api("POST", "/volumes", ["volume": ["size": 1]])
        #expect(volumes.status == 413 && volumes.header("Retry-After") == "0" && volumes.json["overLimit"]?["retryAfter"] == "0")
        #expect(volumes.message == "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.")
        try service.wait(id, "available")
        #expect(
            try action(service, id, "os-extend", ["new_size": 9]).message
                == "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 8G, quota is 2G and 1G has been consumed."
        )
        #expect(try service.volume(id)?["status"] == "available")
        #expect(try service.api("GET", "/limits").json["limits"]?["absolute"]?["totalVolumesUsed"] == 1)
        #expect(try service.api("DELETE", set).status == 200)
        #expect(try service.api("GET", set).json["quota_set"]?["volumes"] == 10)
    }

    @Test("a volume that fits nowhere ends in error, is charged, and can be deleted")
    func noValidBackend() throws {
        let service = try ServiceUnderTest(options: "quota_gigabytes = -1\nmessage_ttl = 600")
        let id = try service.create(["size": 9_000_000])
        let shown = try service.wait(id, "error")
        #expect(shown?["os-vol-host-attr:host"] == .null)
        #expect(try service.usage("volumes") == 1)
        #expect(service.log.contains("No valid backend was found"))
        let messages = try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array ?? []
        #expect(messages.count == 1 && messages.first?["event_id"] == "VOLUME_VOLUME_001_003")
        #expect(messages.first?["user_message"] == "schedule allocate volume:Could not find any available weighted backend.")
        let times = try ["created_at", "guaranteed_until"].map {
            try #require(messages.first?[$0]?.string.flatMap { Timestamp.parse($0) })
        }
        #expect((599...601).contains(times[1] - times[0]))
        let message = messages.first?["id"]?.string ?? ""
        #expect(try service.api("GET", "/messages", version: "3.2").status == 404)
        #expect(try service.api("GET", "/messages/\(message)").json["message"]?["resource_uuid"] == .string(id))
        #expect(try service.api("DELETE", "/messages/\(message)").status == 204)
        #expect(try service.api("GET", "/messages/\(message)").message == "Message \(message) could not be found.")
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0)
    }

    @Test("services, zones, pools and extensions are what they are")
    func discovery() throws {
        let service = try ServiceUnderTest()
        try service.wait(try service.create(), "available")
        let services = try service.api("GET", "/os-services").json["services"]?.array ?? []
        #expect(services.map { $0["binary"]?.string } == ["cinder-scheduler", "cinder-volume"])
        #expect(services.allSatisfy { $0["state"] == "up" && $0["status"] == "enabled" })
        #expect(
            try service.api("GET", "/os-availability-zone").json == [
                "availabilityZoneInfo": [["zoneName": "nova", "zoneState": ["available": true]]]
            ])
        let pool = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array?.first
        #expect(pool?["name"] == "node@file#files" && pool?["capabilities"]?["allocated_capacity_gb"] == 1)
        let aliases = try service.api("GET", "/extensions").json["extensions"]?.array?.compactMap { $0["alias"]?.string } ?? []
        #expect(
            Set(aliases).isSuperset(of: [
                "os-vol-host-attr", "os-vol-tenant-attr", "os-vol-mig-status-attr", "OS-SCH-HNT", "os-admin-actions",
            ]))
        for path in ["/v3/", "/v3/\(ServiceUnderTest.project)", "/v3/\(ServiceUnderTest.project)/"] {
            #expect(try service.request("GET", path, version: nil).json["versions"]?.array?.count == 1, "\(path)")
        }
    }

    @Test("a create that fails on one backend leaves nothing there and is made on another")
    func rescheduled() throws {
        let directory = temporaryDirectory("bad") + "/volumes"
        let service = try ServiceUnderTest(
            backends: "bad, good",
            sections: """
                [bad]
                volume_driver = \(CrashTests.plugin)
                directory = \(directory)
                max_over_subscription_ratio = 1000
                [good]
                volume_driver = file
                """)
        var pools = 0
        while pools < 2 { pools = try service.api("GET", "/scheduler-stats/get_pools").json["pools"]?.array?.count ?? 0 }
        // The backend that has most room loses its directory.
        #expect(rmdir(directory) == 0)
        let id = try service.create()
        #expect(try service.wait(id, "available")?["os-vol-host-attr:host"] == "node@good#files")
        let capabilities = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array?.compactMap {
            $0["capabilities"]?["allocated_capacity_gb"]?.integer
        }
        #expect(capabilities == [0, 1])
        #expect(try service.usage("volumes") == 1)
        #expect(service.log.contains("step failed") && service.log.contains("step=make"))
    }

    @Test("a clone lies on its source's backend, and a type on the backend it names")
    func placement() throws {
        let service = try ServiceUnderTest(
            backends: "a, b",
            sections: "[a]\nvolume_driver = file\nvolume_backend_name = alpha\n[b]\nvolume_driver = file\nvolume_backend_name = beta\n")
        for name in ["alpha", "beta"] {
            _ = try service.api(
                "POST", "/types", ["volume_type": ["name": .string(name), "extra_specs": ["volume_backend_name": .string(name)]]])
        }
        let source = try service.create(["volume_type": "beta"])
        #expect(try service.wait(source, "available")?["os-vol-host-attr:host"] == "node@b#files")
        let clone = try service.create(["source_volid": .string(source)])
        let shown = try service.wait(clone, "available")
        #expect(shown?["os-vol-host-attr:host"] == "node@b#files" && shown?["volume_type"] == "beta")
        let other = try service.api("POST", "/volumes", ["volume": ["source_volid": .string(source), "volume_type": "alpha"]])
        #expect(other.status == 400 && other.message?.contains("not compatible; either match source volume") == true)
    }
}
