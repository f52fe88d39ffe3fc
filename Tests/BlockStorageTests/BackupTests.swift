import Database
import JSON
import Primitives
import Testing

@testable import BlockStorage

@Suite("Backups")
struct BackupTests {
    private let storage: Storage
    private let other = Caller(userID: "x", projectID: "q", isAdmin: false, requestID: "req-other")

    init() async throws {
        storage = try await Storage("[DEFAULT]\nquota_backups = 3\nquota_backup_gigabytes = 5\n")
        try await storage.database.write {
            try Services.beat(binary: "cinder-backup", host: "node", zone: "nova", backendState: "up", in: $0)
        }
    }

    private func volume(_ size: Int = 1) async throws -> String {
        let id = try await storage.create(size)
        try await storage.finish(id)
        return id
    }

    private func backup(of volume: String, by caller: Caller? = nil, _ change: @Sendable (inout NewBackup) -> Void = { _ in }) async throws
        -> String
    {
        var new = NewBackup()
        change(&new)
        let asked = new
        return try await storage.database.write { [storage] in
            try storage.requests.createBackup(of: volume, asked, downAfter: 60, caller: caller ?? storage.caller, in: $0)
        }
    }

    /// As the flow would: all of it is in the store, and the operation is over.
    private func made(_ id: String) async throws {
        try await storage.database.write { tx in
            if let backup = try Backups.lock(id, in: tx) {
                try Backups.made(backup, objectCount: 1, in: tx)
                try Backups.forgetSnapshot(of: backup, in: tx)
            }
        }
        try await end(id)
    }

    private func end(_ resource: String) async throws {
        try await storage.database.write { tx in
            for operation in try Operations.runnable(in: tx) where operation.resourceID == resource {
                try Operations.finish(operation, state: .done, error: nil, in: tx)
            }
        }
    }

    private func delete(_ id: String, force: Bool = false, by caller: Caller? = nil) async throws {
        try await storage.database.write { [storage] in
            try storage.requests.deleteBackup(id, force: force, caller: caller ?? storage.caller, in: $0)
        }
    }

    private func find(_ id: String) throws -> Backup { try #require(try storage.database.readBlocking { try Backups.find(id, in: $0) }) }

    private func findings() throws -> [Finding] {
        try storage.database.readBlocking {
            try DatabaseExamination.findings(
                knownFlows: [CreateBackupArguments.flow, DeleteBackupArguments.flow, RestoreBackupArguments.flow], reservationAge: 86_400,
                snapshotsChargeGigabytes: true, in: $0)
        }.filter { $0.kind != .pool }
    }

    private func refusal(_ body: () async throws -> Void) async -> String {
        do {
            try await body()
            return "accepted"
        } catch { return (error as? StorageError)?.message ?? "\(error)" }
    }

    @Test("a backup is charged when it is asked for, and given back when it is gone")
    func charges() async throws {
        let volume = try await volume(2)
        let id = try await backup(of: volume)
        #expect(try storage.usage("backups") == 1 && storage.usage("backup_gigabytes") == 2)
        #expect(try findings().isEmpty)
        try await made(id)
        try await delete(id)
        #expect(try find(id).status == .deleting)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(id, in: tx) { try Backups.remove(backup, in: tx) }
        }
        try await end(id)
        #expect(try storage.usage("backups") == 0 && storage.usage("backup_gigabytes") == 0)
        #expect(try findings().isEmpty)
    }

    @Test("quotas refuse by their own names, and nothing of a refused backup stays")
    func quotas() async throws {
        let (small, large) = (try await volume(), try await volume(4))
        for _ in 0..<2 { _ = try await backup(of: small) }
        #expect(
            await refusal { _ = try await backup(of: large) }
                == "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested 4G, quota is 5G and 2G has been consumed."
        )
        _ = try await backup(of: small)
        #expect(await refusal { _ = try await backup(of: small) } == "BackupLimitExceeded: Maximum number of backups allowed (3) exceeded")
        #expect(try storage.usage("backups") == 3 && storage.usage("backup_gigabytes") == 3)
        #expect(try findings().isEmpty)
    }

    @Test("an increment is made on top of the newest whole backup of the project; of a snapshot, of the newest before it")
    func parents() async throws {
        let volume = try await volume()
        #expect(
            await refusal { _ = try await backup(of: volume) { $0.isIncremental = true } }
                == "Invalid backup: No backups available to do an incremental backup.")
        let first = try await backup(of: volume)
        #expect(
            await refusal { _ = try await backup(of: volume) { $0.isIncremental = true } }
                == "Invalid backup: No backups available to do an incremental backup.")
        try await made(first)
        let snapshot = try await storage.database.write { [storage] in
            try storage.requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: false, caller: storage.caller, in: $0)
        }
        try await storage.finish(volume)
        try await storage.database.write { tx in
            if let snapshot = try Snapshots.lock(snapshot, in: tx) { try Snapshots.made(snapshot, driverData: nil, in: tx) }
        }
        let second = try await backup(of: volume) { $0.isIncremental = true }
        #expect(try find(second).parentID == first && find(first).hasDependents && !find(second).hasDependents)
        try await made(second)
        let third = try await backup(of: volume) {
            $0.isIncremental = true
            $0.snapshotID = snapshot
        }
        #expect(try find(third).parentID == first && find(third).temporarySnapshotID == nil)
        #expect(try storage.database.readBlocking { try Backups.chain(third, in: $0).map(\.id) } == [first, third])
        #expect(try storage.database.readBlocking { try Snapshots.find(snapshot, in: $0)?.status } == .backingUp)
    }

    @Test("in a repository nothing rests on a backup but what is being made on top of it: then it can be deleted")
    func repository() async throws {
        let volume = try await volume()
        func store(_ id: String) async throws {
            try await storage.database.write { tx in
                let place = Backups.Place(store: "s", format: "repository", service: "s", host: "node")
                if let backup = try Backups.lock(id, in: tx) { try Backups.place(backup, at: place, in: tx) }
            }
        }
        let first = try await backup(of: volume)
        try await store(first)
        try await made(first)
        let second = try await backup(of: volume) { $0.isIncremental = true }
        #expect(try find(first).hasDependents)
        #expect(await refusal { try await delete(first) } == "Invalid backup: Incremental backups exist for this backup.")
        try await store(second)
        try await made(second)
        #expect(try !find(first).hasDependents)
        try await delete(first)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(first, in: tx) { try Backups.remove(backup, in: tx) }
        }
        try await end(first)
        #expect(try find(second).isIncremental && find(second).parentID == first)
        #expect(try storage.database.readBlocking { try Backups.chain(second, in: $0).map(\.id) } == [second])
        #expect(try findings().isEmpty)
        // The next increment is made on top of it.
        let third = try await backup(of: volume) { $0.isIncremental = true }
        #expect(try storage.database.readBlocking { try Backups.chain(third, in: $0).map(\.id) } == [second, third])
    }

    @Test("no increment is made on top of a chain that is as long as one that is read may be")
    func longestChain() async throws {
        let volume = try await volume()
        let first = try await backup(of: volume)
        try await made(first)
        try await storage.database.write { tx in
            // As many as there may be, the newest first, so that it is the one that the next one rests on.
            _ = try tx.run(
                text: """
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
                    INSERT INTO backups (id, project_id, user_id, volume_id, parent_id, size, status, format, object_count, metadata, created_at,
                        data_timestamp)
                    SELECT 'b' || i, b.project_id, 'u', b.volume_id, CASE i WHEN 1 THEN b.id ELSE 'b' || (i - 1) END, 1, 'available', 'cinder', 1,
                        '{}', b.created_at, '2099-01-01T00:00:00.' || (100000 + i)
                    FROM n, backups b WHERE b.id = ?
                    """, [.text(first)])
        }
        #expect(
            await refusal { _ = try await backup(of: volume) { $0.isIncremental = true } }
                == "Invalid backup: the chain of backup b9999 has 10000 backups, the most that one may have: make a full backup.")
        #expect(await refusal { _ = try await backup(of: volume) } == "accepted")
    }

    @Test("what others rest on is not deleted, with force neither; what failed to be deleted is deleted again")
    func dependents() async throws {
        let volume = try await volume()
        let first = try await backup(of: volume)
        #expect(await refusal { try await delete(first) } == "Invalid backup: Backup status must be available or error")
        try await made(first)
        let second = try await backup(of: volume) { $0.isIncremental = true }
        for force in [false, true] {
            #expect(
                await refusal { try await delete(first, force: force) } == "Invalid backup: Incremental backups exist for this backup.")
        }
        #expect(await refusal { try await delete(second, by: other) } == "Backup \(second) could not be found.")
        // One that is being made is given up first.
        try await delete(second, force: true)
        let creation = try #require(
            try storage.database.readBlocking { try Operations.runnable(in: $0).first { $0.flow == CreateBackupArguments.flow } })
        #expect(creation.isCancelled)
        #expect(try find(second).status == .deleting)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(first, in: tx) { try Backups.setStatus(.errorDeleting, of: backup, in: tx) }
        }
        try await storage.database.write { tx in
            if let backup = try Backups.lock(second, in: tx) { try Backups.remove(backup, in: tx) }
        }
        try await delete(first)
        #expect(try find(first).status == .deleting)
    }

    @Test("states, sizes and owners that do not fit are refused in Cinder's words")
    func refusals() async throws {
        let (volume, small) = (try await volume(2), try await volume(1))
        #expect(await refusal { _ = try await backup(of: volume, by: other) } == "Volume \(volume) could not be found.")
        let id = try await backup(of: volume)
        func restore(to target: String?, by caller: Caller? = nil) async -> String {
            await refusal {
                _ = try await storage.database.write { [storage] in
                    try storage.requests.restore(id, to: target, name: nil, downAfter: 60, caller: caller ?? storage.caller, in: $0)
                }
            }
        }
        #expect(await restore(to: nil) == "Invalid backup: Backup status must be available")
        try await made(id)
        #expect(await restore(to: "nothing") == "Volume nothing could not be found.")
        #expect(await restore(to: nil, by: other) == "Backup \(id) could not be found.")
        #expect(await restore(to: small) == "Invalid volume: volume size 1 is too small to restore backup of size 2.")
        try await storage.finish(small, state: "in-use")
        #expect(await restore(to: small) == "Invalid volume: Volume to be restored to must be available")
        #expect(
            await refusal { _ = try await backup(of: small) }
                == "Invalid volume: Backing up an in-use volume must use the force flag.")
        try await storage.finish(small, state: "error")
        #expect(
            await refusal { _ = try await backup(of: small) { $0.force = true } }
                == "Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"error\".")
        try await storage.database.write { try Services.setDisabled(true, reason: nil, binary: "cinder-backup", host: "node", in: $0) }
        #expect(await refusal { _ = try await backup(of: volume) } == "Service cinder-backup could not be found.")
    }

    @Test("a restoration has the backup and the volume for itself; a new volume is made with what it is charged")
    func restorations() async throws {
        let volume = try await volume(2)
        let id = try await backup(of: volume)
        try await made(id)
        func restore(to target: String?, name: String? = nil) async throws -> VolumeRequests.Restoration {
            try await storage.database.write { [storage] in
                try storage.requests.restore(id, to: target, name: name, downAfter: 60, caller: storage.caller, in: $0)
            }
        }
        let over = try await restore(to: volume)
        #expect(over.volumeID == volume)
        #expect(try storage.status(volume) == "restoring-backup" && find(id).status == .restoring && find(id).restoreVolumeID == volume)
        #expect(await refusal { _ = try await restore(to: nil) } == "Invalid backup: Backup status must be available")
        #expect(try findings().isEmpty)
        try await storage.finish(volume)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(id, in: tx) { try Backups.setStatus(.available, of: backup, in: tx) }
        }
        let made = try await restore(to: nil)
        #expect(made.volumeName == "restore_backup_\(id)" && made.volumeID != volume)
        #expect(try storage.status(made.volumeID) == "creating" && storage.usage("volumes") == 2 && storage.usage("gigabytes") == 4)
        let operation = try #require(try storage.database.readBlocking { try Operations.latest(of: made.volumeID, in: $0) })
        #expect(operation.flow == RestoreBackupArguments.flow)
        #expect(try RestoreBackupArguments(parsing: operation.arguments).zones == ["nova"])
    }

    @Test("a volume of which a backup is being made stays where and what it is")
    func backedUp() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume)
        #expect(
            await refusal {
                try await storage.database.write { [storage] in
                    try storage.requests.delete(volume, force: false, caller: storage.caller, in: $0)
                }
            }.hasPrefix("Invalid volume: Volume status must be"))
        try await made(id)
        try await storage.database.write { [storage] in try storage.requests.delete(volume, force: false, caller: storage.caller, in: $0) }
        #expect(try storage.status(volume) == "deleting")
    }

    private static let badContainers = [
        "..", "../x", "a/..", "/", "/a", "a//b", "x/", ".h", "a/.h", "a\nb", "a\u{7f}", String(repeating: "\u{1F600}", count: 255),
        String(repeating: "\u{1F600}", count: 64),
    ]

    @Test("a container that no store can have, or that is for repositories, is refused before anything is written")
    func containers() async throws {
        let volume = try await volume()
        for container in Self.badContainers {
            #expect(
                await refusal { _ = try await backup(of: volume) { $0.container = container } }.hasPrefix(
                    "Invalid input received: container: it is a path below the store"), "\(container)")
            var policy = BackupPolicySettings()
            policy.name = "p"
            policy.container = container
            let settings = policy
            #expect(await refusal { try settings.check() }.hasPrefix("Invalid input received: container: "), "\(container)")
        }
        for container in ["repositories", "repositories/q/data"] {
            #expect(
                await refusal { _ = try await backup(of: volume) { $0.container = container } }.hasPrefix(
                    "Invalid input received: container: it may not begin with 'repositories'"))
        }
        for container in ["a/b", "", "x..y/ü"] { _ = try await backup(of: volume) { $0.container = container } }
    }

    @Test("a record that was exported is imported; one that says too little, or something else, is refused")
    func records() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume) {
            $0.name = "n"
            $0.metadata = ["k": "v"]
        }
        #expect(
            await refusal { _ = try BackupRecord.export(find(id)) } == "Invalid backup: Backup status must be available and not creating.")
        try await made(id)
        let record = JSON.object(try BackupRecord.export(find(id))).text
        func imported(_ text: String, at place: Backups.Place? = nil) async throws -> Backup {
            let record = try BackupRecord.read(text)
            return try await storage.database.write { [storage, other] in
                try storage.requests.importBackup(record, service: "s", at: place, downAfter: 60, caller: other, in: $0)
            }
        }
        #expect(await refusal { _ = try await imported(record) } == "Invalid backup: Backup already exists in database.")
        try await delete(id)
        try await storage.database.write { tx in
            if let backup = try Backups.lock(id, in: tx) { try Backups.remove(backup, in: tx) }
        }
        let place = Backups.Place(store: "a", format: "cinder", service: "s", host: "node")
        for container in Self.badContainers {
            var members = try #require(try JSON(parsing: record).object)
            members["container"] = .string(container)
            let bad = JSON.object(members).text
            #expect(
                await refusal { _ = try await imported(bad, at: place) }.hasPrefix(
                    "Invalid input received: The backup record's container: "))
        }
        let back = try await imported(record, at: place)
        #expect(back.id == id && back.projectID == "q" && back.status == .available && back.name == "n" && back.metadata == #"{"k":"v"}"#)
        #expect(back.volumeID == volume && back.store == "a" && back.objectCount == 1)
        let strange = try await imported(record.replacing(id, with: "11111111-2222-4333-8444-555555555555"))
        #expect(strange.status == .error && strange.failReason?.contains("cannot find backup service") == true)
        for (text, message) in [
            ("nothing", "Can't parse backup record."), ("[]", "Provided backup record is missing an id"),
            ("{}", "Provided backup record is missing an id"), (#"{"id": "x"}"#, "Provided backup record is missing size attribute"),
            (#"{"id": "x", "size": 1}"#, "The backup record's id is no UUID."),
            (#"{"id": "11111111-2222-4333-8444-555555555556", "size": -1}"#, "The backup record's size is no number of GiB."),
        ] {
            #expect(await refusal { _ = try await imported(text) } == "Invalid input received: \(message)")
        }
    }

    @Test("a chain that ends in itself is no chain")
    func circle() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume)
        try await storage.database.write { _ = try $0.run(text: "UPDATE backups SET parent_id = id WHERE id = ?", [.text(id)]) }
        #expect(
            await refusal { _ = try storage.database.readBlocking { try Backups.chain(id, in: $0) } }.contains("more than 10000 others"))
    }

    @Test("a backup whose work ended without saying so is found and set right")
    func stranded() async throws {
        let volume = try await volume()
        let id = try await backup(of: volume)
        try await end(id)
        let finding = try #require(try findings().first)
        #expect(finding.text == "Backup \(id) is creating, but no operation is at work on it.")
    }
}
