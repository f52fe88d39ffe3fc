import CDriver

/// The functions of a driver instance, under the names of the header.
public enum DriverMethod: String, Sendable, CaseIterable {
    case capabilities
    case stats
    case createVolume = "create_volume"
    case deleteVolume = "delete_volume"
    case extendVolume = "extend_volume"
    case cloneVolume = "clone_volume"
    case createSnapshot = "create_snapshot"
    case deleteSnapshot = "delete_snapshot"
    case createVolumeFromSnapshot = "create_volume_from_snapshot"
    case revertToSnapshot = "revert_to_snapshot"
    case exportVolume = "export_volume"
    case ensureExport = "ensure_export"
    case unexportVolume = "unexport_volume"
    case connectVolume = "connect_volume"
    case disconnectVolume = "disconnect_volume"
    case listVolumes = "list_volumes"
    case manageVolume = "manage_volume"
    case unmanageVolume = "unmanage_volume"
    case fence
    case manageSnapshot = "manage_snapshot"
    case unmanageSnapshot = "unmanage_snapshot"
    case renameVolume = "rename_volume"
    case cloneImage = "clone_image"

    typealias Function = @convention(c) (UnsafeMutableRawPointer?, UnsafeMutablePointer<clinker_call>?) -> Int32

    func function(_ table: clinker_driver) -> Function? {
        switch self {
        case .capabilities: table.capabilities
        case .stats: table.stats
        case .createVolume: table.create_volume
        case .deleteVolume: table.delete_volume
        case .extendVolume: table.extend_volume
        case .cloneVolume: table.clone_volume
        case .createSnapshot: table.create_snapshot
        case .deleteSnapshot: table.delete_snapshot
        case .createVolumeFromSnapshot: table.create_volume_from_snapshot
        case .revertToSnapshot: table.revert_to_snapshot
        case .exportVolume: table.export_volume
        case .ensureExport: table.ensure_export
        case .unexportVolume: table.unexport_volume
        case .connectVolume: table.connect_volume
        case .disconnectVolume: table.disconnect_volume
        case .listVolumes: table.list_volumes
        case .manageVolume: table.manage_volume
        case .unmanageVolume: table.unmanage_volume
        case .fence: table.fence
        case .manageSnapshot: table.manage_snapshot
        case .unmanageSnapshot: table.unmanage_snapshot
        case .renameVolume: table.rename_volume
        case .cloneImage: table.clone_image
        }
    }
}

/// A failed driver call; the code says what to do next.
public struct DriverFailure: Error, CustomStringConvertible, Sendable {
    public enum Code: Int32, Sendable {
        case error = 1, retry, busy, notFound, exists, noSpace, unsupported, badConfiguration, invalid, cancelled
        /// The host died during the call: whether the call took effect is unknown; it may be repeated.
        case hostDied = -1
        /// The backend is down.
        case unavailable = -2

        /// A code returned by a driver; nil if the header does not define it. The host's own codes are not accepted.
        public init?(ofDriver code: Int32) {
            guard code > 0 else { return nil }
            self.init(rawValue: code)
        }

        /// A sentence for users, who do not see the driver's message.
        public var sentence: String {
            switch self {
            case .error: "The storage could not do it."
            case .retry: "The storage is in trouble that may pass."
            case .busy: "The storage still uses it."
            case .notFound: "The storage does not have it."
            case .exists: "The storage has another object of its name."
            case .noSpace: "The storage has no room for it."
            case .unsupported: "The storage cannot do it."
            case .badConfiguration: "The storage is not configured well."
            case .invalid: "The storage cannot serve what was asked for."
            case .cancelled: "It was cancelled."
            case .hostDied: "The storage's driver died."
            case .unavailable: "The storage is not available now."
            }
        }

        /// Parses the code at the beginning of a description of a `DriverFailure`.
        public init?(beginning text: String) {
            let codes: [Code] = [.error, .retry, .busy, .notFound, .exists, .noSpace, .unsupported, .badConfiguration, .invalid]
            guard let found = codes.first(where: { text.hasPrefix($0.name + ": ") }) else { return nil }
            self = found
        }

        /// The name in the header.
        public var name: String {
            switch self {
            case .error: "CLINKER_ERROR"
            case .retry: "CLINKER_RETRY"
            case .busy: "CLINKER_BUSY"
            case .notFound: "CLINKER_NOT_FOUND"
            case .exists: "CLINKER_EXISTS"
            case .noSpace: "CLINKER_NO_SPACE"
            case .unsupported: "CLINKER_UNSUPPORTED"
            case .badConfiguration: "CLINKER_BAD_CONFIGURATION"
            case .invalid: "CLINKER_INVALID"
            case .cancelled: "CLINKER_CANCELLED"
            case .hostDied: "the host died"
            case .unavailable: "the backend is down"
            }
        }
    }
    public let code: Code
    public let message: String
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    public var description: String { "\(code.name): \(message)" }
}
