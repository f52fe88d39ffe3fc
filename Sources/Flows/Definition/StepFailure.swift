import DriverHost

/// Why an operation failed.
struct StepFailure: Error, Sendable, CustomStringConvertible {
    /// The step that failed; empty where the operation was cancelled or interrupted.
    let step: String
    let message: String
    let code: DriverFailure.Code?
    /// Whether everything begun was taken back.
    var isUndone = true
    /// What the scheduler said, where it found no pool.
    var refusal: PlacementRefusal?
    var description: String { message }

    /// What is kept with the operation: with the code, where it is a driver's.
    var words: String {
        guard let code, code.rawValue > 0, code != .cancelled else { return message }
        return "\(DriverFailure(code, message))"
    }
}

/// The operation can neither go on nor be taken back in this process: it stays in the log for the next start.
struct OperationPostponed: Error { let reason: String }
