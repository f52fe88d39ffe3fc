public import Calendar

/// How many of a volume's copies (backups, or snapshots) are kept: the newest ones, and the newest of each hour, day, week, month and year.
///
/// The rules are gone through in this order, each over all copies from the newest on. A rule keeps the newest copy of each of its periods, and
/// passes over the periods of copies that an earlier rule keeps: `keep_last` 3 and `keep_daily` 2 keep three copies and those of two further
/// days. Periods are those of the clock on the wall; weeks begin on Monday.
public struct Retention: Sendable, Equatable {
    public var last, hourly, daily, weekly, monthly, yearly: Int?
    /// All that are no older than the newest by this span.
    public var within: CalendarSpan?
    /// Whatever the rules say, so many stay.
    public var minimum = 1

    public init() {}

    /// Whether anything is ever deleted.
    public var isLimited: Bool { within != nil || [last, hourly, daily, weekly, monthly, yearly].contains { $0 != nil } }

    /// What may be known of a copy.
    public enum Condition: Sendable {
        /// Whole, as far as is known.
        case good
        /// It failed: there is nothing of it.
        case bad
        /// Known to be damaged, in part maybe: another backup may mend it. Never counted as good, and kept as if it were.
        case damaged
        /// It is being made or restored.
        case busy
        /// It is being deleted: it keeps nothing, and what it rests on goes after it.
        case going
    }

    public struct Copy: Sendable {
        public let id: String
        /// Seconds since 1970: when its content was so.
        public let time: Int
        public let condition: Condition
        /// The copy on top of which it was made.
        public let parent: String?
        /// Whether it is nothing without that one.
        public let needsParent: Bool
        /// Whether the policy made it: others are never deleted, and count for nothing but what rests on what.
        public let isOfPolicy: Bool
        /// Seconds since 1970 until when it cannot be deleted.
        public let protectedUntil: Int?
        /// What orders copies of one second.
        let order: String

        public init(
            id: String, time: Int, condition: Condition, parent: String? = nil, needsParent: Bool = true, isOfPolicy: Bool = true,
            protectedUntil: Int? = nil, order: String? = nil
        ) {
            self.id = id
            self.time = time
            self.order = order ?? id
            self.condition = condition
            self.parent = parent
            self.needsParent = needsParent
            self.isOfPolicy = isOfPolicy
            self.protectedUntil = protectedUntil
        }

        fileprivate var restsOn: String? { needsParent ? parent : nil }
    }

    /// The copies that are kept no longer, those first that rest on others. None, where the newest one failed or is known to be bad: then the
    /// older ones are all there is. The last good one is never among them, and of copies that rest on one another all are, or none.
    ///
    /// - Parameter now: copies that are protected until later are kept.
    public func expired(_ copies: [Copy], in zone: TimeZone, at now: Int = .max) -> [String] {
        let own = copies.filter(\.isOfPolicy).sorted { ($0.time, $0.order) > ($1.time, $1.order) }
        guard isLimited, let newest = own.first(where: { ![.busy, .going].contains($0.condition) }), newest.condition == .good else {
            return []
        }
        let good = own.filter { $0.condition == .good }
        var kept = self.kept(good, in: zone)
        kept.formUnion(self.kept(own.filter { [.good, .damaged].contains($0.condition) }, in: zone))
        // What failed is of no use once a later one is whole, and what is being worked on is left alone.
        for copy in own where copy.protectedUntil.map({ $0 > now }) ?? false { kept.insert(copy.id) }
        for copy in own where copy.condition == .busy || (copy.condition == .bad && (copy.time, copy.order) >= (newest.time, newest.order))
        { kept.insert(copy.id) }
        return wholeChains(own.filter { !kept.contains($0.id) && $0.condition != .going }, kept: kept, of: copies)
    }

    /// Of good copies, newest first.
    private func kept(_ copies: [Copy], in zone: TimeZone) -> Set<String> {
        enum Mark { case kept, expired }
        var marks: [String: Mark] = [:]
        func keep(_ count: Int?, period: (_ copy: Copy) -> Int) {
            guard let count else { return }
            let periods = copies.map(period)
            let covered = Set(zip(copies, periods).filter { marks[$0.0.id] == .kept }.map(\.1))
            var chosen: Set<Int> = []
            for (copy, period) in zip(copies, periods) where marks[copy.id] == nil && !covered.contains(period) {
                if chosen.contains(period) {
                    marks[copy.id] = .expired
                } else if chosen.count < count {
                    chosen.insert(period)
                    marks[copy.id] = .kept
                } else {
                    return
                }
            }
        }
        for copy in copies.prefix(last ?? 0) { marks[copy.id] = .kept }
        func date(_ copy: Copy) -> CivilDate { zone.day(of: copy.time).date }
        keep(hourly) { date($0).day * 24 + zone.day(of: $0.time).second / 3600 }
        keep(daily) { date($0).day }
        keep(weekly) { date($0).monday.day }
        keep(monthly) { date($0).components.year * 12 + date($0).components.month }
        keep(yearly) { date($0).components.year }
        if let within, let newest = copies.first {
            let start = within.before(newest.time, in: zone)
            for copy in copies where copy.time >= start { marks[copy.id] = .kept }
        }
        var kept = Set(copies.map(\.id).filter { marks[$0] == .kept })
        for copy in copies where kept.count < max(minimum, 1) { kept.insert(copy.id) }
        return kept
    }

    /// Of those that are not kept, the ones that no kept or foreign copy rests on or belongs to, the resting ones first.
    private func wholeChains(_ candidates: [Copy], kept: Set<String>, of copies: [Copy]) -> [String] {
        guard !candidates.isEmpty else { return [] }
        let byID = Dictionary(copies.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
        /// The full copy that each chain begins with, as far as it is there, and how many are between.
        var roots: [String: (id: String, depth: Int)] = [:]
        for copy in copies {
            // Those on the way to one whose root is known. Copies that rest on one another in a circle were never made.
            var path = [copy]
            while let last = path.last, roots[last.id] == nil, let parent = last.restsOn.flatMap({ byID[$0] }), path.count <= copies.count {
                path.append(parent)
            }
            for copy in path.reversed() where roots[copy.id] == nil {
                roots[copy.id] = copy.restsOn.flatMap { roots[$0] }.map { ($0.id, $0.depth + 1) } ?? (copy.id, 0)
            }
        }
        // A chain with a copy that is kept is needed whole.
        let needed = Set(copies.filter { $0.isOfPolicy && kept.contains($0.id) }.compactMap { roots[$0.id]?.id })
        // What somebody else's copy rests on, that one's own makers delete.
        var carried: Set<String> = []
        for copy in copies where !copy.isOfPolicy {
            var next = copy.restsOn
            while let id = next, carried.insert(id).inserted { next = byID[id]?.restsOn }
        }
        return candidates.filter { !needed.contains(roots[$0.id]?.id ?? "") && !carried.contains($0.id) }
            .sorted { (roots[$0.id]?.depth ?? 0, $0.time, $0.order) > (roots[$1.id]?.depth ?? 0, $1.time, $1.order) }.map(\.id)
    }
}

extension Retention {
    /// When an increment is made, and when a full copy.
    public enum Increments: String, Sendable, CaseIterable { case auto, always, never }

    /// Copies of a chain that `auto` goes on with where nothing else ends it.
    static let longestChain = 1000

    /// Whether the next copy is to be a full one. `auto` begins anew where the chain that it would go on with has a copy that is kept no
    /// longer, since chains are deleted whole; with `fullEvery`, where it has so many. No chain becomes longer than can be read. Copies that need
    /// no other one are made as increments, however many there are.
    public func wantsFull(_ increments: Increments, fullEvery: Int?, after copies: [Copy], in zone: TimeZone) -> Bool {
        guard increments != .never else { return true }
        let good = copies.filter { $0.condition == .good }.sorted { ($0.time, $0.order) > ($1.time, $1.order) }
        guard let newest = good.first else { return true }
        let byID = Dictionary(copies.map { ($0.id, $0) }, uniquingKeysWith: { $1 })
        var chain = [newest]
        while let parent = chain.last?.parent.flatMap({ byID[$0] }), chain.count <= copies.count { chain.append(parent) }
        let isTooLong = newest.needsParent && chain.count >= (increments == .auto ? Self.longestChain : Backups.longestChain)
        guard increments == .auto else { return isTooLong }
        if let fullEvery { return chain.count >= fullEvery }
        // What needs no other one is deleted without it.
        guard newest.needsParent, isLimited else { return isTooLong }
        if isTooLong { return true }
        let kept = kept(good.filter(\.isOfPolicy), in: zone)
        return chain.contains { $0.isOfPolicy && !kept.contains($0.id) }
    }
}
