import Testing

@testable import Calendar

@Suite("Moments of a schedule")
struct CronTimesTests {
    private func zone(_ posix: String) throws -> TimeZone {
        TimeZone(name: posix, rules: TimeZoneRules(transitions: [], first: 0, last: try #require(TimeZoneRules.Rest(posix: posix))))
    }

    private func berlin() throws -> TimeZone { try zone("CET-1CEST,M3.5.0,M10.5.0/3") }

    /// As the clock in UTC shows them: day, hour, minute.
    private func times(_ text: String, in zone: TimeZone, from start: Int, to end: Int) throws -> [String] {
        CronTimes(try CronExpression(text), in: zone, after: start - 1).prefix { $0 < end }.map { time in
            let (date, second) = TimeZone.utc.day(of: time)
            func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
            return "\(two(date.components.day)) \(two(second / 3600)):\(two(second / 60 % 60))"
        }
    }

    private func time(_ month: Int, _ day: Int, _ hour: Int = 0) -> Int { TimeZoneTests.time(2026, month, day, hour) }

    @Test("a schedule of certain hours follows the clock on the wall over a change")
    func wall() throws {
        #expect(
            try times("0 4 * * *", in: berlin(), from: time(3, 27), to: time(3, 31)) == ["27 03:00", "28 03:00", "29 02:00", "30 02:00"])
        #expect(
            try times("0 4 * * *", in: berlin(), from: time(10, 24), to: time(10, 27)) == ["24 02:00", "25 03:00", "26 03:00"])
    }

    @Test("a time that the clock passes over comes when it does, and several such times come together once")
    func gap() throws {
        #expect(try times("30 2 * * *", in: berlin(), from: time(3, 28), to: time(3, 31)) == ["28 01:30", "29 01:00", "30 00:30"])
        #expect(
            try times("0,20,40 2 * * *", in: berlin(), from: time(3, 29), to: time(3, 30)) == ["29 01:00"])
        // One at the end of the gap is the same moment.
        #expect(try times("30 2,3 * * *", in: berlin(), from: time(3, 29), to: time(3, 30)) == ["29 01:00", "29 01:30"])
        #expect(try times("0 2,3 * * *", in: berlin(), from: time(3, 29), to: time(3, 30)) == ["29 01:00"])
    }

    @Test("a time that the clock shows twice comes the first time, wherever one begins to look")
    func twice() throws {
        #expect(try times("30 2 * * *", in: berlin(), from: time(10, 24), to: time(10, 27)) == ["24 00:30", "25 00:30", "26 01:30"])
        // Between the two, and behind both.
        #expect(try times("30 2 * * *", in: berlin(), from: time(10, 25, 1), to: time(10, 27)) == ["26 01:30"])
        #expect(try times("30 2 * * *", in: berlin(), from: time(10, 25, 2), to: time(10, 27)) == ["26 01:30"])
    }

    @Test("a schedule of every hour goes on through the hour that is there twice, and makes nothing up for the one that is not")
    func everyHour() throws {
        #expect(
            try times("30 * * * *", in: berlin(), from: time(10, 24, 23), to: time(10, 25, 4))
                == ["24 23:30", "25 00:30", "25 01:30", "25 02:30", "25 03:30"])
        #expect(
            try times("30 * * * *", in: berlin(), from: time(3, 29, 0), to: time(3, 29, 4)) == [
                "29 00:30", "29 01:30", "29 02:30", "29 03:30",
            ])
    }

    @Test("half an hour of change is handled as a whole one")
    func lordHowe() throws {
        let zone = try zone("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0")
        // 02:15 is passed over on 4 October, and is there twice on 5 April.
        #expect(try times("15 2 * * *", in: zone, from: time(10, 2, 12), to: time(10, 5)) == ["02 15:45", "03 15:30", "04 15:15"])
        #expect(try times("45 1 * * *", in: zone, from: time(4, 3, 12), to: time(4, 6)) == ["03 14:45", "04 14:45", "05 15:15"])
    }

    @Test("a day that a place left out is made up for when it is over")
    func samoa() throws {
        let change = TimeZoneTests.time(2011, 12, 30, 10)
        let zone = TimeZone(
            name: "Apia",
            rules: TimeZoneRules(
                transitions: [TimeZoneRules.Transition(time: change, offset: 50_400)], first: -36_000, last: .fixed(50_400)))
        let from = TimeZoneTests.time(2011, 12, 29, 12)
        #expect(
            try times("0 3 * * *", in: zone, from: from, to: from + 3 * 86_400) == ["29 13:00", "30 10:00", "30 13:00", "31 13:00"])
        #expect(try times("0 * 30 12 *", in: zone, from: from, to: from + 3 * 86_400) == ["30 10:00"])
    }

    @Test(
        "the moments of a year ascend, each once, and the next one behind any of them is its follower",
        arguments: ["*/7 1-3 * * *", "0 */5 * * *", "13 * * * *", "30 2 1 * mon", "0,30 2,3 * 3,10 *"])
    func order(text: String) throws {
        let expression = try CronExpression(text)
        for zone in [TimeZone.utc, try berlin(), try zone("AEST-10AEDT,M10.1.0,M4.1.0/3")] {
            let all = Array(CronTimes(expression, in: zone, after: time(1, 1)).prefix { $0 < time(12, 31) })
            #expect(all.count > 12)
            #expect(zip(all, all.dropFirst()).allSatisfy(<))
            // Some of each season, and all around the changes.
            for (number, (time, next)) in zip(all, all.dropFirst()).enumerated()
            where number % 61 == 0 || zone.offset(at: time) != zone.offset(at: next) {
                for moment in [time, next - 1] {
                    var times = CronTimes(expression, in: zone, after: moment)
                    #expect(times.next() == next)
                }
            }
        }
    }
}
