public import Database
public import JSON
import Primitives

/// A volume type: a name for what a volume should be.
public struct VolumeType: Sendable {
    public let id, name: String
    public let description: String?
    public let isPublic: Bool
    public let extraSpecs: JSONObject
    public let qosSpecsID: String?
    public let createdAt: String
    public let updatedAt: String?
    /// Whether its volumes are encrypted.
    public let isEncrypted: Bool

    init(_ row: any Row) throws {
        let t = VolumeTypeTable.table
        id = row[t.id]
        name = row[t.name]
        description = row[t.description]
        isPublic = row[t.isPublic]
        extraSpecs = try JSON(parsing: row[t.extraSpecs]).object ?? [:]
        qosSpecsID = row[t.qosSpecsID]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
        isEncrypted = row[t.isEncrypted]
    }

    /// Whether its volumes are kept a second time elsewhere.
    public var isReplicated: Bool { extraSpecs["replication_enabled"]?.string?.lowercased() == "<is> true" }
    /// Whether the type makes volumes that several hosts may attach.
    public var isMultiattach: Bool { extraSpecs["multiattach"]?.string?.lowercased() == "<is> true" }
}

public enum VolumeTypes {
    static let table = VolumeTypeTable.table
    static let allSQL = SQL(table.select("ORDER BY t.created_at DESC, t.id DESC"))
    static let usedSQL = SQL(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM volumes WHERE volume_type_id = ?) OR EXISTS (SELECT 1 FROM snapshots WHERE volume_type_id = ?)"
    )
    static let countSQL = SQL("SELECT count(*) FROM volume_types")

    /// By id, as paths name it.
    public static func get(_ id: String, in connection: any Connection) throws -> VolumeType {
        guard let type = try connection.first(of: table, table.id(id), map: { try VolumeType($0) }) else {
            throw StorageError.typeNotFound(id)
        }
        return type
    }

    public static func named(_ name: String, in connection: any Connection) throws -> VolumeType? {
        try connection.first(of: table, table.name(name)) { try VolumeType($0) }
    }

    // MARK: private types

    static let accessSQL = SQL("SELECT project_id FROM volume_type_projects WHERE volume_type_id = ? ORDER BY project_id")
    static let hasAccessSQL = SQL("SELECT 1 FROM volume_type_projects WHERE volume_type_id = ? AND project_id = ?")
    static let access = TypeProjectTable.table

    /// Whether the caller may see and use the type: everybody a public one.
    public static func isVisible(_ type: VolumeType, to caller: Caller, in connection: any Connection) throws -> Bool {
        try caller.isAdmin || isUsable(type, in: caller.projectID, in: connection)
    }

    /// Whether the type is public, or was given to the project.
    public static func isUsable(_ type: VolumeType, in project: String, in connection: any Connection) throws -> Bool {
        try type.isPublic || connection.exists(hasAccessSQL, .text(type.id), .text(project))
    }

    /// A type that the caller may see; another one does not exist for it.
    public static func get(_ id: String, for caller: Caller, in connection: any Connection) throws -> VolumeType {
        let type = try get(id, in: connection)
        guard try isVisible(type, to: caller, in: connection) else { throw StorageError.typeNotFound(id) }
        return type
    }

    /// Projects that may use a private type.
    public static func projects(_ id: String, in connection: any Connection) throws -> [String] {
        guard try !get(id, in: connection).isPublic else {
            throw StorageError(.notFound, "Access list not available for public volume types.")
        }
        return try connection.rows(accessSQL, .text(id)) { $0.text(0) }
    }

    public static func grant(_ id: String, to project: String, in tx: any Transaction) throws {
        try refusePublic(get(id, in: tx))
        guard try !tx.exists(hasAccessSQL, .text(id), .text(project)) else {
            throw StorageError(.conflict, "Volume type access for \(id) / \(project) combination already exists.")
        }
        try tx.insert(into: access, access.typeID(id), access.projectID(project))
    }

    public static func revoke(_ id: String, from project: String, in tx: any Transaction) throws {
        try refusePublic(get(id, in: tx))
        guard try tx.delete(from: access, access.typeID(id), access.projectID(project)) == 1 else {
            throw StorageError(.notFound, "Volume type access not found for \(id) / \(project) combination.")
        }
    }

    private static func refusePublic(_ type: VolumeType) throws {
        guard !type.isPublic else {
            throw StorageError(.invalid, "Invalid volume type: Type access modification is not applicable to public volume type.")
        }
    }

    /// By id or name, as bodies name it, if the caller may use it.
    public static func resolve(_ idOrName: String, for caller: Caller, in connection: any Connection) throws -> VolumeType {
        let type = try resolve(idOrName, in: connection)
        guard try isVisible(type, to: caller, in: connection) else {
            if UUID.isUUIDLike(idOrName) { throw StorageError.typeNotFound(idOrName) }
            throw StorageError(.notFound, "Volume type with name \(idOrName) could not be found.")
        }
        return type
    }

    /// By id or name, as bodies name it.
    public static func resolve(_ idOrName: String, in connection: any Connection) throws -> VolumeType {
        if UUID.isUUIDLike(idOrName), let type = try connection.first(of: table, table.id(idOrName), map: { try VolumeType($0) }) {
            return type
        }
        if let type = try named(idOrName, in: connection) { return type }
        if UUID.isUUIDLike(idOrName) { throw StorageError.typeNotFound(idOrName) }
        throw StorageError(.notFound, "Volume type with name \(idOrName) could not be found.")
    }

    /// Newest first.
    public static func all(in connection: any Connection) throws -> [VolumeType] { try connection.rows(allSQL) { try VolumeType($0) } }

    /// Makes sure that the default type exists.
    public static func ensureDefault(named name: String, in tx: any Transaction) throws {
        guard name == "__DEFAULT__", try named(name, in: tx) == nil else { return }
        _ = try create(name: name, description: "Default Volume Type", isPublic: true, extraSpecs: [:], in: tx)
    }

    public static func create(name: String, description: String?, isPublic: Bool, extraSpecs: JSONObject, in tx: any Transaction) throws
        -> VolumeType
    {
        guard try named(name, in: tx) == nil else { throw StorageError(.conflict, "Volume Type \(name) already exists.") }
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.name(name), table.description(description), table.isPublic(isPublic),
            table.extraSpecs(try extraSpecs.stored("extra_specs")), table.createdAt(tx.now))
        return try get(id, in: tx)
    }

    public static func update(_ id: String, name: String?, description: JSON?, isPublic: Bool?, in tx: any Transaction) throws -> VolumeType
    {
        let type = try get(id, in: tx)
        if let name, name != type.name {
            guard try named(name, in: tx) == nil else { throw StorageError(.conflict, "Volume Type \(name) already exists.") }
            try Quotas.renameType(type.name, to: name, in: tx)
        }
        try tx.update(
            table, table.id(id), set: table.name(name ?? type.name),
            table.description(description.map { $0.string } ?? type.description), table.isPublic(isPublic ?? type.isPublic),
            table.updatedAt(tx.now))
        return try get(id, in: tx)
    }

    public static func delete(_ id: String, defaultName: String, in tx: any Transaction) throws {
        let type = try get(id, in: tx)
        if try type.name == defaultName || DefaultTypes.isUsed(id, in: tx) {
            throw StorageError(.invalid, "The volume type \(id) is a default volume type and cannot be deleted.")
        }
        if try tx.exists(usedSQL, .text(id), .text(id)) { throw inUse(id) }
        if try tx.first(countSQL, map: { $0.int(0) }) == 1 {
            throw StorageError(.invalid, "The last volume type cannot be deleted.")
        }
        try tx.delete(from: access, access.typeID(id))
        try tx.delete(from: TypeEncryptions.table, TypeEncryptions.table.typeID(id))
        try BackupPolicyAssignments.removeAll(of: .type, id, in: tx)
        try tx.delete(from: table, table.id(id))
        try Quotas.removeType(type.name, in: tx)
    }

    static func inUse(_ id: String) -> StorageError {
        StorageError(
            .invalid, "Target volume type is still in use.")
    }

    /// Changes extra specs; refused while volumes of the type exist.
    public static func updateExtraSpecs(_ id: String, in tx: any Transaction, _ change: (inout JSONObject) throws -> Void) throws {
        let before = try get(id, in: tx).extraSpecs
        var specs = before
        try change(&specs)
        if try tx.exists(usedSQL, .text(id), .text(id)) {
            throw StorageError(.invalid, "Volume Type is currently in use.")
        }
        if specs["multiattach"]?.string?.lowercased() == "<is> true", specs["cacheable"]?.string?.lowercased() == "<is> true" {
            throw StorageError(.invalid, "Cacheable and multiattach cannot be set at the same time.")
        }
        try tx.update(
            table, table.id(id), set: table.extraSpecs(try specs.stored("extra_specs", before: before)), table.updatedAt(tx.now))
    }
}
