import Database
import JSON
import Primitives
import Testing

@testable import BlockStorage

/// What is known of the objects of backups, and rows that come back from them.
@Suite("Backups that are verified and brought back")
struct BackupMarkTests {
    private let storage: Storage
    private let place: Backups.Place = {
        var place = Backups.Place(store: "near", format: "repository", service: "s", host: "node")
        place.zone = "nova"
        return place
    }()

    init() async throws { storage = try await Storage() }

    private func kept(_ change: (inout KeptBackup) -> Void = { _ in }) -> KeptBackup {
        var kept = KeptBackup(
            id: UUID.random(), projectID: "elsewhere", volumeID: UUID.random(), bytes: 3 << 30,
            details: [
                "name": "n", "description": nil, "created_at": "2026-11-29T17:00:00.420112",
                "record": ["user_id": "u", "metadata": ["a": "b"], "data_timestamp": "2026-11-30T10:14:20.420112", "snapshot_id": nil],
            ])
        change(&kept)
        return kept
    }

    @discardableResult
    private func adopt(_ kept: KeptBackup) async throws -> Bool {
        try await storage.database.write { [place] in try Backups.adopt(kept, at: place, in: $0) }
    }

    private func find(_ id: String) throws -> Backup { try #require(try storage.database.readBlocking { try Backups.find(id, in: $0) }) }

    @Test("a lost row comes back in its own project, with all that was recorded, and is charged there")
    func adoption() async throws {
        let kept = kept()
        #expect(try await adopt(kept))
        let backup = try find(kept.id)
        #expect(backup.projectID == "elsewhere" && backup.userID == "u" && backup.volumeID == kept.volumeID && backup.size == 3)
        #expect(backup.name == "n" && backup.description == nil && backup.status == .available && backup.store == "near")
        #expect(backup.createdAt == "2026-11-29T17:00:00.420112" && backup.dataTimestamp == "2026-11-30T10:14:20.420112")
        #expect(try JSON(parsing: backup.metadata) == ["a": "b"])
        let findings = try storage.database.readBlocking {
            try DatabaseExamination.findings(knownFlows: [], reservationAge: 86_400, snapshotsChargeGigabytes: true, in: $0)
        }
        #expect(findings.filter { $0.kind == .quota }.isEmpty)
        // What is there stays as it is.
        #expect(try await !adopt(kept))
    }

    @Test("the policy that made it, and its protection, come back with it")
    func adoptionOfPolicyCopy() async throws {
        let policy = UUID.random()
        let kept = kept {
            $0.details = ["record": ["policy_id": .string(policy), "protected_until": "2099-01-02T03:04:05.000000"]]
        }
        try await adopt(kept)
        let backup = try find(kept.id)
        #expect(backup.policyID == policy && backup.protectedUntil == "2099-01-02T03:04:05.000000")
        let recorded = try KeptBackup.record(backup)
        #expect(recorded["policy_id"] == .string(policy) && recorded["protected_until"] == "2099-01-02T03:04:05.000000")
    }

    @Test("what it was made on top of is its parent, if it is there and of the same volume")
    func parents() async throws {
        let first = kept()
        try await adopt(first)
        func child(_ volume: String, of parent: String) async throws -> String? {
            let made = kept {
                $0.volumeID = volume
                $0.details = ["parent_id": .string(parent)]
            }
            try await adopt(made)
            return try find(made.id).parentID
        }
        #expect(try await child(first.volumeID, of: first.id) == first.id)
        #expect(try await child(first.volumeID, of: UUID.random()) == nil)
        #expect(try await child(UUID.random(), of: first.id) == nil)
    }

    @Test("a record with a member that breaks a rule is refused by the member's name, and leaves nothing")
    func refusals() async throws {
        let long = String(repeating: "x", count: 256)
        let wrong: [(String, KeptBackup)] = [
            ("backup_id", kept { $0.id = "../x" }), ("volume_id", kept { $0.volumeID = "" }), ("project_id", kept { $0.projectID = "" }),
            ("size", kept { $0.bytes = .max }), ("name", kept { $0.details = ["name": 1] }),
            ("name", kept { $0.details = ["name": .string(long)] }),
            ("created_at", kept { $0.details = ["created_at": "yesterday"] }),
            ("user_id", kept { $0.details = ["record": ["user_id": "\0"]] }),
            ("metadata", kept { $0.details = ["record": ["metadata": ["a": 1]]] }),
            ("parent_id", kept { $0.details = ["parent_id": [:]] }),
            ("policy_id", kept { $0.details = ["record": ["policy_id": 5]] }),
            ("protected_until", kept { $0.details = ["record": ["protected_until": "tomorrow"]] }),
        ]
        for (name, kept) in wrong {
            do {
                try await adopt(kept)
                Issue.record("\(name) was accepted")
            } catch let error as StorageError {
                #expect(error.kind == .invalid && error.message.contains("\(name) of the"), "\(error.message)")
            }
            #expect(try storage.database.readBlocking { try Backups.find(kept.id, in: $0) } == nil)
        }
    }

    @Test("what a verification finds replaces what was found before; others that use it are marked, and keep what they had")
    func marks() async throws {
        let (one, two) = (kept(), kept())
        for kept in [one, two] { try await adopt(kept) }
        #expect(try find(one.id).verifyStatus == nil)
        func verify(_ id: String, _ damages: [BackupDamage]) async throws {
            try await storage.database.write { tx in
                if let backup = try Backups.lock(id, in: tx) { try Backups.verified(backup, damages, in: tx) }
            }
        }
        func damages(_ id: String) throws -> [BackupDamage] { try storage.database.readBlocking { try Backups.damages(of: id, in: $0) } }
        let found = [BackupDamage("a", range: 10..<20), BackupDamage("b")]
        try await verify(one.id, found)
        #expect(try find(one.id).verifyStatus == .damaged && damages(one.id) == found)
        // What lies in another project's repository has the name of whoever wrote it, and marks nothing here.
        try await storage.database.write { try Backups.markDamaged([two.id], of: "another", because: found, in: $0) }
        #expect(try find(two.id).verifyStatus == nil)
        for _ in 0..<2 {
            try await storage.database.write { tx in
                try Backups.markDamaged([two.id, UUID.random()], of: find(two.id).projectID, because: found, in: tx)
            }
        }
        #expect(try find(two.id).verifyStatus == .damaged && damages(two.id) == [BackupDamage("a"), BackupDamage("b")])
        #expect(try storage.database.readBlocking { try Backups.damagedCount(in: $0) } == 2)
        try await verify(two.id, [])
        #expect(try find(two.id).verifyStatus == .good && find(two.id).verifiedAt != nil && damages(two.id).isEmpty)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(one.id, in: tx) { try Backups.remove(backup, in: tx) }
        }
        #expect(try damages(one.id).isEmpty)
    }

    @Test("relatives are all backups that share a chain's, whatever branch they are of")
    func relatives() async throws {
        let full = kept()
        try await adopt(full)
        func child(of parent: KeptBackup) async throws -> KeptBackup {
            let made = kept {
                $0.volumeID = full.volumeID
                $0.details = ["parent_id": .string(parent.id)]
            }
            try await adopt(made)
            return made
        }
        let (left, right) = (try await child(of: full), try await child(of: full))
        let leaf = try await child(of: left)
        try await adopt(kept())
        let found = try storage.database.readBlocking { try Backups.relatives(of: Backups.chain(left.id, in: $0), in: $0).map(\.id) }
        #expect(Set(found) == [full.id, right.id, leaf.id] && found.count == 3)
    }

    @Test("of the relatives of a backup of a snapshot, those that can be rested on and are of a later moment are told, the latest first")
    func newerRelatives() async throws {
        let full = kept()
        try await adopt(full)
        func child(_ hour: Int, snapshot: String? = nil) async throws -> KeptBackup {
            let made = kept {
                $0.volumeID = full.volumeID
                $0.details = [
                    "parent_id": .string(full.id),
                    "record": ["data_timestamp": .string("2026-12-01T1\(hour):00:00.000000"), "snapshot_id": JSON(snapshot)],
                ]
            }
            try await adopt(made)
            return made
        }
        let (early, late, latest, lost) = (try await child(2), try await child(6), try await child(8), try await child(9))
        let ofSnapshot = try await child(4, snapshot: UUID.random())
        try await storage.database.write { tx in
            if let backup = try Backups.lock(lost.id, in: tx) { try Backups.setStatus(.error, of: backup, in: tx) }
        }
        func newer(than backup: KeptBackup) throws -> [String] {
            try storage.database.readBlocking { try Backups.newerRelatives(of: Backups.chain(backup.id, in: $0), in: $0).map(\.id) }
        }
        #expect(try newer(than: ofSnapshot) == [latest.id, late.id])
        // One of the volume itself is of the moment when it was made.
        #expect(try newer(than: early) == [])
    }

    @Test("only what is whole is verified, once at a time; a deletion waits for it")
    func request() async throws {
        let kept = kept()
        try await adopt(kept)
        let caller = Caller(userID: "u", projectID: "elsewhere", isAdmin: false, requestID: "r")
        func verify() async throws {
            try await storage.database.write { [storage] in try storage.requests.verifyBackup(kept.id, caller: caller, in: $0) }
        }
        try await verify()
        await #expect(throws: StorageError(.conflict, "Backup \(kept.id) is being verified already.")) { try await verify() }
        #expect(try storage.database.readBlocking { try Operations.runnable(in: $0) }.map(\.flow) == [VerifyBackupArguments.flow])
        try await storage.database.write { [storage] in
            try storage.requests.deleteBackup(kept.id, force: false, caller: caller, in: $0)
        }
        #expect(try storage.database.readBlocking { try Operations.runnable(in: $0) }.count == 1)
        let stranger = Caller(userID: "x", projectID: "q", isAdmin: false, requestID: "r")
        for (caller, words) in [(caller, "not deleting"), (stranger, "could not be found")] {
            do {
                try await storage.database.write { [storage] in try storage.requests.verifyBackup(kept.id, caller: caller, in: $0) }
                Issue.record("accepted")
            } catch let error as StorageError { #expect(error.message.contains(words), "\(error.message)") }
        }
    }
}
