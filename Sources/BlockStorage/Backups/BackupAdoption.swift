public import Database
public import JSON
import Primitives

/// A backup as its repository knows it, whose row may be lost.
public struct KeptBackup: Sendable {
    public var id, projectID, volumeID: String
    /// Bytes of the volume.
    public var bytes: UInt64
    /// What was kept with it: a JSON object.
    public var details: JSON

    public init(id: String, projectID: String, volumeID: String, bytes: UInt64, details: JSON) {
        self.id = id
        self.projectID = projectID
        self.volumeID = volumeID
        self.bytes = bytes
        self.details = details
    }

    /// What of a row is kept with the objects, beside what the format knows itself.
    public static func record(_ backup: Backup) throws -> JSON {
        [
            "user_id": .string(backup.userID), "snapshot_id": JSON(backup.snapshotID), "data_timestamp": JSON(backup.dataTimestamp),
            "metadata": try JSON(parsing: backup.metadata), "container": JSON(backup.container),
            "service_metadata": JSON(backup.serviceMetadata), "encryption_key_id": JSON(backup.encryptionKeyID),
            "policy_id": JSON(backup.policyID), "protected_until": JSON(backup.protectedUntil),
        ]
    }
}

extension Backups {
    /// Makes the row of a backup that only its repository knows any more, in the project that it was made in. Its charge comes with it,
    /// whatever the quota.
    ///
    /// - Returns: false if there is a row already, which is left as it is.
    /// - Throws: `StorageError` that names the member and the rule that it breaks.
    public static func adopt(_ kept: KeptBackup, at place: Place, in tx: any Transaction) throws -> Bool {
        func refusal(_ name: String, _ rule: String) -> StorageError { .invalidInput("\(name) of the backup's record \(rule).") }
        guard UUID.isUUIDLike(kept.id) else { throw refusal("backup_id", "is no UUID") }
        guard UUID.isUUIDLike(kept.volumeID) else { throw refusal("volume_id", "is no UUID") }
        guard (1...255).contains(kept.projectID.unicodeScalars.count) else { throw refusal("project_id", "has not 1 to 255 characters") }
        let gibibytes = kept.bytes / (1 << 30) + (kept.bytes % (1 << 30) == 0 ? 0 : 1)
        guard let size = Int(exactly: gibibytes), size <= 2_147_483_647 else { throw refusal("size", "is no number of GiB") }
        guard try find(kept.id, in: tx) == nil else { return false }
        let details = kept.details
        let record = details["record"] ?? .null
        func text(_ name: String, in object: JSON, most: Int = 255) throws -> String? {
            guard let value = object[name], !value.isNull else { return nil }
            guard let text = value.string, text.unicodeScalars.count <= most, !text.utf8.contains(0) else {
                throw refusal(name, "is no text of up to \(most) characters")
            }
            return text
        }
        func time(_ name: String, in object: JSON) throws -> String? {
            guard let given = try text(name, in: object) else { return nil }
            guard let seconds = Timestamp.read(given) else { throw refusal(name, "is no time") }
            let formatted = Timestamp.format(seconds)
            // What has our form already is kept to its last digit, which a number of seconds may not have.
            return hasForm(given, of: formatted) ? given : formatted
        }
        /// Whether texts differ in digits alone.
        func hasForm(_ text: String, of other: String) -> Bool {
            let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
            return text.utf8.count == other.utf8.count
                && zip(text.utf8, other.utf8).allSatisfy { $0 == $1 || digits.contains($0) && digits.contains($1) }
        }
        var metadata: JSONObject = [:]
        if let given = record["metadata"], !given.isNull {
            guard let object = given.object, object.members.allSatisfy({ $0.value.string != nil }) else {
                throw refusal("metadata", "holds something else than texts")
            }
            metadata = object
        }
        // In a repository a backup is whole without the one that it was compared with.
        let parent = try text("parent_id", in: details).flatMap { try find($0, in: tx) }
        let isParent = parent.map { $0.volumeID == kept.volumeID && $0.projectID == kept.projectID && $0.id != kept.id } ?? false
        let created = try time("created_at", in: details) ?? tx.now
        try tx.insert(
            into: table, table.id(kept.id), table.projectID(kept.projectID),
            table.userID(try text("user_id", in: record) ?? kept.projectID),
            table.volumeID(kept.volumeID), table.snapshotID(try text("snapshot_id", in: record)),
            table.parentID(isParent ? parent?.id : nil),
            table.name(try text("name", in: details)), table.description(try text("description", in: details, most: 65_535)),
            table.size(size), table.status(.available), table.store(place.store), table.format(place.format), table.service(place.service),
            table.container(try text("container", in: record) ?? place.container),
            table.serviceMetadata(try text("service_metadata", in: record) ?? place.serviceMetadata), table.objectCount(1),
            table.host(place.host), table.availabilityZone(place.zone),
            table.dataTimestamp(try time("data_timestamp", in: record) ?? created),
            table.encryptionKeyID(try text("encryption_key_id", in: record)), table.metadata(try metadata.stored("metadata")),
            table.createdAt(created), table.updatedAt(tx.now), table.policyID(try text("policy_id", in: record)),
            table.protectedUntil(try time("protected_until", in: record)), table.wholeReadAt(created))
        try Quotas.addBackup(gigabytes: size, count: 1, project: kept.projectID, in: tx)
        try Events.append(
            "backup.import", resourceType: "backup", resourceID: kept.id, projectID: kept.projectID, operationID: nil, requestID: "",
            in: tx)
        return true
    }
}
