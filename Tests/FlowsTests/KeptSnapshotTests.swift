import Database
import Logging
import Primitives
import Testing

@testable import BlockStorage
@testable import Flows

/// Which snapshots of backups are kept, for what, and when they go.
@Suite("Snapshots kept for increments")
struct KeptSnapshotTests {
    /// A service with one volume, whose driver tells what changed.
    private struct Scene {
        let bench: FlowBench
        let caller: Caller
        let volume: String

        init() async throws {
            let bench = try await FlowBench()
            let caller = bench.caller()
            bench.script.tellsChanges.withLock { $0 = true }
            var new = NewVolume()
            new.size = 1
            new.typeName = "one"
            let asked = new
            (self.bench, self.caller) = (bench, caller)
            volume = try await bench.perform { try bench.requests.create(asked, caller: caller, in: $0) }
        }

        /// Begins a backup; the operation that makes it.
        func begin(_ change: @escaping @Sendable (inout NewBackup) -> Void = { _ in }) async throws -> (id: String, operation: String) {
            try await bench.database.write { [bench, caller, volume] tx in
                var new = NewBackup()
                change(&new)
                let id = try bench.requests.createBackup(of: volume, new, downAfter: 86_400, caller: caller, in: tx)
                return (id, try #require(try Operations.latest(of: id, in: tx)).id)
            }
        }

        @discardableResult
        func backup(_ change: @escaping @Sendable (inout NewBackup) -> Void = { _ in }) async throws -> String {
            let begun = try await begin(change)
            try await bench.carryOut(begun.operation)
            try await bench.carryOutRest(of: caller)
            let made = try await bench.database.read { try Backups.find(begun.id, in: $0) }
            #expect(made?.status == .available, "\(made?.failReason ?? "")")
            return begun.id
        }

        func increment() async throws -> String { try await backup { $0.isIncremental = true } }

        func snapshot() async throws -> String {
            try await bench.database.write { [bench, caller, volume] in
                try bench.requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: true, caller: caller, in: $0)
            }
        }

        func carryOut(_ request: @escaping @Sendable (any Transaction) throws -> Void) async throws {
            try await bench.database.write(request)
            try await bench.carryOutRest(of: caller)
        }

        /// The snapshots of the volume's object, the newest last.
        var stored: [String] { bench.backends.all.compactMap { $0["volume-" + volume]?.order }.flatMap(\.self) }
        /// Since which snapshot the last backup asked for changes.
        var base: String? { bench.script.bases.withLock { $0.last ?? nil } }
        func noted(_ backup: String) async throws -> String? {
            try await bench.database.read { try Backups.find(backup, in: $0)?.temporarySnapshotID.map { "snapshot-" + $0 } }
        }
    }

    @Test("that of the newest backup is kept, the next increment asks for changes since it, and then it goes")
    func chain() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        var last = try await scene.backup()
        #expect(scene.base == nil)
        for _ in 0..<3 {
            let kept = try #require(try await scene.noted(last))
            #expect(scene.stored == [kept])
            let next = try await scene.increment()
            #expect(scene.base == kept)
            #expect(try await scene.noted(last) == nil)
            last = next
        }
        // A full one is where the next increment begins, too.
        let full = try await scene.backup()
        let keptOfFull = try await scene.noted(full)
        #expect(scene.base == nil && scene.stored == [keptOfFull])
        #expect(try await scene.bench.findings().isEmpty)
    }

    private static let readSQL = SQL("SELECT whole_read_at FROM backups WHERE id = ?")

    @Test("what drivers say is relied on for some days: then an increment reads the whole volume, and the next ones ask again")
    func wholeRead() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        func read(_ id: String) async throws -> String? {
            try await scene.bench.database.read { try $0.first(Self.readSQL, .text(id)) { $0.optionalText(0) } ?? nil }
        }
        let full = try await scene.backup()
        let begun = try #require(try await read(full))
        let second = try await scene.increment()
        #expect(scene.base != nil)
        // It is as old as what it did not read.
        #expect(try await read(second) == begun)
        let (recent, old) = (Timestamp.format(Timestamp.seconds() - 29 * 86_400), Timestamp.format(Timestamp.seconds() - 31 * 86_400))
        _ = try await scene.bench.database.write { try $0.run(text: "UPDATE backups SET whole_read_at = ?", [.text(recent)]) }
        let third = try await scene.increment()
        #expect(scene.base != nil)
        #expect(try await read(third) == recent)
        _ = try await scene.bench.database.write { try $0.run(text: "UPDATE backups SET whole_read_at = ?", [.text(old)]) }
        let fourth = try await scene.increment()
        #expect(scene.base == nil)
        #expect(try #require(try await read(fourth)) >= begun)
        _ = try await scene.increment()
        #expect(scene.base != nil)
        // Of a driver that was found out all was read.
        _ = try await scene.bench.database.write { try $0.run(text: "UPDATE backups SET whole_read_at = ?", [.text(recent)]) }
        scene.bench.script.omitsChange.withLock { $0 = true }
        let whole = try await scene.increment()
        #expect(try #require(try await read(whole)) >= begun)
    }

    @Test("two increments at once ask for changes since the same snapshot, and one is kept in the end")
    func parallel() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let full = try await scene.backup()
        let kept = try await scene.noted(full)
        let first = try await scene.begin { $0.isIncremental = true }
        let second = try await scene.begin { $0.isIncremental = true }
        try await scene.bench.carryOut(first.operation)
        // The removal of the old one waits for the other increment.
        try await scene.bench.carryOutRest(of: scene.caller)
        #expect(scene.bench.script.bases.withLock { $0 } == [nil, kept, kept])
        let keptOfSecond = try await scene.noted(second.id)
        #expect(scene.stored == [keptOfSecond])
        #expect(try await scene.bench.database.read { try Backups.find(second.id, in: $0)?.status } == .available)
    }

    @Test("it goes with its backup, and the next increment reads the whole volume")
    func deletedBackup() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        _ = try await scene.backup()
        let newest = try await scene.increment()
        try await scene.carryOut { [scene] in try scene.bench.requests.deleteBackup(newest, force: false, caller: scene.caller, in: $0) }
        #expect(scene.stored.isEmpty)
        let next = try await scene.increment()
        let kept = try await scene.noted(next)
        #expect(scene.base == nil && scene.stored == [kept])
    }

    @Test("a backup can be deleted while the volume's backend is not there: the snapshot goes when it is again")
    func deletedBackupWithoutBackend() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let id = try await scene.backup()
        let operation = try await scene.bench.database.write { tx in
            try scene.bench.requests.deleteBackup(id, force: false, caller: scene.caller, in: tx)
            return try #require(try Operations.latest(of: id, in: tx)).id
        }
        scene.bench.script.isDisabled.withLock { $0 = true }
        try await scene.bench.carryOut(operation)
        scene.bench.script.isDisabled.withLock { $0 = false }
        #expect(try await scene.bench.database.read { try Backups.find(id, in: $0) } == nil)
        #expect(scene.stored.count == 1)
        try await scene.bench.carryOutRest(of: scene.caller)
        #expect(scene.stored.isEmpty)
    }

    /// A backup whose snapshot its deletion could not remove, and whose removal failed afterwards.
    private func failedRemoval(_ scene: Scene) async throws -> (backup: String, snapshot: String) {
        let id = try await scene.backup()
        let kept = try #require(try await scene.noted(id))
        let operation = try await scene.bench.database.write { tx in
            try scene.bench.requests.deleteBackup(id, force: false, caller: scene.caller, in: tx)
            return try #require(try Operations.latest(of: id, in: tx)).id
        }
        scene.bench.script.isDisabled.withLock { $0 = true }
        try await scene.bench.carryOut(operation)
        scene.bench.script.isDisabled.withLock { $0 = false }
        scene.bench.script.begin([0: Fault(code: .error)])
        try await scene.bench.carryOutRest(of: scene.caller)
        #expect(scene.bench.script.failed == ["delete_snapshot"])
        #expect(try await scene.bench.database.read { try Backups.find(id, in: $0) } == nil)
        #expect(scene.stored == [kept])
        return (id, kept)
    }

    @Test(
        "where the removal of a deleted backup's snapshot fails it is named to the operator, is nobody's to manage, and is tried until it is gone"
    )
    func repeatedRemoval() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let (backup, kept) = try await failedRemoval(scene)
        try await scene.bench.database.read { [scene] connection in
            let stored = try Backups.storedSnapshots(in: connection)
            #expect(stored.map { "snapshot-" + $0.id } == [kept] && stored.map(\.backupID) == [backup])
            #expect(stored.allSatisfy { !$0.isNeeded && $0.failure?.contains("a fault of the test in delete_snapshot") == true })
            #expect(try scene.bench.requests.owner(of: kept, in: connection) == backup)
        }
        let removals = SnapshotRemovalRetries(
            database: scene.bench.database, log: Logger(label: "removals") { _ in SwiftLogNoOpLogHandler() })
        // Not at once.
        await removals.begin()
        #expect(try await scene.bench.database.read { try Operations.runnable(in: $0).isEmpty })
        for fault in [Fault(code: .error), nil] {
            try await scene.bench.database.write { _ = try $0.run(text: "UPDATE backup_snapshot_removals SET retry_at = '2020'", []) }
            await removals.begin()
            // One at a time.
            await removals.begin()
            #expect(try await scene.bench.database.read { try scene.bench.requests.owner(of: kept, in: $0) } != nil)
            scene.bench.script.begin(fault.map { [0: $0] } ?? [:])
            try await scene.bench.carryOutRest(of: scene.caller)
            #expect(scene.stored.isEmpty == (fault == nil))
        }
        #expect(try await scene.bench.database.read { try Backups.storedSnapshots(in: $0).isEmpty })
        #expect(try await scene.bench.findings().isEmpty)
        await removals.begin()
        #expect(try await scene.bench.database.read { try Operations.runnable(in: $0).isEmpty })
    }

    @Test("a removal that cannot be begun, since too much waits for its volume, keeps no other one waiting")
    func crowdedVolume() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let bench = scene.bench
        var new = NewVolume()
        new.size = 1
        new.typeName = "one"
        let asked = new
        let free = try await bench.perform { try bench.requests.create(asked, caller: scene.caller, in: $0) }
        try await bench.database.write { tx in
            let operation = try Operations.create(
                VerifyBackupArguments(), resourceType: "backup", resourceID: "b", projectID: "p", caller: scene.caller,
                claims: [.exclusive(try #require(try Volumes.lock(scene.volume, in: tx)))], in: tx)
            for number in 0..<1000 {
                _ = try tx.run(
                    text: "INSERT INTO claims (resource, ticket, operation_id, exclusive, held) VALUES (?, ?, ?, 1, 0)",
                    [.text(scene.volume), .text("9 \(number)"), .text(operation)])
            }
            for (snapshot, volume) in [("first", scene.volume), ("second", free)] {
                _ = try tx.run(
                    text: "INSERT INTO backup_snapshot_removals (snapshot_id, backup_id, volume_id, project_id, attempts, message, "
                        + "retry_at, created_at) VALUES (?, 'b', ?, 'p', 1, 'm', '2020', '2020')", [.text(snapshot), .text(volume)])
            }
        }
        await SnapshotRemovalRetries(
            database: bench.database, log: Logger(label: "removals") { _ in SwiftLogNoOpLogHandler() }
        ).begin()
        let runnable = try await bench.database.read { try Operations.runnable(in: $0) }
        let begun = runnable.filter { $0.flow == RemoveBackupSnapshotArguments.flow }
        #expect(begun.count == 1 && begun.allSatisfy { $0.arguments.contains("second") })
    }

    @Test("a volume beside which such a snapshot lies can be deleted all the same")
    func deletedVolume() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        _ = try await failedRemoval(scene)
        scene.bench.script.begin([:])
        try await scene.carryOut { [scene] in try scene.bench.requests.delete(scene.volume, force: false, caller: scene.caller, in: $0) }
        #expect(try await scene.bench.database.read { try Volumes.find(scene.volume, in: $0) } == nil)
        #expect(try await scene.bench.database.read { try BackupSnapshotRemovals.ofVolume(scene.volume, in: $0).isEmpty })
    }

    @Test("a snapshot that an operation is about to remove is nobody's to manage")
    func removalInProgress() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let id = try await scene.backup()
        let kept = try #require(try await scene.noted(id))
        let operation = try await scene.bench.database.write { tx in
            try scene.bench.requests.deleteBackup(id, force: false, caller: scene.caller, in: tx)
            return try #require(try Operations.latest(of: id, in: tx)).id
        }
        scene.bench.script.isDisabled.withLock { $0 = true }
        try await scene.bench.carryOut(operation)
        #expect(try await scene.bench.database.read { try scene.bench.requests.owner(of: kept, in: $0) } != nil)
    }

    @Test("a volume that is extended keeps it, unless the driver does not grow a volume with snapshots", arguments: [true, false])
    func extended(isRefused: Bool) async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let kept = try await scene.noted(try await scene.backup())
        scene.bench.script.growsNoSnapshots.withLock { $0 = isRefused }
        try await scene.carryOut { [scene] in
            try scene.bench.requests.extend(scene.volume, to: 2, allowAttached: false, caller: scene.caller, in: $0)
        }
        #expect(try await scene.bench.database.read { try Volumes.find(scene.volume, in: $0)?.size } == 2)
        #expect(scene.stored == (isRefused ? [] : [kept]))
        _ = try await scene.increment()
        #expect(scene.base == (isRefused ? nil : kept))
    }

    @Test("an increment of a user's snapshot asks for changes since what its parent was made of, if that is older and still there")
    func usersSnapshots() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let first = try await scene.snapshot()
        try await scene.bench.carryOutRest(of: scene.caller)
        try await scene.backup { $0.snapshotID = first }
        let later = try await scene.snapshot()
        try await scene.bench.carryOutRest(of: scene.caller)
        try await scene.backup {
            $0.snapshotID = later
            $0.isIncremental = true
        }
        #expect(scene.base == "snapshot-" + first)
        // Of the volume, since the user's snapshot.
        let ofVolume = try await scene.increment()
        #expect(scene.base == "snapshot-" + later)
        let kept = try await scene.noted(ofVolume)
        // Older than what its parent was made of: nothing is asked for.
        try await scene.backup {
            $0.snapshotID = first
            $0.isIncremental = true
        }
        #expect(scene.base == nil)
        let newest = try await scene.snapshot()
        try await scene.bench.carryOutRest(of: scene.caller)
        try await scene.backup {
            $0.snapshotID = newest
            $0.isIncremental = true
        }
        #expect(scene.base == kept)
        // It is the newest now, and no snapshot was made for it: what was kept goes, and the user's is not ours to remove.
        #expect(scene.stored == [first, later, newest].map { "snapshot-" + $0 })
        try await scene.carryOut { [scene] in try scene.bench.requests.deleteSnapshot(newest, force: false, caller: scene.caller, in: $0) }
        _ = try await scene.increment()
        #expect(scene.base == nil)
    }

    @Test("an operator can switch it off: nothing is kept and nothing asked for, and what was kept goes with the next backup")
    func switchedOff() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        _ = try await scene.backup()
        #expect(scene.stored.count == 1)
        scene.bench.script.keepsSnapshots.withLock { $0 = false }
        _ = try await scene.increment()
        #expect(scene.base == nil && scene.stored.isEmpty)
    }

    @Test("what a driver that omitted a change says next is not asked for")
    func omitted() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        _ = try await scene.backup()
        scene.bench.script.omitsChange.withLock { $0 = true }
        _ = try await scene.increment()
        #expect(scene.base != nil && scene.stored.isEmpty)
        scene.bench.script.omitsChange.withLock { $0 = false }
        _ = try await scene.increment()
        #expect(scene.base == nil && scene.stored.count == 1)
    }

    @Test(
        "a driver that omitted a change is not asked again, though the backup for which it was found fails before all is read",
        arguments: [false, true])
    func omittedAndFailed(isOfUsersSnapshot: Bool) async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        var first: String?
        if isOfUsersSnapshot {
            first = try await scene.snapshot()
            try await scene.bench.carryOutRest(of: scene.caller)
        }
        _ = try await scene.backup { [first] in $0.snapshotID = first }
        scene.bench.script.omitsChange.withLock { $0 = true }
        let failing = try await scene.begin { $0.isIncremental = true }
        // The calls make the snapshot and the backup; the latter finds the change and fails.
        scene.bench.script.begin([1: Fault(code: .error, hasEffect: true)])
        try await scene.bench.carryOut(failing.operation)
        #expect(scene.base != nil && scene.bench.script.failed == ["backup"])
        #expect(try await scene.bench.database.read { try Backups.find(failing.id, in: $0)?.status } == .error)
        scene.bench.script.begin([:])
        scene.bench.script.omitsChange.withLock { $0 = false }
        try await scene.bench.carryOutRest(of: scene.caller)
        // What nothing is asked for since is not kept.
        #expect(scene.stored == first.map { ["snapshot-" + $0] } ?? [])
        _ = try await scene.increment()
        #expect(scene.base == nil)
        #expect(scene.bench.script.asksByName.withLock { $0.last } == false)
    }

    @Test("where none is known, the driver may be asked by the store's name for it, unless nothing is asked or it may be the newer one")
    func namedInStore() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        var asks: Bool? { scene.bench.script.asksByName.withLock { $0.last } }
        scene.bench.script.tellsChanges.withLock { $0 = false }
        _ = try await scene.backup()
        #expect(asks == false)
        let taken = try await scene.snapshot()
        try await scene.bench.carryOutRest(of: scene.caller)
        _ = try await scene.increment()
        #expect(asks == true)
        scene.bench.script.keepsSnapshots.withLock { $0 = false }
        _ = try await scene.increment()
        #expect(asks == false)
        scene.bench.script.keepsSnapshots.withLock { $0 = true }
        // On top of the first one, of a snapshot.
        _ = try await scene.backup {
            $0.isIncremental = true
            $0.snapshotID = taken
        }
        #expect(asks == false)
        // One that is known is the only one that is asked for.
        scene.bench.script.tellsChanges.withLock { $0 = true }
        _ = try await scene.increment()
        #expect(asks == true && scene.base == nil)
        _ = try await scene.increment()
        #expect(asks == false && scene.base != nil)
        #expect(scene.bench.script.bases.withLock { $0.dropLast().allSatisfy { $0 == nil } })
    }

    @Test("each project's newest backup of a volume keeps its own, and none is managed as a snapshot or charged")
    func accounts() async throws {
        let scene = try await Scene()
        defer { scene.bench.close() }
        let kept = try #require(try await scene.noted(try await scene.backup()))
        let other = scene.bench.caller()
        let second = try await scene.bench.database.write { [scene] tx in
            let id = try scene.bench.requests.createBackup(of: scene.volume, NewBackup(), downAfter: 86_400, caller: other, in: tx)
            return (id: id, operation: try #require(try Operations.latest(of: id, in: tx)).id)
        }
        try await scene.bench.carryOut(second.operation)
        #expect(scene.stored.count == 2)
        try await scene.bench.database.read { [scene] connection in
            #expect(try Snapshots.ofVolume(scene.volume, in: connection).isEmpty)
            #expect(try scene.bench.requests.owner(of: kept, in: connection) != nil)
            #expect(try Quotas.usages(ofProject: scene.caller.projectID, in: connection)["snapshots"] ?? 0 == 0)
            let stored = try Backups.storedSnapshots(in: connection)
            #expect(stored.count == 2 && stored.allSatisfy { $0.isNeeded && $0.volumeID == scene.volume })
        }
        _ = try await scene.increment()
        #expect(scene.base == kept && scene.stored.count == 2)
    }
}
