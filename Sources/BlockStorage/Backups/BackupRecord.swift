public import Database
public import JSON
import Primitives

/// A backup's row as it goes from one service to another: what Cinder's `export_record` writes and `import_record` reads.
public enum BackupRecord {
    /// What a new backup that was made elsewhere is known by.
    public struct Imported: Sendable {
        let id: String
        let size: Int
        let members: JSONObject
    }

    /// As an object of Cinder's names.
    public static func export(_ backup: Backup) throws -> JSONObject {
        guard backup.status == .available else {
            throw StorageError.invalidBackup("Backup status must be available and not \(backup.status).")
        }
        return [
            "driver_info": [:], "id": .string(backup.id), "user_id": .string(backup.userID), "project_id": .string(backup.projectID),
            "volume_id": .string(backup.volumeID), "host": JSON(backup.host), "availability_zone": JSON(backup.availabilityZone),
            "container": JSON(backup.container), "parent_id": JSON(backup.parentID), "status": .string(backup.status.rawValue),
            "fail_reason": JSON(backup.failReason), "size": JSON(backup.size), "display_name": JSON(backup.name),
            "display_description": JSON(backup.description), "service_metadata": JSON(backup.serviceMetadata),
            "service": JSON(backup.service), "object_count": JSON(backup.objectCount), "temp_volume_id": nil, "temp_snapshot_id": nil,
            "num_dependent_backups": .integer(backup.hasDependents ? 1 : 0), "snapshot_id": JSON(backup.snapshotID),
            "data_timestamp": JSON(time(backup.dataTimestamp)), "restore_volume_id": JSON(backup.restoreVolumeID),
            "metadata": try JSON(parsing: backup.metadata), "encryption_key_id": JSON(backup.encryptionKeyID),
            "created_at": JSON(time(backup.createdAt)), "updated_at": JSON(time(backup.updatedAt)), "deleted_at": nil, "deleted": false,
        ]
    }

    /// Whole seconds, with their zone.
    private static func time(_ text: String?) -> String? {
        text.map { text in String(text.prefix { $0 != "." }) + "Z" }
    }

    /// What the text of a record says; its members are checked when it is stored.
    public static func read(_ text: String?) throws -> Imported {
        guard let text, let record = try? JSON(parsing: text) else { throw StorageError.invalidInput("Can't parse backup record.") }
        guard let members = record.object, let id = members["id"] else {
            throw StorageError.invalidInput("Provided backup record is missing an id")
        }
        guard let size = members["size"] else { throw StorageError.invalidInput("Provided backup record is missing size attribute") }
        guard let id = id.string, UUID.isUUIDLike(id) else { throw StorageError.invalidInput("The backup record's id is no UUID.") }
        guard let size = size.integer, (0...2_147_483_647).contains(size) else {
            throw StorageError.invalidInput("The backup record's size is no number of GiB.")
        }
        return Imported(id: id, size: Int(size), members: members)
    }
}

extension VolumeRequests {
    /// Makes a backup of which only the objects are there. `place`: the store where they lie; nil: no store of this service is for them,
    /// and `service` names what was asked for.
    public func importBackup(
        _ record: BackupRecord.Imported, service: String, at place: Backups.Place?, downAfter seconds: Int, caller: Caller,
        in tx: any Transaction
    ) throws -> Backup {
        guard try Services.hasBackupService(zone: nil, downAfter: seconds, in: tx) else {
            throw StorageError(.unavailable, "Service \(service) could not be found.")
        }
        guard !caller.projectID.isEmpty else {
            throw StorageError(.invalid, "Invalid input received: a backup belongs to a project, and the token is for none.")
        }
        let members = record.members
        func text(_ name: String, most: Int = 255) throws -> String? {
            guard let value = members[name], !value.isNull else { return nil }
            guard let text = value.string, text.unicodeScalars.count <= most, !text.utf8.contains(0) else {
                throw StorageError.invalidInput("The backup record's \(name) is no text of up to \(most) characters.")
            }
            return text
        }
        func time(_ name: String) throws -> String? {
            guard let given = try text(name) else { return nil }
            guard let seconds = Timestamp.read(given) else {
                throw StorageError.invalidInput("The backup record's \(name) is no time.")
            }
            return Timestamp.format(seconds)
        }
        let missing = ["display_name", "display_description", "container", "service_metadata", "object_count"].filter { members[$0] == nil }
        guard missing.isEmpty else {
            throw StorageError.invalidBackup(
                "Driver successfully decoded imported backup data, but there are missing fields (\(missing.joined(separator: ", "))).")
        }
        let count = members["object_count"]?.integer ?? 0
        let metadata = members["metadata"]?.object ?? [:]
        guard metadata.members.allSatisfy({ $0.value.string != nil }) else {
            throw StorageError.invalidInput("The backup record's metadata holds something else than texts.")
        }
        guard try Backups.find(record.id, in: tx) == nil else { throw StorageError.invalidBackup("Backup already exists in database.") }
        let created = try time("created_at") ?? tx.now
        let t = Backups.table
        let container = try text("container")
        // The name of a bucket is the store's own; what no store is for is read by none.
        guard place == nil || (container ?? "").isEmpty || container == place?.container || container.map(ObjectPath.isContainer) == true
        else {
            throw StorageError.invalidInput("The backup record's container: \(ObjectPath.containerRule).")
        }
        let problem =
            place == nil
            ? "Import record failed, cannot find backup service to perform the import. Request service \(service)." : nil
        try tx.insert(
            into: t, t.id(record.id), t.projectID(caller.projectID), t.userID(caller.userID),
            t.volumeID(try text("volume_id") ?? "00000000-0000-0000-0000-000000000000"), t.snapshotID(try text("snapshot_id")),
            t.parentID(try text("parent_id")), t.name(try text("display_name")), t.description(try text("display_description")),
            t.size(record.size), t.status(place == nil ? .error : .available), t.failReason(problem.map { String($0.prefix(255)) }),
            t.store(place?.store), t.format(place?.format), t.service(place?.service), t.container(container),
            t.serviceMetadata(try text("service_metadata")), t.objectCount(Int(clamping: count)), t.host(place?.host),
            t.availabilityZone(place?.zone), t.dataTimestamp(try time("data_timestamp")), t.metadata(try metadata.stored("metadata")),
            t.createdAt(created), t.updatedAt(tx.now), t.wholeReadAt(created))
        guard let made = try Backups.find(record.id, in: tx) else { throw StorageError.backupNotFound(record.id) }
        try Backups.append("backup.import", made, caller: caller, in: tx)
        try Quotas.chargeBackup(gigabytes: record.size, project: caller.projectID, defaults: quotas, in: tx)
        return made
    }
}
