import Testing

@testable import Calendar

@Suite("Dates, time zones, windows and spans")
struct TimeZoneTests {
    static func time(_ year: Int, _ month: Int, _ day: Int, _ hour: Int = 0, _ minute: Int = 0) -> Int {
        CivilDate(year, month, day).day * 86_400 + hour * 3600 + minute * 60
    }

    @Test("every day from 1890 to 2110 is the day after the one before, and is read back")
    func days() {
        var (year, month, day) = (1890, 1, 1)
        var number = CivilDate(1890, 1, 1).day
        while year < 2110 {
            let date = CivilDate(day: number)
            let parts = date.components
            guard parts.year == year, parts.month == month, parts.day == day, CivilDate(year, month, day) == date else {
                Issue.record("\(year)-\(month)-\(day) is \(parts)")
                return
            }
            day += 1
            if day > CivilDate.days(in: month, of: year) { (month, day) = (month + 1, 1) }
            if month > 12 { (year, month) = (year + 1, 1) }
            number += 1
        }
        #expect(CivilDate(1970, 1, 1).weekday == 4)
        #expect(CivilDate(2026, 11, 30).weekday == 1)
        #expect(CivilDate(2026, 11, 29).monday == CivilDate(2026, 11, 23))
    }

    @Test("months are added, to the last day where there is no such one")
    func months() {
        #expect(CivilDate(2026, 3, 31).adding(months: -1) == CivilDate(2026, 2, 28))
        #expect(CivilDate(2024, 3, 31).adding(months: -1) == CivilDate(2024, 2, 29))
        #expect(CivilDate(2026, 1, 15).adding(months: -1) == CivilDate(2025, 12, 15))
        #expect(CivilDate(2026, 12, 1).adding(months: 1) == CivilDate(2027, 1, 1))
    }

    /// Of RFC 8536's own form: no file of the system is asked.
    private func zone(_ posix: String) throws -> TimeZone {
        let rest = try #require(TimeZoneRules.Rest(posix: posix))
        return TimeZone(name: posix, rules: TimeZoneRules(transitions: [], first: 0, last: rest))
    }

    @Test("a rule of POSIX gives the offset on both sides of each change")
    func rules() throws {
        let berlin = try zone("CET-1CEST,M3.5.0,M10.5.0/3")
        #expect(berlin.offset(at: Self.time(2026, 3, 29, 1) - 1) == 3600)
        #expect(berlin.offset(at: Self.time(2026, 3, 29, 1)) == 7200)
        #expect(berlin.offset(at: Self.time(2026, 10, 25, 1) - 1) == 7200)
        #expect(berlin.offset(at: Self.time(2026, 10, 25, 1)) == 3600)
        // South of the equator summer goes over the turn of the year.
        let sydney = try zone("AEST-10AEDT,M10.1.0,M4.1.0/3")
        #expect(sydney.offset(at: Self.time(2026, 1, 1)) == 39_600)
        #expect(sydney.offset(at: Self.time(2026, 7, 1)) == 36_000)
        #expect(sydney.offset(at: Self.time(2026, 12, 31, 23)) == 39_600)
        // Dublin's winter is the daylight time, with less than the standard.
        let dublin = try zone("IST-1GMT0,M10.5.0,M3.5.0/1")
        #expect(dublin.offset(at: Self.time(2026, 7, 1)) == 3600)
        #expect(dublin.offset(at: Self.time(2026, 1, 1)) == 0)
        // Changes on the day before, and numbered days.
        let nuuk = try zone("<-02>2<-01>,M3.5.0/-1,M10.5.0/0")
        #expect(nuuk.offset(at: Self.time(2026, 3, 29, 1) - 1) == -7200)
        #expect(nuuk.offset(at: Self.time(2026, 3, 29, 1)) == -3600)
        let numbered = try zone("AAA0BBB,J60/0,300/0")
        #expect(numbered.offset(at: Self.time(2024, 3, 1) - 1) == 0)
        #expect(numbered.offset(at: Self.time(2024, 3, 1)) == 3600)
        #expect(numbered.offset(at: Self.time(2026, 3, 1)) == 3600)
        #expect(try zone("<+0545>-5:45").offset(at: 0) == 20_700)
    }

    @Test(
        "what POSIX does not write is no rule",
        arguments: [
            "", "C", "CET", "CET-25", "CET-1CEST", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0",
            "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,M3.5.0,M10.5.0/168", "CET-1CEST,J0,J366", "<>-1", "<+03-3", "CET-1CEST,M3.5.0,M10.5.0x",
        ])
    func noRules(text: String) { #expect(TimeZoneRules.Rest(posix: text) == nil) }

    @Test("a time that is not there and one that is there twice are known as such")
    func oddTimes() throws {
        let berlin = try zone("CET-1CEST,M3.5.0,M10.5.0/3")
        let gap = Self.time(2026, 3, 29, 1)
        #expect(berlin.moments(ofLocal: Self.time(2026, 3, 29, 2, 30)) == .never(passedAt: gap))
        #expect(berlin.moments(ofLocal: Self.time(2026, 3, 29, 2)) == .never(passedAt: gap))
        #expect(berlin.moments(ofLocal: Self.time(2026, 3, 29, 3)) == .once(gap))
        #expect(berlin.moments(ofLocal: Self.time(2026, 3, 29, 1, 59)) == .once(gap - 60))
        let back = Self.time(2026, 10, 25, 0)
        #expect(berlin.moments(ofLocal: Self.time(2026, 10, 25, 2, 30)) == .twice(back + 1800, back + 5400))
        #expect(berlin.moments(ofLocal: Self.time(2026, 10, 25, 3)) == .once(back + 7200))
    }

    @Test(
        "of every half hour of two years the local time leads back to the moment",
        arguments: ["CET-1CEST,M3.5.0,M10.5.0/3", "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"])
    func roundTrip(posix: String) throws {
        let zone = try zone(posix)
        for time in stride(from: Self.time(2020, 1, 1), to: Self.time(2022, 1, 1), by: 1800) {
            switch zone.moments(ofLocal: zone.local(time)) {
            case .once(let moment): if moment != time { Issue.record("\(time) is \(moment)") }
            case .twice(let first, let second): if ![first, second].contains(time) { Issue.record("\(time) is \(first), \(second)") }
            case .never: Issue.record("\(time) is said not to be")
            }
        }
    }

    @Test("a name is no path, and UTC is known everywhere")
    func names() {
        for name in [
            "", "../etc/passwd", "/etc/passwd", "Europe/../../etc/passwd", "Europe//Berlin", ".", "Europe/", "Europe", "Nowhere/Never",
            "posixrules\0x", "tzdata.zi", String(repeating: "a", count: 65), "zone1970.tab", "+VERSION",
        ] { #expect(TimeZone.named(name) == nil, "\(name)") }
        #expect(TimeZone.named("UTC")?.offset(at: 0) == 0)
    }

    @Test("files that are cut off or changed anywhere are refused or give some zone, and nothing traps")
    func hostileFiles() throws {
        let file = Self.file(transitions: [(0, 1), (1_000_000, 0)], footer: "CET-1CEST,M3.5.0,M10.5.0/3")
        let rules = try #require(TimeZoneRules(tzif: file))
        #expect(rules.offset(at: -1) == 3600)
        #expect(rules.offset(at: 0) == 7200)
        #expect(rules.offset(at: 999_999) == 7200)
        #expect(rules.offset(at: 1_000_000) == 3600)
        #expect(rules.offset(at: Self.time(2026, 7, 1)) == 7200)
        for length in 0..<file.count - 1 {
            // Without the footer what was last goes on.
            if let cut = TimeZoneRules(tzif: Array(file[..<length])) { #expect(cut.transitions.count == 2) }
        }
        for index in file.indices {
            for value in [0, 0x7F, 0x80, 0xFF] as [UInt8] {
                var changed = file
                changed[index] = value
                if let rules = TimeZoneRules(tzif: changed) { _ = rules.offset(at: 5) }
            }
        }
    }

    /// A file of version 2 with two types, an hour and two hours.
    private static func file(transitions: [(time: Int, type: UInt8)], footer: String) -> [UInt8] {
        func number(_ value: Int, _ width: Int) -> [UInt8] { (0..<width).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        func header(_ times: Int, _ types: Int) -> [UInt8] {
            Array("TZif2".utf8) + [UInt8](repeating: 0, count: 15) + [0, 0, 0, times, types, 4].flatMap { number($0, 4) }
        }
        let types = number(3600, 4) + [0, 0] + number(7200, 4) + [1, 0]
        return header(0, 2) + types + Array("AAA\0".utf8) + header(transitions.count, 2) + transitions.flatMap { number($0.time, 8) }
            + transitions.map(\.type) + types + Array("AAA\0\n".utf8) + Array(footer.utf8) + [10]
    }

    @Test("a window admits what falls in it, and has the rest wait for its beginning")
    func window() throws {
        let night = try #require(DailyWindow(start: 22 * 3600, end: 6 * 3600))
        let noon = Self.time(2026, 11, 30, 12)
        #expect(night.admitted(noon, in: .utc) == Self.time(2026, 11, 30, 22))
        #expect(night.admitted(Self.time(2026, 11, 30, 23), in: .utc) == Self.time(2026, 11, 30, 23))
        #expect(night.admitted(Self.time(2026, 11, 30, 5, 59), in: .utc) == Self.time(2026, 11, 30, 5, 59))
        #expect(night.admitted(Self.time(2026, 11, 30, 6), in: .utc) == Self.time(2026, 11, 30, 22))
        let day = try #require(DailyWindow(start: 8 * 3600, end: 9 * 3600))
        #expect(day.admitted(noon, in: .utc) == Self.time(2026, 12, 1, 8))
        #expect(DailyWindow(start: 5, end: 5) == nil)
        // One that the clock passes over begins when it does.
        let berlin = try zone("CET-1CEST,M3.5.0,M10.5.0/3")
        let gap = try #require(DailyWindow(start: 2 * 3600 + 900, end: 4 * 3600))
        #expect(gap.admitted(Self.time(2026, 3, 29, 0), in: berlin) == Self.time(2026, 3, 29, 1))
        #expect(DailyWindow.seconds("23:59") == 86_340)
        for text in ["", "24:00", "1:00", "01:60", "01-00", "01:00:00", "aa:bb"] { #expect(DailyWindow.seconds(text) == nil, "\(text)") }
    }

    @Test("spans are read as ISO 8601 writes them, and counted back by the clock on the wall")
    func spans() throws {
        let now = Self.time(2026, 3, 31, 12)
        #expect(CalendarSpan("P1M")?.before(now, in: .utc) == Self.time(2026, 2, 28, 12))
        #expect(CalendarSpan("P1Y2M10DT2H30M")?.before(now, in: .utc) == Self.time(2025, 1, 21, 9, 30))
        #expect(CalendarSpan("P2W")?.before(now, in: .utc) == Self.time(2026, 3, 17, 12))
        #expect(CalendarSpan("PT36H")?.before(now, in: .utc) == Self.time(2026, 3, 30))
        let berlin = try zone("CET-1CEST,M3.5.0,M10.5.0/3")
        #expect(CalendarSpan("P1D")?.before(Self.time(2026, 3, 29, 10), in: berlin) == Self.time(2026, 3, 28, 11))
        for text in [
            "", "P", "PT", "P1", "1D", "P1H", "PT1D", "P1D1M", "P1D2D", "P-1D", "P1.5D", "P0D", "P1DT", "P1201M", "P99999999D",
            "P1Y1Y", "p1d", "PT1M1H",
        ] { #expect(CalendarSpan(text) == nil, "\(text)") }
    }
}
