import Transfers

/// Who runs and who waits, by the order of arrival. What is urgent comes first, but not for ever: of four that begin while both kinds wait one
/// is not urgent.
struct TransferQueue {
    /// Transfers at once; short ones have as many places beside.
    let limit: Int
    /// Of those, work on backups; nil: no limit of their own.
    let backupLimit: Int?

    private(set) var long = 0
    private(set) var backups = 0
    private(set) var short = 0
    /// Long ones that are not urgent: of many places they leave a quarter, so that what is urgent never waits for hours.
    private var patient = 0
    private var mostPatient: Int { limit < 4 ? limit : limit - limit / 4 }
    /// Urgent transfers that began one after the other while others waited.
    private var urgentInRow = 0
    private static let mostUrgentInRow = 3
    private var waiting: [(id: UInt64, demand: TransferDemand)] = []

    init(limit: Int, backupLimit: Int?) {
        self.limit = limit
        self.backupLimit = backupLimit
    }

    var waitingCount: Int { waiting.count }

    private func hasPlace(for demand: TransferDemand) -> Bool {
        if demand.isShort { return short < limit }
        return long < limit && (demand.isUrgent || patient < mostPatient) && (!demand.isBackup || backups < backupLimit ?? .max)
    }

    private mutating func count(_ demand: TransferDemand, by step: Int) {
        guard !demand.isShort else { return short += step }
        long += step
        if !demand.isUrgent { patient += step }
        if demand.isBackup { backups += step }
    }

    /// Adds one that wants to run; returns those that begin now.
    mutating func add(_ id: UInt64, _ demand: TransferDemand) -> [UInt64] {
        waiting.append((id, demand))
        return begin()
    }

    /// Removes one that waits; false: it does not.
    mutating func remove(_ id: UInt64) -> Bool {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return false }
        waiting.remove(at: index)
        return true
    }

    /// Removes all that wait.
    mutating func removeAll() -> [UInt64] {
        defer { waiting = [] }
        return waiting.map(\.id)
    }

    /// One has ended; returns those that begin in its place.
    mutating func end(_ demand: TransferDemand) -> [UInt64] {
        count(demand, by: -1)
        return begin()
    }

    private mutating func begin() -> [UInt64] {
        var begun: [UInt64] = []
        while let index = next() {
            let (id, demand) = waiting.remove(at: index)
            count(demand, by: 1)
            begun.append(id)
        }
        return begun
    }

    private mutating func next() -> Int? {
        if let index = waiting.firstIndex(where: { $0.demand.isShort && hasPlace(for: $0.demand) }) { return index }
        let urgent = waiting.firstIndex { !$0.demand.isShort && $0.demand.isUrgent && hasPlace(for: $0.demand) }
        let other = waiting.firstIndex { !$0.demand.isShort && !$0.demand.isUrgent && hasPlace(for: $0.demand) }
        guard let urgent, other == nil || urgentInRow < Self.mostUrgentInRow else {
            if other != nil { urgentInRow = 0 }
            return other
        }
        urgentInRow = other == nil ? 0 : urgentInRow + 1
        return urgent
    }
}
