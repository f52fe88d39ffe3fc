public import Database

/// Types that volumes of a project get when they name none.
public enum DefaultTypes {
    static let table = DefaultTypeTable.table
    static let allSQL = SQL("SELECT project_id, volume_type_id FROM default_types ORDER BY project_id")
    static let setSQL = SQL {
        $0.upsert(
            into: "default_types", columns: ["project_id", "volume_type_id"], key: ["project_id"],
            changes: [("volume_type_id", $0.inserted("volume_type_id"))])
    }
    static let isUsedSQL = SQL("SELECT 1 FROM default_types WHERE volume_type_id = ? LIMIT 1")

    /// The id of the project's own default type.
    public static func find(_ project: String, in connection: any Connection) throws -> String? {
        try connection.first(of: table, table.projectID(project)) { $0[table.typeID] }
    }

    static let typeSQL = SQL(
        VolumeTypeTable.table.select(
            """
            WHERE t.id = coalesce(
                (SELECT d.volume_type_id FROM default_types d WHERE d.project_id = ?), (SELECT n.id FROM volume_types n WHERE n.name = ?))
            """))
    /// The project's own default type, else the one of that name.
    static func type(of project: String, else name: String, in connection: any Connection) throws -> VolumeType? {
        try connection.first(typeSQL, .text(project), .text(name)) { try VolumeType($0) }
    }

    public static func all(in connection: any Connection) throws -> [(project: String, type: String)] {
        try connection.rows(allSQL) { ($0.text(0), $0.text(1)) }
    }

    public static func set(_ type: VolumeType, project: String, in tx: any Transaction) throws {
        try tx.run(setSQL, .text(project), .text(type.id))
    }

    public static func unset(_ project: String, in tx: any Transaction) throws { try tx.delete(from: table, table.projectID(project)) }

    /// Whether the type is some project's default.
    static func isUsed(_ type: String, in connection: any Connection) throws -> Bool { try connection.exists(isUsedSQL, .text(type)) }
}
