import Primitives

/// What a program gives a database for the code of its transactions, which has no other way to it.
public protocol TransactionCompanion: AnyObject, Sendable {}

extension Transaction {
    public var companion: (any TransactionCompanion)? { nil }
}

/// Where a database keeps its companion.
final class CompanionPlace: Sendable {
    private let companion = Guarded<(any TransactionCompanion)?>(nil)

    var current: (any TransactionCompanion)? {
        get { companion.withLock { $0 } }
        set { companion.withLock { $0 = newValue } }
    }
}
