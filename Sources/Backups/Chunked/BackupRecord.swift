import JSON
import Primitives

/// The record by which a backup is told to another service: what `export_record` hands out and `import_record` takes as `backup_url`,
/// the Base64 of the fields of Cinder's backup object in JSON. The same fields give the same text as Cinder 29's.
public struct BackupRecord: Sendable, Equatable {
    /// What drivers add; Cinder's own add nothing.
    public var driverInfo: JSONObject = [:]
    public var id: String
    public var userID: String?
    public var projectID: String?
    public var volumeID: String
    public var host: String?
    public var availabilityZone: String?
    public var container: String?
    public var parentID: String?
    public var status: String?
    public var failReason: String?
    /// GiB.
    public var size: Int
    public var displayName: String?
    public var displayDescription: String?
    /// The prefix of its objects.
    public var serviceMetadata: String?
    /// The driver, such as `cinder.backup.drivers.posix.PosixBackupDriver`.
    public var service: String?
    public var objectCount: Int
    public var temporaryVolumeID: String?
    public var temporarySnapshotID: String?
    public var dependentBackups: Int = 0
    public var snapshotID: String?
    /// Times as `2026-11-29T17:00:00Z`.
    public var dataTimestamp: String?
    public var restoreVolumeID: String?
    public var metadata: JSONObject = [:]
    public var encryptionKeyID: String?
    public var createdAt: String?
    public var updatedAt: String?
    public var deletedAt: String?
    public var isDeleted = false

    public init(id: String, volumeID: String, size: Int, objectCount: Int) {
        self.id = id
        self.volumeID = volumeID
        self.size = size
        self.objectCount = objectCount
    }

    /// The members in Cinder's order.
    private var fields: JSONObject {
        [
            "driver_info": .object(driverInfo), "id": .string(id), "user_id": JSON(userID), "project_id": JSON(projectID),
            "volume_id": .string(volumeID), "host": JSON(host), "availability_zone": JSON(availabilityZone), "container": JSON(container),
            "parent_id": JSON(parentID), "status": JSON(status), "fail_reason": JSON(failReason), "size": JSON(size),
            "display_name": JSON(displayName), "display_description": JSON(displayDescription),
            "service_metadata": JSON(serviceMetadata), "service": JSON(service), "object_count": JSON(objectCount),
            "temp_volume_id": JSON(temporaryVolumeID), "temp_snapshot_id": JSON(temporarySnapshotID),
            "num_dependent_backups": JSON(dependentBackups), "snapshot_id": JSON(snapshotID), "data_timestamp": JSON(dataTimestamp),
            "restore_volume_id": JSON(restoreVolumeID), "metadata": .object(metadata), "encryption_key_id": JSON(encryptionKeyID),
            "created_at": JSON(createdAt), "updated_at": JSON(updatedAt), "deleted_at": JSON(deletedAt), "deleted": .bool(isDeleted),
        ]
    }

    /// The text for `backup_url`.
    public var url: String { Base64.encode(Array(PythonJSON.line(.object(fields)).utf8)) }

    /// Reads the text of a `backup_url`. Members that are not known are ignored; `id`, `size`, `display_name`, `display_description`,
    /// `container`, `service_metadata` and `object_count` must be there, as Cinder asks.
    ///
    /// - Throws: a failure that names the member and the rule.
    public init(url: String) throws(ChunkedFailure) {
        guard url.utf8.count <= 1 << 20 else { throw .invalid("backup_url is longer than 1048576 bytes") }
        // Line breaks are what mail programs add.
        let text = String(decoding: url.utf8.filter { $0 != 0x0A && $0 != 0x0D }, as: UTF8.self)
        guard let bytes = Base64.decode(text) else { throw .invalid("Can't decode backup record: backup_url is not Base64.") }
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch { throw .invalid("Can't parse backup record: \(error).") }
        guard let object = json.object else { throw .invalid("Can't parse backup record: it is not an object.") }
        let reader = MemberReader(object: object)
        for name in ["id", "size", "display_name", "display_description", "container", "service_metadata", "object_count"]
        where object[name] == nil {
            throw .invalid("Provided backup record is missing \(name).")
        }
        guard let id = try reader.text("id"), let size = try reader.integer("size", 1...1 << 40) else {
            throw .invalid("id and size of a backup record must not be null.")
        }
        self.init(id: id, volumeID: "", size: size, objectCount: try reader.integer("object_count", 0...ChunkedLimits.objects) ?? 0)
        guard id.utf8.count == 36, isUUID(id) else { throw .invalid("id of a backup record must be a UUID.") }
        volumeID = try reader.text("volume_id") ?? ""
        guard volumeID.isEmpty || isUUID(volumeID) else { throw .invalid("volume_id of a backup record must be a UUID.") }
        parentID = try reader.text("parent_id")
        guard parentID.map({ isUUID($0) }) ?? true else { throw .invalid("parent_id of a backup record must be a UUID.") }
        driverInfo = try reader.object("driver_info")
        metadata = try reader.object("metadata")
        for member in metadata.members where member.value.string == nil {
            throw .invalid("metadata of a backup record must hold texts only: \(PythonJSON.quoted(member.name)).")
        }
        userID = try reader.text("user_id")
        projectID = try reader.text("project_id")
        host = try reader.text("host")
        availabilityZone = try reader.text("availability_zone")
        container = try reader.text("container")
        status = try reader.text("status")
        failReason = try reader.text("fail_reason")
        displayName = try reader.text("display_name")
        displayDescription = try reader.text("display_description")
        serviceMetadata = try reader.text("service_metadata")
        service = try reader.text("service")
        temporaryVolumeID = try reader.text("temp_volume_id")
        temporarySnapshotID = try reader.text("temp_snapshot_id")
        dependentBackups = try reader.integer("num_dependent_backups", 0...1 << 31) ?? 0
        snapshotID = try reader.text("snapshot_id")
        dataTimestamp = try reader.time("data_timestamp")
        restoreVolumeID = try reader.text("restore_volume_id")
        encryptionKeyID = try reader.text("encryption_key_id")
        createdAt = try reader.time("created_at")
        updatedAt = try reader.time("updated_at")
        deletedAt = try reader.time("deleted_at")
        isDeleted = try reader.flag("deleted")
    }
}
