public import JSON

// What operations on volumes store: their arguments, written by requests, and the state that finished steps record. The stored names are
// frozen: FlowsTests compares them with a list.

public struct CreateVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.create")
    public static let members = [
        JSONMember("zones", \Self.zones), JSONMember("source_volid", \Self.sourceVolumeID), JSONMember("snapshot_id", \Self.snapshotID),
        JSONMember("scheduler_hints", \Self.schedulerHints), JSONMember("hints_of_all_projects", \Self.hintsOfAllProjects),
    ]
    public var zones: [String] = []
    public var sourceVolumeID: String?
    public var snapshotID: String?
    public var schedulerHints: JSONObject?
    /// Hints may name volumes of all projects: an administrator gave them.
    public var hintsOfAllProjects = false
    public init() {}
}

public struct CreateVolumeState: PlacementState, CopyState {
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("attempted", \Self.attempted), JSONMember("copied", \Self.copied),
        JSONMember("reports_awaited", \Self.reportsAwaited), JSONMember("capacity_read", \Self.capacityRead),
    ]
    /// The pool of which capacity is claimed.
    public var host: String?
    /// Backends that were placed on and failed, as `node@backend`.
    public var attempted: [String] = []
    public var copied: Int?
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}
}

/// Removes a volume and its snapshots.
public struct DeleteVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.delete", version: 2)
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// The same, whether or not the volume's key can be deleted now: an administrator forces it.
public struct ForceDeleteVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.force_delete")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// Lets the owner of a volume read its key.
public struct OpenVolumeKeyArguments: FlowArguments {
    public static let flow = FlowID("volume.open_key")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

/// Deletes the key that an operation made for what it wanted to restore to a volume.
public struct DiscardKeyArguments: FlowArguments {
    public static let flow = FlowID("volume.discard_key")
    public static let members = [JSONMember("volume_id", \Self.volumeID), JSONMember("operation_id", \Self.operationID)]
    public var volumeID = ""
    public var operationID = ""
    public init() {}
    public init(volumeID: String, operationID: String) {
        self.volumeID = volumeID
        self.operationID = operationID
    }
}

/// Deletes the key of a volume that is gone, or that has another key now.
public struct DeleteKeyArguments: FlowArguments {
    public static let flow = FlowID("volume.delete_key")
    public static let members = [JSONMember("key_id", \Self.keyID), JSONMember("volume_id", \Self.volumeID)]
    /// nil: it was never recorded.
    public var keyID: String?
    public var volumeID = ""
    public init() {}
    public init(keyID: String?, volumeID: String) {
        self.keyID = keyID
        self.volumeID = volumeID
    }
}

public struct ExtendVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.extend")
    public static let members = [JSONMember("new_size", \Self.newSize), JSONMember("attached", \Self.isAttached)]
    /// GiB
    public var newSize = 0
    public var isAttached = false
    public init() {}
    public init(newSize: Int, isAttached: Bool) {
        self.newSize = newSize
        self.isAttached = isAttached
    }
}

/// The Compute service is told that the operation's volume is larger.
public struct TellExtendedArguments: FlowArguments {
    public static let flow = FlowID("volume.tell_extended")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

public struct ExtendVolumeState: PlacementState {
    public static let members = [
        JSONMember("claimed", \Self.claimed), JSONMember("reports_awaited", \Self.reportsAwaited),
        JSONMember("capacity_read", \Self.capacityRead),
    ]
    /// GiB that are claimed of the pool beyond the volume's size.
    public var claimed: Int?
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}
}

// MARK: moves

/// Of a flow that may copy a volume to another pool.
public protocol MoveArguments: FlowArguments {
    /// What the name of the new storage object holds.
    var targetID: String? { get }
    /// The type that the volume is to have; nil: it keeps its own.
    var newTypeID: String? { get }
}

public struct RetypeVolumeArguments: MoveArguments {
    public static let flow = FlowID("volume.retype")
    public static let members = [
        JSONMember("type_id", \Self.typeID), JSONMember("may_migrate", \Self.mayMigrate), JSONMember("target_id", \Self.targetID),
    ]
    public var typeID = ""
    public var mayMigrate = false
    public var targetID: String?
    public var newTypeID: String? { typeID }
    public init() {}
    public init(typeID: String, mayMigrate: Bool, targetID: String) {
        self.typeID = typeID
        self.mayMigrate = mayMigrate
        self.targetID = targetID
    }
}

public struct MigrateVolumeArguments: MoveArguments {
    public static let flow = FlowID("volume.migrate")
    public static let members = [JSONMember("host", \Self.host), JSONMember("target_id", \Self.targetID)]
    /// `node@backend` or `node@backend#pool`
    public var host = ""
    public var targetID: String?
    public var newTypeID: String? { nil }
    public init() {}
    public init(host: String, targetID: String) {
        self.host = host
        self.targetID = targetID
    }
}

/// Of a flow that may have the Compute service move an instance to a copy of its volume.
public protocol SwapArguments: FlowArguments {
    /// The volume that it is copied to.
    var copyID: String { get }
    var instanceID: String { get }
}

/// Of a volume that an instance uses: it is copied by the Compute service.
public struct MigrateAttachedVolumeArguments: SwapArguments {
    public static let flow = FlowID("volume.migrate_attached")
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("copy_id", \Self.copyID), JSONMember("instance_id", \Self.instanceID),
    ]
    /// `node@backend` or `node@backend#pool`
    public var host = ""
    public var copyID = ""
    public var instanceID = ""
    public init() {}
    public init(host: String, copyID: String, instanceID: String) {
        self.host = host
        self.copyID = copyID
        self.instanceID = instanceID
    }
}

public struct MigrateAttachedVolumeState: PlacementState {
    public static let members = [
        JSONMember("reports_awaited", \Self.reportsAwaited), JSONMember("capacity_read", \Self.capacityRead),
    ]
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}
}

/// Of a volume that an instance uses: where it has to move for its new type it is copied by the Compute service.
public struct RetypeAttachedVolumeArguments: SwapArguments {
    public static let flow = FlowID("volume.retype_attached")
    public static let members = [
        JSONMember("type_id", \Self.typeID), JSONMember("copy_id", \Self.copyID), JSONMember("instance_id", \Self.instanceID),
    ]
    public var typeID = ""
    public var copyID = ""
    public var instanceID = ""
    public init() {}
    public init(typeID: String, copyID: String, instanceID: String) {
        self.typeID = typeID
        self.copyID = copyID
        self.instanceID = instanceID
    }
}

/// The Compute service has copied a volume, or could not.
public struct FinishMigrationArguments: FlowArguments {
    public static let flow = FlowID("volume.finish_migration")
    public static let members = [JSONMember("copy_id", \Self.copyID), JSONMember("failed", \Self.hasFailed)]
    public var copyID = ""
    public var hasFailed = false
    public init() {}
    public init(copyID: String, hasFailed: Bool) {
        self.copyID = copyID
        self.hasFailed = hasFailed
    }
}

public struct MoveState: PlacementState, CopyState {
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("zone", \Self.zone), JSONMember("claim", \Self.claim), JSONMember("data", \Self.data),
        JSONMember("provider_id", \Self.providerID), JSONMember("replication_status", \Self.replicationStatus),
        JSONMember("shared_targets", \Self.sharedTargets), JSONMember("copied", \Self.copied), JSONMember("old", \Self.old),
        JSONMember("reports_awaited", \Self.reportsAwaited), JSONMember("capacity_read", \Self.capacityRead),
    ]
    /// The pool of the new storage object; nil: the volume stays where it is.
    public var host: String?
    public var zone: String?
    /// The pool of which capacity is claimed beyond the volume's row.
    public var claim: String?
    /// What the driver said of the new storage object.
    public var data: String?
    public var providerID: String?
    public var replicationStatus: String?
    /// Of the new backend.
    public var sharedTargets: Bool?
    public var copied: Int?
    /// The storage object that the volume left.
    public var old: OldObject?
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}

    public struct OldObject: JSONConvertible {
        public static let members = [
            JSONMember("host", \Self.host), JSONMember("name_id", \Self.nameID), JSONMember("data", \Self.data),
        ]
        public var host = ""
        public var nameID = ""
        public var data: String?
        public init() {}
        public init(host: String, nameID: String, data: String?) {
            self.host = host
            self.nameID = nameID
            self.data = data
        }
    }
}

/// Removes the new storage object of a move that failed, where the move could not remove it itself. The operation's resource is what the
/// object's name holds, which no volume has.
public struct RemoveUnusedObjectArguments: FlowArguments {
    public static let flow = FlowID("volume.remove_unused_object")
    public static let members = [JSONMember("host", \Self.host), JSONMember("size", \Self.size), JSONMember("data", \Self.data)]
    /// `node@backend#pool`
    public var host = ""
    /// GiB
    public var size = 0
    /// What the driver said of the object.
    public var data: String?
    public init() {}
    public init(host: String, size: Int, data: String?) {
        self.host = host
        self.size = size
        self.data = data
    }
}

// MARK: taking over and leaving

public struct ManageVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.manage")
    public static let members = [JSONMember("host", \Self.host), JSONMember("reference", \Self.reference)]
    /// `node@backend` or `node@backend#pool`
    public var host = ""
    /// What the driver knows the object by.
    public var reference: JSONObject = [:]
    public init() {}
    public init(host: String, reference: JSONObject) {
        self.host = host
        self.reference = reference
    }
}

public struct ManageVolumeState: JSONConvertible {
    public static let members = [JSONMember("host", \Self.host)]
    /// The pool of which capacity is claimed.
    public var host: String?
    public init() {}
}

public struct UnmanageVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.unmanage")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}
