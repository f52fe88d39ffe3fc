import Database

/// A change to storage that survives the death of any process: which flow carries it out, for what, and how far it got.
///
/// A class, as `Volume` is: it is handed on many times, and a copy of the structure would count a reference for each of its texts.
public final class Operation: Sendable {
    public let id: String
    /// The flow that carries it out.
    public let flow: FlowID
    public let state: OperationState
    /// Name of the step to do next; reverting, of the step to take back next. nil: no step was done yet; reverting, none is left.
    public let step: String?
    public let isReverting: Bool
    public let attempts: Int
    public let resourceType, resourceID, projectID, userID, requestID: String
    /// What the flow was asked for: its `FlowArguments` as JSON. Empty once it has ended.
    public let arguments: String
    /// What finished steps recorded for later ones: the flow's state as JSON. Empty once it has ended.
    public let stepState: String
    public let error: String?
    public let createdAt, updatedAt: String
    public let finishedAt: String?
    /// Somebody asked for it to be taken back.
    public let isCancelled: Bool

    static let columns =
        "id, flow, version, state, step_name, reverting, attempts, resource_type, resource_id, project_id, user_id, request_id, arguments, "
        + "step_state, error, created_at, updated_at, finished_at, cancelled"

    init(_ row: any Row) {
        id = row.text(0)
        flow = FlowID(row.text(1), version: row.int(2))
        state = OperationState(rawValue: row.text(3))
        step = row.optionalText(4)
        isReverting = row.bool(5)
        attempts = row.int(6)
        resourceType = row.text(7)
        resourceID = row.text(8)
        projectID = row.text(9)
        userID = row.text(10)
        requestID = row.text(11)
        arguments = row.text(12)
        stepState = row.text(13)
        error = row.optionalText(14)
        createdAt = row.text(15)
        updatedAt = row.text(16)
        finishedAt = row.optionalText(17)
        isCancelled = row.bool(18)
    }

    public var caller: Caller { Caller(userID: userID, projectID: projectID, isAdmin: true, requestID: requestID) }
}
