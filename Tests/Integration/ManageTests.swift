import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Taking over what lies in a backend, under both paths, and leaving it there again.
@Suite("Manage and unmanage", .serialized)
struct ManageTests {
    private func file(_ service: ServiceUnderTest, _ name: String, bytes: Int, _ text: String) throws {
        let path = service.state + "/volumes/file/" + name
        try ServiceUnderTest.write(path, text)
        guard truncate(path, off_t(bytes)) == 0 else { throw ServiceUnderTest.Failure("cannot size \(path)") }
    }

    private func listed(_ service: ServiceUnderTest, _ path: String, _ key: String = "manageable-volumes") throws -> [JSON] {
        let answer = try service.api("GET", path)
        #expect(answer.status == 200, "\(path): \(answer.text)")
        return answer.json[key]?.array ?? []
    }

    @Test(
        "a file becomes a volume with its bytes, is charged for its size, and is left behind whole",
        arguments: ["/manageable_volumes", "/os-volume-manage"])
    func volume(path: String) async throws {
        let service = try ServiceUnderTest()
        let other = try service.create()
        try service.wait(other, "available")
        try file(service, "legacy.img", bytes: (2 << 30) - 4096, "old data")
        let list = try listed(service, path + "/detail?host=node@file%23files")
        #expect(list.count == 2)
        let own = list.first { $0["reference"]?["source-name"]?.string == "volume-" + other }
        #expect(own?["safe_to_manage"] == false && own?["reason_not_safe"] == "already managed" && own?["cinder_id"]?.string == other)
        let legacy = list.first { $0["reference"]?["source-name"] == "legacy.img" }
        #expect(legacy?["safe_to_manage"] == true && legacy?["size"] == 2 && legacy?["cinder_id"] == .null)
        let answer = try service.api(
            "POST", path,
            [
                "volume": [
                    "host": "node@file#files", "ref": ["source-name": "legacy.img"], "name": "taken over", "bootable": true,
                    "metadata": ["from": "before"],
                ]
            ])
        #expect(answer.status == 202 && answer.json["volume"]?["status"] == "creating" && answer.json["volume"]?["size"] == 0)
        let id = answer.json["volume"]?["id"]?.string ?? ""
        let volume = try service.wait(id, "available")
        #expect(volume?["size"] == 2 && volume?["name"] == "taken over" && volume?["bootable"] == "true")
        #expect(volume?["os-vol-host-attr:host"] == "node@file#files" && volume?["metadata"]?["from"] == "before")
        #expect(try service.usage("volumes") == 2 && service.usage("gigabytes") == 3)
        #expect(try ServiceUnderTest.read(service.state + "/volumes/file/volume-" + id, atMost: 8) == "old data")
        try await DoctorTests.expectNothing(service)
        #expect(try service.api("POST", "/volumes/\(id)/action", ["os-unmanage": [:]]).status == 202)
        try service.wait(id, nil)
        #expect(try service.usage("volumes") == 1 && service.usage("gigabytes") == 1)
        #expect(try ServiceUnderTest.read(service.state + "/volumes/file/volume-" + id, atMost: 8) == "old data")
        #expect(try await DoctorTests.examine(service).findings.isEmpty, "what was left on purpose is no finding")
        // And taken over again.
        let again = try service.api("POST", path, ["volume": ["host": "node@file", "ref": ["source-name": .string("volume-" + id)]]])
        try service.wait(again.json["volume"]?["id"]?.string ?? "", "available")
    }

    @Test("what one backend's volumes and snapshots are made of is nobody's to take over through another that looks at the same storage")
    func sameStorage() throws {
        let directory = temporaryDirectory("shared", elseRemovesIt: true)
        let section = "volume_driver = file\nfile_directory = \(directory)\n"
        let service = try ServiceUnderTest(backends: "one,two", sections: "[one]\n\(section)[two]\n\(section)")
        let id = try service.create()
        let host = try service.wait(id, "available")?["os-vol-host-attr:host"]?.string ?? ""
        let other = host == "node@one#files" ? "node@two" : "node@one"
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        let own = "volume-" + id
        for (name, text) in [("legacy.img", "mine"), (own + ".partial-of-it", ""), ("second.img", "")] {
            try ServiceUnderTest.write(directory + "/" + name, text)
        }
        #expect(link(directory + "/" + own, directory + "/alias.img") == 0)
        for backend in [host, other] {
            let path = "/manageable_volumes/detail?host=" + backend.split(separator: "#").joined(separator: "%23")
            let list = try listed(service, path)
            func entry(_ name: String) -> JSON? { list.first { $0["reference"]?["source-name"]?.string == name } }
            for name in [own, own + ".partial-of-it"] {
                #expect(
                    entry(name)?["safe_to_manage"] == false && entry(name)?["reason_not_safe"] == "already managed", "\(backend): \(list)")
                #expect(entry(name)?["cinder_id"]?.string == id)
            }
            #expect(entry("alias.img")?["safe_to_manage"] == false, "\(backend): \(list)")
            #expect(entry("alias.img")?["reason_not_safe"]?.string?.contains("another name") == true)
            #expect(entry("legacy.img")?["safe_to_manage"] == true)
            let snapshots = try listed(service, "/manageable_snapshots/detail?host=" + backend.prefix { $0 != "#" }, "manageable-snapshots")
            #expect(snapshots.allSatisfy { $0["safe_to_manage"] == false && $0["cinder_id"]?.string == snapshot } && !snapshots.isEmpty)
        }
        func manage(_ name: String) throws -> ServiceUnderTest.Answer {
            try service.api("POST", "/manageable_volumes", ["volume": ["host": .string(other), "ref": ["source-name": .string(name)]]])
        }
        for name in [own, "snapshot-" + snapshot, "somewhere:/else/" + own, own + ".partial-of-it"] {
            let answer = try manage(name)
            #expect(answer.status == 400 && answer.message?.contains("already managed") == true, "\(name): \(answer.text)")
        }
        let alias = try manage("alias.img").json["volume"]?["id"]?.string ?? ""
        try service.wait(alias, "error")
        #expect(try service.api("DELETE", "/volumes/\(alias)").status == 202)
        try service.wait(alias, nil)
        #expect(Set(ServiceUnderTest.entries(directory)).isSuperset(of: [own, "snapshot-" + snapshot, "alias.img"]))
        let taken = try manage("legacy.img").json["volume"]?["id"]?.string ?? ""
        try service.wait(taken, "available")
        #expect(try service.api("DELETE", "/volumes/\(taken)").status == 202)
        try service.wait(taken, nil)
        #expect(try service.volume(id)?["status"] == "available")
    }

    @Test("a snapshot is left behind and taken over again")
    func snapshot() async throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        try ServiceUnderTest.write(service.state + "/volumes/file/volume-" + id, "before", keepingSize: true)
        let snapshot = try SnapshotTests.snapshot(service, of: id)
        try SnapshotTests.wait(service, snapshot, "available")
        try ServiceUnderTest.write(service.state + "/volumes/file/volume-" + id, "after!", keepingSize: true)
        #expect(try service.api("POST", "/snapshots/\(snapshot)/action", ["os-unmanage": [:]]).status == 202)
        try SnapshotTests.wait(service, snapshot, nil)
        #expect(try service.usage("snapshots") == 0 && service.usage("gigabytes") == 1)
        let list = try listed(service, "/manageable_snapshots/detail?host=node@file", "manageable-snapshots")
        #expect(list.count == 1 && list[0]["safe_to_manage"] == true)
        let answer = try service.api(
            "POST", "/manageable_snapshots",
            ["snapshot": ["volume_id": .string(id), "ref": list.first?["reference"] ?? .null, "name": "back"]])
        #expect(answer.status == 202 && answer.json["snapshot"]?["status"] == "creating")
        let back = answer.json["snapshot"]?["id"]?.string ?? ""
        #expect(try SnapshotTests.wait(service, back, "available")?["name"] == "back")
        #expect(try service.usage("snapshots") == 1 && service.usage("gigabytes") == 2)
        let copy = try service.create(["snapshot_id": .string(back)])
        try service.wait(copy, "available")
        #expect(try ServiceUnderTest.read(service.state + "/volumes/file/volume-" + copy, atMost: 6) == "before")
        try await DoctorTests.expectNothing(service)
    }

    @Test("lists come in pages and in order")
    func pages() throws {
        let service = try ServiceUnderTest()
        // The directory comes into being with the driver.
        try service.wait(try service.create(), "available")
        for (name, size) in [("a", 3), ("b", 1), ("c", 2)] { try file(service, name, bytes: size << 30, "") }
        func names(_ query: String) throws -> [String] {
            try listed(service, "/manageable_volumes?host=node@file&" + query).compactMap { $0["reference"]?["source-name"]?.string }
                .filter { $0.count == 1 }
        }
        #expect(try names("sort=reference:asc") == ["a", "b", "c"] && names("") == ["c", "b", "a"])
        #expect(try names("sort=size:asc") == ["b", "c", "a"])
        #expect(try names("sort=reference:asc&marker=a&limit=1") == ["b"] && names("sort=reference:asc&offset=1") == ["b", "c"])
        for query in ["sort=name", "limit=-1", "marker=zz", "nope=1"] {
            #expect(try service.api("GET", "/manageable_volumes?host=node@file&" + query).status == 400, "\(query)")
        }
    }

    @Test("what cannot be managed is refused with the reason, or ends as error_managing")
    func refusals() throws {
        let service = try ServiceUnderTest(options: "quota_gigabytes = 3")
        let own = try service.create()
        try service.wait(own, "available")
        func manage(_ volume: JSON) throws -> ServiceUnderTest.Answer { try service.api("POST", "/manageable_volumes", ["volume": volume]) }
        for (body, words) in [
            (["host": "nohost", "ref": ["source-name": "x"]], "Host 'nohost' not found"), (["ref": ["source-name": "x"]], "host"),
            (["host": "node@file", "cluster": "c", "ref": ["source-name": "x"]], "host"), (["host": "node@file"], "'ref'"),
            (["host": "node@file", "ref": "text"], "source-name"), (["host": "node@file", "ref": [:]], "source-name"),
            (["host": "node@file", "ref": ["source-name": .string("volume-" + own)]], "already managed"),
            (["host": "no de", "ref": ["source-name": "x"]], "host"),
        ] as [(JSON, String)] {
            let answer = try manage(body)
            #expect(answer.status == 400 && answer.message?.contains(words) == true, "\(body.text): \(answer.text)")
        }
        #expect(try manage(["host": "node@file", "volume_type": "nope", "ref": ["source-name": "x"]]).status == 400)
        try file(service, "big", bytes: 3 << 30, "")
        for name in ["missing", "big", "../../clinker.db", ".hidden"] {
            let answer = try manage(["host": "node@file", "ref": ["source-name": .string(name)]])
            let id = answer.json["volume"]?["id"]?.string ?? ""
            try service.wait(id, "error")
            #expect(try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array?.isEmpty == false)
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").contains("big"))
        #expect(try service.usage("volumes") == 1 && service.usage("gigabytes") == 1)
        let snapshot = try SnapshotTests.snapshot(service, of: own)
        try SnapshotTests.wait(service, snapshot, "available")
        #expect(try service.api("POST", "/volumes/\(own)/action", ["os-unmanage": [:]]).status == 400)
        let taken = try service.api(
            "POST", "/os-snapshot-manage",
            ["snapshot": ["volume_id": .string(own), "ref": ["source-name": .string("snapshot-" + snapshot)]]])
        #expect(taken.status == 400 && taken.message?.contains("already managed") == true)
        for path in ["/manageable_volumes", "/manageable_volumes?host=a&cluster=b"] { #expect(try service.api("GET", path).status == 400) }
        #expect(try service.api("GET", "/manageable_volumes?host=node@file", version: "3.7").status == 404)
        #expect(try service.api("PUT", "/os-services/disable", ["binary": "cinder-volume", "host": "node@file"]).status == 200)
        #expect(try service.api("GET", "/manageable_volumes?host=node@file").message == "Service is unavailable at this time.")
    }

    @Test(
        "a reference names one object by one text, or nothing is taken over",
        arguments: [
            #"{"source-name": null, "source-id": "NAME"}"#, #"{"source-name": "other", "source-id": "NAME"}"#, #"{"source-id": ["NAME"]}"#,
            #"{"source-name": ""}"#, #"{"source-name": {"x": "NAME"}}"#, #"{"name": "NAME"}"#, "{}",
        ])
    func ambiguous(reference: String) throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let ref = try JSON(parsing: reference.replacing("NAME", with: "volume-\(id)"))
        let volume = try service.api("POST", "/manageable_volumes", ["volume": ["host": "node@file#files", "ref": ref]])
        #expect(volume.status == 400 && volume.message?.contains("ref must name the storage by one text") == true, "\(volume.text)")
        let snapshot = try service.api("POST", "/manageable_snapshots", ["snapshot": ["volume_id": .string(id), "ref": ref]])
        #expect(snapshot.status == 400, "\(snapshot.text)")
        // By either name it is somebody's.
        for key in ["source-name", "source-id"] {
            let refused = try service.api(
                "POST", "/manageable_volumes",
                ["volume": ["host": "node@file#files", "ref": .object(JSONObject([(name: key, value: .string("volume-\(id)"))]))]])
            #expect(refused.status == 400 && refused.message?.contains("Volume \(id) already managed") == true, "\(refused.text)")
        }
        #expect(try service.volume(id)?["status"] == "available")
    }
}
