public import Database
public import JSON
import Primitives

/// A volume's attachment to an instance or a host.
public struct Attachment: Sendable {
    public let id, volumeID, projectID: String
    public let instanceID, attachedHost, mountpoint: String?
    public let status: AttachmentStatus
    public let mode: String?
    public let attachedAt, detachedAt: String?
    /// What the driver gave, as JSON; may hold secrets.
    public let connectionInfo: Secret?
    public let connector: Secret?
    public let createdAt: String

    init(_ row: any Row) {
        let t = AttachmentTable.table
        id = row[t.id]
        volumeID = row[t.volumeID]
        projectID = row[t.projectID]
        instanceID = row[t.instanceID]
        attachedHost = row[t.attachedHost]
        mountpoint = row[t.mountpoint]
        status = row[t.status]
        mode = row[t.mode]
        attachedAt = row[t.attachedAt]
        detachedAt = row[t.detachedAt]
        connectionInfo = row[t.connectionInfo]
        connector = row[t.connector]
        createdAt = row[t.createdAt]
    }
}

public enum Attachments {
    static let table = AttachmentTable.table
    static let ofVolumeSQL = SQL(table.select("WHERE a.volume_id = ? ORDER BY a.created_at, a.id"))
    static let statusesSQL = SQL("SELECT attach_status FROM attachments WHERE volume_id = ?")

    public static func find(_ id: String, in connection: any Connection) throws -> Attachment? {
        try connection.first(of: table, table.id(id)) { Attachment($0) }
    }

    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Attachment {
        guard let attachment = try find(id, in: connection), caller.isAdmin || attachment.projectID == caller.projectID else {
            throw StorageError.attachmentNotFound(id)
        }
        return attachment
    }

    /// An attachment that the caller may see, and its volume, which is locked for both.
    static func lock(_ id: String, for caller: Caller, in tx: any Transaction) throws -> (Locked<Volume>, Attachment) {
        let seen = try get(id, for: caller, in: tx)
        let volume = try Volumes.lock(seen.volumeID, for: caller, in: tx)
        return (volume, tx.dialect.readsLock ? seen : try get(id, for: caller, in: tx))
    }

    public static func ofVolume(_ id: String, in connection: any Connection) throws -> [Attachment] {
        try connection.rows(ofVolumeSQL, .text(id)) { Attachment($0) }
    }

    /// For so many volumes there is a statement; what is between them is made of the next with one id more than once.
    private static let counts = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    private static let ofVolumesSQL = counts.map { count in
        let marks = Array(repeating: "?", count: count).joined(separator: ", ")
        return SQL(table.select("WHERE a.volume_id IN (\(marks)) ORDER BY a.created_at, a.id"))
    }

    /// The attachments of each volume that has any, in the order of `ofVolume`; read by one statement for up to a thousand volumes.
    static func ofVolumes(_ ids: [String], in connection: any Connection) throws -> [String: [Attachment]] {
        var result: [String: [Attachment]] = [:]
        var rest = ids[...]
        while let last = rest.last {
            let index = counts.firstIndex { $0 >= rest.count } ?? counts.count - 1
            let turn = rest.prefix(counts[index])
            rest = rest.dropFirst(turn.count)
            let values = turn.map { Value.text($0) } + Array(repeating: .text(last), count: counts[index] - turn.count)
            try connection.query(ofVolumesSQL[index], values) { row in
                let attachment = Attachment(row)
                result[attachment.volumeID, default: []].append(attachment)
                return true
            }
        }
        return result
    }

    static func statuses(ofVolume id: String, in connection: any Connection) throws -> [AttachmentStatus] {
        try connection.rows(statusesSQL, .text(id)) { AttachmentStatus(rawValue: $0.text(0)) }
    }

    @discardableResult
    static func insert(
        volume: Locked<Volume>, instanceID: String?, host: String?, mountpoint: String?, status: AttachmentStatus, mode: String?,
        attachedAt: String?,
        connector: Secret?, reservedBy: String? = nil, expiresAt: String? = nil, in tx: any Transaction
    ) throws -> String {
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.volumeID(volume.id), table.projectID(volume.projectID), table.instanceID(instanceID),
            table.attachedHost(host), table.mountpoint(mountpoint), table.status(status), table.mode(mode), table.attachedAt(attachedAt),
            table.connector(connector), table.createdAt(tx.now), table.reservedBy(reservedBy), table.expiresAt(expiresAt))
        return id
    }

    /// Reserves a volume for an instance or, with a connector to follow, for a host (API 3.27). A reservation that is not
    /// connected within `lifetime` seconds is taken back by `reap`; nil: it stands until its owner deletes it.
    public static func reserve(
        volumeID: String, instanceID: String?, mode: String?, lifetime: Int? = nil, caller: Caller, in tx: any Transaction
    ) throws -> String {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        let existing = try ofVolume(volumeID, in: tx)
        try checkNumber(existing, of: volumeID)
        // Live migration attaches the same instance a second time.
        let sameInstance =
            instanceID != nil && existing.contains { $0.instanceID == instanceID } && [.inUse, .reserved].contains(volume.status)
        guard
            sameInstance || [.available, .downloading].contains(volume.status)
                || (volume.multiattach && [.inUse, .reserved, .attaching].contains(volume.status))
        else {
            // Glance tries again where it finds these words.
            throw StorageError.invalidVolume(
                "Volume \(volumeID) status must be available\(volume.multiattach ? " or in-use" : "") or downloading to reserve, "
                    + "but the current status is \(volume.status).")
        }
        try volume.value.requireAttachable()
        try AttachedMigration.requireMoved(instanceID, to: volume.value, in: tx)
        // Only a flag that says True makes the volume read-only; in Cinder any value does.
        let effective = volume.value.adminMetadata("readonly") == "True" ? "ro" : mode
        if volume.value.adminMetadata("readonly") == "True", mode == "rw" {
            throw StorageError(.invalid, "Invalid attaching mode 'rw' for volume \(volumeID).")
        }
        let id = try insert(
            volume: volume, instanceID: instanceID, host: nil, mountpoint: nil, status: .reserved, mode: effective, attachedAt: nil,
            connector: nil, reservedBy: caller.userID, expiresAt: lifetime.map { Timestamp.format(tx.time + Double($0)) },
            in: tx)
        if ![.inUse, .downloading].contains(volume.status) {
            let statuses = try statuses(ofVolume: volumeID, in: tx)
            let derived = VolumeStatus.derived(fromAttachments: statuses)
            try Volumes.setStates(derived.status, attached: derived.attachStatus, of: volume, in: tx)
        }
        try Events.append("attachment.reserve", volume: volume.value, caller: caller, data: ["attachment_id": .string(id)], in: tx)
        return id
    }

    /// Every look at a volume reads its attachments.
    static let mostPerVolume = 1024
    private static func checkNumber(_ existing: [Attachment], of volumeID: String) throws {
        guard existing.count < mostPerVolume else {
            throw StorageError(.conflict, "Volume \(volumeID) has \(existing.count) attachments, the most that a volume may have.")
        }
    }

    /// Bytes of a connector as JSON; those of Nova have one or two thousand.
    private static let longestConnector = 16 << 10

    static func check(connector: JSON) throws {
        let length = connector.text.utf8.count
        guard length <= longestConnector else {
            throw StorageError.invalidInput("connector has \(length) bytes, more than \(longestConnector)")
        }
    }

    /// Notes the connector before the driver is asked.
    static func connecting(_ id: String, of volume: Locked<Volume>, connector: JSON, mode: String, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(id), table.volumeID(volume.id), set: table.attachedHost(connector["host"]?.string),
            table.mountpoint(connector["mountpoint"]?.string),
            table.status(.attaching), table.mode(mode), table.connector(Secret(connector.text)), table.updatedAt(tx.now),
            table.expiresAt(nil))
    }

    /// Records again the connector that may still be connected, where its successor could not be.
    public static func keep(connector: JSON, for id: String, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(id), table.volumeID(volume.id), set: table.attachedHost(connector["host"]?.string),
            table.connector(Secret(connector.text)), table.updatedAt(tx.now))
    }

    public static func connected(_ id: String, of volume: Locked<Volume>, connectionInfo: Secret, in tx: any Transaction) throws {
        try tx.update(
            table, table.id(id), table.volumeID(volume.id), set: table.attachedAt(tx.now), table.connectionInfo(connectionInfo),
            table.updatedAt(tx.now))
    }

    public static func setStatus(_ status: AttachmentStatus, for id: String, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.id(id), table.volumeID(volume.id), set: table.status(status), table.updatedAt(tx.now))
    }

    /// Marks an attachment as in use (API 3.44).
    public static func complete(_ id: String, caller: Caller, in tx: any Transaction) throws {
        let (volume, attachment) = try lock(id, for: caller, in: tx)
        try tx.update(
            table, table.id(id), set: table.status(.attached), table.attachedAt(attachment.attachedAt ?? tx.now), table.updatedAt(tx.now))
        // An upload goes on, and a retype: they end this by themselves.
        let status = [.uploading, .retyping].contains(volume.status) ? volume.status : .inUse
        try Volumes.setStates(status, attached: .attached, of: volume, in: tx)
        if let mode = attachment.mode {
            try Volumes.updateMap(.admin, of: volume, in: tx) { $0["attached_mode"] = .string(mode) }
        }
        try Events.append("attachment.complete", volume: volume.value, caller: caller, data: ["attachment_id": .string(id)], in: tx)
    }

    public static func remove(_ id: String, of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.delete(from: table, table.id(id), table.volumeID(volume.id))
    }

    /// The attachment as an operation on the volume finds it; nil if it is gone, or has moved to another volume while the operation waited.
    public static func find(_ id: String, of volume: String, in connection: any Connection) throws -> Attachment? {
        try find(id, in: connection).flatMap { $0.volumeID == volume ? $0 : nil }
    }

    /// Who is connected to the one volume is so to the other: their storage objects have changed places.
    static func move(from source: Locked<Volume>, to target: Locked<Volume>, in tx: any Transaction) throws {
        try tx.update(table, table.volumeID(source.id), set: table.volumeID(target.id))
        let connections = ConnectionTable.table
        try tx.update(connections, connections.volumeID(source.id), set: connections.volumeID(target.id))
    }

    static func removeAll(of volume: Locked<Volume>, in tx: any Transaction) throws {
        try tx.delete(from: table, table.volumeID(volume.id))
    }

    static let expiredSQL = SQL(
        """
        SELECT id, volume_id FROM attachments WHERE expires_at < ? AND attach_status = \(AttachmentStatus.reserved.sql)
            AND connector IS NULL ORDER BY expires_at LIMIT 1000
        """)

    /// Takes back reservations whose time is over; returns how many.
    public static func reap(in tx: any Transaction) throws -> Int {
        let expired = try tx.rows(expiredSQL, .text(tx.now)) { (id: $0.text(0), volumeID: $0.text(1)) }
        for (id, volumeID) in expired.sorted(by: { ($0.volumeID, $0.id) < ($1.volumeID, $1.id) }) {
            guard let volume = try Volumes.lock(volumeID, in: tx) else { continue }
            try remove(id, of: volume, in: tx)
            if [.reserved, .attaching].contains(volume.status) { try Volumes.refreshAttachState(of: volume, in: tx) }
            try Events.append(
                "attachment.expired", volume: volume.value, caller: .service(requestID: "-"), data: ["attachment_id": .string(id)], in: tx)
        }
        return expired.count
    }

    // MARK: the older style: actions of the volume

    /// os-attach: the connection is there already, the volume becomes in-use.
    public static func attach(
        volumeID: String, instanceID: String?, host: String?, mountpoint: String, mode: String, caller: Caller, in tx: any Transaction
    ) throws {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard volume.status != .maintenance else {
            throw StorageError.invalidVolume("Unable to attach volume in maintenance.")
        }
        try AttachedMigration.requireMoved(instanceID, to: volume.value, in: tx)
        guard
            [.available, .attaching, .reserved].contains(volume.status)
                || (volume.status == .inUse && (volume.multiattach || volume.isMigrating))
        else {
            throw StorageError.invalidVolume(
                "Volume \(volumeID) status must be available, attaching or reserved to attach, but the current status is \(volume.status).")
        }
        if volume.value.adminMetadata("readonly") == "True", mode != "ro" {
            throw StorageError(.invalid, "Invalid attaching mode '\(mode)' for volume \(volumeID).")
        }
        let existing = try ofVolume(volumeID, in: tx)
        // The same instance or host again: the answer of the first call was lost.
        let already = existing.contains {
            $0.status == .attached && (instanceID != nil ? $0.instanceID == instanceID : $0.attachedHost == host)
                && $0.mountpoint == mountpoint
        }
        if !already {
            try checkNumber(existing, of: volumeID)
            try insert(
                volume: volume, instanceID: instanceID, host: instanceID == nil ? host : nil, mountpoint: mountpoint, status: .attached,
                mode: mode, attachedAt: tx.now, connector: nil, in: tx)
        }
        try Volumes.updateMap(.admin, of: volume, in: tx) {
            if $0["readonly"] == nil { $0["readonly"] = "False" }
            $0["attached_mode"] = .string(mode)
        }
        try Volumes.setStates(.inUse, attached: .attached, of: volume, in: tx)
        try Events.append("volume.attach", volume: volume.value, caller: caller, in: tx)
    }

    /// Detaches what is attached to a volume, and attaches it to another one.
    static func replace(
        _ volume: Locked<Volume>, by other: Locked<Volume>, permit: DetachPermit, caller: Caller, in tx: any Transaction
    ) throws {
        for attachment in try ofVolume(volume.id, in: tx) {
            try detach(volumeID: volume.id, attachmentID: attachment.id, permit: permit, caller: caller, in: tx)
            try attach(
                volumeID: other.id, instanceID: attachment.instanceID, host: attachment.attachedHost,
                mountpoint: attachment.mountpoint ?? "", mode: "rw", caller: caller, in: tx)
        }
    }

    /// The attachment that a detach means: the one named, or the only one; nil if there is none.
    public static func toDetach(volumeID: String, attachmentID: String?, in connection: any Connection) throws -> Attachment? {
        let existing = try ofVolume(volumeID, in: connection)
        if let attachmentID {
            guard let found = existing.first(where: { $0.id == attachmentID }) else { throw StorageError.attachmentNotFound(attachmentID) }
            return found
        }
        guard existing.count < 2 else {
            throw StorageError.invalidVolume(
                "Detach volume failed: More than one attachment, but no attachment_id provided.")
        }
        return existing.first
    }

    /// os-detach: the record goes; the connection was ended by os-terminate_connection.
    public static func detach(volumeID: String, attachmentID: String?, permit: DetachPermit, caller: Caller, in tx: any Transaction) throws
    {
        let volume = try Volumes.lock(volumeID, for: caller, in: tx)
        guard volume.status != .maintenance else {
            throw StorageError.invalidVolume("Unable to detach volume in maintenance.")
        }
        if let attachment = try toDetach(volumeID: volumeID, attachmentID: attachmentID, in: tx) {
            try permit.check([attachment])
            try remove(attachment.id, of: volume, in: tx)
        }
        // Who says that the last one is detached says so of what it was connected by.
        if try statuses(ofVolume: volumeID, in: tx).isEmpty { try HostConnections.end(volume, connector: nil, in: tx) }
        try Volumes.refreshAttachState(of: volume, in: tx)
        try Events.append("volume.detach", volume: volume.value, caller: caller, in: tx)
    }
}
