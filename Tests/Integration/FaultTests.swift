import Glibc
import JSON
import Primitives
import Testing

/// The fault table: every flow, each of its driver calls, each way in which the call can go wrong, and the state that
/// results. Quota, rows and backend agree at the end of every cell.
@Suite("Fault table", .serialized)
struct FaultTests {
    /// What a user does.
    enum Act: String, CaseIterable, Sendable {
        case create, clone, copy, extend, delete, attach, detach, snapshot, deleteSnapshot, fromSnapshot, revert, cascade

        /// Whether there is a snapshot before it.
        var needsSnapshot: Bool { [.deleteSnapshot, .fromSnapshot, .revert, .cascade].contains(self) }
    }

    /// How a call goes wrong: the fault plugin's action, once.
    enum Fault: String, CaseIterable, Sendable {
        case error = "1"
        case retry = "2"
        case busy = "3"
        case notFound = "4"
        case exists = "5"
        case noSpace = "6"
        case unsupported = "7"
        case badConfiguration = "8"
        case invalid = "9"
        case errorAfter = "1!"
        case hang
        case crash
        case crashAfter = "crash!"
        case coreDies = "core"
        case coreDiesAfter = "core!"

        /// Whether the host repeats the call, so that the user sees nothing.
        var passes: Bool { [.retry, .hang, .crash, .crashAfter, .coreDies, .coreDiesAfter].contains(self) }
        var killsCore: Bool { self == .coreDies || self == .coreDiesAfter }
    }

    /// The driver calls of each flow.
    static let calls: [Act: [String]] = [
        .create: ["create_volume"], .clone: ["clone_volume"],
        // A clone that the host makes over block handles.
        .copy: ["create_volume", "open_handle", "get_size", "extents", "read", "write", "flush"], .extend: ["extend_volume"],
        .delete: ["unexport_volume", "delete_volume"],
        .attach: ["export_volume", "connect_volume"], .detach: ["disconnect_volume", "unexport_volume"],
        .snapshot: ["create_snapshot"], .deleteSnapshot: ["delete_snapshot"], .fromSnapshot: ["create_volume_from_snapshot"],
        .revert: ["revert_to_snapshot"], .cascade: ["delete_snapshot", "unexport_volume", "delete_volume"],
    ]

    /// The snapshot's state at the end (nil: gone).
    static func snapshotState(_ act: Act, _ call: String, _ fault: Fault) -> String? {
        switch act {
        case .snapshot: fault.passes ? "available" : "error"
        case .cascade where call != "delete_snapshot": nil
        // What is removed waits for room, too.
        case .deleteSnapshot, .cascade: fault.passes || fault == .noSpace ? nil : fault == .busy ? "available" : "error_deleting"
        default: "available"
        }
    }

    /// The volume's state at the end (nil: gone), and of a request that waits, its status.
    static func expected(_ act: Act, _ call: String, _ fault: Fault) -> (state: String?, status: Int) {
        // An optional call that a driver leaves out has nothing to do.
        let passes =
            fault.passes
            // A clone that the driver leaves out is made by the host; a map that it leaves out is all data.
            || (fault == .unsupported && ["clone_volume", "extents", "create_volume_from_snapshot", "revert_to_snapshot"].contains(call))
            || (fault == .unsupported && ["export_volume", "unexport_volume", "disconnect_volume"].contains(call))
        switch act {
        case .create: return (passes ? "available" : "error", 202)
        case .clone, .copy, .fromSnapshot: return (passes ? "available" : "error", 202)
        case .extend:
            return (passes || fault == .busy || fault == .unsupported ? "available" : "error_extending", 202)
        case .snapshot, .deleteSnapshot: return ("available", 202)
        case .revert: return (passes || fault == .busy ? "available" : "error", 202)
        case .delete, .cascade: return (passes || fault == .noSpace ? nil : fault == .busy ? "available" : "error_deleting", 202)
        case .attach:
            // A client whose core dies hears nothing, and what was begun is taken back.
            if fault.killsCore { return ("available", 0) }
            return passes ? ("in-use", 200) : ("available", fault == .invalid ? 400 : 500)
        case .detach:
            if fault.killsCore { return ("available", 0) }
            return passes ? ("available", 200) : ("in-use", fault == .invalid ? 400 : 500)
        }
    }

    private let backend: FaultyBackend
    private var files: Set<String> { backend.files }
    private var faults: String { backend.faults }

    init() throws { backend = try FaultyBackend() }

    /// Rows, quota, pool and backend say the same. `failed`: volumes in error of a create, whose storage must be gone.
    private func audit(_ service: ServiceUnderTest, _ cell: String) throws {
        let volumes = try service.api("GET", "/volumes/detail").json["volumes"]?.array ?? []
        let stored = volumes.filter { $0["os-vol-host-attr:host"]?.string != nil }
        let snapshots = try service.api("GET", "/snapshots").json["snapshots"]?.array ?? []
        // What a failed snapshot left is removed before it is said to have failed.
        let kept = snapshots.filter { $0["status"]?.string != "error" }
        let names =
            stored.compactMap { $0["id"]?.string.map { "volume-" + $0 } } + kept.compactMap { $0["id"]?.string.map { "snapshot-" + $0 } }
        #expect(files == Set(names), "\(cell): files")
        #expect(try service.usage("snapshots") == Int64(snapshots.count), "\(cell): quota of snapshots")
        #expect(try service.usage("volumes") == Int64(volumes.count), "\(cell): quota")
        #expect(
            try service.usage("gigabytes") == (volumes + snapshots).reduce(0) { $0 + ($1["size"]?.integer ?? 0) },
            "\(cell): quota of gigabytes")
        var pools: [JSON] = []
        let limit = Timestamp.monotonic() + 60
        while pools.isEmpty, Timestamp.monotonic() < limit {
            pools = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array ?? []
        }
        #expect(
            pools.first?["capabilities"]?["allocated_capacity_gb"]?.integer == stored.reduce(0) { $0 + ($1["size"]?.integer ?? 0) },
            "\(cell): pool")
    }

    private func action(_ service: ServiceUnderTest, _ id: String, _ name: String, _ body: JSON) throws -> ServiceUnderTest.Answer {
        try service.api("POST", "/volumes/\(id)/action", .object(JSONObject([(name: name, value: body)])))
    }

    private func run(_ act: Act, _ call: String, _ fault: Fault, _ service: ServiceUnderTest) throws {
        let cell = "\(act) \(call) \(fault)"
        let source = try service.create()
        try service.wait(source, "available")
        var subject = source
        var attachment = ""
        if act == .copy { try ServiceUnderTest.write(backend.directory + "/volumes/volume-" + source, "data to copy", keepingSize: true) }
        if act == .detach {
            let made = try service.api(
                "POST", "/attachments", ["attachment": ["volume_uuid": .string(source), "connector": LifecycleTests.connector]])
            attachment = made.json["attachment"]?["id"]?.string ?? ""
            _ = try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]])
        }
        var snapshot = ""
        if act.needsSnapshot {
            snapshot = try SnapshotTests.snapshot(service, of: source)
            try SnapshotTests.wait(service, snapshot, "available")
        }
        let expected = Self.expected(act, call, fault)
        try ServiceUnderTest.write(faults, "\(call) \(fault.rawValue) 1\n")
        var status = 202
        /// What is accepted may be carried out before its answer is on its way: then the core that dies takes the answer with it.
        func accepted(_ ask: () throws -> ServiceUnderTest.Answer) throws -> Int {
            do { return try ask().status } catch {
                guard fault.killsCore else { throw error }
                return expected.status
            }
        }
        func made(_ path: String, _ key: String, _ fields: JSONObject) throws -> String {
            let body = JSON.object(JSONObject([(name: key, value: .object(fields))]))
            if let answer = try? service.api("POST", path, body) {
                status = answer.status
                return answer.json[key]?["id"]?.string ?? ""
            }
            #expect(fault.killsCore, "\(cell): no answer")
            let limit = Timestamp.monotonic() + 60
            while Timestamp.monotonic() < limit {
                let all = try? service.api("GET", path).json[key + "s"]?.array?.compactMap { $0["id"]?.string }
                if let found = all?.first(where: { $0 != source }) { return found }
                usleep(10_000)
            }
            throw ServiceUnderTest.Failure("\(cell): nothing was made")
        }
        switch act {
        case .create: subject = try made("/volumes", "volume", ["size": 1])
        case .clone, .copy: subject = try made("/volumes", "volume", ["source_volid": .string(source)])
        case .fromSnapshot: subject = try made("/volumes", "volume", ["snapshot_id": .string(snapshot)])
        case .snapshot: snapshot = try made("/snapshots", "snapshot", ["volume_id": .string(source)])
        case .deleteSnapshot: status = try accepted { try service.api("DELETE", "/snapshots/\(snapshot)") }
        case .revert: status = try accepted { try action(service, source, "revert", ["snapshot_id": .string(snapshot)]) }
        case .cascade: status = try accepted { try service.api("DELETE", "/volumes/\(source)?cascade=true") }
        case .extend: status = try accepted { try action(service, source, "os-extend", ["new_size": 2]) }
        case .delete: status = try accepted { try service.api("DELETE", "/volumes/\(source)") }
        case .attach:
            let answer = try? service.api(
                "POST", "/attachments", ["attachment": ["volume_uuid": .string(source), "connector": LifecycleTests.connector]])
            status = answer?.status ?? 0
            attachment = answer?.json["attachment"]?["id"]?.string ?? ""
            if status == 200 { _ = try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]) }
        case .detach: status = (try? service.api("DELETE", "/attachments/\(attachment)"))?.status ?? 0
        }
        #expect(status == expected.status, "\(cell): status")
        do { try service.wait(subject, expected.state, seconds: 15) } catch {
            Issue.record("\(cell): \(String(describing: error).prefix(200))")
        }
        if !snapshot.isEmpty {
            do { try SnapshotTests.wait(service, snapshot, Self.snapshotState(act, call, fault)) } catch {
                Issue.record("\(cell): \(String(describing: error).prefix(200))")
            }
        }
        #expect(try ServiceUnderTest.read(faults).isEmpty, "\(cell): the fault was not met")
        // A deletion that said it failed after it was done: the row stays for an administrator, the storage is gone.
        let saidFailed = fault == .errorAfter && (call == "delete_volume" || call == "delete_snapshot")
        if !saidFailed { try audit(service, cell) }
        if subject != source {
            #expect(try service.volume(source)?["status"] == "available", "\(cell): source")
            if act == .copy, expected.state == "available" {
                let copied = try ServiceUnderTest.read(backend.directory + "/volumes/volume-" + subject, atMost: 12)
                #expect(copied == "data to copy", "\(cell): the copy is not its source")
            }
        }
        if expected.state == "error" || expected.state == "error_extending" {
            let messages = try service.api("GET", "/messages?resource_uuid=\(subject)").json["messages"]?.array
            #expect(messages?.isEmpty == false, "\(cell): no message for the user")
        }
        // Whatever the state, the next calls repair it.
        for left in try service.api("GET", "/attachments").json["attachments"]?.array ?? [] {
            #expect(try service.api("DELETE", "/attachments/\(left["id"]?.string ?? "")").status == 200, "\(cell): detach afterwards")
        }
        for id in Set([subject, source]) {
            // What failed to be deleted can be deleted again, by its owner.
            guard let status = try service.volume(id)?["status"] else { continue }
            let force = status == "error_deleting" || act == .deleteSnapshot ? "" : "&force=true"
            #expect(try service.api("DELETE", "/volumes/\(id)?cascade=true\(force)").status == 202, "\(cell): delete afterwards")
            try service.wait(id, nil)
        }
        #expect(files.isEmpty, "\(cell): files remain")
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0, "\(cell): charge remains")
    }

    @Test("every act, each of its driver calls, each fault", arguments: Act.allCases)
    func table(act: Act) throws {
        let service = try backend.service(more: act == .copy ? "emulate = true" : "")
        for call in Self.calls[act] ?? [] {
            for fault in Fault.allCases where FaultSample.holds("\(act) \(call) \(fault)") { try run(act, call, fault, service) }
        }
    }

    @Test(
        "a pool that is full refuses only what it refuses with its capacity read again, too, by the next host if one dies of it",
        arguments: [Act.create, .extend], ["lie x 1\n", "lie x 1\nstats crash 2\n", "lie x 1\nstats crash 6\n", "lie x 2\n"])
    func lies(act: Act, faults: String) throws {
        let backend = try FaultyBackend()
        let service = try backend.service()
        var id = try service.create()
        try service.wait(id, "available")
        try backend.set(faults)
        // The host's death makes the backend come up again and its capacity be read: the first lie.
        for host in service.processes("driver-host") { kill(host, SIGKILL) }
        func capacity() throws -> JSON? {
            try service.api("GET", "/scheduler-stats/get_pools?detail=True").json["pools"]?.array?.first?["capabilities"]?[
                "total_capacity_gb"]
        }
        let limit = Timestamp.monotonic() + 60
        while try capacity() != .real(1), Timestamp.monotonic() < limit { usleep(10_000) }
        if act == .create {
            id = try service.create()
        } else {
            #expect(try service.api("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 3]]).status == 202)
        }
        let isRefused = faults.hasPrefix("lie x 2")
        let volume = try service.wait(id, act == .create && isRefused ? "error" : "available")
        #expect(volume?["size"]?.integer == (act == .extend && !isRefused ? 3 : 1))
        let operation = try #require(try OperationTests.operations(service, "resource_id=\(id)").first)
        #expect(operation["state"]?.string == (isRefused ? "failed" : "done"))
        let shown = try service.api("GET", "/operations/\(operation["id"]?.string ?? "")").json["operation"]
        #expect((shown?["verdicts"]?.array?.first?["filter"] == "CapacityFilter") == isRefused)
        #expect(service.log.contains("CapacityFilter"))
        #expect(try ServiceUnderTest.read(backend.faults).isEmpty)
    }

    @Test("a driver whose configuration is bad leaves its backend down with the reason, until it is mended")
    func badConfiguration() throws {
        let service = try backend.service()
        try ServiceUnderTest.write(faults, "open 8 2\n")
        for host in service.processes("driver-host") { kill(host, SIGKILL) }
        let id = try service.create()
        try service.wait(id, "available", seconds: 20)
        #expect(service.log.contains("backend is down: fault 8 in open"))
    }

    @Test("after a restart exports are made again; a backend that cannot is no reason not to serve, and the next start tries again")
    func restoredExports() throws {
        let backend = try FaultyBackend()
        let service = try backend.service()
        let id = try service.create()
        try service.wait(id, "available")
        let made = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
        let attachment = made.json["attachment"]?["id"]?.string ?? ""
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        let idle = try service.create()
        try service.wait(idle, "available")
        /// States of the operations that made sure of exports, the oldest first.
        func outcomes() throws -> [String] {
            let operations = try service.api("GET", "/operations").json["operations"]?.array ?? []
            return operations.filter { $0["flow"] == "volume.restore_export" }.map {
                #expect($0["resource_id"]?.string == id)
                return $0["state"]?.string ?? ""
            }
        }
        for (index, (fault, outcome)) in [
            ("", "done"), ("ensure_export 1 1000\n", "failed"), ("ensure_export crash 1\n", "done"), ("connect_volume 1 1000\n", "failed"),
            ("", "done"),
        ].enumerated() {
            #expect(service.stop() == 0)
            try backend.set(fault)
            try service.start()
            #expect(try service.api("GET", "/volumes/\(id)").status == 200)
            let limit = Timestamp.monotonic() + 60
            while try outcomes().filter({ ["done", "failed"].contains($0) }).count <= index, Timestamp.monotonic() < limit {
                usleep(50_000)
            }
            #expect(try outcomes().count == index + 1)
            #expect(try outcomes().contains(outcome), "\(fault): \(service.story)")
            #expect(try service.volume(id)?["status"] == "in-use")
        }
        #expect(try outcomes().filter { $0 == "failed" }.count == 2)
        #expect(try service.api("DELETE", "/attachments/\(attachment)").status == 200)
        for volume in [id, idle] {
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
    }

    @Test("after a restart hosts are let in again that were told where a volume is without an attachment, until they let go of it")
    func restoredConnections() throws {
        let backend = try FaultyBackend()
        let service = try backend.service()
        let id = try service.create()
        try service.wait(id, "available")
        func act(_ name: String) throws -> Int {
            try service.api(
                "POST", "/volumes/\(id)/action", .object(JSONObject([(name: name, value: ["connector": LifecycleTests.connector] as JSON)]))
            ).status
        }
        #expect(try service.api("POST", "/volumes/\(id)/action", ["os-reserve": [:]]).status == 202)
        #expect(try act("os-initialize_connection") == 200)
        func outcomes() throws -> [String] {
            let operations = try service.api("GET", "/operations?resource_id=\(id)").json["operations"]?.array ?? []
            return operations.filter { $0["flow"] == "volume.restore_export" }.compactMap { $0["state"]?.string }
        }
        for (index, (fault, outcome)) in [("", "done"), ("connect_volume 1 1000\n", "failed"), ("", "done")].enumerated() {
            #expect(service.stop() == 0)
            try backend.set(fault)
            try service.start()
            let limit = Timestamp.monotonic() + 60
            while try outcomes().filter({ ["done", "failed"].contains($0) }).count <= index, Timestamp.monotonic() < limit {
                usleep(50_000)
            }
            #expect(try outcomes().count == index + 1 && outcomes().contains(outcome), "\(fault): \(service.story)")
        }
        #expect(try act("os-terminate_connection") == 202)
        #expect(service.stop() == 0)
        try service.start()
        let other = try service.create()
        try service.wait(other, "available")
        #expect(try outcomes().count == 3)
        for volume in [id, other] {
            #expect(try service.api("DELETE", "/volumes/\(volume)").status == 202)
            try service.wait(volume, nil)
        }
    }

    @Test("an attachment that is given to another host ends the connection of the one before, or keeps it")
    func movedAttachment() throws {
        let backend = try FaultyBackend()
        let service = try backend.service()
        let id = try service.create()
        try service.wait(id, "available")
        func connector(_ host: String) -> JSON { ["host": .string(host), "initiator": .string("iqn.2026-11.example:\(host)")] }
        let made = try service.api(
            "POST", "/attachments",
            [
                "attachment": [
                    "volume_uuid": .string(id), "instance_uuid": "11111111-2222-3333-4444-555555555555", "connector": connector("first"),
                ]
            ])
        let attachment = try #require(made.json["attachment"]?["id"]?.string)
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        func update(_ host: String) throws -> Int {
            try service.api("PUT", "/attachments/\(attachment)", ["attachment": ["connector": connector(host)]]).status
        }
        /// The host that the attachment's end would be told.
        func host() throws -> String? {
            try service.api("GET", "/volumes/\(id)").json["volume"]?["attachments"]?.array?.first?["host_name"]?.string
        }
        try backend.set("disconnect_volume 1 1000\n")
        // The same again ends nothing.
        #expect(try update("first") == 200)
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        #expect(try update("second") == 500)
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        #expect(try host() == "first", "who is connected was forgotten")
        try backend.set("")
        #expect(try update("second") == 200)
        #expect(try service.api("POST", "/attachments/\(attachment)/action", ["os-complete": [:]]).status == 204)
        #expect(try host() == "second")
        #expect(try service.api("DELETE", "/attachments/\(attachment)").status == 200)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
    }
}
