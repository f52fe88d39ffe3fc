/// What a transfer takes of the places for transfers that run at the same time.
public struct TransferDemand: Sendable, Equatable {
    /// Over within seconds, whatever the size of the volume: it takes none of the places of transfers that may last for hours.
    public var isShort = false
    /// Holds much memory: it has an index or whole chunks of a backup.
    public var isBackup = false
    /// Somebody waits for its end, while of others only the end of all counts.
    public var isUrgent = false

    public init(isShort: Bool = false, isBackup: Bool = false, isUrgent: Bool = false) {
        self.isShort = isShort
        self.isBackup = isBackup
        self.isUrgent = isUrgent
    }
}

extension Transfer {
    /// Nil: it waits for nobody, since what serves must answer at once. Those have a limit of their own.
    public var demand: TransferDemand? {
        switch job {
        case .serve: nil
        case .encrypt, .remove: TransferDemand(isShort: true)
        case .copy, .fetchImage, .storeImage: TransferDemand(isUrgent: true)
        case .backup, .verify: TransferDemand(isBackup: true)
        case .restore: TransferDemand(isBackup: true, isUrgent: true)
        case .maintain(let order):
            switch order.work {
            case .keys, .addKey, .removeKey: TransferDemand(isShort: true)
            case .scrub: TransferDemand(isBackup: true)
            case .prune, .survey, .objects: TransferDemand(isBackup: true, isUrgent: true)
            }
        }
    }
}
