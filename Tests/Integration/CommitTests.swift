import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The core dies before and after every commit that an act makes: each of its recorded steps, whether it calls a driver or not.
/// In the end everything is as before the act or as after it, and as after it where the client was told so.
@Suite("Death at every commit", .serialized)
struct CommitTests {
    enum Act: String, CaseIterable, Sendable {
        case create, clone, fromSnapshot, extend, delete, cascade, snapshot, deleteSnapshot, revert, attach, detach, retype, migrate,
            manage,
            unmanage, manageSnapshot, unmanageSnapshot

        var needsSnapshot: Bool { [.fromSnapshot, .cascade, .deleteSnapshot, .revert, .unmanageSnapshot].contains(self) }
    }

    private static let library = Result { try Preload.library("commits") }

    private let service: ServiceUnderTest
    private let commits: String

    init() throws {
        service = try ServiceUnderTest(
            options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1\nreport_interval = 3600\nservice_down_time = 7200",
            backends: "one,two",
            sections: "[one]\nvolume_driver = file\nmax_over_subscription_ratio = 1000000\n"
                + "[two]\nvolume_driver = file\nmax_over_subscription_ratio = 1000000\n", start: false)
        commits = service.directory + "/commits"
        try service.launch(wrapper: ["/usr/bin/env", "LD_PRELOAD=\(try Self.library.get())", "CLINKER_COMMITS=\(commits)"])
        try service.waitUntilServing()
        try MoveTests.types(service)
    }

    private func list(_ path: String, _ key: String) throws -> [JSON] { try service.api("GET", path).json[key]?.array ?? [] }

    /// Waits until nothing is under way.
    private func settle(_ cell: String) throws {
        let limit = Timestamp.monotonic() + 30
        while true {
            let unfinished = try? list("/operations", "operations").filter { $0["finished_at"] == .null }
            if let unfinished, unfinished.isEmpty { return }
            guard Timestamp.monotonic() < limit else {
                throw ServiceUnderTest.Failure("\(cell) does not end: \(unfinished ?? [])")
            }
            usleep(10_000)
        }
    }

    /// Everything that users and operators see, under names instead of ids: the same twice, it is the same.
    private func picture() throws -> [String] {
        var names: [String: String] = [:]
        func text(_ value: JSON?) -> String { value?.string ?? "-" }
        let volumes = try list("/volumes/detail", "volumes")
        let snapshots = try list("/snapshots/detail", "snapshots")
        for volume in volumes { names["volume-" + text(volume["id"])] = "volume " + text(volume["name"]) }
        for snapshot in snapshots { names["snapshot-" + text(snapshot["id"])] = "snapshot " + text(snapshot["name"]) }
        var lines = volumes.map {
            "\(text($0["name"])): \(text($0["status"])) \($0["size"]?.integer ?? 0) \(text($0["volume_type"])) \(text($0["os-vol-host-attr:host"])) "
                + "\(text($0["os-vol-mig-status-attr:migstat"])) \($0["attachments"]?.array?.count ?? 0)"
        }
        lines += snapshots.map { "\(text($0["name"])): \(text($0["status"])) of \(names["volume-" + text($0["volume_id"])] ?? "?")" }
        lines += try list("/attachments/detail", "attachments").map {
            "attachment of \(names["volume-" + text($0["volume_id"])] ?? "?"): \(text($0["status"]))"
        }
        for backend in ["one", "two"] {
            lines += ServiceUnderTest.entries(service.state + "/volumes/" + backend).map {
                "\(backend) holds \(names[$0] ?? ($0.split(separator: "-").first.map { $0 + " of nobody" } ?? $0))"
            }
        }
        for resource in ["volumes", "snapshots", "gigabytes"] { lines.append("\(resource): \(try service.usage(resource) ?? -1)") }
        return lines.sorted()
    }

    /// The volume `source`, and what else the act needs.
    private func prepare(_ act: Act) throws -> (source: String, snapshot: String, attachment: String) {
        let source = try service.create(["name": "source", "volume_type": "one"])
        try service.wait(source, "available")
        var (snapshot, attachment) = ("", "")
        if act.needsSnapshot {
            let made = try service.api("POST", "/snapshots", ["snapshot": ["volume_id": .string(source), "name": "moment"]])
            snapshot = made.json["snapshot"]?["id"]?.string ?? ""
            try SnapshotTests.wait(service, snapshot, "available")
        }
        if act == .detach {
            let made = try service.api(
                "POST", "/attachments", ["attachment": ["volume_uuid": .string(source), "connector": LifecycleTests.connector]])
            attachment = made.json["attachment"]?["id"]?.string ?? ""
            _ = try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]])
        }
        if act == .manage || act == .manageSnapshot {
            try ServiceUnderTest.write(service.state + "/volumes/one/foreign", String(repeating: "x", count: 4096))
        }
        try settle("preparation of \(act)")
        return (source, snapshot, attachment)
    }

    /// The answer's status; nil where there was none.
    private func perform(_ act: Act, _ source: String, _ snapshot: String, _ attachment: String) -> Int? {
        func ask(_ method: String, _ path: String, _ body: JSON? = nil) -> Int? { try? service.api(method, path, body).status }
        func action(_ name: String, _ body: JSON) -> Int? { try? MoveTests.action(service, source, name, body).status }
        return switch act {
        case .create: ask("POST", "/volumes", ["volume": ["size": 1, "name": "made", "volume_type": "one"]])
        case .clone: ask("POST", "/volumes", ["volume": ["source_volid": .string(source), "name": "made"]])
        case .fromSnapshot: ask("POST", "/volumes", ["volume": ["snapshot_id": .string(snapshot), "name": "made"]])
        case .extend: action("os-extend", ["new_size": 2])
        case .delete: ask("DELETE", "/volumes/\(source)")
        case .cascade: ask("DELETE", "/volumes/\(source)?cascade=true")
        case .snapshot: ask("POST", "/snapshots", ["snapshot": ["volume_id": .string(source), "name": "moment"]])
        case .deleteSnapshot: ask("DELETE", "/snapshots/\(snapshot)")
        case .revert: action("revert", ["snapshot_id": .string(snapshot)])
        case .attach:
            ask("POST", "/attachments", ["attachment": ["volume_uuid": .string(source), "connector": LifecycleTests.connector]])
        case .detach: ask("DELETE", "/attachments/\(attachment)")
        case .retype: action("os-retype", ["new_type": "two", "migration_policy": "on-demand"])
        case .migrate: action("os-migrate_volume", ["host": "node@two#files"])
        case .manage:
            ask(
                "POST", "/os-volume-manage",
                ["volume": ["host": "node@one#files", "ref": ["source-name": "foreign"], "name": "made", "volume_type": "one"]])
        case .unmanage: action("os-unmanage", [:])
        case .manageSnapshot:
            ask(
                "POST", "/os-snapshot-manage",
                ["snapshot": ["volume_id": .string(source), "ref": ["source-name": "foreign"], "name": "moment"]])
        case .unmanageSnapshot: ask("POST", "/snapshots/\(snapshot)/action", ["os-unmanage": [:]])
        }
    }

    private func clean(_ cell: String) throws {
        for attachment in try list("/attachments", "attachments") {
            #expect(try service.api("DELETE", "/attachments/\(attachment["id"]?.string ?? "")").status == 200, "\(cell): detach")
        }
        for volume in try list("/volumes", "volumes") {
            let id = volume["id"]?.string ?? ""
            #expect(try service.api("DELETE", "/volumes/\(id)?cascade=true&force=true").status == 202, "\(cell): delete")
            try service.wait(id, nil)
        }
        // What was left to itself is nobody's.
        for backend in ["one", "two"] {
            for name in ServiceUnderTest.entries(service.state + "/volumes/" + backend) {
                unlink("\(service.state)/volumes/\(backend)/\(name)")
            }
        }
    }

    @Test("every act, each of its commits", arguments: Act.allCases)
    func table(act: Act) async throws {
        // What it looks like before and after, where nobody dies.
        let (source, snapshot, attachment) = try prepare(act)
        let before = try picture()
        #expect(perform(act, source, snapshot, attachment).map { $0 < 300 } == true, "\(act)")
        try settle("\(act)")
        let after = try picture()
        #expect(before != after || act == .revert, "\(act) does something")
        try clean("\(act)")

        for moment in ["before", "after"] {
            var number = 1
            var deaths = 0
            while number < 40 {
                defer { number += 1 }
                guard number == 1 || FaultSample.holds("\(act) \(moment) \(number)") else { continue }
                let cell = "\(act), \(moment) commit \(number)"
                let (source, snapshot, attachment) = try prepare(act)
                try ServiceUnderTest.write(commits, "\(number) \(moment)")
                let status = perform(act, source, snapshot, attachment)
                // Until the core has died, or the act has ended without so many commits.
                let limit = Timestamp.monotonic() + 20
                var isMet = false
                while !isMet, Timestamp.monotonic() < limit {
                    isMet = try ServiceUnderTest.read(commits) == "0"
                    if !isMet, let unfinished = try? list("/operations", "operations").filter({ $0["finished_at"] == .null }),
                        unfinished.isEmpty
                    {
                        isMet = try ServiceUnderTest.read(commits) == "0"
                        break
                    }
                    usleep(5_000)
                }
                try ServiceUnderTest.write(commits, "0")
                try service.waitUntilServing()
                try settle(cell)
                let found = try picture()
                if let status, status < 300 {
                    #expect(found == after, "\(cell): what was promised is not there\n\(service.story)")
                } else {
                    #expect(found == before || found == after, "\(cell): neither before nor after\n\(service.story)")
                }
                let (_, findings) = try await DoctorTests.examine(service)
                #expect(findings.isEmpty, "\(cell): \(findings)")
                try clean(cell)
                if !isMet { break }
                deaths += 1
            }
            #expect(deaths > 0, "\(act): nobody died \(moment) a commit")
        }
    }
}
