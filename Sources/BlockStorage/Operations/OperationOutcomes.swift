public import Database
public import JSON

/// What the API asks the engine that carries operations out.
public protocol OperationOutcomes: Sendable {
    /// Waits for what an operation answers its client: a connection, as JSON. Throws the operation's failure, or a timeout, after which
    /// the operation is being taken back.
    func output(of id: String) async throws -> JSON
    /// Names of the steps of an operation's flow, in their order; empty if this release does not know the flow.
    func steps(of operation: Operation) -> [String]
    /// 0...1; nil where nothing was reported.
    func progress(of id: String) -> Double?
    /// Whether an operation waits until other transfers have ended: so many may be under way at once.
    func waitsForTransfer(_ id: String) -> Bool
    /// Has an operation taken back, durably; throws why it cannot be.
    func cancel(_ operation: Operation, caller: Caller, in tx: any Transaction) throws
    /// What an operation's error means, for those who may not read it; nil where there is no more to say.
    func sentence(of error: String) -> String?
}
