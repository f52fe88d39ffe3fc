public import Database

/// Volume types.
public final class VolumeTypeTable: Table, @unchecked Sendable {
    public static let table = VolumeTypeTable("volume_types", "t").declared()

    public let id = Column<String>("id"), name = Column<String>("name"), description = Column<String?>("description")
    public let isPublic = Column<Bool>("is_public")
    /// A JSON object of texts.
    public let extraSpecs = Column<String>("extra_specs")
    public let qosSpecsID = Column<String?>("qos_specs_id")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
    /// Whether there is a record of how its volumes are encrypted.
    public let isEncrypted = Column<Bool>("is_encrypted")
}

/// Projects that may use a private type.
final class TypeProjectTable: Table, @unchecked Sendable {
    static let table = TypeProjectTable("volume_type_projects", "p").declared()
    let typeID = Column<String>("volume_type_id"), projectID = Column<String>("project_id")
}

/// Types that volumes of a project get when they name none.
final class DefaultTypeTable: Table, @unchecked Sendable {
    static let table = DefaultTypeTable("default_types", "d").declared()
    let projectID = Column<String>("project_id"), typeID = Column<String>("volume_type_id")
}
