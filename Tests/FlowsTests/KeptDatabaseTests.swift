import BlockStorage
import Database
import JSON
import Testing

@testable import Flows

/// Kept/README.md says where the database comes from.
@Suite("A database of the release before")
struct KeptDatabaseTests {
    private static let unfinishedSQL = SQL("SELECT id FROM operations WHERE finished_at IS NULL ORDER BY created_at")
    /// The flows of that release.
    private static let written: Set<String> = [
        "attachment.connect", "attachment.delete", "snapshot.create", "snapshot.delete", "snapshot.manage", "snapshot.unmanage",
        "volume.connect", "volume.create", "volume.delete", "volume.disconnect", "volume.extend", "volume.manage", "volume.migrate",
        "volume.restore_export", "volume.retype", "volume.revert", "volume.unmanage",
    ]
    private static let volumesSQL = SQL("SELECT id FROM volumes")

    @Test("is upgraded, and the operations that were stopped in the middle of every flow end well")
    func upgrade() async throws {
        let bench = try await FlowBench(kept: try Kept.text("schema-8.sql"))
        defer { bench.close() }
        let unfinished = try await bench.database.read { connection in
            try connection.rows(Self.unfinishedSQL) { $0.text(0) }.compactMap { try Operations.find($0, in: connection) }
        }
        #expect(Set(unfinished.map(\.flow.name)) == Self.written)
        let retyped = unfinished.filter { $0.flow == RetypeVolume.id }.compactMap(\.step)
        #expect(Set(retyped) == ["make", "copy", "remove the old", "rename"])
        #expect(unfinished.contains { $0.isReverting && $0.step == "make" })
        try await fill(bench, unfinished)

        bench.script.begin([:])
        while true {
            let runnable = try await bench.database.read { try Operations.runnable(in: $0) }
            if runnable.isEmpty { break }
            for operation in runnable { try await bench.carryOut(operation.id, interrupted: true) }
        }

        for before in unfinished {
            let after = try await bench.database.read { try #require(try Operations.find(before.id, in: $0)) }
            // A connection that nobody waits for any more is taken back; so is what was being taken back.
            let isTakenBack = [ConnectVolume.id, ConnectAttachment.id].contains(before.flow) || before.isReverting
            #expect(after.state == (isTakenBack ? .failed : .done), "\(before.flow): \(after.error ?? "")")
        }
        let findings = try await bench.findings()
        #expect(findings.isEmpty)
        for id in try await bench.database.read({ try $0.rows(Self.volumesSQL) { $0.text(0) } }) {
            let volume = try await bench.database.read { try #require(try Volumes.find(id, in: $0)) }
            #expect([.available, .inUse, .error].contains(volume.status), "\(volume.name ?? ""): \(volume.status)")
            guard let host = volume.host else { continue }
            let stored = bench.backends.all.first { $0.host == HostName.backend(of: host) }?["volume-" + (volume.nameID ?? volume.id)]
            #expect(stored?.size == Int64(volume.size), "\(volume.name ?? "")")
            #expect(volume.migrationStatus != .success || stored?.content == "content", "\(volume.name ?? "")")
        }
    }

    /// Gives the backends what they held when the service was stopped.
    private func fill(_ bench: FlowBench, _ operations: [BlockStorage.Operation]) async throws {
        func backend(_ host: String) -> MemoryBackend? { bench.backends.all.first { $0.host == HostName.backend(of: host) } }
        for id in try await bench.database.read({ try $0.rows(Self.volumesSQL) { $0.text(0) } }) {
            let (volume, snapshots) = try await bench.database.read {
                (try #require(try Volumes.find(id, in: $0)), try Snapshots.ofVolume(id, in: $0))
            }
            guard let host = volume.host, volume.status != .creating else { continue }
            var object = MemoryBackend.Object(size: Int64(volume.size), content: "content", isExported: true)
            for snapshot in snapshots where snapshot.status != .creating { object.snapshots["snapshot-" + snapshot.id] = "content" }
            backend(host)?[volume.status == .managing ? "legacy" : "volume-" + (volume.nameID ?? volume.id)] = object
        }
        for operation in operations {
            let volume = try await bench.database.read { try #require(try Volumes.find(operation.resourceID, in: $0)) }
            let object = MemoryBackend.Object(size: Int64(volume.size), content: "content")
            switch operation.flow {
            case RetypeVolume.id:
                let (arguments, state) = (
                    try RetypeVolumeArguments(parsing: operation.arguments), try MoveState(parsing: operation.stepState)
                )
                if let old = state.old, operation.step == "remove the old" { backend(old.host)?["volume-" + old.nameID] = object }
                if operation.step == "copy", let host = state.host {
                    backend(host)?["volume-" + (arguments.targetID ?? "")] = MemoryBackend.Object(size: Int64(volume.size))
                }
            case ManageSnapshot.id:
                let reference = try ManageSnapshotArguments(parsing: operation.arguments).reference["source-name"]?.string ?? ""
                backend(volume.host ?? "")?["volume-" + volume.id]?.snapshots[reference] = "content"
            case CreateVolume.id where operation.isReverting: backend(volume.host ?? "")?["volume-" + volume.id] = object
            default: break
            }
        }
    }
}
