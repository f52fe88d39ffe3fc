import Primitives

/// The clock of a place: how far it is from UTC, and when that changes. Times are seconds since 1970; a local time is the number that its
/// clock would show if it counted the same way.
public struct TimeZone: Sendable {
    /// As it is asked for: `Europe/Berlin`.
    public let name: String
    let rules: TimeZoneRules

    public static let utc = TimeZone(name: "UTC", rules: TimeZoneRules(transitions: [], first: 0, last: .fixed(0)))

    /// Seconds east of UTC at a moment.
    public func offset(at time: Int) -> Int { rules.offset(at: time) }

    public func local(_ time: Int) -> Int { time + offset(at: time) }

    /// The local day of a moment, and the second of the day.
    public func day(of time: Int) -> (date: CivilDate, second: Int) {
        let local = local(time)
        return (CivilDate(day: local.floorDivided(by: 86_400)), local.floorRemainder(by: 86_400))
    }

    /// The moments at which a clock shows a local time.
    public enum Moments: Sendable, Equatable {
        case once(Int)
        /// The clock passes over it, at that moment.
        case never(passedAt: Int)
        /// The clock is put back, and shows it again.
        case twice(Int, Int)

        /// The first of them, or when it is passed over.
        public var first: Int {
            switch self {
            case .once(let time), .never(let time), .twice(let time, _): time
            }
        }
    }

    public func moments(ofLocal local: Int) -> Moments {
        // No zone changes its clock twice within two days.
        let before = offset(at: local - 86_400)
        let after = offset(at: local + 86_400)
        let isBefore = offset(at: local - before) == before
        let isAfter = offset(at: local - after) == after
        if isBefore, isAfter, before != after { return .twice(min(local - before, local - after), max(local - before, local - after)) }
        if isBefore { return .once(local - before) }
        if isAfter { return .once(local - after) }
        // Between them the clock was put forward: the moment is found by halves.
        var (low, high) = (local - max(before, after), local - min(before, after))
        let old = offset(at: low)
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if offset(at: middle) == old { low = middle } else { high = middle }
        }
        return .never(passedAt: high)
    }
}

extension TimeZone {
    private static let directory = "/usr/share/zoneinfo"
    private static let known = Guarded<[String: TimeZone]>([:])

    /// The zone of that name in the system's database of time zones; nil if it has none. UTC is known without it.
    public static func named(_ name: String) -> TimeZone? {
        if ["UTC", "Etc/UTC"].contains(name) { return utc }
        guard isName(name) else { return nil }
        if let zone = known.withLock({ $0[name] }) { return zone }
        guard let data = ZoneFile.read(directory + "/" + name), let rules = TimeZoneRules(tzif: data) else { return nil }
        let zone = TimeZone(name: name, rules: rules)
        known.withLock { $0[name] = zone }
        return zone
    }

    /// Words of letters, digits, `_`, `+` and `-`, that begin with a letter, with `/` between them: never a path that leads elsewhere.
    private static func isName(_ name: String) -> Bool {
        guard (1...64).contains(name.utf8.count) else { return false }
        return name.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).allSatisfy { word in
            guard let first = word.first, first.isLetter else { return false }
            return word.allSatisfy { $0.isLetter || $0.isDigit || [UInt8(ascii: "_"), UInt8(ascii: "+"), UInt8(ascii: "-")].contains($0) }
        }
    }
}

extension UInt8 {
    var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    var isLetter: Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(self)
    }
}
