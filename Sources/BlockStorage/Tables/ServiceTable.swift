public import Database

/// Services: one per backend, and the scheduler.
public final class ServiceTable: Table, @unchecked Sendable {
    public static let table = ServiceTable("services", "s").declared()

    public let id = Column<String>("id"), binary = Column<String>("binary_name"), host = Column<String>("host")
    public let zone = Column<String>("availability_zone")
    public let isDisabled = Column<Bool>("disabled"), disabledReason = Column<String?>("disabled_reason")
    public let backendState = Column<String?>("backend_state"), replicationStatus = Column<String?>("replication_status")
    public let activeBackendID = Column<String?>("active_backend_id"), isFrozen = Column<Bool>("frozen")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String>("updated_at")
}

/// What is allocated of each pool.
final class PoolTable: Table, @unchecked Sendable {
    static let table = PoolTable("pools", "p").declared()
    /// `node@backend#pool`
    let host = Column<String>("host")
    let gigabytes = Column<Int>("allocated_gb"), volumes = Column<Int>("volumes")
}
