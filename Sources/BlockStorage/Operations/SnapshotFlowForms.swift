public import JSON

/// Of a flow about one snapshot of the operation's volume.
public protocol SnapshotArguments: FlowArguments {
    var snapshotID: String { get set }
}

extension SnapshotArguments {
    public init(snapshotID: String) {
        self.init()
        self.snapshotID = snapshotID
    }
}

public struct CreateSnapshotArguments: SnapshotArguments {
    public static let flow = FlowID("snapshot.create")
    public static let members = [JSONMember("snapshot_id", \Self.snapshotID)]
    public var snapshotID = ""
    public init() {}
}

public struct DeleteSnapshotArguments: SnapshotArguments {
    public static let flow = FlowID("snapshot.delete")
    public static let members = [JSONMember("snapshot_id", \Self.snapshotID)]
    public var snapshotID = ""
    public init() {}
}

public struct RevertVolumeArguments: SnapshotArguments {
    public static let flow = FlowID("volume.revert")
    public static let members = [JSONMember("snapshot_id", \Self.snapshotID)]
    public var snapshotID = ""
    public init() {}
}

public struct ManageSnapshotArguments: SnapshotArguments {
    public static let flow = FlowID("snapshot.manage")
    public static let members = [JSONMember("snapshot_id", \Self.snapshotID), JSONMember("reference", \Self.reference)]
    public var snapshotID = ""
    /// What the driver knows the object by.
    public var reference: JSONObject = [:]
    public init() {}
}

public struct UnmanageSnapshotArguments: SnapshotArguments {
    public static let flow = FlowID("snapshot.unmanage")
    public static let members = [JSONMember("snapshot_id", \Self.snapshotID)]
    public var snapshotID = ""
    public init() {}
}
