public import Database
public import JSON
import Primitives
public import Settings

/// What a user asks for when creating a volume.
public struct NewVolume: Sendable {
    public var name, description: String?
    /// GiB; may be nil if a source gives it.
    public var size: Int?
    public var typeName: String?
    public var zone: String?
    public var sourceVolumeID: String?
    public var snapshotID: String?
    public var groupID: String?
    public var backupID: String?
    /// What was found of the image that it names.
    public var image: ImageFinding?
    public var metadata: JSONObject = [:]
    public var schedulerHints: JSONObject = [:]
    public init() {}
}

/// Turns what users ask for into rows and durable operations: each function checks everything, charges the quota, and
/// writes the resource and the operation in the caller's one transaction.
public struct VolumeRequests: Sendable {
    public let quotas: Quotas.Defaults
    public let names: StorageNames
    let defaultType: String
    let defaultZone: String
    let zoneFallback: Bool
    let clonedVolumeSameZone: Bool
    let reservationTimeout: Int
    let instanceReservationTimeout: Int
    /// Whether a Compute service is known: there is a catalogue that names it.
    let hasCompute: Bool
    /// Days for which policies may protect backups at most.
    public let mostProtectDays: Int
    /// Whether snapshots are charged for their size too.
    public let snapshotsChargeGigabytes: Bool
    let imageCoreProperties: Set<String>
    let imageReservedNamespaces: [String]
    /// Whether images may be made of volumes that are in use.
    let forcesUpload: Bool
    /// Keys of images that a project may have.
    let imageKeyLimit: Int

    public init(_ settings: Settings) {
        quotas = Quotas.Defaults(settings)
        names = StorageNames(settings)
        defaultType = settings[Options.storage.defaultVolumeType]
        let zone = settings[Options.storage.defaultZone]
        defaultZone = zone.isEmpty ? settings[Options.storage.storageZone] : zone
        zoneFallback = settings[Options.storage.zoneFallback]
        clonedVolumeSameZone = settings[Options.storage.clonedVolumeSameZone]
        reservationTimeout = settings[Options.storage.reservationTimeout]
        instanceReservationTimeout = settings[Options.storage.instanceReservationTimeout]
        hasCompute = settings[Options.service.authStrategy] == "keystone"
        mostProtectDays = settings[Options.storage.policyProtectDays]
        snapshotsChargeGigabytes = !settings[Options.storage.noSnapshotGigabytes]
        imageCoreProperties = Set(settings[Options.images.coreProperties])
        imageReservedNamespaces =
            ["os_glance", "img_signature", "signature_verified"] + settings[Options.images.reservedNamespaces]
        forcesUpload = settings[Options.images.forcesUpload]
        imageKeyLimit = settings[Options.images.keyLimit]
    }

    static let zonesSQL = SQL("SELECT DISTINCT availability_zone FROM services WHERE binary_name = 'cinder-volume'")
    /// Zones known from the services, and the default one.
    public func zones(in connection: any Connection) throws -> Set<String> {
        Set(try connection.rows(Self.zonesSQL) { $0.text(0) }).union([defaultZone])
    }

    // MARK: create

    /// Returns the new volume's id.
    public func create(_ new: NewVolume, caller: Caller, in tx: any Transaction) throws -> String {
        try create(new, from: nil, caller: caller, in: tx)
    }

    /// `known`: the backup that the volume is made of, where it is locked already.
    func create(_ new: NewVolume, from known: Locked<Backup>?, caller: Caller, in tx: any Transaction) throws -> String {
        guard !caller.projectID.isEmpty else {
            throw StorageError(.invalid, "Invalid input received: a volume belongs to a project, and the token is for none.")
        }
        var source: Locked<Volume>?
        var snapshot: Locked<Snapshot>?
        // A snapshot's content lies where its volume does.
        var origin: Locked<Volume>?
        if let id = new.snapshotID, new.sourceVolumeID == nil {
            let locked = try Snapshots.lockWithVolume(id, for: caller, in: tx)
            (origin, snapshot) = (locked.0, locked.1)
        } else if let id = new.sourceVolumeID {
            if let id = new.snapshotID { _ = try Snapshots.get(id, for: caller, in: tx) }
            source = try Volumes.lock(id, for: caller, in: tx)
            origin = source
        }
        if let id = new.groupID { throw StorageError(.notFound, "Group \(id) could not be found.") }
        let backup = try new.backupID.map { try Backups.lock($0, for: caller, in: tx) } ?? known
        let image = try new.image?.get()
        // Of two sources one would be dropped in silence.
        guard [new.sourceVolumeID, new.snapshotID, image?.id, backup?.id].count(where: { $0 != nil }) <= 1 else {
            throw StorageError.invalidInput("May specify only one of backup, imageRef, snapshot, source volume")
        }
        let type: VolumeType
        if let name = new.typeName {
            type = try VolumeTypes.resolve(name, for: caller, in: tx)
        } else if let inherited = source?.volumeTypeID ?? snapshot?.volumeTypeID {
            type = try VolumeTypes.get(inherited, in: tx)
        } else if let wanted = image?.properties["cinder_img_volume_type"]?.string {
            type = try VolumeTypes.resolve(wanted, for: caller, in: tx)
        } else {
            type = try defaultType(of: caller, in: tx)
        }
        try TypeEncryptions.check(type, in: tx)
        let imageKey = type.isEncrypted ? try image.flatMap { try ImageKeys.key(of: $0, project: caller.projectID, in: tx) } : nil
        if !type.isEncrypted, let image { try ImageKeys.requirePlain(image) }
        if let source {
            guard [.available, .inUse].contains(source.status) else {
                throw StorageError.invalidVolume("Originating source volume status must be one of 'available, in-use' values")
            }
            if source.volumeTypeID != type.id,
                try !Self.areCompatible(source: VolumeTypes.get(source.volumeTypeID, in: tx), type: type, in: tx)
            {
                throw StorageError.invalidInput(
                    "Invalid volume_type provided: \(type.id) (requested type is not compatible; either match source volume, or omit type argument)."
                )
            }
        }
        if let snapshot {
            try checkSource(snapshot.value, size: new.size)
            // Another backend's type is none of these: the content is copied there.
            let old = try VolumeTypes.get(snapshot.volumeTypeID, in: tx)
            guard old.isMultiattach == type.isMultiattach, try TypeEncryptions.areEqual(old, type, in: tx) else {
                throw StorageError.invalidInput(
                    "Invalid volume_type provided: \(type.id) (requested type is not compatible; recommend omitting the type argument).")
            }
        }
        if let backup {
            try checkSource(backup.value, size: new.size)
            try requireFit(of: backup.value, isEncrypted: type.isEncrypted)
        }
        guard let size = new.size ?? source?.size ?? snapshot?.size ?? backup?.size else {
            throw StorageError(
                .invalid, "The server could not comply with the request since it is either malformed or otherwise incorrect.")
        }
        if let source, size < source.size {
            throw StorageError.invalidInput(
                "Volume size '\(size)'GB cannot be smaller than original volume size  \(source.size)GB. They must be >= original volume size."
            )
        }
        try image?.check(volumeSize: size)
        if imageKey == nil, let image { try TypeEncryptions.check(image, inVolumeOf: type.id, size: size, in: tx) }
        // What the volume will have of it must have room.
        try image?.requireRoom()
        let zone = try self.zone(new.zone, source: origin?.value, in: tx)

        let id = UUID.random()
        let t = Volumes.table
        try tx.insert(
            into: t, t.id(id), t.projectID(caller.projectID), t.userID(caller.userID), t.name(new.name), t.description(new.description),
            t.size(size), t.status(.creating), t.attachStatus(.detached), t.availabilityZone(zone), t.volumeTypeID(type.id),
            t.snapshotID(snapshot?.id), t.sourceVolumeID(source?.id), t.bootable(origin?.bootable ?? false),
            t.multiattach(type.isMultiattach), t.sharedTargets(true), t.consumesQuota(true),
            t.metadata(try new.metadata.stored("metadata")), t.adminMetadata("{}"),
            t.imageMetadata(try origin.map { JSON.object(try Volumes.map(.image, of: $0.id, in: tx)).text } ?? "{}"), t.createdAt(tx.now))
        var arguments = CreateVolumeArguments()
        arguments.zones = [zone]
        var claims = [Claim.exclusive(new: id)]
        if let source {
            arguments.sourceVolumeID = source.id
            claims.append(.shared(source))
        }
        if let snapshot {
            arguments.snapshotID = snapshot.id
            claims.append(.shared(snapshot))
            // The volume that it belongs to may be read for it.
            if let origin { claims.append(.shared(origin)) }
        }
        if !new.schedulerHints.isEmpty {
            try SchedulerHints.check(new.schedulerHints)
            arguments.schedulerHints = new.schedulerHints
            arguments.hintsOfAllProjects = caller.isAdmin
        }
        if let image, type.isEncrypted {
            try start(
                CreateEncryptedFromImageArguments(of: image, keyID: imageKey, placedAs: arguments), volume: id, project: caller.projectID,
                caller: caller, claims: claims, in: tx)
        } else if let image {
            try start(
                CreateVolumeFromImageArguments(of: image, placedAs: arguments), volume: id, project: caller.projectID, caller: caller,
                claims: claims, in: tx)
        } else if let backup {
            try Backups.restoring(backup, to: id, in: tx)
            claims.append(.exclusive(backup))
            try start(
                RestoreBackupArguments(of: backup.id, placedAs: arguments), volume: id, project: caller.projectID, caller: caller,
                claims: claims, in: tx)
        } else {
            try start(arguments, volume: id, project: caller.projectID, caller: caller, claims: claims, in: tx)
        }
        try Quotas.charge(
            Charge(volumes: 1, gigabytes: size), type: type.name, totalSize: size, project: caller.projectID, defaults: quotas, in: tx)
        return id
    }

    /// The type of volumes that name none: the project's own default, else the configured one.
    public func defaultType(of caller: Caller, in connection: any Connection) throws -> VolumeType {
        guard let found = try DefaultTypes.type(of: caller.projectID, else: defaultType, in: connection) else {
            throw StorageError(.invalid, "The default volume type '\(defaultType)' does not exist. Contact your administrator.")
        }
        return found
    }

    /// A clone may have another type if nothing about where it lies or how it may be attached differs.
    private static func areCompatible(source: VolumeType, type: VolumeType, in connection: any Connection) throws -> Bool {
        try source.isMultiattach == type.isMultiattach && TypeEncryptions.areEqual(source, type, in: connection)
            && source.extraSpecs["volume_backend_name"] == type.extraSpecs["volume_backend_name"]
    }

    private func zone(_ asked: String?, source: Volume?, in tx: any Transaction) throws -> String {
        // The default zone is known without a look at the services.
        if source == nil, asked == nil || asked == defaultZone { return defaultZone }
        let known = try zones(in: tx)
        if let asked {
            guard known.contains(asked) else {
                if zoneFallback { return defaultZone }
                throw StorageError(.invalid, "Availability zone '\(asked)' is invalid.")
            }
            if let sourceZone = source?.availabilityZone, clonedVolumeSameZone, sourceZone != asked {
                throw StorageError.invalidInput("Invalid volume: Volume must be in the same availability zone as the source volume")
            }
            return asked
        }
        if let sourceZone = source?.availabilityZone, known.contains(sourceZone) { return sourceZone }
        return defaultZone
    }

    // MARK: delete

    /// `states`: in which it may be; nil: in any.
    static func deleteRule(_ states: [VolumeStatus]?) -> String {
        "Volume " + (states.map { "status must be \($0.map(\.rawValue).joined(separator: " or ")) and" } ?? "")
            + " must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots "
            + "after volume transfer."
    }

    /// `cascade`: with its snapshots.
    public func delete(_ id: String, force: Bool, cascade: Bool = false, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        if volume.host == nil, try !Operations.isClaimed(id, in: tx) {
            // It lies nowhere, and nobody is about to place it: there is nothing to wait for.
            try NotificationOutbox.noteEvent("volume.delete", id, caller: caller, in: tx)
            try Volumes.erase(volume, in: tx)
            return try Events.append("volume.delete", volume: volume.value, caller: caller, in: tx)
        }
        if cascade, !force, !caller.isAdmin, try Snapshots.ofVolume(id, in: tx).contains(where: { $0.projectID != volume.projectID }) {
            throw StorageError.invalidVolume(Self.deleteRule(VolumeTransition.cascade.rule.from))
        }
        let transition: VolumeTransition = cascade ? (force ? .forceCascade : .cascade) : force ? .forceDelete : .delete
        guard try Volumes.perform(transition, on: volume, in: tx) else {
            throw StorageError.invalidVolume(Self.deleteRule(force ? nil : transition.rule.from))
        }
        let snapshots = cascade ? try deleteSnapshots(of: volume, force: force, in: tx) : []
        let claims: [Claim] = [.exclusive(volume)] + snapshots.map { .exclusive($0) }
        if force, volume.encryptionKeyID != nil {
            try start(ForceDeleteVolumeArguments(), volume: id, project: volume.projectID, caller: caller, claims: claims, in: tx)
        } else {
            try start(DeleteVolumeArguments(), volume: id, project: volume.projectID, caller: caller, claims: claims, in: tx)
        }
    }

    // MARK: extend

    public func extend(_ id: String, to newSize: Int, allowAttached: Bool, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        let transition = allowAttached ? VolumeTransition.extendAttached : .extend
        guard newSize > volume.size else {
            throw StorageError.invalidInput(
                "New size for extend must be greater than current size. (current: \(volume.size), extended: \(newSize)).")
        }
        guard transition.rule.from?.contains(volume.status) ?? false else {
            throw StorageError.invalidVolume(
                "Volume \(id) status must be '{'status': 'available'}' to extend, currently \(volume.status).")
        }
        try AttachedMigration.requireNone(of: volume.value, in: tx)
        guard try Volumes.perform(transition, on: volume, in: tx) else {
            throw StorageError.invalidVolume("Volume \(id) changed its state meanwhile; it cannot be extended now.")
        }
        try start(
            ExtendVolumeArguments(newSize: newSize, isAttached: volume.status == .inUse), volume: id, project: volume.projectID,
            caller: caller, claims: [.exclusive(volume)], in: tx)
        if volume.consumesQuota {
            try Quotas.charge(
                Charge(gigabytes: newSize - volume.size), type: volume.typeName, totalSize: newSize, project: volume.projectID,
                defaults: quotas, in: tx)
        }
    }

    /// Makes the volume as large in its backend as its row says: an extension to the size that it should have.
    @discardableResult
    public func regrow(_ id: String, caller: Caller, in tx: any Transaction) throws -> String? {
        guard let volume = try Volumes.lock(id, in: tx), try Volumes.perform(.extend, on: volume, in: tx) else { return nil }
        return try start(
            ExtendVolumeArguments(newSize: volume.size, isAttached: false), volume: id, project: volume.projectID, caller: caller,
            claims: [.exclusive(volume)], in: tx)
    }

    /// Reserves a volume for an attachment that is connected later; returns its id.
    public func reserve(volumeID: String, instanceID: String?, mode: String?, caller: Caller, in tx: any Transaction) throws -> String {
        let lifetime = instanceID == nil ? reservationTimeout : instanceReservationTimeout
        return try Attachments.reserve(
            volumeID: volumeID, instanceID: instanceID, mode: mode, lifetime: lifetime > 0 ? lifetime : nil, caller: caller, in: tx)
    }

    // MARK: connect: these return the operation, whose result the caller waits for

    public func connect(volumeID: String, connector: JSON, caller: Caller, in tx: any Transaction) throws -> String {
        try Attachments.check(connector: connector)
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard volume.host != nil, ![.creating, .deleting, .error, .maintenance, .errorDeleting].contains(volume.status) else {
            throw StorageError.invalidVolume("Unable to initialize the connection of a volume that is \(volume.status).")
        }
        try volume.value.requireAttachable()
        try AttachedMigration.requireMoved(nil, to: volume.value, in: tx)
        try HostConnections.checkNumber(volumeID, connector: connector, in: tx)
        return try start(
            ConnectVolumeArguments(connector: connector), volume: volumeID, project: volume.projectID, caller: caller,
            claims: [.exclusive(volume)], in: tx)
    }

    /// `detach` also removes the attachment: os-force_detach.
    public func disconnect(
        volumeID: String, connector: JSON?, detach attachmentID: String??, permit: DetachPermit, caller: Caller, in tx: any Transaction
    ) throws -> String {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        // The connector may be anybody's who is connected.
        try permit.check(try Attachments.ofVolume(volumeID, in: tx))
        var arguments = DisconnectVolumeArguments()
        arguments.connector = connector
        if let attachmentID {
            arguments.detaches = true
            if let attachment = try Attachments.toDetach(volumeID: volumeID, attachmentID: attachmentID, in: tx) {
                arguments.attachmentID = attachment.id
            }
        }
        return try start(
            arguments, volume: volumeID, project: volume.projectID, caller: caller, claims: [.exclusive(volume)], in: tx)
    }

    /// `isNew`: the attachment was made by the same request and goes if this fails.
    public func connectAttachment(_ id: String, connector: JSON, isNew: Bool, caller: Caller, in tx: any Transaction) throws -> String {
        try Attachments.check(connector: connector)
        let (volume, attachment) = try Attachments.lock(id, for: caller, in: tx)
        guard !volume.status.isError else {
            throw StorageError(.conflict, "Volume \(volume.id) is in an error state, its attachment cannot be updated.")
        }
        try volume.value.requireAttachable()
        guard volume.status != .downloading else {
            throw StorageError.invalidVolume("An image is being written over volume \(volume.id): it can be connected when that has ended.")
        }
        let others = try Attachments.ofVolume(volume.id, in: tx).filter { $0.id != id }
        if !volume.multiattach, others.contains(where: { $0.connector != nil && $0.instanceID != attachment.instanceID }) {
            throw StorageError(.conflict, "Duplicate connectors or improper attachment of a volume that several hosts may not attach.")
        }
        let mode = attachment.mode ?? connector["mode"]?.string ?? "rw"
        var arguments = ConnectAttachmentArguments(attachmentID: id, mode: mode, isNew: isNew)
        // Who was connected by this attachment is not by it any more.
        if let previous = try attachment.connector.map({ try JSON(parsing: $0.reveal()) }), previous != connector {
            arguments.previous = previous
        }
        try Attachments.connecting(id, of: volume, connector: connector, mode: mode, in: tx)
        if ![.inUse, .uploading, .retyping].contains(volume.status) {
            try Volumes.setStates(.attaching, attached: .attaching, of: volume, in: tx)
        }
        return try start(
            arguments, volume: volume.id, project: volume.projectID, caller: caller, claims: [.exclusive(volume)], in: tx)
    }

    /// nil: nothing was connected, the attachment is gone already.
    public func deleteAttachment(_ id: String, permit: DetachPermit, caller: Caller, in tx: any Transaction) throws -> String? {
        let (volume, attachment) = try Attachments.lock(id, for: caller, in: tx)
        try permit.check([attachment])
        if attachment.connector == nil && attachment.connectionInfo == nil {
            try Attachments.remove(id, of: volume, in: tx)
            try Volumes.refreshAttachState(of: volume, in: tx)
            try Events.append("attachment.delete", volume: volume.value, caller: caller, data: ["attachment_id": .string(id)], in: tx)
            return nil
        }
        return try start(
            DeleteAttachmentArguments(attachmentID: id), volume: volume.id, project: volume.projectID, caller: caller,
            claims: [.exclusive(volume)], in: tx)
    }

    /// Writes the operation on the volume into the log; returns its id.
    @discardableResult
    func start(
        _ arguments: some FlowArguments, volume: String, project: String, caller: Caller, claims: [Claim], in tx: any Transaction
    ) throws -> String {
        try Operations.create(
            arguments, resourceType: "volume", resourceID: volume, projectID: project, caller: caller, claims: claims, in: tx)
    }
}
