public import Database
public import Primitives

/// A volume that is offered to other projects, until one accepts it or its own takes the offer back.
public struct VolumeTransfer: Sendable {
    public let id, volumeID, sourceProjectID, createdAt: String
    public let name: String?
    /// Whether the volume's snapshots stay where they are.
    public let leavesSnapshots: Bool
    /// The word by which it is accepted; known only to whoever has just made it.
    public private(set) var key: Secret?
    let salt, keyHash: Secret

    init(_ row: any Row) {
        let t = VolumeTransferTable.table
        id = row[t.id]
        volumeID = row[t.volumeID]
        sourceProjectID = row[t.sourceProjectID]
        createdAt = row[t.createdAt]
        name = row[t.name]
        leavesSnapshots = row[t.leavesSnapshots]
        salt = row[t.salt]
        keyHash = row[t.keyHash]
    }

    func with(_ key: Secret) -> VolumeTransfer {
        var transfer = self
        transfer.key = key
        return transfer
    }
}

public enum VolumeTransfers {
    static let table = VolumeTransferTable.table

    static func find(_ id: String, in connection: any Connection) throws -> VolumeTransfer? {
        try connection.first(of: table, table.id(id)) { VolumeTransfer($0) }
    }

    /// A transfer that the caller may see: of its own project's volume.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> VolumeTransfer {
        guard let transfer = try find(id, in: connection), caller.isAdmin || transfer.sourceProjectID == caller.projectID else {
            throw notFound(id)
        }
        return transfer
    }

    static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "Transfer \(id) could not be found.") }

    /// Takes the offer back. A volume whose state was set to another one meanwhile keeps it.
    public static func delete(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let transfer = try get(id, for: caller, in: tx)
        let volume = try lockVolume(of: transfer, in: tx)
        _ = try Volumes.perform(.withdraw, on: volume, in: tx)
        try tx.delete(from: table, table.id(id))
        try Events.append("volume.transfer.delete", volume: volume.value, caller: caller, data: ["transfer_id": .string(id)], in: tx)
    }

    /// Removes all of a volume's: it is offered by one at a time, and none outlives it or its owner's change.
    static func removeAll(of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.delete(from: table, table.volumeID(volume.id))
    }

    /// Locks the volume of an offer, which stands still.
    static func lockVolume(of transfer: VolumeTransfer, in tx: any Transaction) throws -> Locked<Volume> {
        guard let volume = try Volumes.lock(transfer.volumeID, in: tx) else { throw StorageError.volumeNotFound(transfer.volumeID) }
        guard try tx.dialect.readsLock || find(transfer.id, in: tx) != nil else { throw notFound(transfer.id) }
        return volume
    }
}

/// Requests that offer volumes to other projects, and accept them. Each is one change: after a death either all of it is there or nothing.
extension VolumeRequests {
    /// Offers a volume to whoever gets to know the key, which the returned transfer has. `allowsEncrypted`: an encrypted one, too.
    public func offer(
        _ volumeID: String, name: String?, leavesSnapshots: Bool, allowsEncrypted: Bool = false, key: TransferKey, caller: Caller,
        in tx: any Transaction
    ) throws -> VolumeTransfer {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard volume.status == .available else { throw StorageError.invalidVolume("status must be available") }
        if volume.encryptionKeyID != nil {
            guard allowsEncrypted else { throw StorageError.invalidVolume("transferring encrypted volume is not supported") }
            guard !leavesSnapshots else {
                throw StorageError.invalidVolume("transferring an encrypted volume without its snapshots is not supported")
            }
        }
        if !leavesSnapshots, let busy = try Snapshots.lockOwn(of: volume, in: tx).first(where: { $0.status != .available }) {
            throw StorageError(.invalid, "Invalid snapshot: snapshot: \(busy.id) status must be available")
        }
        guard try Volumes.perform(.offer, on: volume, in: tx), try !HostConnections.isConnected(volumeID, in: tx) else {
            throw StorageError.invalidVolume("The volume is being migrated, or a host is connected to it: it cannot be offered now.")
        }
        let table = VolumeTransfers.table
        // What an earlier offer left, because the volume's state was set by hand, would be accepted for this one.
        try VolumeTransfers.removeAll(of: volume, in: tx)
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.volumeID(volumeID), table.name(name), table.sourceProjectID(volume.projectID),
            table.leavesSnapshots(leavesSnapshots), table.salt(key.salt), table.keyHash(key.hash), table.createdAt(tx.now))
        try Events.append("volume.transfer.create", volume: volume.value, caller: caller, data: ["transfer_id": .string(id)], in: tx)
        guard let transfer = try VolumeTransfers.find(id, in: tx) else { throw VolumeTransfers.notFound(id) }
        return transfer.with(key.word)
    }

    /// Makes an offered volume the caller's, its snapshots with it, and what they are charged.
    public func accept(_ id: String, key: Secret, caller: Caller, in tx: any Transaction) throws -> VolumeTransfer {
        guard let transfer = try VolumeTransfers.find(id, in: tx) else { throw VolumeTransfers.notFound(id) }
        guard TransferKey.isRight(key, salt: transfer.salt, hash: transfer.keyHash) else {
            throw StorageError(.invalid, "Invalid auth key: Attempt to transfer \(id) with invalid auth key.")
        }
        guard !caller.projectID.isEmpty else {
            throw StorageError(.invalid, "Invalid input received: a volume belongs to a project, and the token is for none.")
        }
        let volume = try VolumeTransfers.lockVolume(of: transfer, in: tx)
        let snapshots = transfer.leavesSnapshots ? [] : try Snapshots.lockOwn(of: volume, in: tx)
        if volume.status == .maintenance {
            throw StorageError.invalidVolume("The volume cannot accept transfer in maintenance mode.")
        }
        guard try Volumes.perform(.withdraw, on: volume, in: tx) else {
            throw StorageError.invalidVolume("Transfer \(id): Volume id \(volume.id) expected in awaiting-transfer state.")
        }
        if let busy = snapshots.first(where: { $0.status != .available }) {
            throw StorageError(.invalid, "Invalid snapshot: Transfer \(id): Snapshot \(busy.id) is not in the expected available state.")
        }
        try Volumes.give(volume, to: caller, in: tx)
        for snapshot in snapshots { try Snapshots.give(snapshot, to: caller, in: tx) }
        try VolumeTransfers.removeAll(of: volume, in: tx)
        for project in Set([volume.projectID, caller.projectID]).sorted() {
            try Events.append(
                "volume.transfer.accept", resourceType: "volume", resourceID: volume.id, projectID: project, operationID: nil,
                requestID: caller.requestID, data: ["transfer_id": .string(id)], in: tx)
        }
        try NotificationOutbox.note(NotificationRule(subject: .volume, name: "volume.transfer.accept"), volume.id, caller: caller, in: tx)
        if volume.encryptionKeyID != nil {
            // Whoever attaches the volume waits for its end.
            try start(
                OpenVolumeKeyArguments(), volume: volume.id, project: caller.projectID, caller: caller, claims: [.exclusive(volume)], in: tx
            )
        }
        try charge(volume.value, snapshots.map(\.value), to: caller.projectID, in: tx)
        return transfer
    }

    /// Moves what the volume and its snapshots are charged to another project. The projects' rows are locked in their order.
    private func charge(_ volume: Volume, _ snapshots: [Snapshot], to project: String, in tx: any Transaction) throws {
        let type = volume.typeName
        let ofSnapshots = snapshots.reduce(Charge()) { $0 + $1.charge(chargesGigabytes: snapshotsChargeGigabytes) }
        func take() throws {
            try Quotas.lock(volume.charge + ofSnapshots, type: type, project: project, in: tx)
            try Quotas.charge(volume.charge, type: type, totalSize: volume.size, project: project, defaults: quotas, in: tx)
            if !snapshots.isEmpty { try Quotas.charge(ofSnapshots, type: type, project: project, defaults: quotas, in: tx) }
        }
        if project < volume.projectID { try take() }
        try Quotas.add(-(volume.charge + ofSnapshots), type: type, project: volume.projectID, in: tx)
        if project >= volume.projectID { try take() }
    }
}
