import Database
import DriverHost
import Primitives
import Testing

@testable import BlockStorage
@testable import Flows

/// Volumes that the Compute service copies, where somebody or something else comes between.
@Suite("Volumes that the Compute service copies")
struct SwapTests {
    private static let instance = "20000000-0000-4000-8000-000000000000"
    private static let messagesSQL = SQL("SELECT event_id FROM messages WHERE request_id = ?")

    /// The copy of a volume.
    private func copy(of volume: String, _ bench: FlowBench) async throws -> Volume {
        try await bench.database.read { connection in
            let target = MigrationStatus.target(of: volume)
            let id = try #require(try connection.first(Act.copySQL, .text(target.rawValue)) { $0.text(0) })
            return try #require(try Volumes.find(id, in: connection))
        }
    }

    private func attachments(of volume: String, _ bench: FlowBench) async throws -> [BlockStorage.Attachment] {
        try await bench.database.read { try Attachments.ofVolume(volume, in: $0) }
    }

    private func refuses(_ bench: FlowBench, _ what: String, _ work: @escaping @Sendable (any Transaction) throws -> Void) async {
        await #expect(throws: StorageError.self, "\(what)") { try await bench.database.write { try work($0) } }
    }

    @Test("the copy is nobody's but the Compute service's, which attaches it to the instance that it moves; no policy copies it")
    func strangers() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let (caller, requests) = (bench.caller(), bench.requests)
        let (volume, id) = try await Act.migrateAttached.begin(bench, caller)
        // The process dies before it asks the Compute service.
        let mortal = DyingDatabase(bench.database, death: (1, true))
        await #expect(throws: DyingDatabase.Death.self) { try await bench.carryOut(id, through: mortal) }
        #expect(try await bench.database.read { try Operations.find(id, in: $0)?.step } == "ask")
        let copy = try await copy(of: volume, bench).id
        let tenant = Caller(userID: "user", projectID: caller.projectID, isAdmin: false, requestID: "req-tenant")
        let moved = try #require(try await attachments(of: volume, bench).first?.instanceID)
        for (who, instance) in [(tenant, Self.instance), (tenant, moved), (caller, Self.instance)] {
            await refuses(bench, "reserve") {
                _ = try requests.reserve(volumeID: copy, instanceID: instance, mode: nil, caller: who, in: $0)
            }
            await refuses(bench, "attach") {
                try Attachments.attach(
                    volumeID: copy, instanceID: instance, host: nil, mountpoint: "/dev/vdb", mode: "rw", caller: who, in: $0)
            }
            await refuses(bench, "os-reserve") { try Volumes.reserve(copy, caller: who, in: $0) }
            await refuses(bench, "os-initialize_connection") {
                _ = try requests.connect(volumeID: copy, connector: ["host": "h"], caller: who, in: $0)
            }
        }
        #expect(throws: StorageError.self) { try bench.database.readBlocking { _ = try Volumes.get(copy, for: tenant, in: $0) } }
        #expect(throws: StorageError.self) { try bench.database.readBlocking { _ = try Volumes.shown(copy, to: tenant, in: $0) } }
        let covered = try await bench.database.write { tx in
            var settings = BackupPolicySettings()
            settings.name = "daily"
            let policy = try BackupPolicies.create(settings, caller: caller, in: tx)
            _ = try BackupPolicyAssignments.create(policy.id, .project, caller.projectID, caller: caller, in: tx)
            return try BackupPolicies.volumes(of: policy, in: tx).map(\.id)
        }
        #expect(covered == [volume])
        bench.script.begin([:])
        try await bench.carryOut(id, interrupted: true)
        #expect(try await attachments(of: copy, bench).map(\.instanceID) == [moved])
    }

    @Test("a volume that gets another type stays so, whoever completes an attachment, and does not grow before it has moved")
    func retyping() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let (caller, requests) = (bench.caller(), bench.requests)
        let (volume, id) = try await Act.retypeAttachedElsewhere.begin(bench, caller)
        let attachment = try #require(try await attachments(of: volume, bench).first)
        try await bench.database.write { try Attachments.complete(attachment.id, caller: caller, in: $0) }
        #expect(try await bench.database.read { try Volumes.find(volume, in: $0)?.status } == .retyping)
        await refuses(bench, "extend") { _ = try requests.extend(volume, to: 9, allowAttached: true, caller: caller, in: $0) }
        // Even where the status were another.
        try await bench.database.write { tx in
            try Volumes.setStatus(.inUse, of: try #require(try Volumes.lock(volume, in: tx)), in: tx)
        }
        await refuses(bench, "extend in use") { _ = try requests.extend(volume, to: 9, allowAttached: true, caller: caller, in: $0) }
        bench.script.begin([:])
        try await bench.carryOut(id)
    }

    @Test("that somebody else's attachment is on the copy does not mean that the Compute service heard")
    func foreignAttachment() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let caller = bench.caller()
        let (volume, id) = try await Act.migrateAttached.begin(bench, caller)
        let mortal = DyingDatabase(bench.database, death: (1, true))
        await #expect(throws: DyingDatabase.Death.self) { try await bench.carryOut(id, through: mortal) }
        let copy = try await copy(of: volume, bench).id
        // As an earlier release let it happen.
        try await bench.database.write { tx in
            _ = try Attachments.insert(
                volume: try #require(try Volumes.lock(copy, in: tx)), instanceID: Self.instance, host: nil, mountpoint: nil,
                status: .reserved, mode: nil, attachedAt: nil, connector: nil, in: tx)
        }
        bench.script.begin([:])
        try await bench.carryOut(id, interrupted: true)
        #expect(bench.script.calls == ["swap volumes"])
    }

    @Test("who lets go of the copy while the migration ends finds the attachment at the volume, which keeps it until he asks again")
    func movedAttachment() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let (caller, requests) = (bench.caller(), bench.requests)
        let (volume, finish) = try await Act.finishMigration.begin(bench, caller)
        let copy = try await copy(of: volume, bench).id
        let attachment = try #require(try await attachments(of: copy, bench).first)
        func letGo() async throws -> String {
            try await bench.database.write {
                try #require(try requests.deleteAttachment(attachment.id, permit: .everything, caller: caller, in: $0))
            }
        }
        let late = try await letGo()
        bench.script.begin([:])
        try await bench.carryOut(finish)
        try await bench.carryOut(late)
        #expect(bench.script.calls.isEmpty)
        #expect(try await attachments(of: volume, bench).map(\.id) == [attachment.id])
        let rows = try await bench.database.read { (try Volumes.find(volume, in: $0), try Volumes.find(copy, in: $0)) }
        #expect(rows.0?.status == .inUse && rows.0?.attachStatus == .attached)
        #expect(rows.1?.status == .deleting)
        try await bench.carryOut(letGo())
        #expect(try await attachments(of: volume, bench).isEmpty)
        #expect(try await bench.database.read { try Volumes.find(volume, in: $0)?.status } == .available)
        try await bench.carryOutRest(of: caller)
        #expect(try await bench.database.read { try Volumes.find(copy, in: $0) } == nil)
        let findings = try await bench.findings()
        #expect(findings.isEmpty)
    }

    @Test("a user is told the same whether or not the process dies while what failed is taken back")
    func messages() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let requests = bench.requests
        try await bench.database.write {
            _ = try VolumeTypes.create(
                name: "nowhere", description: nil, isPublic: true, extraSpecs: ["volume_backend_name": "nowhere"], in: $0)
        }
        /// What the user is told of a request that fails with the fault in that driver call; nil: no pool takes the volume.
        func told(_ act: Act?, _ call: String?, death: (write: Int, isCommitted: Bool)?) async throws -> (events: [String]?, writes: Int) {
            let caller = bench.caller()
            let begun: (volume: String, operation: String)
            if let act {
                begun = try await act.begin(bench, caller)
            } else {
                let volume = try await bench.perform { tx in
                    var new = NewVolume()
                    (new.size, new.typeName) = (1, "one")
                    return try requests.create(new, caller: caller, in: tx)
                }
                begun = try await bench.begin { tx in
                    try requests.retype(volume, to: "nowhere", mayMigrate: true, caller: caller, in: tx)
                    return volume
                }
            }
            let calls = ["create_volume", "swap volumes"]
            bench.script.begin(call.flatMap { calls.firstIndex(of: $0) }.map { [$0: Fault(code: .invalid)] } ?? [:])
            let mortal = DyingDatabase(bench.database, death: death)
            do { try await bench.carryOut(begun.operation, through: mortal) } catch is DyingDatabase.Death {
                try await bench.carryOut(begun.operation, interrupted: true)
            }
            // A fault that came before the death does not come again: it may be carried out then. Or it meets the repetition of another call.
            let isDone = try await bench.database.read { try Operations.find(begun.operation, in: $0)?.state } == .done
            let hasFailed = !isDone && bench.script.failed == (call.map { [$0] } ?? [])
            let events = try await bench.database.read { connection in
                try connection.rows(Self.messagesSQL, .text(caller.requestID)) { $0.text(0) }
            }
            return (hasFailed ? events : nil, mortal.writes)
        }
        let cases: [(act: Act?, call: String?, event: String)] = [
            (nil, nil, "VOLUME_VOLUME_001_003"), (.migrate, "create_volume", "VOLUME_VOLUME_008_012"),
            (.migrateAttached, "create_volume", "VOLUME_VOLUME_008_012"), (.migrateAttached, "swap volumes", "VOLUME_VOLUME_103_107"),
        ]
        for (act, call, event) in cases {
            let whole = try await told(act, call, death: nil)
            #expect(whole.events == [event])
            var failed = 0
            for write in 0..<whole.writes {
                for isCommitted in [false, true] {
                    guard let events = try await told(act, call, death: (write, isCommitted)).events else { continue }
                    #expect(events == [event], "\(call ?? "place"): commit \(write)")
                    failed += 1
                }
            }
            #expect(failed > 2)
        }
    }
}
