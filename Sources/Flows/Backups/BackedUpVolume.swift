import BlockStorage
import Database
import JSON

/// What is kept of a volume beside its bytes, in Cinder's form: it comes back with them.
enum BackedUpVolume {
    private static let version: Int64 = 2

    static func describe(_ volume: Volume, keyID: String?, in connection: any Connection) throws -> String {
        let t = VolumeTable.table
        let words = try connection.first(of: t, t.id(volume.id)) { (description: $0[t.description], bootable: $0[t.bootable]) }
        let base: JSONObject = [
            "id": .string(volume.id), "display_name": JSON(volume.name), "display_description": JSON(words?.description),
            "size": JSON(volume.size), "bootable": .bool(words?.bootable ?? false), "volume_type_id": .string(volume.volumeTypeID),
            "availability_zone": JSON(volume.availabilityZone), "encryption_key_id": JSON(keyID),
            "multiattach": .bool(volume.multiattach),
        ]
        return JSON.object([
            "version": .integer(version), "volume-base-metadata": .object(base),
            "volume-metadata": .object(try Volumes.map(.user, of: volume.id, in: connection)),
            "volume-glance-metadata": .object(try Volumes.map(.image, of: volume.id, in: connection)),
        ]).text
    }

    /// Gives a volume what was kept with the backup that is now its content. What others wrote is taken as far as it is of the form.
    static func restore(_ text: String, of backup: Backup, to volume: Locked<Volume>, in tx: any Transaction) throws {
        let kept = (try? JSON(parsing: text))?.object ?? [:]
        func texts(_ name: String) -> JSONObject? {
            guard let object = kept[name]?.object, !object.isEmpty else { return nil }
            return JSONObject(object.members.filter { $0.value.string != nil })
        }
        let t = VolumeTable.table
        let base = kept["volume-base-metadata"]
        if volume.name?.hasPrefix("restore_backup_") == true {
            try tx.update(
                t, t.id(volume.id), set: t.name(base?["display_name"]?.string.map { String($0.prefix(255)) }),
                t.description(base?["display_description"]?.string.map { String($0.prefix(255)) }))
        }
        if let image = texts("volume-glance-metadata") {
            try Volumes.updateMap(.image, of: volume, in: tx) { $0 = image }
            try tx.update(t, t.id(volume.id), set: t.bootable(true))
        }
        let metadata = texts("volume-metadata")
        let comesFromElsewhere = backup.volumeID != volume.id
        guard metadata != nil || comesFromElsewhere else { return }
        try Volumes.updateMap(.user, of: volume, in: tx) { map in
            if let metadata { map = metadata }
            if comesFromElsewhere { map["src_backup_id"] = .string(backup.id) }
        }
    }
}
