public import Database
public import JSON

/// What administrators do to volume types and QoS specs, as others are notified of it: Cinder's event types, publishers and members.
public struct CatalogueNotification: Sendable {
    /// The first word of the publisher's name.
    let service: String
    let eventType: String
    /// What is said of it keeps its order.
    let subject: String
    let payload: JSON
    var isRefusal = false

    /// Notes it for others, where others are notified.
    public func note(by caller: Caller, in tx: any Transaction) throws {
        try NotificationOutbox.note(self, NotificationOutbox.Origin(caller), in: tx)
    }
}

// MARK: volume types

extension CatalogueNotification {
    public enum TypeChange: String, Sendable { case create, update, delete }

    /// `type`: as it is now, or was until it was deleted.
    public static func type(_ change: TypeChange, _ type: VolumeType) -> Self {
        Self(service: "volumeType", eventType: "volume_type.\(change)", subject: type.id, payload: ["volume_types": members(type)])
    }

    /// A change that was refused. It names the type as the request does, or shows it, as far as there is one.
    public static func refusedType(
        _ change: TypeChange, id: String? = nil, asked: JSON? = nil, shown: VolumeType? = nil, because error: StorageError
    ) -> Self {
        Self(
            service: "volumeType", eventType: "volume_type.\(change)", subject: id ?? shown?.id ?? asked?["name"]?.string ?? "",
            payload: [
                "volume_types": shown.map { members($0) } ?? asked ?? .null, "name": nil, "id": JSON(id),
                "error_message": .string(error.message),
            ], isRefusal: true)
    }

    private static func members(_ type: VolumeType) -> JSON {
        [
            "id": .string(type.id), "name": .string(type.name), "description": JSON(type.description),
            "qos_specs_id": JSON(type.qosSpecsID), "is_public": .bool(type.isPublic), "deleted_at": nil, "deleted": false,
            "created_at": .string(type.createdAt), "updated_at": JSON(type.updatedAt), "extra_specs": .object(type.extraSpecs),
        ]
    }

    public enum ExtraSpecsChange: Sendable {
        case added(JSONObject), set(key: String), removed(key: String)
    }

    public static func extraSpecs(_ change: ExtraSpecsChange, of type: VolumeType) -> Self {
        var payload: JSONObject = ["type_id": .string(type.id)]
        let action: String
        switch change {
        case .added(let specs):
            action = "create"
            payload["specs"] = .object(specs)
        case .set(let key):
            action = "update"
            payload["id"] = .string(key)
        case .removed(let key):
            action = "delete"
            payload["id"] = .string(key)
        }
        payload["created_at"] = .string(type.createdAt)
        payload["updated_at"] = JSON(type.updatedAt)
        if case .removed = change { payload["deleted_at"] = .null }
        return Self(
            service: "volumeTypeExtraSpecs", eventType: "volume_type_extra_specs.\(action)", subject: type.id, payload: .object(payload))
    }

    public static func accessGranted(_ typeID: String, to project: String) -> Self { access("add", typeID, project) }
    public static func accessRevoked(_ typeID: String, from project: String) -> Self { access("remove", typeID, project) }

    private static func access(_ action: String, _ typeID: String, _ project: String) -> Self {
        Self(
            service: "volume_type_project", eventType: "volume_type_project.access.\(action)", subject: typeID,
            payload: ["volume_type_id": .string(typeID), "project_id": .string(project)])
    }

    /// `specs`: as the request has them, with the ids of the type and of the record.
    public static func encryptionCreated(_ specs: JSONObject, ofType typeID: String) -> Self {
        Self(
            service: "volumeTypeEncryption", eventType: "volume_type_encryption.create", subject: typeID,
            payload: ["type_id": .string(typeID), "specs": .object(specs)])
    }

    /// `id`: how the request names the record.
    public static func encryptionUpdated(_ id: String, ofType typeID: String) -> Self {
        Self(
            service: "volumeTypeEncryption", eventType: "volume_type_encryption.update", subject: typeID,
            payload: ["type_id": .string(typeID), "id": .string(id)])
    }
}

// MARK: QoS specs

extension CatalogueNotification {
    public enum QoSChange: String, Sendable {
        case create, update, delete, associate, disassociate
        case removeKeys = "delete_keys"
        case disassociateAll = "disassociate_all"
    }

    /// `specs`: as the request has them, without the name.
    public static func qosCreated(_ made: QoSSpecs, with specs: JSONObject) -> Self {
        qos(
            .create, made.id, ["name": .string(made.name), "created_at": .string(made.createdAt), "specs": .object(specs)])
    }

    public static func qosUpdated(_ specs: QoSSpecs, with change: JSONObject) -> Self {
        var payload = times(specs)
        payload["updated_at"] = JSON(specs.updatedAt)
        payload["specs"] = .object(change)
        return qos(.update, specs.id, payload)
    }

    public static func qosKeysRemoved(_ specs: QoSSpecs) -> Self {
        var payload = times(specs)
        payload["updated_at"] = JSON(specs.updatedAt)
        return qos(.removeKeys, specs.id, payload)
    }

    /// `specs`: as they were.
    public static func qosDeleted(_ specs: QoSSpecs, at time: String) -> Self {
        var payload = times(specs)
        payload["deleted_at"] = .string(time)
        return qos(.delete, specs.id, payload)
    }

    /// Associations that changed.
    public static func qosAssociations(_ change: QoSChange, _ specs: QoSSpecs, typeID: String? = nil) -> Self {
        var payload: JSONObject = ["id": .string(specs.id)]
        if let typeID { payload["type_id"] = .string(typeID) }
        payload["created_at"] = .string(specs.createdAt)
        return qos(change, specs.id, payload)
    }

    /// A request that was refused. It names the specs by their id, or by the name that they were to have.
    public static func refusedQoS(_ change: QoSChange, id: String? = nil, name: String? = nil, because error: StorageError) -> Self {
        var payload: JSONObject = [:]
        if let name { payload["name"] = .string(name) }
        if let id { payload["id"] = .string(id) }
        payload["error_message"] = .string(error.message)
        var refusal = qos(change, id ?? name ?? "", payload)
        refusal.isRefusal = true
        return refusal
    }

    private static func qos(_ change: QoSChange, _ subject: String, _ payload: JSONObject) -> Self {
        Self(service: "QoSSpecs", eventType: "qos_specs.\(change.rawValue)", subject: subject, payload: .object(payload))
    }

    private static func times(_ specs: QoSSpecs) -> JSONObject {
        ["id": .string(specs.id), "created_at": .string(specs.createdAt)]
    }
}
