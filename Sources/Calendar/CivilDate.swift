/// A day of the Gregorian calendar, in whatever time zone.
public struct CivilDate: Sendable, Hashable, Comparable {
    /// Days since 1 January 1970.
    public let day: Int

    public init(day: Int) { self.day = day }

    /// The day must exist.
    public init(_ year: Int, _ month: Int, _ dayOfMonth: Int) {
        // Days from a civil date: H. Hinnant, "chrono-compatible low-level date algorithms".
        let y = month <= 2 ? year - 1 : year
        let era = y.floorDivided(by: 400)
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + dayOfMonth - 1
        day = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    public var components: (year: Int, month: Int, day: Int) {
        let z = day + 719_468
        let era = z.floorDivided(by: 146_097)
        let dayOfEra = z - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }

    /// 0 is Sunday.
    public var weekday: Int { (day + 4).floorRemainder(by: 7) }

    /// The Monday of the day's week, which names the week.
    public var monday: CivilDate { CivilDate(day: day - (weekday + 6) % 7) }

    /// The same day some months before or after, or the last of that month where it has no such day.
    public func adding(months: Int) -> CivilDate {
        let (year, month, dayOfMonth) = components
        let total = year * 12 + month - 1 + months
        let (y, m) = (total.floorDivided(by: 12), total.floorRemainder(by: 12) + 1)
        return CivilDate(y, m, min(dayOfMonth, Self.days(in: m, of: y)))
    }

    public static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    public static func days(in month: Int, of year: Int) -> Int {
        month == 2 ? (isLeap(year) ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
    }

    public static func < (a: CivilDate, b: CivilDate) -> Bool { a.day < b.day }
}

extension Int {
    /// Divided, and rounded down, by a positive number.
    func floorDivided(by divisor: Int) -> Int { (self >= 0 ? self : self - divisor + 1) / divisor }
    /// What `floorDivided` leaves: 0 and up.
    func floorRemainder(by divisor: Int) -> Int { self - floorDivided(by: divisor) * divisor }
}
