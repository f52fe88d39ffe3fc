import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What users and operators of volumes on NFS shares meet, on a real server.
@Suite("NFS", .serialized)
struct NFSTests {
    private static func service(_ more: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(backends: "nfs", sections: "[nfs]\n\(try StorageUnderTest.nfsSection(more))\n")
    }

    private static func export() throws -> String { try StorageUnderTest.nfs.get().directory + "/export" }

    private func snapshot(_ service: ServiceUnderTest, _ volume: String) throws -> String {
        let answer = try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(volume), "force": true]])
        return answer.json["snapshot"]?["id"]?.string ?? ""
    }

    private func settled(_ service: ServiceUnderTest, _ snapshot: String) throws -> String {
        let limit = Timestamp.monotonic() + 20
        var status = ""
        repeat {
            let answer = try service.api("GET", "/snapshots/\(snapshot)")
            status = answer.status == 404 ? "gone" : answer.json["snapshot"]?["status"]?.string ?? ""
            if !["creating", "deleting"].contains(status) { break }
            usleep(10_000)
        } while Timestamp.monotonic() < limit
        return status
    }

    private func messages(_ service: ServiceUnderTest, _ resource: String) throws -> [String] {
        try service.api("GET", "/messages?resource_uuid=\(resource)").json["messages"]?.array?.compactMap { $0["event_id"]?.string } ?? []
    }

    /// How a host is told where a volume is.
    enum Telling: String, CaseIterable, Sendable {
        /// POST /attachments with a connector; os-complete has not come yet.
        case attaching
        /// The same, and os-complete.
        case attached
        /// os-reserve and os-initialize_connection.
        case initialized
    }

    private static let connector: JSON = [
        "host": "h1", "ip": "127.0.0.1", "initiator": "iqn.2026-11.example:h1", "multipath": false,
    ]

    private func tell(_ service: ServiceUnderTest, _ volume: String, _ how: Telling) throws -> (attachment: String, file: String) {
        if how == .initialized {
            #expect(try MoveTests.action(service, volume, "os-reserve", [:]).status == 202)
            let answer = try MoveTests.action(service, volume, "os-initialize_connection", ["connector": Self.connector])
            return ("", answer.json["connection_info"]?["data"]?["name"]?.string ?? "")
        }
        let answer = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(volume), "connector": Self.connector]])
        let attachment = answer.json["attachment"]
        let id = attachment?["id"]?.string ?? ""
        if how == .attached {
            #expect(try service.api("POST", "/attachments/\(id)/action", ["os-complete": .null]).status == 204)
        }
        return (id, attachment?["connection_info"]?["name"]?.string ?? "")
    }

    private func letGo(_ service: ServiceUnderTest, _ volume: String, _ attachment: String) throws {
        if attachment.isEmpty {
            #expect(try MoveTests.action(service, volume, "os-terminate_connection", ["connector": Self.connector]).status == 202)
        } else {
            #expect(try service.api("DELETE", "/attachments/\(attachment)").status == 200)
        }
        try service.wait(volume, "available")
    }

    @Test("nobody pulls a volume away from a host that was told where it is; when it let go, everything goes")
    func connectedHosts() async throws {
        let service = try Self.service()
        for how in Telling.allCases {
            let volume = try service.create()
            try service.wait(volume, "available")
            let first = try snapshot(service, volume)
            #expect(try settled(service, first) == "available")
            let (attachment, file) = try tell(service, volume, how)
            #expect(file == "volume-\(volume).\(first)", "\(how)")
            // Its guest writes while a snapshot is deleted.
            let wrote = try await ServiceUnderTest.run(
                "/usr/bin/qemu-io", ["-f", "qcow2", "-c", "write -P 7 0 64k", "-c", "flush", try Self.export() + "/" + file])
            #expect(wrote.status == 0, "\(how): \(wrote.output)")
            #expect(try service.api("DELETE", "/snapshots/\(first)").status == 202)
            #expect(try settled(service, first) == "available", "\(how)\n\(service.story)")
            #expect(try messages(service, first) == ["VOLUME_VOLUME_SNAPSHOT_010_015"], "\(how)")
            #expect(access(try Self.export() + "/" + file, F_OK) == 0, "\(how): the file that the host was told is gone")
            // A snapshot would leave it at the file beneath.
            if how == .attached {
                let second = try snapshot(service, volume)
                #expect(try settled(service, second) == "error")
                #expect(try service.api("DELETE", "/snapshots/\(second)").status == 202)
                #expect(try settled(service, second) == "gone")
                _ = try MoveTests.action(service, volume, "os-extend", ["new_size": 2])
                #expect(try service.wait(volume, "in-use")?["size"] == 1)
            }
            try letGo(service, volume, attachment)
            let read = try await ServiceUnderTest.run(
                "/usr/bin/qemu-io", ["-r", "-f", "qcow2", "-c", "read -P 7 0 64k", try Self.export() + "/" + file])
            #expect(read.status == 0 && !read.output.contains("failed"), "\(how): \(read.output)")
            #expect(try service.api("DELETE", "/snapshots/\(first)").status == 202)
            #expect(try settled(service, first) == "gone", "\(how)")
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
        try await DoctorTests.expectNothing(service)
    }

    @Test("a host that os-initialize_connection told keeps the volume from being brought back or moved until it is terminated")
    func initializedOnly() async throws {
        let service = try ServiceUnderTest(
            backends: "nfs,file", sections: "[nfs]\n\(try StorageUnderTest.nfsSection())\n[file]\nvolume_driver = file\n")
        _ = try MoveTests.type(service, "nfs", ["volume_backend_name": "nfs"])
        let volume = try service.create(["volume_type": "nfs"])
        try service.wait(volume, "available")
        func tell(_ host: String) throws -> Int {
            try MoveTests.action(service, volume, "os-initialize_connection", ["connector": ["host": .string(host), "ip": "127.0.0.1"]])
                .status
        }
        #expect(try tell("h1") == 200)
        #expect(try tell("h2") == 200)
        #expect(try MoveTests.action(service, volume, "os-terminate_connection", ["connector": ["host": "h2"]]).status == 202)
        _ = try MoveTests.action(service, volume, "os-migrate_volume", ["host": "node@file#files"])
        #expect(try MoveTests.settled(service, volume)["migration_status"] == "error")
        _ = try MoveTests.action(service, volume, "os-extend", ["new_size": 2])
        #expect(try service.wait(volume, "available")?["size"] == 1)
        #expect(try MoveTests.action(service, volume, "os-terminate_connection", ["connector": ["host": "h1"]]).status == 202)
        _ = try MoveTests.action(service, volume, "os-extend", ["new_size": 2])
        #expect(try service.wait(volume, "available")?["size"] == 2)
        let snapshot = try snapshot(service, volume)
        #expect(try settled(service, snapshot) == "available")
        #expect(try tell("h1") == 200)
        #expect(try MoveTests.action(service, volume, "revert", ["snapshot_id": .string(snapshot)]).status == 202)
        try service.wait(volume, "available")
        #expect(try messages(service, volume).contains("VOLUME_VOLUME_011_001"))
        #expect(try MoveTests.action(service, volume, "os-terminate_connection", ["connector": [:]]).status == 202)
        #expect(try service.api("DELETE", "/volumes/\(volume)?cascade=true").status == 202)
        try service.wait(volume, nil)
    }

    // MARK: shares

    /// The line of a server's share; `directory`: one below it.
    private func line(_ server: StorageUnderTest, _ directory: String = "") throws -> String {
        let line = try ServiceUnderTest.read(server.directory + "/shares").filter { $0 != "\n" }
        guard !directory.isEmpty else { return line }
        mkdir(server.directory + "/export/" + directory, 0o777)
        return line.split(separator: "/export", maxSplits: 1).joined(separator: "/export/\(directory)")
    }

    private func shares(_ lines: [String], _ more: String = "") throws -> String {
        let path = temporaryDirectory("shares") + "/shares"
        try ServiceUnderTest.write(path, lines.joined(separator: "\n") + "\n")
        return "volume_driver = nfs\nnfs_shares_config = \(path)\nnfs_snapshot_support = true\n\(more)"
    }

    private func reason(_ service: ServiceUnderTest) throws -> String? {
        try service.api("GET", "/os-services?binary=cinder-volume").json["services"]?.array?.first?["disabled_reason"]?.string
    }

    private func soon(_ what: String, _ condition: () throws -> Bool) throws {
        let limit = Timestamp.monotonic() + 30
        while try !condition() {
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("not within 30 s: \(what)") }
            usleep(50_000)
        }
    }

    @Test("a share whose server hangs keeps nobody from the others, is told, and is used again when it answers")
    func deadShare() async throws {
        let (one, other) = (try StorageUnderTest.nfs.get(), try StorageUnderTest.otherNFS.get())
        let (good, bad) = (one.directory + "/export/good", other.directory + "/export/bad")
        // A server that says nothing for a second is taken for away. The last share never was.
        let section = try shares(
            [try line(one, "good"), try line(other, "bad") + ",timeo=10", "127.0.0.1:/nosuch " + line(one).split(separator: " ")[1]],
            "backend_stats_polling_interval = 1\n")
        let service = try ServiceUnderTest(options: "report_interval = 1", backends: "nfs", sections: "[nfs]\n\(section)\n")
        var volumes: [(id: String, isGood: Bool)] = []
        while !(volumes.contains { $0.isGood } && volumes.contains { !$0.isGood }), volumes.count < 8 {
            let id = try service.create()
            try service.wait(id, "available")
            volumes.append((id, access("\(good)/volume-\(id)", F_OK) == 0))
        }
        #expect(service.log.contains("127.0.0.1:/nosuch cannot be mounted"))
        let (kept, stuck) = (try #require(volumes.first { $0.isGood }), try #require(volumes.first { !$0.isGood }))
        #expect(access("\(bad)/volume-\(stuck.id)", F_OK) == 0)
        let server = pid_t(try ServiceUnderTest.read(other.directory + "/pid").filter(\.isNumber)) ?? 0
        kill(server, SIGSTOP)
        defer { kill(server, SIGCONT) }
        #expect(try service.api("DELETE", "/volumes/\(stuck.id)").status == 202)
        #expect(try service.api("DELETE", "/volumes/\(kept.id)").status == 202)
        try service.wait(kept.id, nil)
        for _ in 0..<2 {
            let id = try service.create()
            try service.wait(id, "available")
            #expect(access("\(good)/volume-\(id)", F_OK) == 0)
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
        #expect(try service.api("GET", "/manageable_volumes?host=node@nfs%23nfs").status == 200)
        let name = "[::1]:/export/bad"
        try soon("the service tells") { try reason(service)?.contains(name) ?? false || reason(service)?.contains("nosuch") ?? false }
        try soon("the metrics tell") {
            try service.request("GET", "/metrics").text.contains("clinker_backend_problems{backend=\"node@nfs\"} 2")
        }
        // What lies there is not taken for lost.
        let doctor = try service.api("POST", "/doctor", ["doctor": [:]]).json["doctor"]?["findings"]?.array ?? []
        #expect(doctor.count == 2 && doctor.allSatisfy { $0["kind"] == "backend" }, "\(doctor)")
        #expect(try service.volume(stuck.id)?["status"] == "deleting")
        kill(server, SIGCONT)
        try service.wait(stuck.id, nil, seconds: 45)
        #expect(access("\(bad)/volume-\(stuck.id)", F_OK) != 0)
        try soon("all is well with it") { try service.request("GET", "/metrics").text.contains("problems{backend=\"node@nfs\"} 1") }
        for volume in volumes where ![kept.id, stuck.id].contains(volume.id) {
            #expect(try service.api("DELETE", "/volumes/\(volume.id)").status == 202)
            try service.wait(volume.id, nil)
        }
    }

    @Test("a line that is no share is told and left out; a share that is named three times counts once")
    func shareLines() async throws {
        let one = try StorageUnderTest.nfs.get()
        func total(_ lines: [String]) throws -> (gigabytes: Double, log: String) {
            let service = try ServiceUnderTest(backends: "nfs", sections: "[nfs]\n\(try shares(lines))\n")
            var pool: JSON?
            try soon("the pool") {
                pool = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array?.first
                return pool != nil
            }
            guard case .real(let total)? = pool?["capabilities"]?["total_capacity_gb"] else { return (0, service.log) }
            return (total, service.log)
        }
        let line = try line(one)
        let (once, _) = try total([line])
        let (thrice, log) = try total([line, line, "10.0.0.1", "host:relative", "10.0.0.1:/x vers=4.2", line])
        #expect(once > 0 && abs(once - thrice) < once / 10)
        for word in ["'10.0.0.1' must be host:/path", "'host:relative' must be host:/path", "vers=4.2"] { #expect(log.contains(word)) }
    }

    // MARK: manage

    @Test("a manage that fails leaves the file as it was, under its name; host:/path/file is managed")
    func manage() async throws {
        let nfs = try StorageUnderTest.nfs.get()
        let export = nfs.directory + "/export"
        let service = try Self.service()
        // Its backend is up.
        let first = try service.create()
        try service.wait(first, "available")
        let made = try await ServiceUnderTest.run(
            "/bin/bash",
            [
                "-e", "-c",
                """
                cd \(export)
                # A format with a feature that is not served.
                qemu-img create -q -f qcow2 -o extended_l2=on strange 10M
                echo operators > plain
                qemu-img create -q -f qcow2 -b plain -F raw based 10M
                # A table that says that two clusters lie in the same place.
                qemu-img create -q -f qcow2 -o preallocation=metadata doubled 10M
                python3 -c "
                import struct
                with open('doubled', 'r+b') as file:
                    header = file.read(48)
                    file.seek(struct.unpack('>Q', header[40:48])[0])
                    table = struct.unpack('>Q', file.read(8))[0] & ((1 << 56) - 1) & ~511
                    file.seek(table)
                    first = file.read(8)
                    file.write(first)
                "
                qemu-img create -q -f qcow2 sound 10M
                sha256sum strange plain based doubled > sums
                """,
            ])
        #expect(made.status == 0, "\(made.output)")
        func manage(_ name: String) throws -> String {
            let answer = try service.api(
                "POST", "/os-volume-manage", ["volume": ["host": "node@nfs#nfs", "ref": ["source-name": .string(name)]]])
            return answer.json["volume"]?["id"]?.string ?? ""
        }
        // The list says what would be refused, and why.
        let seen = try service.api("GET", "/manageable_volumes/detail?host=node@nfs%23nfs").json["manageable-volumes"]?.array ?? []
        func reason(_ name: String) -> String? {
            let entry = seen.first { $0["reference"]?["source-name"]?.string?.hasSuffix("/" + name) ?? false }
            #expect(entry?["safe_to_manage"]?.bool == (entry?["reason_not_safe"]?.string == nil), "\(name): \(seen)")
            return entry?["reason_not_safe"]?.string
        }
        #expect(reason("plain") == nil && reason("sound") == nil)
        #expect(reason("based")?.contains("has a backing file, 'plain'") == true, "\(seen)")
        #expect(reason("doubled")?.contains("is used twice") == true, "\(seen)")
        #expect(reason("strange")?.contains("cannot be used") == true, "\(seen)")
        var refusals: [String] = []
        for name in ["based", "doubled", "strange"] {
            refusals.append(try manage(name))
            try service.wait(refusals[refusals.count - 1], "error")
        }
        let same = try await ServiceUnderTest.run(
            "/bin/bash", ["-c", "cd \(export) && sha256sum -c sums; rm sums strange based doubled sound"])
        #expect(same.status == 0 && !same.output.contains("FAILED"), "\(same.output)\n\(service.story)")
        // As the list says.
        let listed = try service.api("GET", "/manageable_volumes?host=node@nfs%23nfs").json["manageable-volumes"]?.array ?? []
        let reference = listed.compactMap { $0["reference"]?["source-name"]?.string }.first { $0.hasSuffix("/plain") }
        #expect(reference == "127.0.0.1:/export/plain")
        let id = try manage(reference ?? "")
        try service.wait(id, "available")
        #expect(try ServiceUnderTest.read("\(export)/volume-\(id)", atMost: 9) == "operators")
        for id in [first, id] + refusals {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
    }

    // MARK: names and rights

    @Test("names with dots confuse neither lists nor the doctor")
    func templates() async throws {
        let service = try ServiceUnderTest(
            options: "volume_name_template = vol.%s\nsnapshot_name_template = snap.%s", backends: "nfs",
            sections: "[nfs]\n\(try shares([try line(try StorageUnderTest.nfs.get(), "names")]))\n")
        // Somebody's file whose name is the beginning of all others.
        try ServiceUnderTest.write(try Self.export() + "/names/vol", "x")
        let volume = try service.create()
        try service.wait(volume, "available")
        let snapshot = try snapshot(service, volume)
        #expect(try settled(service, snapshot) == "available")
        let volumes = try service.api("GET", "/manageable_volumes/detail?host=node@nfs%23nfs").json["manageable-volumes"]?.array ?? []
        #expect(volumes.count == 2 && volumes.contains { $0["cinder_id"]?.string == volume }, "\(volumes)")
        let snapshots = try service.api("GET", "/manageable_snapshots/detail?host=node@nfs%23nfs").json["manageable-snapshots"]?.array ?? []
        #expect(snapshots.map { $0["cinder_id"]?.string } == [snapshot], "\(snapshots)")
        try await DoctorTests.expectNothing(service)
        #expect(try service.api("DELETE", "/volumes/\(volume)?cascade=true").status == 202)
        try service.wait(volume, nil)
        unlink(try Self.export() + "/names/vol")
    }

    @Test("files are closed to others, but for a share whose files are open to them already")
    func fileAccess() async throws {
        let nfs = try StorageUnderTest.nfs.get()
        func mode(_ directory: String, _ option: String) throws -> mode_t {
            let service = try ServiceUnderTest(
                backends: "nfs", sections: "[nfs]\n\(try shares([try line(nfs, directory)], option))\n")
            let id = try service.create()
            try service.wait(id, "available")
            var info = stat()
            #expect(stat("\(nfs.directory)/export/\(directory)/volume-\(id)", &info) == 0)
            return info.st_mode & 0o777
        }
        #expect(try mode("new", "") == 0o660)
        #expect(try mode("new", "nas_secure_file_permissions = false") == 0o666)
        // It was found to be secure once.
        #expect(try mode("new", "nas_secure_file_permissions = auto") == 0o660)
        mkdir(nfs.directory + "/export/old", 0o777)
        try ServiceUnderTest.write(nfs.directory + "/export/old/volume-of-old", "x")
        chmod(nfs.directory + "/export/old/volume-of-old", 0o666)
        #expect(try mode("old", "") == 0o666)
    }

    @Test("a file that has another name is not taken over: who has that would write to the same bytes")
    func hardLinks() throws {
        let export = try StorageUnderTest.nfs.get().directory + "/export"
        let service = try Self.service()
        let id = try service.create()
        try service.wait(id, "available")
        #expect(link("\(export)/volume-\(id)", "\(export)/alias") == 0)
        let listed = try service.api("GET", "/manageable_volumes/detail?host=node@nfs%23nfs")
        let alias = listed.json["manageable-volumes"]?.array?.first { $0["reference"]?["source-name"]?.string?.hasSuffix("/alias") == true }
        #expect(alias?["safe_to_manage"] == false && alias?["reason_not_safe"]?.string?.contains("another name") == true, "\(listed.text)")
        let managed = try service.api("POST", "/manageable_volumes", ["volume": ["host": "node@nfs#nfs", "ref": ["source-name": "alias"]]])
        let failed = managed.json["volume"]?["id"]?.string ?? ""
        try service.wait(failed, "error")
        #expect(access("\(export)/alias", F_OK) == 0)
        unlink("\(export)/alias")
        for id in [failed, id] {
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        }
    }

    @Test("a list of shares that others may write is refused, with the command that mends it")
    func exposedShares() throws {
        let list = temporaryDirectory("shares") + "/list"
        try ServiceUnderTest.write(list, "127.0.0.1:/export\n")
        #expect(chmod(list, 0o666) == 0)
        let service = try ServiceUnderTest(
            backends: "nfs", sections: "[nfs]\nvolume_driver = nfs\nnfs_shares_config = \(list)\n")
        #expect(service.log.contains("nfs_shares_config: \(list) can be written by others: chmod go-w \(list)"), "\(service.story)")
    }
}
