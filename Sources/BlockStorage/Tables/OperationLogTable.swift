public import Database

/// The operation log.
public final class OperationLogTable: Table, @unchecked Sendable {
    public static let table = OperationLogTable("operations", "o").declared()

    public let id = Column<String>("id"), flow = Column<String>("flow"), version = Column<Int>("version")
    public let state = Column<OperationState>("state"), step = Column<String?>("step_name"), isReverting = Column<Bool>("reverting")
    public let attempts = Column<Int>("attempts")
    public let resourceType = Column<String>("resource_type"), resourceID = Column<String>("resource_id")
    public let projectID = Column<String>("project_id"), userID = Column<String>("user_id"), requestID = Column<String>("request_id")
    /// JSON.
    public let arguments = Column<String>("arguments"), stepState = Column<String>("step_state"), verdicts = Column<String?>("verdicts")
    public let error = Column<String?>("error")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String>("updated_at")
    public let finishedAt = Column<String?>("finished_at")
    public let isCancelled = Column<Bool>("cancelled")
    /// Whether an attempt has begun to write to what the operation makes.
    public let hasWritten = Column<Bool>("has_written")
}

/// What operations have for themselves, or wait for.
final class ClaimTable: Table, @unchecked Sendable {
    static let table = ClaimTable("claims", "c").declared()

    let resource = Column<String>("resource")
    /// Place in the queue for the resource.
    let ticket = Column<String>("ticket")
    let operationID = Column<String>("operation_id")
    let isExclusive = Column<Bool>("exclusive"), isHeld = Column<Bool>("held")
}

extension Operations {
    static let table = OperationLogTable.table
}
