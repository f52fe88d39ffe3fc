import Database

/// How volumes of a type are encrypted.
final class TypeEncryptionTable: Table, @unchecked Sendable {
    static let table = TypeEncryptionTable("type_encryptions", "e").declared()

    let id = Column<String>("id"), typeID = Column<String>("volume_type_id"), provider = Column<String>("provider")
    let controlLocation = Column<String>("control_location"), cipher = Column<String?>("cipher")
    /// Bits.
    let keySize = Column<Int?>("key_size")
    let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
}
