import Glibc
import JSON
import Primitives
import Testing

/// The fault table of the flows that move volumes between backends, take storage over and leave it behind: each of their
/// driver calls, each way in which it can go wrong, and where everything is afterwards.
@Suite("Fault table of moves", .serialized)
struct FaultMoveTests {
    typealias Fault = FaultTests.Fault

    /// What is done, and which of its driver calls the faulty backend serves.
    enum Act: String, CaseIterable, Sendable {
        /// To the faulty backend, and away from it.
        case moveIn, moveOut
        case manage, unmanage, manageSnapshot, unmanageSnapshot

        var calls: [String] {
            switch self {
            case .moveIn: ["create_volume", "open_handle", "get_size", "write", "flush", "rename_volume"]
            case .moveOut: ["open_handle", "get_size", "extents", "read", "delete_volume"]
            case .manage: ["list_volumes", "manage_volume"]
            case .unmanage: ["unexport_volume", "unmanage_volume"]
            case .manageSnapshot: ["manage_snapshot"]
            case .unmanageSnapshot: ["unmanage_snapshot"]
            }
        }
    }

    private let backend: FaultyBackend
    init() throws { backend = try FaultyBackend() }

    private static let data = "data to move"

    private func service() throws -> ServiceUnderTest {
        let service = try backend.service(beside: (name: "plain", section: "[plain]\nvolume_driver = file"))
        for (type, name) in [("faulty", "fault"), ("plain", "plain")] {
            _ = try MoveTests.type(service, type, ["volume_backend_name": .string(name)])
        }
        return service
    }

    private func path(_ service: ServiceUnderTest, _ volume: JSON) -> String {
        let id = volume["os-vol-mig-status-attr:name_id"]?.string ?? volume["id"]?.string ?? ""
        let onFaulty = volume["os-vol-host-attr:host"]?.string?.contains("@fault") ?? false
        return (onFaulty ? backend.directory + "/volumes" : service.state + "/volumes/plain") + "/volume-" + id
    }

    /// Asks; a core that dies may take the answer with it.
    private func ask(_ fault: Fault, _ ask: () throws -> ServiceUnderTest.Answer) throws {
        do {
            let answer = try ask()
            guard answer.status == 202 else { throw ServiceUnderTest.Failure("\(answer.status) \(answer.text)") }
        } catch {
            guard fault.killsCore, !((error as? ServiceUnderTest.Failure)?.description.hasPrefix("4") ?? false) else { throw error }
        }
    }

    private func move(_ act: Act, _ call: String, _ fault: Fault, _ service: ServiceUnderTest) async throws {
        let cell = "\(act) \(call) \(fault)"
        let (from, to) = act == .moveIn ? ("plain", "fault") : ("fault", "plain")
        let id = try service.create(["volume_type": act == .moveIn ? "plain" : "faulty"])
        let before = try #require(try service.wait(id, "available"))
        try ServiceUnderTest.write(path(service, before), Self.data, keepingSize: true)
        try backend.set("\(call) \(fault.rawValue) 1\n")
        // The type would refuse the other backend: it is the retype that moves.
        let type: JSON = act == .moveIn ? "faulty" : "plain"
        try ask(fault) { try MoveTests.action(service, id, "os-retype", ["new_type": type, "migration_policy": "on-demand"]) }
        let volume = try MoveTests.settled(service, id)
        // Behind the switch nothing fails any more; a map that the driver leaves out is all data.
        let passes = fault.passes || ["rename_volume", "delete_volume"].contains(call) || (call == "extents" && fault == .unsupported)
        #expect(volume["status"] == "available", "\(cell)")
        #expect(volume["migration_status"]?.string == (passes ? "success" : "error"), "\(cell)")
        #expect(volume["os-vol-host-attr:host"]?.string == "node@\(passes ? to : from)#files", "\(cell)")
        #expect(volume["volume_type"] == (passes == (act == .moveIn) ? "faulty" : "plain"), "\(cell)")
        let isRenamed = volume["os-vol-mig-status-attr:name_id"] == .null
        #expect(isRenamed == !(call == "rename_volume" && !fault.passes && fault != .errorAfter) || fault == .errorAfter, "\(cell): name")
        #expect(try ServiceUnderTest.read(backend.faults).isEmpty, "\(cell): the fault was not met")
        if fault != .errorAfter || call != "rename_volume" {
            #expect(try ServiceUnderTest.read(path(service, volume), atMost: Self.data.utf8.count) == Self.data, "\(cell): data")
        }
        // An old object that could not be removed is what the doctor finds; nothing else is.
        let findings = try await DoctorTests.examine(service).findings
        let isLeft = call == "delete_volume" && !fault.passes && fault != .errorAfter
        let isLost = call == "rename_volume" && fault == .errorAfter
        if isLeft {
            #expect(findings.count == 1 && findings[0]["kind"] == "orphan-storage", "\(cell): \(findings)")
            unlink(backend.directory + "/volumes/volume-" + id)
        } else if !isLost {
            #expect(findings.isEmpty, "\(cell): \(findings)")
        }
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202, "\(cell): delete afterwards")
        try service.wait(id, nil)
        #expect(try service.usage("volumes") == 0 && service.usage("volumes_faulty") == 0 && service.usage("volumes_plain") == 0, "\(cell)")
        for name in backend.files { unlink(backend.directory + "/volumes/" + name) }
    }

    private func take(_ act: Act, _ call: String, _ fault: Fault, _ service: ServiceUnderTest) async throws {
        let cell = "\(act) \(call) \(fault)"
        let directory = backend.directory + "/volumes/"
        /// Optional calls that a driver leaves out have nothing to do.
        let passes =
            fault.passes
            || (fault == .unsupported && ["unexport_volume", "unmanage_volume", "unmanage_snapshot", "list_volumes"].contains(call))
        let source = try service.create(["volume_type": "faulty"])
        try service.wait(source, "available")
        switch act {
        case .manage:
            try ServiceUnderTest.write(directory + "legacy", Self.data)
            guard truncate(directory + "legacy", 1 << 30) == 0 else { throw ServiceUnderTest.Failure("truncate") }
            try backend.set("\(call) \(fault.rawValue) 1\n")
            try ask(fault) {
                try service.api(
                    "POST", "/manageable_volumes",
                    ["volume": ["host": "node@fault", "volume_type": "faulty", "ref": ["source-name": "legacy"]]])
            }
            let id = try #require(
                try await eventually { try service.api("GET", "/volumes").json["volumes"]?.array?.compactMap { $0["id"]?.string } ?? [] }
                    .first { $0 != source })
            let volume = try service.wait(id, passes ? "available" : "error")
            #expect(volume?["size"]?.integer == (passes ? 1 : 0), "\(cell)")
            if passes { #expect(try ServiceUnderTest.read(directory + "volume-" + id, atMost: 12) == Self.data, "\(cell)") }
            #expect(try service.usage("gigabytes") == (passes ? 2 : 1), "\(cell)")
            #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
            try service.wait(id, nil)
        case .unmanage:
            try backend.set("\(call) \(fault.rawValue) 1\n")
            try ask(fault) { try service.api("POST", "/volumes/\(source)/action", ["os-unmanage": [:]]) }
            try service.wait(source, passes ? nil : "error_unmanaging")
            #expect(backend.files.contains("volume-" + source), "\(cell): the storage stays")
        case .manageSnapshot, .unmanageSnapshot:
            let snapshot = try SnapshotTests.snapshot(service, of: source)
            try SnapshotTests.wait(service, snapshot, "available")
            if act == .unmanageSnapshot { try backend.set("\(call) \(fault.rawValue) 1\n") }
            try ask(act == .unmanageSnapshot ? fault : .retry) {
                try service.api("POST", "/snapshots/\(snapshot)/action", ["os-unmanage": [:]])
            }
            try SnapshotTests.wait(service, snapshot, act == .manageSnapshot || passes ? nil : "error")
            #expect(backend.files.contains("snapshot-" + snapshot), "\(cell): the storage stays")
            guard act == .manageSnapshot else { break }
            try backend.set("\(call) \(fault.rawValue) 1\n")
            try ask(fault) {
                try service.api(
                    "POST", "/manageable_snapshots",
                    ["snapshot": ["volume_id": .string(source), "ref": ["source-name": .string("snapshot-" + snapshot)]]])
            }
            let back = try #require(
                try await eventually {
                    try service.api("GET", "/snapshots").json["snapshots"]?.array?.compactMap { $0["id"]?.string } ?? []
                }
                .first)
            try SnapshotTests.wait(service, back, passes ? "available" : "error")
        default: break
        }
        #expect(try ServiceUnderTest.read(backend.faults).isEmpty, "\(cell): the fault was not met")
        if fault != .errorAfter { #expect(try await DoctorTests.examine(service).findings.isEmpty, "\(cell)") }
        if try service.volume(source) != nil {
            if act == .unmanage { _ = try service.api("POST", "/volumes/\(source)/action", ["os-reset_status": ["status": "available"]]) }
            #expect(try service.api("DELETE", "/volumes/\(source)?cascade=true&force=true").status == 202, "\(cell): delete afterwards")
            try service.wait(source, nil)
        }
        #expect(try service.usage("volumes") == 0 && service.usage("gigabytes") == 0 && service.usage("snapshots") == 0, "\(cell): charge")
        for name in backend.files { unlink(directory + name) }
    }

    /// The first answer that is not empty.
    private func eventually<Answer>(_ ask: () throws -> [Answer]) async throws -> [Answer] {
        let limit = Timestamp.monotonic() + 60
        while Timestamp.monotonic() < limit {
            if let found = try? ask(), found.count > 0 { return found }
            usleep(10_000)
        }
        return []
    }

    @Test(
        "a copy that fails and cannot be taken back leaves the volume as it was; an operation removes the new object, else the doctor finds it",
        arguments: [1, 2])
    func notTakenBack(refusals: Int) async throws {
        let service = try service()
        let id = try service.create(["volume_type": "plain"])
        try service.wait(id, "available")
        try backend.set("write 1 1\ndelete_volume 1 \(refusals)\n")
        try ServiceUnderTest.write(service.state + "/volumes/plain/volume-" + id, Self.data, keepingSize: true)
        #expect(try MoveTests.action(service, id, "os-retype", ["new_type": "faulty", "migration_policy": "on-demand"]).status == 202)
        let volume = try MoveTests.settled(service, id)
        #expect(
            volume["status"] == "available" && volume["os-vol-host-attr:host"] == "node@plain#files" && volume["volume_type"] == "plain")
        let removal = try #require(
            try await eventually {
                try service.api("GET", "/operations?flow=volume.remove_unused_object").json["operations"]?.array?.first.map {
                    [$0]
                } ?? []
            }.first)
        #expect(removal["resource_id"] != .string(id))
        _ = try await eventually {
            try service.api("GET", "/operations?state=running&flow=volume.remove_unused_object").json["operations"]?.array == []
                ? ["ended"] : []
        }
        #expect(try ServiceUnderTest.read(backend.faults).isEmpty)
        let findings = try await DoctorTests.examine(service).findings
        #expect(findings.map { $0["kind"]?.string } == (refusals == 1 ? [] : ["orphan-storage"]), "\(findings)")
    }

    @Test("every act, each of its driver calls, each fault", arguments: Act.allCases)
    func table(act: Act) async throws {
        let service = try service()
        for call in act.calls {
            for fault in Fault.allCases where FaultSample.holds("\(act) \(call) \(fault)") {
                if act == .moveIn || act == .moveOut {
                    try await move(act, call, fault, service)
                } else {
                    try await take(act, call, fault, service)
                }
            }
        }
    }
}
