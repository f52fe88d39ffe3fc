public import Database
public import JSON
import Primitives

/// What an administrator says of a storage object that is to become a volume.
public struct ManagedVolume: Sendable {
    public var name, description, typeName, zone: String?
    public var isBootable = false
    public var metadata: JSONObject = [:]
    /// `node@backend` or `node@backend#pool`
    public var host: String
    /// What the driver knows the object by: `source-name` or `source-id`.
    public var reference: JSONObject
    public init(host: String, reference: JSONObject) {
        self.host = host
        self.reference = reference
    }

    /// The name of the storage object in a reference, as drivers read it; nil if it names none.
    public static func name(of reference: JSONObject) -> String? { reference["source-name"]?.string ?? reference["source-id"]?.string }
}

/// Requests that take over what lies in a backend, or leave it there.
extension VolumeRequests {
    /// Returns the new volume's id. Its size is charged once it is known.
    public func manage(_ managed: ManagedVolume, downAfter seconds: Int, caller: Caller, in tx: any Transaction) throws -> String {
        let service = try Services.usable(managed.host, downAfter: seconds, in: tx)
        try requireUnowned(managed.reference, "volume", in: tx)
        let type = try managed.typeName.map { try VolumeTypes.resolve($0, for: caller, in: tx) } ?? defaultType(of: caller, in: tx)
        guard !type.isEncrypted else {
            throw StorageError(.invalid, "Invalid volume type: Managing to an encrypted volume type is not supported.")
        }
        let id = UUID.random()
        let t = Volumes.table
        try tx.insert(
            into: t, t.id(id), t.projectID(caller.projectID), t.userID(caller.userID), t.name(managed.name),
            t.description(managed.description), t.size(0), t.status(.managing), t.attachStatus(.detached),
            t.availabilityZone(managed.zone ?? service.zone), t.volumeTypeID(type.id), t.bootable(managed.isBootable),
            t.multiattach(type.isMultiattach), t.sharedTargets(true), t.consumesQuota(true),
            t.metadata(try managed.metadata.stored("metadata")), t.adminMetadata("{}"), t.imageMetadata("{}"), t.createdAt(tx.now))
        try start(
            ManageVolumeArguments(host: managed.host, reference: managed.reference), volume: id, project: caller.projectID, caller: caller,
            claims: [.exclusive(new: id)], in: tx)
        try Quotas.charge(Charge(volumes: 1), type: type.name, project: caller.projectID, defaults: quotas, in: tx)
        return id
    }

    /// Throws unless the reference names an object that is nobody's.
    private func requireUnowned(_ reference: JSONObject, _ kind: String, in tx: any Transaction) throws {
        guard let name = ManagedVolume.name(of: reference) else {
            throw StorageError.invalidInput("The reference names no storage object.")
        }
        guard let owner = try owner(of: name, in: tx) else { return }
        throw StorageError.invalidInput(
            "Unable to manage existing \(kind). \(kind == "volume" ? "Volume" : "Snapshot") \(owner) already managed.")
    }

    /// The volume, snapshot, backup or running operation that a storage object belongs to; nil if it is nobody's. Several backends may look
    /// at the same storage, so it does not matter on which of them the object is: names hold ids, which are nobody else's anywhere.
    public func owner(of name: String, in connection: any Connection) throws -> String? {
        // A reference may say where its object lies.
        let object = name.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(name[name.utf8.index(after: $0)...]) } ?? name
        if let id = names.volumeIDAtBeginning(of: object) {
            if let volume = try Volumes.named(id, in: connection).first(where: { $0.host != nil }) { return volume.id }
            if try Operations.isClaimed(id, in: connection) { return id }
        }
        guard let id = names.snapshotIDAtBeginning(of: object) else { return nil }
        if let owner = try Snapshots.find(id, in: connection)?.id ?? Backups.ofSnapshot(id, in: connection) { return owner }
        return try Operations.isClaimed(id, in: connection) ? id : nil
    }

    /// Forgets the volume; its storage stays.
    public func unmanage(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let volume = try Volumes.lock(id, for: caller, in: tx)
        guard volume.encryptionKeyID == nil else {
            throw StorageError.invalidVolume("Unmanaging encrypted volumes is not supported.")
        }
        guard try Volumes.perform(.unmanage, on: volume, in: tx) else {
            throw StorageError.invalidVolume(Self.deleteRule(VolumeTransition.unmanage.rule.from))
        }
        try start(
            UnmanageVolumeArguments(), volume: id, project: volume.projectID, caller: caller, claims: [.exclusive(volume)], in: tx)
    }

    /// Returns the new snapshot's id.
    public func manageSnapshot(
        of volumeID: String, _ new: NewSnapshot, reference: JSONObject, downAfter seconds: Int, caller: Caller, in tx: any Transaction
    ) throws -> String {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard let host = volume.host else { throw StorageError.invalidVolume("volume is not assigned to a host") }
        try Services.usable(host, downAfter: seconds, in: tx)
        try requireUnowned(reference, "snapshot", in: tx)
        let id = try Snapshots.insert(new, of: volume, caller: caller, in: tx)
        var arguments = ManageSnapshotArguments(snapshotID: id)
        arguments.reference = reference
        try start(
            arguments, volume: volume.id, project: volume.projectID, caller: caller, claims: [.exclusive(new: id), .shared(volume)],
            in: tx)
        try chargeSnapshot(of: volume.value, in: tx)
        return id
    }

    /// Forgets the snapshot; its storage stays.
    public func unmanageSnapshot(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let (volume, snapshot) = try Snapshots.lockWithVolume(id, for: caller, in: tx)
        guard SnapshotStatus.deletable.contains(snapshot.status) else {
            throw StorageError(
                .invalid,
                "Invalid snapshot: Snapshot status must be available or error and snapshot must not be part of a group, but the status is \(snapshot.status)."
            )
        }
        try Snapshots.setStatus(.unmanaging, of: snapshot, in: tx)
        try start(
            UnmanageSnapshotArguments(snapshotID: id), volume: volume.id, project: snapshot.projectID, caller: caller,
            claims: [.exclusive(snapshot), .shared(volume)], in: tx)
    }
}
