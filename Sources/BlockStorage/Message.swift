public import Database
import Primitives

/// What a user is told of work that failed after it was accepted. Codes are Cinder's: clients filter by them.
public struct Message: Sendable {
    /// What was being done.
    public enum Action: String, Sendable {
        case scheduleVolume = "001"
        case uploadVolume = "003"
        case updateAttachment = "004"
        case downloadImage = "005"
        case unmanageVolume = "006"
        case extendVolume = "007"
        case createVolume = "008"
        case createSnapshot = "009"
        case deleteSnapshot = "010"
        case revertVolume = "011"
        case createBackup = "013"
        case deleteBackup = "014"
        case restoreBackup = "015"
        case reimageVolume = "016"
        /// Cinder has none for it.
        case deleteVolume = "101"
        case verifyBackup = "102"
        case migrateVolume = "103"

        var text: String {
            switch self {
            case .scheduleVolume: "schedule allocate volume"
            case .uploadVolume: "copy volume to image"
            case .downloadImage: "copy image to volume"
            case .reimageVolume: "reimage volume"
            case .updateAttachment: "update attachment"
            case .unmanageVolume: "unmanage volume"
            case .extendVolume: "extend volume"
            case .createVolume: "create volume from backend storage"
            case .createSnapshot: "create snapshot"
            case .deleteSnapshot: "delete snapshot"
            case .revertVolume: "update snapshot"
            case .createBackup: "create backup"
            case .deleteBackup: "delete backup"
            case .restoreBackup: "restore backup"
            case .deleteVolume: "delete volume"
            case .verifyBackup: "verify backup"
            case .migrateVolume: "migrate volume"
            }
        }
    }

    /// Why it failed, as far as a user may know.
    public enum Detail: String, Sendable {
        case unknown = "001"
        case noBackend = "003"
        case uploadFailed = "004"
        case noSpaceForImage = "007"
        case computeNotTold = "009"
        case extendFailed = "010"
        case signatureNotVerified = "011"
        case createFailed = "012"
        case snapshotFailed = "013"
        case snapshotBusy = "015"
        case snapshotNotDeleted = "016"
        case backupSourceFailed = "019"
        case backupFailed = "020"
        case attachFailed = "021"
        case backupCleanupFailed = "023"
        case backupNotScheduled = "024"
        case backupNotDeleted = "025"
        case restoreFailed = "026"
        case reimageFailed = "028"
        case imageFormat = "029"
        case volumeBusy = "101"
        case volumeNotDeleted = "102"
        case backupNotVerified = "103"
        case imageUnacceptable = "104"
        case imageNotRead = "105"
        case keyNotOpened = "106"
        case instanceNotMoved = "107"
        case certificateMissing = "108"
        case certificateRefused = "109"
        case certificateUnusable = "110"
        case certificateNotValid = "111"
        case keyMissing = "112"

        var text: String {
            switch self {
            case .unknown: "The reason is not known. The log of the service tells more under the request's id."
            case .noBackend: "Could not find any available weighted backend."
            case .uploadFailed: "The volume could not be sent to the Image service."
            case .noSpaceForImage: "There is no room to convert the image."
            case .signatureNotVerified: "The image is signed, and its signature could not be verified."
            case .certificateMissing: "The image is signed, and the key manager does not have the certificate that it names."
            case .certificateRefused:
                "The image is signed, and the key manager does not let this service read the certificate that it names: it belongs to another project."
            case .certificateUnusable: "The image is signed, and what it names in the key manager is no certificate that can be used."
            case .keyMissing: "The key manager does not answer, or does not make, give or delete the key that the volume is encrypted with."
            case .certificateNotValid: "The image is signed, and the certificate that it names has expired or is not valid yet."
            case .reimageFailed: "The Compute service was not told that the volume has another content."
            case .imageFormat: "Images of this format are not converted by this service."
            case .imageUnacceptable:
                "The image is not what the Image service says of it, or is of a kind that no volume is made from. The operation's error says more."
            case .instanceNotMoved: "The Compute service did not move the instance to the volume's copy. The volume stays where it is."
            case .imageNotRead: "The image could not be read from the Image service."
            case .computeNotTold: "The Compute service was not told that the volume is larger: the instance may not see it."
            case .extendFailed: "The storage could not make the volume larger."
            case .createFailed: "The storage could not make the volume."
            case .snapshotFailed: "The storage could not make the snapshot."
            case .snapshotBusy: "The snapshot is in use: something made from it depends on it, or a host is connected to its volume."
            case .snapshotNotDeleted: "The storage could not delete the snapshot."
            case .backupSourceFailed: "The storage could not make the snapshot that the backup is read from."
            case .backupFailed: "The backup could not be written to its store."
            case .attachFailed: "The storage could not connect the volume."
            case .backupCleanupFailed: "The snapshot that the backup was read from could not be removed."
            case .backupNotScheduled: "No store takes the backup."
            case .backupNotDeleted: "The backup could not be deleted from its store."
            case .restoreFailed: "The backup could not be restored: what it holds, or the volume, could not be read or written."
            case .keyNotOpened: "The key manager does not let the volume's new owner read its key. Attaching the volume will fail."
            case .volumeBusy: "The volume is in use: a host is connected to it, or something depends on it."
            case .volumeNotDeleted: "The storage could not delete the volume."
            case .backupNotVerified: "The backup could not be read from its store: what is known of it stays what it was."
            }
        }
    }

    public let id, eventID, text, level, createdAt, guaranteedUntil, requestID, projectID: String
    public let resourceType, resourceID: String?

    init(_ row: any Row) {
        let t = MessageTable.table
        id = row[t.id]
        projectID = row[t.projectID]
        eventID = row[t.eventID]
        level = row[t.level]
        requestID = row[t.requestID]
        resourceType = row[t.resourceType]
        resourceID = row[t.resourceID]
        text = row[t.text]
        createdAt = row[t.createdAt]
        guaranteedUntil = row[t.expiresAt]
    }
}

public enum Messages {
    static let table = MessageTable.table
    static let purgeSQL = SQL {
        $0.deleteFirst(from: "messages", key: "id", where: "expires_at < ?", orderBy: "expires_at", limit: 10_000)
    }
    /// Tells the volume's project why an operation on it failed, for so many seconds.
    public static func add(
        _ action: Message.Action, _ detail: Message.Detail, volumeID: String, snapshotID: String? = nil, backupID: String? = nil,
        projectID: String, requestID: String, keptFor lifetime: Int, in tx: any Transaction
    ) throws {
        let kind = backupID != nil ? "VOLUME_BACKUP" : snapshotID == nil ? "VOLUME" : "VOLUME_SNAPSHOT"
        try tx.insert(
            into: table, table.id(UUID.random()), table.projectID(projectID),
            table.eventID("VOLUME_\(kind)_\(action.rawValue)_\(detail.rawValue)"), table.level("ERROR"), table.requestID(requestID),
            table.resourceType(kind), table.resourceID(backupID ?? snapshotID ?? volumeID), table.text("\(action.text):\(detail.text)"),
            table.createdAt(tx.now), table.expiresAt(Timestamp.format(tx.time + Double(lifetime))))
    }

    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> Message {
        guard let message = try connection.first(of: table, table.id(id), map: { Message($0) }),
            caller.isAdmin || message.projectID == caller.projectID
        else { throw notFound(id) }
        return message
    }

    private static func notFound(_ id: String) -> StorageError { StorageError(.notFound, "Message \(id) could not be found.") }

    public static func delete(_ id: String, caller: Caller, in tx: any Transaction) throws {
        _ = try get(id, for: caller, in: tx)
        try tx.delete(from: table, table.id(id))
    }

    /// Columns by which messages are filtered and sorted.
    public enum Column: String, Sendable, CaseIterable {
        case id, event_id, message_level, request_id, resource_type, resource_uuid, created_at

        var column: AnyColumn { table.column(rawValue) }
    }

    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    public static func isShort(
        _ filters: [(column: Column, match: ColumnMatch)], _ sort: (column: Column, ascending: Bool)?, offset: Int
    ) -> Bool {
        isOrdered(sort, offset: offset) && filters.allSatisfy { $0.column == .id }
    }

    private static func isOrdered(_ sort: (column: Column, ascending: Bool)?, offset: Int) -> Bool {
        (sort.map { $0.column == .created_at } ?? true) && offset <= KeysetPage.shortOffset
    }

    /// A page of a project's messages, newest first unless said otherwise.
    public static func page(
        projectID: String, filters: [(column: Column, match: ColumnMatch)], sort: (column: Column, ascending: Bool)?, limit: Int,
        offset: Int,
        marker: String?, in connection: any Connection
    ) throws -> [Message] {
        var conditions = Conditions()
        conditions.add("m.project_id = ?", .text(projectID))
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, connection.dialect) }
        let order = KeysetPage(
            table, asked: [KeysetPage.Key((sort?.column ?? .created_at).column, ascending: sort?.ascending ?? false)],
            ties: [table.createdAt, table.id])
        if let marker {
            guard let behind = try order.behind(marker, scope: ("m.project_id = ?", [.text(projectID)]), in: connection)
            else {
                throw notFound(marker)
            }
            conditions.add(behind.sql, behind.values)
        }
        return try order.rows(conditions, isOrdered: isOrdered(sort, offset: offset), limit: limit, offset: offset, in: connection) {
            Message($0)
        }
    }

    /// Removes a bounded number of messages whose time is over.
    public static func purge(in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(tx.now)) }
}
