import Database

/// QoS specs, which types are associated with.
final class QoSSpecsTable: Table, @unchecked Sendable {
    static let table = QoSSpecsTable("qos_specs", "q").declared()

    let id = Column<String>("id"), name = Column<String>("name"), consumer = Column<QoSSpecs.Consumer>("consumer")
    /// A JSON object of texts and nulls.
    let specs = Column<String>("specs")
    let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
}
