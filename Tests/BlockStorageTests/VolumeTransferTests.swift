import Database
import JSON
import Primitives
import Testing

@testable import BlockStorage

@Suite("Transfers of volumes")
struct VolumeTransferTests {
    private let storage: Storage
    private let other = Caller(userID: "x", projectID: "q", isAdmin: false, requestID: "req-other")

    init() async throws { storage = try await Storage("[DEFAULT]\nquota_volumes = 2\nquota_snapshots = 1\n") }

    private func volume(size: Int = 1) async throws -> String {
        let id = try await storage.create(size)
        try await storage.finish(id)
        return id
    }

    private func snapshot(of volume: String) async throws -> String {
        let id = try await storage.database.write { [storage] in
            try storage.requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: false, caller: storage.caller, in: $0)
        }
        try await storage.finish(volume)
        try await storage.database.write { tx in
            if let snapshot = try Snapshots.lock(id, in: tx) { try Snapshots.made(snapshot, driverData: nil, in: tx) }
        }
        return id
    }

    private func offer(_ volume: String, leavesSnapshots: Bool = false, by caller: Caller? = nil) async throws -> VolumeTransfer {
        try await storage.database.write { [storage] in
            try storage.requests.offer(
                volume, name: nil, leavesSnapshots: leavesSnapshots, key: TransferKey(digits: 16), caller: caller ?? storage.caller, in: $0)
        }
    }

    private func accept(_ transfer: VolumeTransfer, key: Secret? = nil, by caller: Caller? = nil) async throws {
        let key = try #require(key ?? transfer.key)
        _ = try await storage.database.write { [storage, other] in
            try storage.requests.accept(transfer.id, key: key, caller: caller ?? other, in: $0)
        }
    }

    private func usages(_ project: String) throws -> [String: Int] {
        try storage.database.readBlocking { try Quotas.usages(ofProject: project, in: $0) }.filter { $0.value != 0 }
    }

    private func drift() throws -> [Finding] {
        try storage.database.readBlocking {
            try DatabaseExamination.findings(knownFlows: [], reservationAge: 1, snapshotsChargeGigabytes: true, in: $0)
        }.filter { $0.kind == .quota }
    }

    private func volume(_ id: String) throws -> Volume {
        try #require(try storage.database.readBlocking { try Volumes.find(id, in: $0) })
    }

    @Test("a volume goes with its snapshots and with what they are charged")
    func whole() async throws {
        let id = try await volume(size: 3)
        let snapshot = try await snapshot(of: id)
        let transfer = try await offer(id)
        #expect(try storage.status(id) == "awaiting-transfer")
        try await accept(transfer)
        let moved = try volume(id)
        #expect(moved.projectID == "q" && moved.userID == "x" && moved.status == .available)
        #expect(try storage.database.readBlocking { try Snapshots.find(snapshot, in: $0) }?.projectID == "q")
        #expect(try usages("p") == [:])
        #expect(try usages("q")["volumes"] == 1 && usages("q")["gigabytes"] == 6 && usages("q")["snapshots___DEFAULT__"] == 1)
        #expect(try drift().isEmpty)
        await #expect(throws: VolumeTransfers.notFound(transfer.id)) { try await accept(transfer) }
        let events = try storage.database.readBlocking { try Events.after(0, limit: 100, in: $0) }.filter { $0.kind.contains("transfer") }
        #expect(
            events.map { $0.kind + " " + $0.projectID } == [
                "volume.transfer.create p", "volume.transfer.accept p", "volume.transfer.accept q",
            ])
    }

    @Test("the quota of who accepts is that of any creation; a refusal leaves everything as it was")
    func quota() async throws {
        let full = Caller(userID: "x", projectID: "q", isAdmin: false, requestID: "req")
        for _ in 0..<2 { try await accept(offer(volume())) }
        let id = try await volume()
        let transfer = try await offer(id)
        await #expect(
            throws: StorageError(.overQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (2) exceeded for quota 'volumes'.")
        ) { try await accept(transfer, by: full) }
        #expect(try volume(id).projectID == "p" && storage.status(id) == "awaiting-transfer")
        #expect(try usages("p")["volumes"] == 1 && usages("q")["volumes"] == 2)
        // Its own project has room for what it has.
        try await accept(transfer, by: storage.caller)
        #expect(try usages("p")["volumes"] == 1 && drift().isEmpty)
    }

    @Test("snapshots that are left stay their project's, which alone may delete them and return to them")
    func withoutSnapshots() async throws {
        let id = try await volume()
        let snapshot = try await snapshot(of: id)
        try await accept(offer(id, leavesSnapshots: true))
        #expect(try usages("p")["snapshots"] == 1 && usages("q")["snapshots"] == nil)
        #expect(try drift().isEmpty)
        await #expect(throws: StorageError.snapshotNotFound(snapshot)) {
            try await storage.database.write { [storage, other] in try storage.requests.revert(id, to: snapshot, caller: other, in: $0) }
        }
        await #expect(throws: StorageError.self) {
            try await storage.database.write { [storage, other] in
                try storage.requests.delete(id, force: false, cascade: true, caller: other, in: $0)
            }
        }
        // A third project gets the volume, not the first's snapshot.
        let third = Caller(userID: "y", projectID: "r", isAdmin: false, requestID: "req")
        try await accept(offer(id, by: other), by: third)
        #expect(try storage.database.readBlocking { try Snapshots.find(snapshot, in: $0) }?.projectID == "p")
        #expect(try drift().isEmpty)
        try await storage.database.write { [storage] in
            try storage.requests.deleteSnapshot(snapshot, force: false, caller: storage.caller, in: $0)
        }
    }

    @Test("a volume's type changes for every project that is charged for a snapshot of it")
    func retype() async throws {
        let id = try await volume()
        _ = try await snapshot(of: id)
        try await accept(offer(id, leavesSnapshots: true))
        try await storage.database.write { [storage, other] tx in
            _ = try VolumeTypes.create(name: "gold", description: nil, isPublic: true, extraSpecs: [:], in: tx)
            try storage.requests.retype(id, to: "gold", mayMigrate: false, caller: other, in: tx)
        }
        #expect(try usages("q")["volumes_gold"] == 1 && usages("p")["snapshots_gold"] == 1 && usages("q")["snapshots_gold"] == nil)
        #expect(try drift().isEmpty)
    }

    @Test("a wrong key moves nothing, and the right one is stored nowhere")
    func key() async throws {
        let id = try await volume()
        let transfer = try await offer(id)
        let word = try #require(transfer.key).reveal()
        #expect(word.count == 16 && word.allSatisfy { $0.isHexDigit })
        for wrong in ["", word + "0", String(word.dropLast()), String(word.reversed()) + "x"] {
            await #expect(
                throws: StorageError(.invalid, "Invalid auth key: Attempt to transfer \(transfer.id) with invalid auth key.")
            ) { try await accept(transfer, key: Secret(wrong)) }
        }
        #expect(try volume(id).projectID == "p")
        let table = VolumeTransferTable.table
        let stored = try storage.database.readBlocking {
            try $0.first(of: table, table.id(transfer.id)) { [$0[table.salt].reveal(), $0[table.keyHash].reveal()] }
        }
        #expect(stored?.count == 2 && stored?.contains { $0.contains(word) } == false)
        #expect(!"\(transfer)".contains(word))
        #expect(TransferKey(digits: 16).salt != TransferKey(digits: 16).salt)
    }

    @Test("an offer that was taken back, or made again, is accepted by no older key")
    func superseded() async throws {
        let id = try await volume()
        let first = try await offer(id)
        try await storage.database.write { [storage] in try VolumeTransfers.delete(first.id, caller: storage.caller, in: $0) }
        #expect(try storage.status(id) == "available")
        let second = try await offer(id)
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.setStatus(.available, of: volume, in: tx) }
        }
        let third = try await offer(id)
        for old in [first, second] { await #expect(throws: VolumeTransfers.notFound(old.id)) { try await accept(old) } }
        try await accept(third)
    }

    @Test("a volume that somebody else may be writing to is not offered")
    func busy() async throws {
        let id = try await volume()
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try HostConnections.begin(volume, connector: ["host": "h"], in: tx) }
        }
        await #expect(throws: StorageError.self) { try await offer(id) }
        #expect(try storage.status(id) == "available")
        try await storage.database.write { tx in
            let volume = try #require(try Volumes.lock(id, in: tx))
            try HostConnections.end(volume, connector: nil, in: tx)
            try Volumes.setMigrationStatus(.migrating, of: volume, in: tx)
        }
        await #expect(throws: StorageError.self) { try await offer(id) }
        #expect(try storage.status(id) == "available")
    }

    @Test("an offer goes with its volume")
    func removed() async throws {
        let id = try await volume()
        let transfer = try await offer(id)
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.erase(volume, in: tx) }
        }
        #expect(try storage.database.readBlocking { try VolumeTransfers.find(transfer.id, in: $0) } == nil)
    }
}
