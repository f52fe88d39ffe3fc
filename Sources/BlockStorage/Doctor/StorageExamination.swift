public import JSON

/// Compares the database, the operation log and the backends.
public protocol StorageExamination: Sendable {
    /// The report; `repair`: what can be repaired without risk is.
    func examine(repair: Bool) async throws -> JSON
}
