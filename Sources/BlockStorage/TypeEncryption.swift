public import Database
import Primitives

/// How volumes of a type are encrypted.
public struct TypeEncryption: Sendable {
    /// What clients say of it.
    public struct Values: Sendable {
        public var provider, controlLocation, cipher: String?
        public var keySize: Int?
        public init() {}
    }

    public let id, typeID, createdAt: String
    public let values: Values
    public let updatedAt: String?

    init(_ row: any Row) {
        let t = TypeEncryptionTable.table
        id = row[t.id]
        typeID = row[t.typeID]
        createdAt = row[t.createdAt]
        updatedAt = row[t.updatedAt]
        var values = Values()
        values.provider = row[t.provider]
        values.controlLocation = row[t.controlLocation]
        values.cipher = row[t.cipher]
        values.keySize = row[t.keySize]
        self.values = values
    }
}

public enum TypeEncryptions {
    static let table = TypeEncryptionTable.table

    /// The type's; nil if its volumes are not encrypted.
    public static func find(ofType id: String, in connection: any Connection) throws -> TypeEncryption? {
        try connection.first(of: table, table.typeID(id)) { TypeEncryption($0) }
    }

    public static func notFound(_ typeID: String) -> StorageError {
        StorageError(.notFound, "Volume type encryption for type \(typeID) does not exist.")
    }

    static let usedSQL = SQL("SELECT 1 FROM volumes WHERE volume_type_id = ? LIMIT 1")
    private static func refuseUsed(_ typeID: String, to action: String, in tx: any Transaction) throws {
        if try tx.exists(usedSQL, .text(typeID)) {
            throw StorageError(.invalid, "Cannot \(action) encryption specs. Volume type in use.")
        }
    }

    /// Returns the record's id.
    public static func create(_ values: TypeEncryption.Values, ofType typeID: String, in tx: any Transaction) throws -> String {
        try refuseUsed(typeID, to: "create", in: tx)
        _ = try VolumeTypes.get(typeID, in: tx)
        guard try find(ofType: typeID, in: tx) == nil else {
            throw StorageError(.invalid, "Volume type encryption for type \(typeID) already exists.")
        }
        let id = UUID.random()
        try tx.insert(
            into: table, table.id(id), table.typeID(typeID), table.provider(values.provider ?? ""),
            table.controlLocation(values.controlLocation ?? ""), table.cipher(values.cipher), table.keySize(values.keySize),
            table.createdAt(tx.now))
        return id
    }

    public static func update(ofType typeID: String, in tx: any Transaction, _ change: (inout TypeEncryption.Values) -> Void) throws {
        _ = try VolumeTypes.get(typeID, in: tx)
        try refuseUsed(typeID, to: "update", in: tx)
        guard var values = try find(ofType: typeID, in: tx)?.values else { throw notFound(typeID) }
        change(&values)
        try tx.update(
            table, table.typeID(typeID), set: table.provider(values.provider ?? ""), table.controlLocation(values.controlLocation ?? ""),
            table.cipher(values.cipher), table.keySize(values.keySize), table.updatedAt(tx.now))
    }

    public static func delete(ofType typeID: String, in tx: any Transaction) throws {
        try refuseUsed(typeID, to: "delete", in: tx)
        guard try tx.delete(from: table, table.typeID(typeID)) == 1 else { throw notFound(typeID) }
    }

    /// No volume comes to be of a type whose volumes are encrypted, before there are keys to encrypt it with.
    static func refuse(_ type: VolumeType) throws(StorageError) {
        guard type.isEncrypted else { return }
        throw StorageError(
            .invalid, "Volumes of the type '\(type.name)' are encrypted, and this release of Clinker does not serve encryption keys yet.")
    }
}
