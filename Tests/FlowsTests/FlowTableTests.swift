import BlockStorage
import Database
import DriverHost
import KeyManager
import Primitives
import Testing

@testable import Flows

/// Every flow against backends in memory, with a fault in each of its driver calls and a death of the process at each of its commits:
/// what is left then is consistent, and the next call repairs it. `IntegrationTests.FaultTests` has the same over real processes.
@Suite("Flows in memory")
struct FlowTableTests {
    /// One way in which an act goes.
    private struct Cell {
        let act: Act
        var faults: [Int: Fault] = [:]
        var death: (write: Int, isCommitted: Bool)?
        /// The user asks for it to be taken back while the process is dead.
        var isCancelled = false

        /// A call that gives an object another name says that it failed, though it was done: nobody knows then where the object is. The
        /// doctor lists it.
        func loses(_ failed: [String]) -> Bool {
            (failed.contains("rename_volume") || failed.contains("manage_volume"))
                && faults.values.contains { $0.hasEffect && $0.code == .error }
        }

        var name: String {
            let calls = faults.sorted { $0.key < $1.key }.map {
                "\($0.value.code)\($0.value.hasEffect ? " after" : " before") call \($0.key)"
            }
            let end = death.map { ["death \($0.isCommitted ? "after" : "before") commit \($0.write)"] } ?? []
            return "\(act): \((calls + end + (isCancelled ? ["cancelled"] : [])).joined(separator: ", "))"
        }
    }

    private struct Course {
        let calls: [String]
        let writes: Int
        let state: OperationState
    }

    /// States in which nothing is under way.
    private static let restful: Set<VolumeStatus> = [
        .available, .inUse, .error, .errorDeleting, .errorExtending, .errorManaging, .errorUnmanaging, .errorRestoring,
    ]

    /// Carries the act out as the cell says, and looks at everything that it left.
    @discardableResult
    private func run(_ cell: Cell, _ bench: FlowBench) async throws -> Course {
        let caller = bench.caller()
        let (volume, id) = try await cell.act.begin(bench, caller)
        let begun = try await bench.database.read { try #require(try Operations.find(id, in: $0)) }
        #expect(begun.flow == cell.act.flow, "\(cell.name)")
        let targets = try await bench.database.read { connection in
            try connection.rows(Self.claimsSQL, .text(id)) { $0.text(0) }
        }
        bench.script.begin(cell.faults)
        bench.script.lacksSnapshots.withLock { $0 = cell.act.lacksSnapshots }
        let mortal = DyingDatabase(bench.database, death: cell.death)
        do {
            try await bench.carryOut(id, through: mortal)
        } catch is DyingDatabase.Death {
            if cell.isCancelled {
                _ = try await bench.database.write { tx in
                    guard let operation = try Operations.find(id, in: tx) else { return false }
                    return try Operations.cancel(operation, caller: caller, in: tx)
                }
            }
            try await bench.carryOut(id, interrupted: true)
        }
        if cell.act.leavesSnapshot || cell.act.leavesKey { try await bench.carryOutRest(of: caller) }
        let failed = bench.script.failed
        let (calls, writes) = (bench.script.calls, mortal.writes)
        // What a move could not remove an operation of its own does.
        bench.script.begin([:])
        // And of the image cache.
        if cell.act == .cacheImage {
            try await bench.carryOutRest(of: Caller(userID: "", projectID: "tenant", isAdmin: true, requestID: caller.requestID))
        }
        for target in targets where cell.act.moves && target != volume {
            if let removal = try await bench.database.read({ try Operations.latest(of: target, in: $0) }) {
                #expect(removal.flow == RemoveUnusedObject.id, "\(cell.name)")
                try await bench.carryOut(removal.id)
            }
        }
        // Nor does the copy of a volume of an instance go by the same.
        if cell.act.swaps { try await bench.carryOutRest(of: caller) }
        let course = Course(
            calls: calls, writes: writes,
            state: try await checkEnd(of: id, volume, isLost: cell.loses(failed), caller, cell, bench))
        try await repair(volume, targets, course, failed: failed, caller, cell, bench)
        return course
    }

    private static let claimsSQL = SQL("SELECT DISTINCT resource FROM claims WHERE operation_id = ? AND exclusive = 1")
    private static let messagesSQL = SQL("SELECT count(*) FROM messages WHERE request_id = ? AND resource_uuid IS NOT NULL")
    private static let unfinishedSQL = SQL("SELECT count(*) FROM operations WHERE finished_at IS NULL AND project_id = ?")

    private func checkEnd(of id: String, _ volume: String, isLost: Bool, _ caller: Caller, _ cell: Cell, _ bench: FlowBench) async throws
        -> OperationState
    {
        let findings = try await bench.findings()
        #expect(findings.isEmpty, "\(cell.name)")
        #expect(bench.images.unfinished.isEmpty, "\(cell.name): an image without data is left")
        return try await bench.database.read { connection in
            let ended = try #require(try Operations.find(id, in: connection))
            #expect([.done, .failed].contains(ended.state), "\(cell.name): \(ended.state)")
            #expect(try connection.first(Self.unfinishedSQL, .text(caller.projectID)) { $0.int(0) } == 0, "\(cell.name)")
            if let row = try Volumes.find(volume, in: connection) {
                let isSwapping = cell.act.beginsSwap && ended.state == .done && row.migrationStatus == .migrating
                // An attachment is complete when its client says so, and a retype through the Compute service when that does.
                let isRestful =
                    Self.restful.contains(row.status) || cell.act.attaches && row.status == .attaching
                    || isSwapping && cell.act.retypesBySwap && row.status == .retyping
                #expect(isRestful, "\(cell.name): the volume is \(row.status)")
                #expect(
                    isSwapping || [nil, .success, .error].contains(row.migrationStatus),
                    "\(cell.name): \(row.migrationStatus?.rawValue ?? "")")
                if cell.act.swaps { try requireCopy(of: row, ended, cell, bench, in: connection) }
                for snapshot in try Snapshots.ofVolume(volume, in: connection) {
                    #expect(
                        [.available, .error, .errorDeleting].contains(snapshot.status), "\(cell.name): a snapshot is \(snapshot.status)"
                    )
                }
                if row.status == .available, row.host != nil, !isLost {
                    let stored = bench.backends.all.first { $0.host == row.backend }?["volume-" + (row.nameID ?? row.id)]
                    #expect(stored?.size == Int64(row.size), "\(cell.name): the volume and its storage differ in size")
                }
            }
            if cell.act.isOfSecret { try requireKeys(of: volume, caller, cell, bench, in: connection) }
            try requireKnownSnapshots(volume, caller, cell, bench, in: connection)
            for backup in try backups(of: caller, in: connection) {
                #expect(
                    [.available, .error, .errorDeleting].contains(backup.status), "\(cell.name): a backup is \(backup.status)")
                if backup.status == .available {
                    #expect(bench.stores.store[backup.id]?.content == "content", "\(cell.name): the backup holds something else")
                }
            }
            if ended.state == .failed, !cell.act.isAnswered {
                let messages = try connection.first(Self.messagesSQL, .text(caller.requestID)) { $0.int(0) } ?? 0
                #expect(messages > 0, "\(cell.name): the user was told nothing of \(ended.error ?? "")")
            }
            if ended.state == .done, cell.act.makesImage {
                #expect(
                    bench.images.contents.contains("content") && Set(bench.images.contents).count == 1,
                    "\(cell.name): the image holds something else")
            }
            if cell.act == .uploadAttached, let row = try Volumes.find(volume, in: connection) {
                #expect(row.status == .inUse, "\(cell.name): a volume that is attached is \(row.status)")
            }
            if ended.state == .done, !isLost,
                cell.act.copies || [.clone, .fromSnapshot, .secretClone, .secretFromSnapshot, .revert, .keptRevert].contains(cell.act),
                let row = try Volumes.find(volume, in: connection)
            {
                let stored = bench.backends.all.first { $0.host == row.backend }?["volume-" + (row.nameID ?? row.id)]
                #expect(stored?.content == "content", "\(cell.name): the content is another")
            }
            return ended.state
        }
    }

    /// What is whole has its key, and what is attached says that it is encrypted.
    private func requireKeys(of volume: String, _ caller: Caller, _ cell: Cell, _ bench: FlowBench, in connection: any Connection) throws {
        if let row = try Volumes.find(volume, in: connection), [.available, .inUse].contains(row.status) {
            #expect(row.encryptionKeyID.map(bench.keys.holds) == true, "\(cell.name): the volume has no key")
            let origin = try row.sourceVolumeID.flatMap { try Volumes.find($0, in: connection) }
            if let origin, let (one, other) = (row.encryptionKeyID, origin.encryptionKeyID) as? (String, String) {
                #expect(one != other && bench.keys.find(one) == bench.keys.find(other), "\(cell.name): the clone has another key")
            }
        }
        for backup in try backups(of: caller, in: connection) where backup.status == .available {
            #expect(backup.encryptionKeyID.map(bench.keys.holds) == true, "\(cell.name): the backup has no key")
            if let row = try Volumes.find(volume, in: connection), row.status == .available, cell.act.copies, row.encryptionKeyID != nil {
                let keys = (row.encryptionKeyID.flatMap(bench.keys.find), backup.encryptionKeyID.flatMap(bench.keys.find))
                let wasRestored = bench.backends.all.contains { $0["volume-" + volume]?.content == "content" }
                #expect(keys.0 == keys.1 || !wasRestored, "\(cell.name): the key is another than that of the content")
            }
        }
    }

    /// Every snapshot that lies in a backend is a user's, or is noted with the backup that it was made for: what is not could never be
    /// removed, and would hold its volume.
    private func requireKnownSnapshots(_ volume: String, _ caller: Caller, _ cell: Cell, _ bench: FlowBench, in connection: any Connection)
        throws
    {
        guard let row = try Volumes.find(volume, in: connection), ![.manageSnapshot, .unmanageSnapshot].contains(cell.act) else { return }
        let object = bench.backends.all.first { $0.host == row.backend }?["volume-" + (row.nameID ?? row.id)]
        let known =
            try Snapshots.ofVolume(volume, in: connection).map(\.id) + backups(of: caller, in: connection).compactMap(\.temporarySnapshotID)
            + BackupSnapshotRemovals.ofVolume(volume, in: connection).map(\.snapshotID)
        let unknown = (object?.order ?? []).filter { !known.contains(String($0.dropFirst("snapshot-".count))) }
        #expect(unknown.isEmpty, "\(cell.name): nobody knows of \(unknown)")
        if cell.act.keepsSnapshots, cell.faults.isEmpty, cell.death == nil {
            let kept = try backups(of: caller, in: connection).compactMap(\.temporarySnapshotID).count
            #expect(kept == (cell.act == .keptIncrement ? 1 : 0), "\(cell.name): \(kept) snapshots are kept")
        }
    }

    /// A copy is there while the Compute service works with it, attached; else the volume alone is, in use, with what its guest wrote.
    private func requireCopy(
        of volume: Volume, _ ended: BlockStorage.Operation, _ cell: Cell, _ bench: FlowBench, in connection: any Connection
    ) throws {
        let copy = try connection.rows(Act.copySQL, .text(MigrationStatus.target(of: volume.id).rawValue)) { $0.text(0) }
        let isSwapping = cell.act.beginsSwap && ended.state == .done
        let status: VolumeStatus = isSwapping && cell.act.retypesBySwap ? .retyping : .inUse
        #expect(volume.status == status && volume.attachStatus == .attached, "\(cell.name): the volume is \(volume.status)")
        if cell.act.retypesBySwap {
            let type = cell.act == .finishRetype && ended.state == .done ? "two" : "one"
            #expect(volume.typeName == type, "\(cell.name): the volume's type is \(volume.typeName)")
        }
        #expect(try Attachments.ofVolume(volume.id, in: connection).count == 1, "\(cell.name)")
        let objects = bench.backends.all.flatMap { backend in
            backend.objects.filter { $0.key == "volume-" + (volume.nameID ?? volume.id) }.map { (host: backend.host, object: $0.value) }
        }
        #expect(objects.count == 1 && objects[0].host == volume.backend, "\(cell.name)")
        if cell.act.finishesSwap, ended.state == .done {
            #expect(volume.migrationStatus == .success && objects[0].object.content == "what the guest wrote", "\(cell.name)")
        } else {
            #expect(objects[0].object.content == "content", "\(cell.name)")
        }
        guard isSwapping else {
            #expect(copy.isEmpty, "\(cell.name): a copy is left")
            if !cell.act.finishesSwap { #expect(volume.migrationStatus == .error, "\(cell.name)") }
            return
        }
        #expect(copy.count == 1 && volume.migrationStatus == .migrating, "\(cell.name)")
        #expect(try Attachments.ofVolume(copy[0], in: connection).count == 1, "\(cell.name): the copy is not attached")
    }

    private func backups(of caller: Caller, in connection: any Connection) throws -> [Backup] {
        try BackupQuery(projectID: caller.projectID, limit: 100).page(in: connection)
    }

    /// What a user would do next, whatever the act left: let go of the volume, and delete it. Nothing of it stays.
    private func repair(
        _ volume: String, _ targets: [String], _ course: Course, failed: [String], _ caller: Caller, _ cell: Cell, _ bench: FlowBench
    ) async throws {
        let requests = bench.requests
        let row = try await bench.database.read { try Volumes.find(volume, in: $0) }
        if let row, cell.act.beginsSwap, row.migrationStatus == .migrating {
            // The Compute service gives it up.
            let copy = try await bench.database.read {
                try #require(try $0.first(Act.copySQL, .text(MigrationStatus.target(of: volume).rawValue)) { $0.text(0) })
            }
            for attachment in try await bench.database.read({ try Attachments.ofVolume(copy, in: $0) }) {
                _ = try await bench.database.write {
                    try requests.deleteAttachment(attachment.id, permit: .everything, caller: caller, in: $0)
                }
            }
            let operation = try await bench.database.write { tx -> String? in
                _ = try requests.completeMigration(
                    of: volume, to: copy, hasFailed: true, permit: .unused([]), caller: caller, in: tx)
                return try Operations.latest(of: volume, in: tx)?.id
            }
            bench.script.begin([:])
            if let operation { try await bench.carryOut(operation) }
            try await bench.carryOutRest(of: caller)
        }
        if row != nil {
            // What is not the service's, the operator removes.
            if cell.act == .manageSnapshot || cell.act == .unmanageSnapshot { bench.backends.all[0]["volume-" + volume]?.snapshots = [:] }
            for attachment in try await bench.database.read({ try Attachments.ofVolume(volume, in: $0) }) {
                if let operation = try await bench.database.write({
                    try requests.deleteAttachment(attachment.id, permit: .everything, caller: caller, in: $0)
                }) {
                    bench.script.begin([:])
                    try await bench.carryOut(operation)
                }
            }
            if try await bench.database.read({ try HostConnections.isConnected(volume, in: $0) }) {
                try await bench.perform {
                    _ = try requests.disconnect(
                        volumeID: volume, connector: nil, detach: nil, permit: .everything, caller: caller, in: $0)
                    return volume
                }
            }
            let operation = try await bench.database.write { tx -> String? in
                try requests.delete(volume, force: true, cascade: true, caller: caller, in: tx)
                return try Volumes.find(volume, in: tx) == nil ? nil : try Operations.latest(of: volume, in: tx)?.id
            }
            bench.script.begin([:])
            if let operation { try await bench.carryOut(operation) }
        }
        // The newest first: others rest on older ones.
        let kept = try await bench.database.read { try backups(of: caller, in: $0) }
        for backup in kept {
            let operation = try await bench.database.write { tx in
                try requests.deleteBackup(backup.id, force: true, caller: caller, in: tx)
                return try Operations.latest(of: backup.id, in: tx)?.id
            }
            bench.script.begin([:])
            if let operation { try await bench.carryOut(operation) }
        }
        #expect(try await bench.database.read { try backups(of: caller, in: $0).isEmpty }, "\(cell.name): a backup is left")
        // What cannot be removed is left to the store, and told.
        if cell.act == .forgetBackup, !failed.isEmpty { for id in targets { bench.stores.store[id] = nil } }
        #expect(bench.stores.store.ids.isDisjoint(with: kept.map(\.id) + targets), "\(cell.name): a backup is left in its store")
        let keys = bench.keys.names.filter { name in ([volume] + kept.map(\.id)).contains { name.contains($0) } }
        // A volume that is made anew elsewhere while two faults in a row keep its first key.
        #expect(keys.isEmpty, "\(cell.name): keys are left: \(keys)")
        let left = try await bench.database.read { try Volumes.find(volume, in: $0) }
        #expect(left == nil, "\(cell.name): the volume could not be deleted, it is \(left?.status.rawValue ?? "")")
        // What is unmanaged stays on purpose; what a move left and could not remove is for the doctor to list, and what a driver refuses.
        let isRefused = cell.act == .removeUnusedObject && cell.faults[0].map { ![.retry, .noSpace, .hostDied].contains($0.code) } ?? false
        let isOld = cell.act.moves && failed.contains("delete_volume") && course.state == .done
        let isLeft = cell.act.leavesStorage || cell.loses(failed) || isOld || isRefused && !(cell.faults[0]?.hasEffect ?? false)
        if !isLeft { #expect(bench.storage(of: targets + [volume]).isEmpty, "\(cell.name): storage is left") }
        let findings = try await bench.findings()
        #expect(findings.isEmpty, "\(cell.name): after the repair")
    }

    @Test(
        "only the first attempt to write an image finds a volume that is zero, also after a death",
        arguments: [Act.fromImage, .secretFromImage])
    func secondAttempt(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        func attempts(_ cell: Cell) async throws -> (told: [Bool], course: Course) {
            bench.script.targetsWereZero.withLock { $0 = [] }
            let course = try await run(cell, bench)
            return (bench.script.targetsWereZero.withLock { $0 }, course)
        }
        let whole = try await attempts(Cell(act: act))
        #expect(whole.told == [true])
        let write = try #require(whole.course.calls.firstIndex(of: "fetch-image"))
        for code in [DriverFailure.Code.hostDied, .retry] {
            #expect(try await attempts(Cell(act: act, faults: [write: Fault(code: code, hasEffect: true)])).told == [true, false])
        }
        var repeated = 0
        for commit in 0..<whole.course.writes {
            let told = try await attempts(Cell(act: act, death: (commit, false))).told
            #expect(told.first == true && told.dropFirst().allSatisfy { !$0 }, "commit \(commit): \(told)")
            repeated += told.count - 1
        }
        #expect(repeated > 0)
    }

    @Test("a key that its manager will never delete keeps the volume, unless an administrator forces it")
    func foreignKey() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let requests = bench.requests
        let caller = bench.caller()
        let volume = try await bench.perform { tx in
            var new = NewVolume()
            (new.size, new.typeName) = (1, "secret")
            return try requests.create(new, caller: caller, in: tx)
        }
        bench.keys.refuses.withLock { $0 = KeyFailure(.notFound, "another key manager keeps it") }
        try await bench.perform(on: volume) {
            try requests.delete(volume, force: false, caller: caller, in: $0)
            return volume
        }
        let kept = try await bench.database.read { (try Volumes.find(volume, in: $0), try Operations.latest(of: volume, in: $0)) }
        #expect(kept.0?.status == .errorDeleting && kept.1?.error?.contains("another key manager keeps it") == true)
        try await bench.perform(on: volume) {
            try requests.delete(volume, force: true, caller: caller, in: $0)
            return volume
        }
        #expect(try await bench.database.read { try Volumes.find(volume, in: $0) } == nil)
        // The doctor tells of the key, and can try again.
        try await bench.carryOutRest(of: caller)
        func keys() async throws -> [Finding] { try await KeyExamination(imageKeys: nil, database: bench.database).findings() }
        let key = try #require(kept.0?.encryptionKeyID)
        let told = try await keys()
        #expect(told.count == 1 && told[0].text.contains("key \(key) of volume \(volume) was not deleted"), "\(told.map(\.text))")
        bench.keys.refuses.withLock { $0 = nil }
        #expect(try await told[0].repaired(in: bench.database).outcome?.contains("tries to delete it") == true)
        await LeftKeySweep(try bench.services()).tick()
        #expect(try await keys().isEmpty && !bench.keys.holds(key))
        #expect(try await told[0].repaired(in: bench.database).outcome == "it was mended meanwhile")
    }

    @Test("a volume that is deleted with force does not wait for its key manager, and its key goes when that answers")
    func absentKeyManager() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let (requests, caller) = (bench.requests, bench.caller())
        let volume = try await bench.perform { tx in
            var new = NewVolume()
            (new.size, new.typeName) = (1, "secret")
            return try requests.create(new, caller: caller, in: tx)
        }
        let key = try #require(try await bench.database.read { try Volumes.find(volume, in: $0)?.encryptionKeyID })
        bench.keys.refuses.withLock { $0 = KeyFailure(.unavailable, "it does not answer") }
        try await bench.perform(on: volume) {
            try requests.delete(volume, force: true, caller: caller, in: $0)
            return volume
        }
        #expect(try await bench.database.read { try Volumes.find(volume, in: $0) } == nil)
        #expect(bench.storage(of: [volume]).isEmpty && bench.keys.holds(key))
        // It waits as long as it takes, and a few refusals, too.
        let deletion = try await bench.database.read { try #require(try Operations.latest(of: key, in: $0)) }
        #expect(deletion.flow == DeleteKey.id && deletion.finishedAt == nil)
        let questions = Guarded(0)
        bench.keys.answers.withLock { answers in
            answers = {
                let number = questions.withLock { questions in
                    questions += 1
                    return questions
                }
                if number <= 20 { return KeyFailure(.unavailable, "it does not answer") }
                return number <= 23 ? KeyFailure(.refused, "the account has no right yet") : nil
            }
        }
        try await bench.carryOut(deletion.id)
        let ended = try await bench.database.read { try Operations.find(deletion.id, in: $0)?.state }
        #expect(ended == .done && !bench.keys.holds(key) && questions.withLock { $0 } == 24)
    }

    @Test(
        "the new owner of an encrypted volume may read its key though the key manager refuses that at first, and is told if it never does")
    func refusedOpening() async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        for refusals in [3, 1000] {
            let caller = bench.caller()
            let (_, operation) = try await Act.secretOpenKey.begin(bench, caller)
            let left = Guarded(refusals)
            bench.keys.answers.withLock { answers in
                answers = {
                    left.withLock { left in
                        left -= 1
                        return left >= 0 ? KeyFailure(.refused, "the account has no right yet") : nil
                    }
                }
            }
            try await bench.carryOut(operation)
            bench.keys.answers.withLock { $0 = nil }
            let ended = try await bench.database.read { try Operations.find(operation, in: $0) }
            #expect(ended?.state == (refusals == 3 ? .done : .failed))
            let messages = try await bench.database.read { try $0.first(Self.messagesSQL, .text(caller.requestID)) { $0.int(0) } }
            #expect(messages == (refusals == 3 ? 0 : 1))
        }
    }

    // MARK: the table

    @Test("every flow is in the table")
    func coverage() {
        #expect(Set(Act.allCases.map(\.flow)) == Set(FlowRegistry.all.flows.map(\.id)))
    }

    @Test("a flow whose calls all succeed is carried out", arguments: Act.allCases)
    func success(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let course = try await run(Cell(act: act), bench)
        #expect(course.state == .done)
    }

    @Test("each driver call fails in each way, before or after its effect", arguments: Act.allCases)
    func failures(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let course = try await run(Cell(act: act), bench)
        let codes: [DriverFailure.Code] = [
            .error, .retry, .busy, .notFound, .exists, .noSpace, .unsupported, .badConfiguration, .invalid, .hostDied,
        ]
        for call in course.calls.indices {
            for code in codes { try await run(Cell(act: act, faults: [call: Fault(code: code)]), bench) }
            for code in [DriverFailure.Code.error, .hostDied] {
                try await run(Cell(act: act, faults: [call: Fault(code: code, hasEffect: true)]), bench)
            }
            // What takes the failed call back fails, too.
            try await run(Cell(act: act, faults: [call: Fault(code: .error, hasEffect: true), call + 1: Fault(code: .error)]), bench)
        }
    }

    @Test("the process dies at each commit, before and after it", arguments: Act.allCases)
    func deaths(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let course = try await run(Cell(act: act), bench)
        for write in 0..<course.writes {
            for isCommitted in [false, true] {
                let ended = try await run(Cell(act: act, death: (write, isCommitted)), bench)
                // A connection that nobody waits for any more is taken back.
                if ![.connect, .attach, .attachAgain, .secretAttach].contains(act) { #expect(ended.state == .done) }
            }
        }
    }

    @Test("the process dies at each commit of a flow that fails, before and after it", arguments: Act.allCases)
    func deathsAfterFailures(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let course = try await run(Cell(act: act), bench)
        for call in course.calls.indices {
            let fault = [call: Fault(code: .error, hasEffect: true)]
            let failing = try await run(Cell(act: act, faults: fault), bench)
            for write in 0..<failing.writes {
                for isCommitted in [false, true] { try await run(Cell(act: act, faults: fault, death: (write, isCommitted)), bench) }
            }
            // And what takes the failed call back fails, too, before the process dies.
            guard act.moves else { continue }
            let both = [call: Fault(code: .error, hasEffect: true), call + 1: Fault(code: .error)]
            let stuck = try await run(Cell(act: act, faults: both), bench)
            for write in 0..<stuck.writes {
                for isCommitted in [false, true] { try await run(Cell(act: act, faults: both, death: (write, isCommitted)), bench) }
            }
        }
    }

    @Test(
        "what a user has taken back leaves nothing, or was done already",
        arguments: Act.allCases.filter { FlowRegistry.all[$0.flow].map { $0.cancellation != .never } == true })
    func cancellations(_ act: Act) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let course = try await run(Cell(act: act), bench)
        for write in 0..<course.writes {
            for isCommitted in [false, true] {
                try await run(Cell(act: act, death: (write, isCommitted), isCancelled: true), bench)
            }
        }
    }

    @Test(
        "a forced removal of a backup forgets nothing while it may succeed later",
        arguments: [Act.deleteBackup, .secretDeleteBackup], [DriverFailure.Code.retry, .noSpace, .hostDied])
    func forcedRemovals(_ act: Act, _ code: DriverFailure.Code) async throws {
        let bench = try await FlowBench()
        defer { bench.close() }
        let caller = bench.caller()
        let (_, first) = try await act.begin(bench, caller)
        let id = try await bench.database.read { try #require(try Operations.find(first, in: $0)).resourceID }
        // Of a backup with a key the key manager does not answer, whatever its failure.
        bench.script.begin(Dictionary(uniqueKeysWithValues: ((act == .secretDeleteBackup ? 1 : 0)..<60).map { ($0, Fault(code: code)) }))
        try await bench.carryOut(first)
        #expect(try await bench.database.read { try Backups.find(id, in: $0) }?.status == .errorDeleting)
        func force() async throws -> Backup? {
            let operation = try await bench.database.write { tx in
                try bench.requests.deleteBackup(id, force: true, caller: caller, in: tx)
                return try #require(try Operations.latest(of: id, in: tx)).id
            }
            try await bench.carryOut(operation)
            return try await bench.database.read { try Backups.find(id, in: $0) }
        }
        bench.script.begin(Dictionary(uniqueKeysWithValues: ((act == .secretDeleteBackup ? 1 : 0)..<60).map { ($0, Fault(code: code)) }))
        #expect(try await force()?.status == .errorDeleting)
        bench.script.begin([:])
        #expect(try await force() == nil)
        #expect(bench.stores.store[id] == nil && bench.keys.names.allSatisfy { !$0.contains(id) })
    }
}
