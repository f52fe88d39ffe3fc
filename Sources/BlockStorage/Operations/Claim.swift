public import Database

/// What an operation needs for itself while it lasts. Claims on one volume or snapshot are made under the lock of its row.
public struct Claim: Sendable {
    public let resource: String
    public let isExclusive: Bool
    /// Whether it was there before the operation.
    let isOfRow: Bool

    private init(_ resource: String, isExclusive: Bool, isOfRow: Bool = true) {
        self.resource = resource
        self.isExclusive = isExclusive
        self.isOfRow = isOfRow
    }

    public static func exclusive(_ row: Locked<some Lockable>) -> Claim { Claim(row.value.id, isExclusive: true) }
    public static func shared(_ row: Locked<some Lockable>) -> Claim { Claim(row.value.id, isExclusive: false) }
    /// On the snapshot of a backup, under the lock of the backup's row.
    static func shared(snapshotOf backup: Locked<Backup>) -> Claim? {
        backup.temporarySnapshotID.map { Claim($0, isExclusive: false) }
    }
    /// On a resource that the same transaction makes, or the operation will make.
    public static func exclusive(new id: String) -> Claim { Claim(id, isExclusive: true, isOfRow: false) }
}
