import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The fault table of backups: each call of the driver and of the store that making, restoring and deleting one consists of, each way in
/// which it can go wrong, processes of every kind killed in the middle of it, and what there is afterwards.
@Suite("Fault table of backups", .serialized)
struct FaultBackupTests {
    /// What is done.
    enum Act: String, CaseIterable, Sendable {
        case backup, increment, restore, restoreOver, delete
    }

    /// How a call goes wrong: the fault plugin's action, once.
    enum Fault: String, CaseIterable, Sendable {
        case error = "1"
        case retry = "2"
        case busy = "3"
        case notFound = "4"
        case noSpace = "6"
        case unsupported = "7"
        case badConfiguration = "8"
        case errorAfter = "1!"
        case crash
        case crashAfter = "crash!"
        case coreDies = "core"
        case coreDiesAfter = "core!"
        case serviceDies = "service"
        case serviceDiesAfter = "service!"

        var killsService: Bool { self == .serviceDies || self == .serviceDiesAfter }
        var killsCore: Bool { self == .coreDies || self == .coreDiesAfter || killsService }
        /// Whether what was begun is carried on, so that the user sees nothing.
        var passes: Bool { killsCore || [.retry, .crash, .crashAfter].contains(self) }
    }

    /// A part of the table: its acts differ in what they call.
    struct Row: Sendable, CustomTestStringConvertible {
        let act: Act
        let format: String
        var testDescription: String { "\(act) in \(format)" }

        static let all = Act.allCases.flatMap { act in ["cinder", "repository"].map { Row(act: act, format: $0) } }

        /// The calls of the driver, and of the store.
        var calls: [String] {
            let isRepository = format == "repository"
            switch act {
            case .backup, .increment:
                return ["create_snapshot", "open_handle", "get_size", "extents", "read", "delete_snapshot", "store_put"]
                    + (isRepository ? ["store_list"] : ["store_put_open", "store_put_write", "store_put_close"])
                    + (act == .increment ? ["store_get"] : [])
            case .restore: return ["create_volume", "open_handle", "get_size", "write", "flush", "store_get"]
            case .restoreOver: return ["open_handle", "get_size", "write", "flush", "store_get"]
            case .delete: return isRepository ? ["store_list", "store_get", "store_remove"] : ["store_list", "store_remove"]
            }
        }

        /// Whether the act succeeds though the call went wrong.
        func passes(_ call: String, _ fault: Fault) -> Bool {
            if fault.passes { return true }
            switch call {
            // What was read is removed by an operation of its own, behind the backup.
            case "delete_snapshot": return true
            // A driver without snapshots: the volume itself is read. A map that it leaves out: all is data.
            case "create_snapshot", "extents": return fault == .unsupported
            // What it looks for first is what an attempt before it left, of which there is nothing.
            case "store_get": return act == .increment && format == "cinder" && fault == .notFound
            default: return false
            }
        }
    }

    /// What a volume that is written over is when the restoration failed: refused before anything of it was written, it is as it was.
    private static func stateOfTarget(_ call: String, _ fault: Fault) -> String {
        ["open_handle", "get_size"].contains(call) && [.busy, .unsupported].contains(fault) ? "available" : "error_restoring"
    }

    /// A service of the faulty backend with a faulty store, and a volume that is backed up.
    private final class Bed {
        let backend: FaultyBackend
        let service: ServiceUnderTest
        let row: Row
        private(set) var volume = ""

        init(_ row: Row) throws {
            self.row = row
            backend = try FaultyBackend()
            // The store makes no directory that was named.
            guard mkdir(backend.directory + "/store", 0o700) == 0 else { throw SystemError.last("cannot make the store") }
            let libraries = String(ServiceUnderTest.binary.dropLast("clinker".count))
            service = try backend.service(
                options: "quota_backups = -1\nquota_backup_gigabytes = -1\nenabled_backup_stores = shop",
                more: """
                    [shop]
                    backup_driver = \(backend.directory)/clinker-fault.so
                    backup_format = \(row.format)
                    wrapped = \(libraries)libClinkerBackupPOSIX.so
                    faults = \(backend.faults)
                    backup_posix_path = \(backend.directory)/store
                    """, callTimeout: 30)
            try waitForStore()
            volume = try service.create(["name": "kept"])
            try service.wait(volume, "available")
            try fill(volume, seed: 1)
        }

        func waitForStore() throws {
            let limit = Timestamp.monotonic() + 30
            while (try? service.api("GET", "/os-services?binary=cinder-backup").text.contains("\"up\"")) != true {
                guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("no backup service: \(service.story)") }
                usleep(10_000)
            }
        }

        func path(_ id: String) -> String { backend.directory + "/volumes/volume-" + id }

        func fill(_ id: String, seed: UInt64) throws {
            let file = open(path(id), O_WRONLY | O_CLOEXEC)
            guard file >= 0 else { throw SystemError.last("cannot open the volume") }
            defer { close(file) }
            var state = seed
            for offset in [0, 5 << 20, (1 << 30) - 65_536] {
                let bytes = (0..<65_536).map { _ -> UInt8 in
                    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    return UInt8(truncatingIfNeeded: state >> 33)
                }
                guard pwrite(file, bytes, bytes.count, off_t(offset)) == bytes.count else {
                    throw SystemError.last("cannot write the volume")
                }
            }
        }

        func isSame(_ a: String, _ b: String) async throws -> Bool {
            try await ServiceUnderTest.run("/usr/bin/cmp", [path(a), path(b)]).status == 0
        }

        func backup(_ fields: JSONObject = [:]) throws -> String {
            let id = try BackupTests.backup(service, of: volume, fields)
            try BackupTests.wait(service, id, "available")
            return id
        }

        func remove(backup id: String) throws {
            #expect(try service.api("DELETE", "/backups/\(id)").status == 202)
            try BackupTests.wait(service, id, nil)
        }

        func ask(_ fault: Fault, _ path: String, _ body: JSON) throws -> JSON? { try backend.ask(fault, service, path, body) }

        /// The only one of a list that is none of those known, where no answer said which.
        func found(_ list: String, besides known: [String]) throws -> String {
            let limit = Timestamp.monotonic() + 20
            while Timestamp.monotonic() < limit {
                let ids = try? service.api("GET", "/" + list).json[list]?.array?.compactMap { $0["id"]?.string }
                if let id = ids?.first(where: { !known.contains($0) }) { return id }
                usleep(20_000)
            }
            throw ServiceUnderTest.Failure("there are no new \(list)")
        }

        /// Waits until the fault was met, and starts the service again if that killed it.
        func meet(_ fault: Fault, _ cell: String) throws {
            if try backend.meet(fault, service, cell) { try waitForStore() }
        }
    }

    private func run(_ call: String, _ fault: Fault, _ bed: Bed) async throws {
        let (service, act) = (bed.service, bed.row.act)
        let cell = "\(bed.row.testDescription), \(call) \(fault)"
        let passes = bed.row.passes(call, fault)
        var backups: [String] = []
        if act != .backup { backups.append(try bed.backup()) }
        if act == .increment { try bed.fill(bed.volume, seed: 2) }
        var target = ""
        if act == .restoreOver {
            target = try service.create(["name": "other"])
            try service.wait(target, "available")
        }
        try bed.backend.set("\(call) \(fault.rawValue) 1\n")
        switch act {
        case .backup, .increment:
            let body: JSON = ["backup": ["volume_id": .string(bed.volume), "incremental": .bool(act == .increment)]]
            let made = try bed.ask(fault, "/backups", body)?["backup"]?["id"]?.string
            try bed.meet(fault, cell)
            let id = try made ?? bed.found("backups", besides: backups)
            backups.append(id)
            let backup = try BackupTests.wait(service, id, passes ? "available" : "error")
            if !passes { #expect(backup?["fail_reason"]?.string?.isEmpty == false, "\(cell): no reason") }
            #expect(try service.wait(bed.volume, "available") != nil, "\(cell): the volume")
        case .restore, .restoreOver:
            let body: JSON = ["restore": act == .restore ? [:] : ["volume_id": .string(target)]]
            let made = try bed.ask(fault, "/backups/\(backups[0])/restore", body)?["restore"]?["volume_id"]?.string
            try bed.meet(fault, cell)
            if act == .restore { target = try made ?? bed.found("volumes", besides: [bed.volume]) }
            try service.wait(target, passes ? "available" : act == .restore ? "error" : Self.stateOfTarget(call, fault), seconds: 240)
            let backup = try BackupTests.wait(service, backups[0], "available")
            if !passes { #expect(backup?["fail_reason"]?.string?.isEmpty == false, "\(cell): no reason") }
            if passes { #expect(try await bed.isSame(target, bed.volume), "\(cell): what was restored is not what was backed up") }
        case .delete:
            do { #expect(try service.api("DELETE", "/backups/\(backups[0])").status == 202, "\(cell)") } catch {
                guard fault.killsCore else { throw error }
            }
            try bed.meet(fault, cell)
            try BackupTests.wait(service, backups[0], passes ? nil : "error_deleting")
            if passes { backups = [] }
        }
        // What was made though something went wrong is whole; so is what it rests on, whatever became of the increment.
        if act == .backup || act == .increment, passes || act == .increment {
            let whole = passes ? backups[backups.count - 1] : backups[0]
            let restored = try service.create(["backup_id": .string(whole)])
            try service.wait(restored, "available", seconds: 240)
            if passes { #expect(try await bed.isSame(restored, bed.volume), "\(cell): what was made is not the volume") }
            try BackupTests.wait(service, whole, "available")
            #expect(try service.api("DELETE", "/volumes/\(restored)").status == 202)
            try service.wait(restored, nil)
        }
        try await settle(cell, bed, backups, target)
    }

    /// Everything can be deleted afterwards; then nothing is left, and nobody is charged.
    private func settle(_ cell: String, _ bed: Bed, _ backups: [String], _ target: String) async throws {
        let service = bed.service
        if !target.isEmpty {
            #expect(try service.api("DELETE", "/volumes/\(target)?force=true").status == 202, "\(cell): delete afterwards")
            try service.wait(target, nil)
        }
        for id in backups.reversed() { try bed.remove(backup: id) }
        let limit = Timestamp.monotonic() + 20
        // The snapshots that were read go behind the backups.
        while bed.backend.files != ["volume-" + bed.volume], Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(bed.backend.files == ["volume-" + bed.volume], "\(cell): files")
        #expect(try service.usage("backups") == 0 && service.usage("backup_gigabytes") == 0, "\(cell): charge")
        #expect(try service.usage("volumes") == 1 && service.usage("snapshots") == 0, "\(cell): charge of volumes")
        let findings = try await DoctorTests.examine(service).findings
        #expect(findings.isEmpty, "\(cell): \(findings)")
        if bed.row.format == "cinder" {
            let left = try await ServiceUnderTest.run(
                "/usr/bin/find", [bed.backend.directory + "/store", "-type", "f", "-name", "volume_*"])
            #expect(left.output.isEmpty, "\(cell): left in the store: \(left.output)")
        }
        try bed.fill(bed.volume, seed: 1)
    }

    @Test("every act in both formats, each of its calls of driver and store, each fault", arguments: Row.all)
    func table(row: Row) async throws {
        // Each of more than a thousand cells takes some seconds.
        let cells = row.calls.flatMap { call in Fault.allCases.map { (call: call, fault: $0) } }
            .filter { FaultSample.holds("\(row.testDescription) \($0.call) \($0.fault)", oneOf: 90) }
        guard !cells.isEmpty else { return }
        let bed = try Bed(row)
        for cell in cells {
            do { try await run(cell.call, cell.fault, bed) } catch {
                Issue.record("\(row.testDescription), \(cell.call) \(cell.fault): \(String(describing: error).prefix(600))")
                return
            }
        }
    }
}
