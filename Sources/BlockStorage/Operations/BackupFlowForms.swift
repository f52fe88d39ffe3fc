public import JSON

// What operations on backups store. Those that make and delete one stand under the backup; one that restores it under the volume.

public struct CreateBackupArguments: FlowArguments {
    public static let flow = FlowID("backup.create")
    public static let members = [JSONMember("zone", \Self.zone), JSONMember("container", \Self.container)]
    /// Of the store, as the user asked for it.
    public var zone: String?
    public var container: String?
    public init() {}
    public init(zone: String?, container: String?) {
        self.zone = zone
        self.container = container
    }
}

public struct CreateBackupState: JSONConvertible {
    public static let members = [
        JSONMember("snapshot_data", \Self.snapshotData), JSONMember("has_snapshot", \Self.hasSnapshot),
    ]
    /// What the driver stores with the snapshot that is read.
    public var snapshotData: String?
    /// Whether a snapshot was made to be read.
    public var hasSnapshot = false
    public init() {}
}

/// Removes the snapshot of which a backup was made.
public struct RemoveBackupSnapshotArguments: FlowArguments {
    public static let flow = FlowID("backup.remove_snapshot")
    public static let members = [
        JSONMember("volume_id", \Self.volumeID), JSONMember("snapshot_id", \Self.snapshotID), JSONMember("data", \Self.data),
    ]
    public var volumeID = ""
    public var snapshotID = ""
    public var data: String?
    public init() {}
    public init(volumeID: String, snapshotID: String, data: String?) {
        self.volumeID = volumeID
        self.snapshotID = snapshotID
        self.data = data
    }
}

public struct DeleteBackupArguments: FlowArguments {
    public static let flow = FlowID("backup.delete")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// Deletes a backup that could not be deleted before: where its store does not have it any more, its row goes all the same.
public struct ForgetBackupArguments: FlowArguments {
    public static let flow = FlowID("backup.forget")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// Reads all that a backup needs, and marks what is damaged.
public struct VerifyBackupArguments: FlowArguments {
    public static let flow = FlowID("backup.verify")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// Writes a backup over a volume, which it makes first if it is new.
public struct RestoreBackupArguments: PlacedVolumeArguments {
    public static let flow = FlowID("backup.restore")
    public static let members = [
        JSONMember("backup_id", \Self.backupID), JSONMember("new", \Self.isNew), JSONMember("zones", \Self.zones),
        JSONMember("scheduler_hints", \Self.schedulerHints), JSONMember("hints_of_all_projects", \Self.hintsOfAllProjects),
    ]
    public var backupID = ""
    /// The volume is made for it.
    public var isNew = false
    public var zones: [String] = []
    public var schedulerHints: JSONObject?
    public var hintsOfAllProjects = false
    public init() {}
    public init(backupID: String, isNew: Bool) {
        self.backupID = backupID
        self.isNew = isNew
    }

    /// To a new volume, which is placed as such a one.
    public init(of backupID: String, placedAs arguments: CreateVolumeArguments) {
        self.init(backupID: backupID, isNew: true)
        place(as: arguments)
    }
}
