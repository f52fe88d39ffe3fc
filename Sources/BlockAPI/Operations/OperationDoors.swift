public import BlockStorage
public import Database

/// What the API needs of the engine that carries operations out.
public struct OperationDoors: Sendable {
    /// Names of the steps of an operation's flow.
    public var steps: @Sendable (Operation) -> [String]
    /// 0...1; nil where nothing was reported.
    public var progress: @Sendable (_ id: String) -> Double?
    /// Has an operation taken back; throws why it cannot be.
    public var cancel: @Sendable (Operation, Caller, any Transaction) throws -> Void
    /// Pools of backends that are enabled.
    public var usablePools: @Sendable (any Connection) throws -> [PoolState]
    /// Right after the start: waits until every backend has reported, or long enough.
    public var awaitPools: @Sendable () async -> Void
    /// What an operation's error means, for those who may not read it; nil where there is no more to say.
    public var sentence: @Sendable (_ error: String) -> String?

    public init(
        steps: @escaping @Sendable (Operation) -> [String], progress: @escaping @Sendable (_ id: String) -> Double?,
        cancel: @escaping @Sendable (Operation, Caller, any Transaction) throws -> Void,
        usablePools: @escaping @Sendable (any Connection) throws -> [PoolState], awaitPools: @escaping @Sendable () async -> Void,
        sentence: @escaping @Sendable (_ error: String) -> String?
    ) {
        self.steps = steps
        self.progress = progress
        self.cancel = cancel
        self.usablePools = usablePools
        self.awaitPools = awaitPools
        self.sentence = sentence
    }
}
