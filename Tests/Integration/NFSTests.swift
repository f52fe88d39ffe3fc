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
}
