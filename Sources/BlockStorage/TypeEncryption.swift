public import Database
public import ImageFormats
import Primitives

/// How volumes of a type are encrypted.
public struct TypeEncryption: Sendable {
    /// What clients say of it.
    public struct Values: Sendable, Equatable {
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

    private static let luks: Set = ["luks", "nova.volume.encryptors.luks.LuksEncryptor", "LuksEncryptor"]
    private static let luks2: Set = ["luks2", "nova.volume.encryptors.luks.Luks2Encryptor", "Luks2Encryptor"]

    /// Whether hypervisors decrypt the volumes themselves, which know LUKS of version 1 alone.
    public var isOfHypervisors: Bool { values.provider.map(Self.luks.contains) ?? false }

    /// How the service itself encrypts what it writes to the volumes; nil where it cannot. Who opens LUKS of version 2 opens version 1, too.
    public var written: LUKSFormat? {
        guard let provider = values.provider, Self.luks.contains(provider) || Self.luks2.contains(provider) else { return nil }
        return LUKSFormat(cipher: values.cipher, keySize: values.keySize)
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
        try mark(typeID, isEncrypted: true, in: tx)
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
        try mark(typeID, isEncrypted: false, in: tx)
    }

    private static func mark(_ typeID: String, isEncrypted: Bool, in tx: any Transaction) throws {
        let types = VolumeTypes.table
        try tx.update(types, types.id(typeID), set: types.isEncrypted(isEncrypted))
    }

    // MARK: volumes

    /// Lengths in bits of the keys that volumes can have.
    public static let keySizes = [128, 192, 256, 512]

    /// Throws where no volume of the type can be made because of how they are encrypted.
    static func check(_ type: VolumeType, in connection: any Connection) throws {
        guard type.isEncrypted else { return }
        guard !type.isMultiattach else { throw StorageError.invalidVolume("Multiattach cannot be used with encrypted volumes.") }
        if let size = try find(ofType: type.id, in: connection)?.values.keySize, !keySizes.contains(size) {
            throw StorageError.invalidInput(
                "the encryption of volume type '\(type.name)' has key_size \(size): it must be one of \(keySizes.map(String.init).joined(separator: ", "))"
            )
        }
    }

    /// Throws unless a plain image can be encrypted in a volume of the type and of so many GiB, as far as the Image service knows the image.
    static func check(_ image: SourceImage, inVolumeOf type: String, size: Int, in connection: any Connection) throws {
        guard let encryption = try find(ofType: type, in: connection) else { return }
        guard let format = encryption.written else {
            let values = encryption.values
            throw StorageError.invalidInput(
                "Image \(image.id) cannot be encrypted by the provider '\(values.provider ?? "")' with the cipher "
                    + "'\(values.cipher ?? "")' and keys of \(values.keySize ?? 256) bits: images are encrypted by luks and luks2 with AES."
            )
        }
        try image.check(volumeSize: size, behind: format.headerBytes)
    }

    /// Whether what is encrypted as volumes of one type are can be a volume of the other.
    static func areEqual(_ one: VolumeType, _ other: VolumeType, in connection: any Connection) throws -> Bool {
        guard one.id != other.id, one.isEncrypted || other.isEncrypted else { return true }
        return try find(ofType: one.id, in: connection)?.values == find(ofType: other.id, in: connection)?.values
    }
}
