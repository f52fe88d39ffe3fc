import BlockStorage
import Database
import JSON
import Primitives
import Testing

@testable import Flows

/// What a user or an operator does that a flow carries out.
enum Act: String, CaseIterable, Sendable {
    case create, clone, fromSnapshot, fromSnapshotElsewhere
    case delete, deleteWithoutSnapshots, cascade
    case extend, tellExtended
    case connect, disconnect, attach, attachAgain, detach, restoreExport
    case snapshot, deleteSnapshot, revert
    case retype, retypeElsewhere, migrate, removeUnusedObject
    case migrateAttached, finishMigration, takeMigrationBack
    case retypeAttached, retypeAttachedElsewhere, finishRetype, takeRetypeBack
    case manage, unmanage, manageSnapshot, unmanageSnapshot, verifyBackup
    case backup, backupOfSnapshot, increment, backupInPlace, removeBackupSnapshot, deleteBackup, forgetBackup
    case restore, restoreOver, fromBackup
    // Of an encrypted volume.
    case secretCreate, secretClone, secretFromSnapshot, secretDelete, secretAttach, secretBackup, secretDeleteBackup, secretRestore
    case secretRestoreOver, secretFromImage, secretFromSecretImage, secretUpload, secretForceDelete, secretOpenKey, secretDiscardKey
    case secretDeleteKey, secretReimage, secretReimageSecret
    case fromImage, fromImageByReading, fromStoredImage, fromImageVolume, fromCachedImage, cacheImage, upload, uploadAttached, reimage
    // With a snapshot of a backup beside the volume, which is kept for the next increment.
    case keptIncrement, keptDeleteBackup, keptDelete, keptExtend, keptRevert, keptRetypeElsewhere, keptMigrate, keptUnmanage

    var flow: FlowID {
        switch self {
        case .create, .clone, .fromSnapshot, .fromSnapshotElsewhere, .secretCreate, .secretClone, .secretFromSnapshot: CreateVolume.id
        case .delete, .cascade, .keptDelete, .secretDelete: DeleteVolume.id
        case .deleteWithoutSnapshots: DeleteVolumeWithoutSnapshots.id
        case .secretForceDelete: ForceDeleteVolume.id
        case .secretOpenKey: OpenVolumeKey.id
        case .secretDiscardKey: DiscardKey.id
        case .secretDeleteKey: DeleteKey.id
        case .secretReimage, .secretReimageSecret: ReimageEncryptedVolume.id
        case .secretFromImage, .secretFromSecretImage: CreateEncryptedFromImage.id
        case .extend, .keptExtend: ExtendVolume.id
        case .tellExtended: TellExtended.id
        case .connect: ConnectVolume.id
        case .disconnect: DisconnectVolume.id
        case .attach, .attachAgain, .secretAttach: ConnectAttachment.id
        case .detach: DeleteAttachment.id
        case .restoreExport: RestoreExport.id
        case .snapshot: CreateSnapshot.id
        case .deleteSnapshot: DeleteSnapshot.id
        case .revert, .keptRevert: RevertVolume.id
        case .retype, .retypeElsewhere, .keptRetypeElsewhere: RetypeVolume.id
        case .migrate, .keptMigrate: MigrateVolume.id
        case .migrateAttached: MigrateAttachedVolume.id
        case .retypeAttached, .retypeAttachedElsewhere: RetypeAttachedVolume.id
        case .finishMigration, .takeMigrationBack, .finishRetype, .takeRetypeBack: FinishMigration.id
        case .removeUnusedObject: RemoveUnusedObject.id
        case .verifyBackup: VerifyBackup.id
        case .manage: ManageVolume.id
        case .unmanage, .keptUnmanage: UnmanageVolume.id
        case .manageSnapshot: ManageSnapshot.id
        case .unmanageSnapshot: UnmanageSnapshot.id
        case .backup, .backupOfSnapshot, .increment, .backupInPlace, .keptIncrement, .secretBackup: CreateBackup.id
        case .removeBackupSnapshot: RemoveBackupSnapshot.id
        case .deleteBackup, .keptDeleteBackup, .secretDeleteBackup: DeleteBackup.id
        case .forgetBackup: ForgetBackup.id
        case .restore, .restoreOver, .fromBackup, .secretRestore, .secretRestoreOver: RestoreBackup.id
        case .fromImage, .fromStoredImage, .fromImageVolume, .fromCachedImage: CreateVolumeFromImage.id
        case .fromImageByReading: CreateVolumeByReading.id
        case .cacheImage: CacheImage.id
        case .upload, .secretUpload: UploadVolume.id
        case .uploadAttached: UploadAttachedVolume.id
        case .reimage: ReimageVolume.id
        }
    }

    /// A client waits for it, and is told there how it ended: no message says it again.
    /// Or it is nothing that a user asked for.
    var isAnswered: Bool {
        [
            .connect, .disconnect, .detach, .restoreExport, .removeUnusedObject, .cacheImage, .secretDiscardKey, .secretDeleteKey,
        ].contains(self) || swaps && !beginsSwap
    }
    /// The Compute service copies the volume.
    var swaps: Bool { beginsSwap || finishesSwap || [.takeMigrationBack, .takeRetypeBack].contains(self) }
    /// It is asked to.
    var beginsSwap: Bool { [.migrateAttached, .retypeAttachedElsewhere].contains(self) }
    /// It has.
    var finishesSwap: Bool { [.finishMigration, .finishRetype].contains(self) }
    /// The volume gets another type by that.
    var retypesBySwap: Bool { [.retypeAttachedElsewhere, .finishRetype, .takeRetypeBack].contains(self) }
    var attaches: Bool { [.attach, .attachAgain, .secretAttach].contains(self) }
    var moves: Bool { [.retypeElsewhere, .migrate, .keptRetypeElsewhere, .keptMigrate].contains(self) }
    var copies: Bool {
        moves
            || [
                .fromSnapshotElsewhere, .restore, .restoreOver, .fromBackup, .fromImage, .fromImageByReading, .fromStoredImage,
                .fromImageVolume, .fromCachedImage, .cacheImage, .reimage, .secretRestore, .secretRestoreOver,
                .secretFromImage, .secretFromSecretImage, .secretReimage, .secretReimageSecret,
            ].contains(self)
    }
    /// What is unmanaged stays.
    var leavesStorage: Bool { self == .unmanage || self == .keptUnmanage }
    var isOfBackup: Bool {
        [
            .verifyBackup, .backup, .backupOfSnapshot, .increment, .backupInPlace, .removeBackupSnapshot, .deleteBackup, .restore,
            .restoreOver, .fromBackup, .keptIncrement, .keptDeleteBackup, .secretBackup, .secretDeleteBackup, .secretRestore,
            .secretRestoreOver, .forgetBackup,
        ].contains(self)
    }
    /// What was read for it is removed by an operation of its own.
    var leavesSnapshot: Bool { isOfBackup || self == .uploadAttached }
    /// The same of a key.
    var leavesKey: Bool { [.secretForceDelete, .secretReimage, .secretReimageSecret].contains(self) }
    /// It holds what the volume held when it was asked for.
    var makesImage: Bool { [.upload, .uploadAttached, .secretUpload].contains(self) }
    var isOfSecret: Bool { rawValue.hasPrefix("secret") }
    /// Drivers tell what changed since a snapshot, and snapshots of backups are kept for that.
    var keepsSnapshots: Bool {
        [
            .keptIncrement, .keptDeleteBackup, .keptDelete, .keptExtend, .keptRevert, .keptRetypeElsewhere, .keptMigrate, .keptUnmanage,
        ].contains(self)
    }
    /// The driver of the volume has no snapshots.
    var lacksSnapshots: Bool { self == .backupInPlace }

    private static let connector: JSON = ["host": "compute-1", "initiator": "iqn.test"]

    static let copySQL = SQL("SELECT id FROM volumes WHERE migration_status = ?")

    /// Does what must be before it, then asks for it; returns the volume that the flow is about and the operation.
    func begin(_ bench: FlowBench, _ caller: Caller) async throws -> (volume: String, operation: String) {
        let requests = bench.requests
        bench.script.tellsChanges.withLock { $0 = keepsSnapshots }
        bench.script.growsNoSnapshots.withLock { $0 = keepsSnapshots }
        bench.script.clonesImages.withLock { $0 = self == .fromStoredImage }
        bench.script.cachesImages.withLock { $0 = self == .fromCachedImage }
        func create(_ change: @escaping @Sendable (inout NewVolume) -> Void = { _ in }) async throws -> String {
            var new = NewVolume()
            new.size = 1
            new.typeName = isOfSecret ? "secret" : "one"
            change(&new)
            let asked = new
            let id = try await bench.perform { try requests.create(asked, caller: caller, in: $0) }
            bench.backends.all[0]["volume-" + id]?.content = "content"
            return id
        }
        func snapshot(of volume: String) async throws -> String {
            let id = try await bench.database.write {
                try requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: true, caller: caller, in: $0)
            }
            let operation = try await bench.database.read { try #require(try Operations.latest(of: volume, in: $0)).id }
            bench.script.begin([:])
            try await bench.carryOut(operation)
            return id
        }
        func attach(_ volume: String, to instance: String? = nil, by reserved: String? = nil) async throws -> String {
            let id = try await bench.database.write {
                try reserved ?? requests.reserve(volumeID: volume, instanceID: instance, mode: "rw", caller: caller, in: $0)
            }
            let operation = try await bench.database.write {
                try requests.connectAttachment(id, connector: Self.connector, isNew: true, caller: caller, in: $0)
            }
            try await bench.carryOut(operation)
            try await bench.database.write { try Attachments.complete(id, caller: caller, in: $0) }
            return id
        }
        /// A volume that an instance uses, and the request to migrate it, or to give it a type that is another backend's. What is migrated is
        /// of the default type: it fits either backend.
        func movingAttached() async throws -> (volume: String, attachment: String, operation: String) {
            let isRetyped = retypesBySwap
            let volume = try await create { $0.typeName = isRetyped ? "one" : "__DEFAULT__" }
            let placed = try await bench.database.read { try #require(try Volumes.find(volume, in: $0)?.backend) }
            let target = bench.backends.all.first { $0.host != placed }?.host ?? ""
            let attachment = try await attach(volume, to: UUID.random())
            let begun = try await about(volume) {
                if isRetyped {
                    try requests.retype(volume, to: "two", mayMigrate: true, caller: caller, in: $0)
                } else {
                    try requests.migrate(volume, to: target, locks: true, downAfter: 86_400, caller: caller, in: $0)
                }
            }
            return (volume, attachment, begun.operation)
        }
        /// The same after the Compute service has attached the copy.
        func swapping() async throws -> (volume: String, attachment: String, copy: String, new: String) {
            let begun = try await movingAttached()
            bench.script.begin([:])
            try await bench.carryOut(begun.operation)
            let (copy, new) = try await bench.database.read { connection in
                let target = MigrationStatus.target(of: begun.volume)
                let copy = try #require(try connection.first(Self.copySQL, .text(target.rawValue)) { $0.text(0) })
                return (copy, try #require(try Attachments.ofVolume(copy, in: connection).first).id)
            }
            return (begun.volume, begun.attachment, copy, new)
        }
        func backup(of volume: String, _ change: @escaping @Sendable (inout NewBackup) -> Void = { _ in }) async throws -> (
            id: String, operation: String
        ) {
            try await bench.database.write { tx in
                var new = NewBackup()
                change(&new)
                let id = try requests.createBackup(of: volume, new, downAfter: 86_400, caller: caller, in: tx)
                return (id, try #require(try Operations.latest(of: id, in: tx)).id)
            }
        }
        func finished(_ backup: (id: String, operation: String)) async throws -> String {
            bench.script.begin([:])
            try await bench.carryOut(backup.operation)
            try await bench.carryOutRest(of: caller)
            return backup.id
        }
        /// With a backup, where its snapshot is kept.
        func created() async throws -> String {
            let volume = try await create()
            if keepsSnapshots { _ = try await finished(backup(of: volume)) }
            return volume
        }
        func made(of change: @escaping @Sendable (inout NewVolume) -> Void) async throws -> (volume: String, operation: String) {
            var new = NewVolume()
            new.size = 1
            change(&new)
            let asked = new
            return try await bench.begin { try requests.create(asked, caller: caller, in: $0) }
        }
        func about(_ volume: String, _ request: @escaping @Sendable (any Transaction) throws -> Void) async throws -> (
            volume: String, operation: String
        ) {
            try await bench.begin { tx in
                try request(tx)
                return volume
            }
        }

        /// An image that was made of an encrypted volume.
        func secretImage() async throws -> SourceImage {
            let volume = try await create()
            let id = try image(bench, content: nil).id
            let new = NewImage(id: id, name: "image", diskFormat: "raw", containerFormat: "bare")
            let upload = try await about(volume) { try requests.upload(volume, to: new, isForced: false, caller: caller, in: $0) }
            bench.script.begin([:])
            try await bench.carryOut(upload.operation)
            return try #require(
                SourceImage(
                    [
                        "id": .string(id), "status": "active", "size": 7, "disk_format": "raw", "container_format": "bare", "min_disk": 0,
                        "cinder_encryption_key_id": bench.images.properties(of: id)["cinder_encryption_key_id"] ?? .null,
                    ]))
        }

        func ended(_ volume: String, _ copy: String, hasFailed: Bool) async throws -> (volume: String, operation: String) {
            try await about(volume) {
                _ = try requests.completeMigration(
                    of: volume, to: copy, hasFailed: hasFailed, permit: .unused([]), caller: MemoryCompute.caller, in: $0)
            }
        }

        switch self {
        case .secretCreate: return try await made { $0.typeName = "secret" }
        case .create: return try await made { $0.typeName = "one" }
        case .clone, .secretClone:
            let source = try await create()
            return try await made { $0.sourceVolumeID = source }
        case .fromSnapshot, .secretFromSnapshot:
            let source = try await snapshot(of: create())
            return try await made { $0.snapshotID = source }
        case .fromSnapshotElsewhere:
            let source = try await snapshot(of: create())
            return try await made {
                $0.snapshotID = source
                $0.typeName = "two"
            }
        case .delete, .keptDelete, .secretDelete:
            let volume = try await created()
            return try await about(volume) { try requests.delete(volume, force: false, caller: caller, in: $0) }
        case .deleteWithoutSnapshots:
            let volume = try await create()
            let begun = try await about(volume) { try requests.delete(volume, force: false, caller: caller, in: $0) }
            try await bench.database.write {
                _ = try $0.run(text: "UPDATE operations SET version = 1 WHERE id = ?", [.text(begun.operation)])
            }
            return begun
        case .cascade:
            let volume = try await create()
            for _ in 0..<2 { _ = try await snapshot(of: volume) }
            return try await about(volume) { try requests.delete(volume, force: false, cascade: true, caller: caller, in: $0) }
        case .extend, .keptExtend:
            let volume = try await created()
            return try await about(volume) { try requests.extend(volume, to: 2, allowAttached: false, caller: caller, in: $0) }
        case .tellExtended:
            let volume = try await create()
            _ = try await attach(volume, to: UUID.random())
            let extended = try await about(volume) { try requests.extend(volume, to: 2, allowAttached: true, caller: caller, in: $0) }
            try await bench.carryOut(extended.operation)
            return try await bench.database.read { connection in
                let told = try Operations.runnable(in: connection).first { $0.resourceID == volume }
                return (volume, try #require(told).id)
            }
        case .migrateAttached, .retypeAttachedElsewhere:
            let begun = try await movingAttached()
            return (begun.volume, begun.operation)
        case .finishMigration, .finishRetype:
            let swapping = try await swapping()
            _ = try await attach(swapping.copy, by: swapping.new)
            for backend in bench.backends.all where backend["volume-" + swapping.copy] != nil {
                backend["volume-" + swapping.copy]?.content = "what the guest wrote"
            }
            let detached = try await bench.database.write {
                try #require(try requests.deleteAttachment(swapping.attachment, permit: .everything, caller: caller, in: $0))
            }
            try await bench.carryOut(detached)
            return try await ended(swapping.volume, swapping.copy, hasFailed: false)
        case .takeMigrationBack, .takeRetypeBack:
            let swapping = try await swapping()
            _ = try await bench.database.write {
                try requests.deleteAttachment(swapping.new, permit: .everything, caller: caller, in: $0)
            }
            return try await ended(swapping.volume, swapping.copy, hasFailed: true)
        case .connect:
            let volume = try await create()
            return try await about(volume) {
                _ = try requests.connect(volumeID: volume, connector: Self.connector, caller: caller, in: $0)
            }
        case .disconnect:
            let volume = try await create()
            let connected = try await about(volume) {
                _ = try requests.connect(volumeID: volume, connector: Self.connector, caller: caller, in: $0)
            }
            try await bench.carryOut(connected.operation)
            return try await about(volume) {
                _ = try requests.disconnect(
                    volumeID: volume, connector: Self.connector, detach: nil, permit: .everything, caller: caller, in: $0)
            }
        case .attach, .attachAgain, .secretAttach:
            let volume = try await create()
            return try await about(volume) {
                let id = try requests.reserve(volumeID: volume, instanceID: nil, mode: "rw", caller: caller, in: $0)
                _ = try requests.connectAttachment(id, connector: Self.connector, isNew: self != .attachAgain, caller: caller, in: $0)
            }
        case .detach:
            let volume = try await create()
            let attachment = try await attach(volume)
            return try await about(volume) {
                _ = try requests.deleteAttachment(attachment, permit: .everything, caller: caller, in: $0)
            }
        case .restoreExport:
            let volume = try await create()
            _ = try await attach(volume)
            return try await about(volume) {
                guard let locked = try Volumes.lock(volume, in: $0) else { throw StorageError.volumeNotFound(volume) }
                _ = try Operations.create(
                    RestoreExportArguments(), resourceType: "volume", resourceID: volume, projectID: caller.projectID, caller: caller,
                    claims: [.exclusive(locked)], in: $0)
            }
        case .snapshot:
            let volume = try await create()
            return try await about(volume) {
                _ = try requests.createSnapshot(of: volume, NewSnapshot(), allowsInUse: false, caller: caller, in: $0)
            }
        case .deleteSnapshot:
            let volume = try await create()
            let id = try await snapshot(of: volume)
            return try await about(volume) { try requests.deleteSnapshot(id, force: false, caller: caller, in: $0) }
        case .revert, .keptRevert:
            let volume = try await create()
            let id = try await snapshot(of: volume)
            if keepsSnapshots { _ = try await finished(backup(of: volume)) }
            bench.backends.all[0]["volume-" + volume]?.content = "later content"
            return try await about(volume) { try requests.revert(volume, to: id, caller: caller, in: $0) }
        case .retype, .retypeAttached:
            let volume = try await create()
            if self == .retypeAttached { _ = try await attach(volume, to: UUID.random()) }
            let mayMigrate = self == .retypeAttached
            try await bench.database.write { tx in
                guard try VolumeTypes.named("one again", in: tx) == nil else { return }
                _ = try VolumeTypes.create(
                    name: "one again", description: nil, isPublic: true, extraSpecs: ["volume_backend_name": "one"], in: tx)
            }
            return try await about(volume) { try requests.retype(volume, to: "one again", mayMigrate: mayMigrate, caller: caller, in: $0) }
        case .retypeElsewhere, .keptRetypeElsewhere:
            let volume = try await created()
            return try await about(volume) { try requests.retype(volume, to: "two", mayMigrate: true, caller: caller, in: $0) }
        case .migrate, .keptMigrate:
            // Of the default type: it fits either backend.
            let volume = try await create { $0.typeName = "__DEFAULT__" }
            let placed = try await bench.database.read { try #require(try Volumes.find(volume, in: $0)?.backend) }
            let target = bench.backends.all.first { $0.host != placed }?.host ?? ""
            for backend in bench.backends.all { backend["volume-" + volume]?.content = "content" }
            if keepsSnapshots { _ = try await finished(backup(of: volume)) }
            return try await about(volume) {
                try requests.migrate(volume, to: target, locks: true, downAfter: 86_400, caller: caller, in: $0)
            }
        case .removeUnusedObject:
            let object = UUID.random()
            bench.backends.all[0]["volume-" + object] = MemoryBackend.Object(size: 1, content: "content")
            return try await about(object) {
                _ = try Operations.create(
                    RemoveUnusedObjectArguments(host: "node@one#pool", size: 1, data: nil), resourceType: "volume", resourceID: object,
                    projectID: caller.projectID, caller: caller, claims: [.exclusive(new: object)], in: $0)
            }
        case .manage:
            bench.backends.all[0]["legacy-" + caller.projectID] = MemoryBackend.Object(size: 3, content: "content")
            return try await bench.begin {
                var managed = ManagedVolume(
                    host: "node@one#pool", reference: ["source-name": .string("legacy-" + caller.projectID)])
                managed.typeName = "one"
                return try requests.manage(managed, downAfter: 86_400, caller: caller, in: $0)
            }
        case .unmanage, .keptUnmanage:
            let volume = try await created()
            return try await about(volume) { try requests.unmanage(volume, caller: caller, in: $0) }
        case .manageSnapshot:
            let volume = try await create()
            bench.backends.all[0]["volume-" + volume]?.snapshots["legacy"] = "content"
            return try await about(volume) {
                _ = try requests.manageSnapshot(
                    of: volume, NewSnapshot(), reference: ["source-name": "legacy"], downAfter: 86_400, caller: caller, in: $0)
            }
        case .unmanageSnapshot:
            let volume = try await create()
            let id = try await snapshot(of: volume)
            return try await about(volume) { try requests.unmanageSnapshot(id, caller: caller, in: $0) }
        case .backup, .backupInPlace, .secretBackup:
            let volume = try await create()
            return (volume, try await backup(of: volume).operation)
        case .backupOfSnapshot:
            let volume = try await create()
            let id = try await snapshot(of: volume)
            return (volume, try await backup(of: volume) { $0.snapshotID = id }.operation)
        case .increment, .keptIncrement:
            let volume = try await create()
            _ = try await finished(backup(of: volume))
            return (volume, try await backup(of: volume) { $0.isIncremental = true }.operation)
        case .removeBackupSnapshot:
            let volume = try await create()
            let made = try await backup(of: volume)
            bench.script.begin([:])
            try await bench.carryOut(made.operation)
            return (
                volume,
                try await bench.database.read { try #require(try Operations.runnable(in: $0).first { $0.resourceID == made.id }).id }
            )
        case .verifyBackup:
            let volume = try await create()
            let id = try await finished(backup(of: volume))
            return try await bench.database.write { tx in
                try requests.verifyBackup(id, caller: caller, in: tx)
                return (volume, try #require(try Operations.latest(of: id, in: tx)).id)
            }
        case .deleteBackup, .keptDeleteBackup, .secretDeleteBackup:
            let volume = try await create()
            let id = try await finished(backup(of: volume))
            return try await bench.database.write { tx in
                try requests.deleteBackup(id, force: false, caller: caller, in: tx)
                return (volume, try #require(try Operations.latest(of: id, in: tx)).id)
            }
        case .forgetBackup:
            let volume = try await create()
            let id = try await finished(backup(of: volume))
            let failing = try await bench.database.write { tx in
                try requests.deleteBackup(id, force: false, caller: caller, in: tx)
                return try #require(try Operations.latest(of: id, in: tx)).id
            }
            bench.script.begin([0: Fault(code: .error)])
            try await bench.carryOut(failing)
            return try await bench.database.write { tx in
                #expect(try Backups.find(id, in: tx)?.status == .errorDeleting)
                try requests.deleteBackup(id, force: true, caller: caller, in: tx)
                return (volume, try #require(try Operations.latest(of: id, in: tx)).id)
            }
        case .restore, .restoreOver, .fromBackup, .secretRestore, .secretRestoreOver:
            let source = try await create()
            let id = try await finished(backup(of: source))
            guard self != .fromBackup, self != .secretRestore else {
                let type = isOfSecret ? "secret" : nil
                return try await made {
                    $0.backupID = id
                    $0.typeName = type
                }
            }
            let target = self == .restoreOver || self == .secretRestoreOver ? try await create() : nil
            if let target { bench.backends.all[0]["volume-" + target]?.content = "later content" }
            return try await bench.begin {
                try requests.restore(id, to: target, name: nil, downAfter: 86_400, caller: caller, in: $0).volumeID
            }
        case .fromImage:
            let source = try image(bench, content: "content")
            return try await made { $0.image = .found(source) }
        case .secretFromImage:
            let source = try image(bench, content: "content")
            return try await made {
                $0.typeName = "secret"
                $0.image = .found(source)
            }
        case .secretFromSecretImage:
            let source = try await secretImage()
            return try await made {
                $0.typeName = "secret"
                $0.image = .found(source)
            }
        case .secretReimage, .secretReimageSecret:
            let source = self == .secretReimage ? try image(bench, content: "content") : try await secretImage()
            let volume = try await create()
            bench.backends.all[0]["volume-" + volume]?.content = "later content"
            return try await about(volume) {
                try requests.reimage(volume, from: source, allowsReserved: false, caller: caller, in: $0)
            }
        case .secretDeleteKey:
            let volume = try await create()
            return try await about(volume) {
                _ = try Operations.create(
                    DeleteKeyArguments(keyID: nil, volumeID: UUID.random()), resourceType: "volume", resourceID: volume,
                    projectID: caller.projectID, caller: caller, claims: [.exclusive(new: UUID.random())], in: $0)
            }
        case .secretForceDelete:
            let volume = try await create()
            return try await about(volume) { try requests.delete(volume, force: true, caller: caller, in: $0) }
        case .secretOpenKey:
            let volume = try await create()
            let transfer = try await bench.database.write {
                try requests.offer(
                    volume, name: nil, leavesSnapshots: false, allowsEncrypted: true, key: TransferKey(digits: 16), caller: caller, in: $0)
            }
            return try await about(volume) {
                _ = try requests.accept(transfer.id, key: transfer.key ?? Secret(""), caller: caller, in: $0)
            }
        case .secretDiscardKey:
            let volume = try await create()
            return try await about(volume) {
                _ = try Operations.create(
                    DiscardKeyArguments(volumeID: volume, operationID: UUID.random()), resourceType: "volume", resourceID: volume,
                    projectID: caller.projectID, caller: caller, claims: [.exclusive(new: UUID.random())], in: $0)
            }
        case .fromImageByReading:
            let source = try image(bench, content: "content")
            let begun = try await made { $0.image = .found(source) }
            try await bench.database.write {
                _ = try $0.run(text: "UPDATE operations SET version = 1 WHERE id = ?", [.text(begun.operation)])
            }
            return begun
        case .fromStoredImage, .fromImageVolume:
            let source = try image(bench, content: "content")
            let location = self == .fromStoredImage ? "memory://content" : "cinder://store/\(try await create())"
            bench.images.lies.withLock { $0[source.id] = ["file:///elsewhere", location] }
            return try await made {
                $0.image = .found(source)
                $0.typeName = "one"
                $0.size = 2
            }
        case .cacheImage: return try await cached(image(bench, content: "content"), beside: create(), bench)
        case .fromCachedImage:
            let source = try image(bench, content: "content")
            let filling = try await cached(source, beside: create(), bench)
            bench.script.begin([:])
            try await bench.carryOut(filling.operation)
            // Larger than what it is a clone of.
            return try await made {
                $0.image = .found(source)
                $0.typeName = "one"
                $0.size = 2
            }
        case .upload, .secretUpload:
            let volume = try await create()
            let new = NewImage(id: try image(bench, content: nil).id, name: "image", diskFormat: "raw", containerFormat: "bare")
            return try await about(volume) { try requests.upload(volume, to: new, isForced: false, caller: caller, in: $0) }
        case .uploadAttached:
            let volume = try await create()
            _ = try await attach(volume)
            let new = NewImage(id: try image(bench, content: nil).id, name: "image", diskFormat: "raw", containerFormat: "bare")
            return try await about(volume) { try requests.upload(volume, to: new, isForced: true, caller: caller, in: $0) }
        case .reimage:
            let volume = try await create()
            bench.backends.all[0]["volume-" + volume]?.content = "later content"
            let source = try image(bench, content: "content")
            return try await about(volume) {
                try requests.reimage(volume, from: source, allowsReserved: false, caller: caller, in: $0)
            }
        }
    }

    /// Begins to write an image to a volume of the cache, as a volume that lies on the same backend asks for it.
    private func cached(
        _ source: SourceImage, beside volume: String, _ bench: FlowBench
    ) async throws -> (volume: String, operation: String) {
        try await bench.database.write { tx in
            var image = KeptImage()
            (image.id, image.diskFormat, image.size, image.updatedAt) = (source.id, "raw", source.size, source.updatedAt)
            let cache = ImageCache(
                "node@one", of: ImageCache.Tenant(projectID: "tenant", userID: "tenant"),
                limits: ImageCache.Limits(gigabytes: 0, count: 0), quotas: Quotas.Defaults(bench.settings))
            let use = try cache.use(
                image, for: #require(try Volumes.find(volume, in: tx)), by: #require(try Operations.latest(of: volume, in: tx)),
                filling: .fill, in: tx)
            guard case .wait(let id) = use else { throw StorageError(.failed, "the image is not being cached: \(use)") }
            return (id, try #require(try Operations.latest(of: id, in: tx)).id)
        }
    }

    private func image(_ bench: FlowBench, content: String?) throws -> SourceImage {
        let id = UUID.random()
        bench.images.add(id, content: content)
        return try #require(
            SourceImage([
                "id": .string(id), "status": "active", "size": 7, "disk_format": "raw", "container_format": "bare", "min_disk": 0,
                "updated_at": "2026-01-01T00:00:00Z",
            ]))
    }
}
