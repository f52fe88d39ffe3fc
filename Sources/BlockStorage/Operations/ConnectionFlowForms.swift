public import JSON

/// os-initialize_connection
public struct ConnectVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.connect")
    public static let members = [JSONMember("connector", \Self.connector)]
    public var connector: JSON = .object([:])
    public init() {}
    public init(connector: JSON) { self.connector = connector }
}

/// os-terminate_connection, os-force_detach
public struct DisconnectVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.disconnect")
    public static let members = [
        JSONMember("connector", \Self.connector), JSONMember("detach", \Self.detaches), JSONMember("attachment_id", \Self.attachmentID),
    ]
    /// Who lets go; nil: everybody.
    public var connector: JSON?
    /// The attachment, if there is one, is removed too.
    public var detaches = false
    public var attachmentID: String?
    public init() {}
}

/// Exports a volume again after a restart of the machine or of its target daemon.
public struct RestoreExportArguments: FlowArguments {
    public static let flow = FlowID("volume.restore_export")
    public static let members: [JSONMember<Self>] = []
    public init() {}
}

public struct ConnectAttachmentArguments: FlowArguments {
    public static let flow = FlowID("attachment.connect")
    public static let members = [
        JSONMember("attachment_id", \Self.attachmentID), JSONMember("mode", \Self.mode), JSONMember("new", \Self.isNew),
        JSONMember("previous", \Self.previous),
    ]
    public var attachmentID = ""
    public var mode: String?
    /// The attachment was made by the same request and goes if this fails.
    public var isNew = false
    /// The connector that the attachment had before: its connection is ended.
    public var previous: JSON?
    public init() {}
    public init(attachmentID: String, mode: String, isNew: Bool) {
        self.attachmentID = attachmentID
        self.mode = mode
        self.isNew = isNew
    }
}

public struct DeleteAttachmentArguments: FlowArguments {
    public static let flow = FlowID("attachment.delete")
    public static let members = [JSONMember("attachment_id", \Self.attachmentID)]
    public var attachmentID = ""
    public init() {}
    public init(attachmentID: String) { self.attachmentID = attachmentID }
}
