import Testing

@testable import Calendar

@Suite("Cron expressions")
struct CronExpressionTests {
    private func set(_ bits: UInt64) -> [Int] { (0..<64).filter { bits & 1 << UInt64($0) != 0 } }

    @Test(
        "each form of a field stands for its numbers",
        arguments: [
            ("*", Array(0..<60)), ("5", [5]), ("5-8", [5, 6, 7, 8]), ("1,3,5-7", [1, 3, 5, 6, 7]), ("*/15", [0, 15, 30, 45]),
            ("10-20/5", [10, 15, 20]), ("50/3", [50, 53, 56, 59]), ("0,0,0", [0]), ("59", [59]), ("07", [7]), ("*/59", [0, 59]),
        ])
    func forms(field: String, expected: [Int]) throws { #expect(set(try CronExpression("\(field) * * * *").minutes) == expected) }

    @Test("months and days of the week have names, in any case of letters, and Sunday is 0 and 7")
    func names() throws {
        let named = try CronExpression("0 0 * JAN-mar,dec Mon-FRI")
        #expect(set(named.months) == [1, 2, 3, 12])
        #expect(set(named.weekdays) == [1, 2, 3, 4, 5])
        #expect(set(try CronExpression("0 0 * * 7").weekdays) == [0])
        #expect(set(try CronExpression("0 0 * * 5-7").weekdays) == [0, 5, 6])
        #expect(set(try CronExpression("0 0 * * */2").weekdays) == [0, 2, 4, 6])
        #expect(set(try CronExpression("0 0 * * sun").weekdays) == [0])
    }

    @Test(
        "what is no expression is refused with the rule that it breaks",
        arguments: [
            ("", "it has 0 fields instead of 5: minute, hour, day of the month, month, day of the week"),
            ("* * * *", "it has 4 fields instead of 5: minute, hour, day of the month, month, day of the week"),
            ("* * * * * *", "it has 6 fields instead of 5: minute, hour, day of the month, month, day of the week"),
            ("@daily", "it has 1 fields instead of 5: minute, hour, day of the month, month, day of the week"),
            ("60 * * * *", "the minute '60' is no number from 0 to 59"), ("* 24 * * *", "the hour '24' is no number from 0 to 23"),
            ("* * 0 * *", "the day of the month '0' is no number from 1 to 31"),
            (
                "* * * 13 *",
                "the month '13' is no number from 1 to 12, and none of jan, feb, mar, apr, may, jun, jul, aug, sep, oct, nov, dec"
            ),
            (
                "* * * * 8",
                "the day of the week '8' is no number from 0 to 7, and none of sun, mon, tue, wed, thu, fri, sat"
            ),
            ("-1 * * * *", "the minute '' is no number from 0 to 59"), ("1, * * * *", "the minute '' is no number from 0 to 59"),
            ("9-5 * * * *", "the minute's range '9-5' ends before it begins"), ("1-2-3 * * * *", "the minute '1-2-3' is no range"),
            ("*/0 * * * *", "the minute's step '*/0' is no number from 1 to 59"),
            ("*/60 * * * *", "the minute's step '*/60' is no number from 1 to 59"),
            ("*/ * * * *", "the minute's step '*/' is no number from 1 to 59"),
            ("1/2/3 * * * *", "the minute's step '1/2/3' is no number from 1 to 59"),
            ("١ * * * *", "the minute '١' is no number from 0 to 59"),
            ("99999999999999999999 * * * *", "the minute '99999999999999999999' is no number from 0 to 59"),
            ("0 0 30 2 *", "it never comes: no month of it has such a day"),
            ("0 0 31 4,6,9,11 *", "it never comes: no month of it has such a day"),
        ])
    func problems(text: String, rule: String) { #expect(throws: CronExpression.Problem(text: rule)) { try CronExpression(text) } }

    @Test("one that is longer than anybody writes is refused unread")
    func length() {
        let long = "* * * * " + String(repeating: "1,", count: 200) + "1"
        #expect(throws: CronExpression.Problem(text: "it has more than 255 bytes")) { try CronExpression(long) }
    }

    @Test("29 February comes, and 30 February does where a day of the week is enough")
    func rare() throws {
        var leap = CronTimes(try CronExpression("0 0 29 2 *"), in: .utc, after: 0)
        #expect(leap.next() == CivilDate(1972, 2, 29).day * 86_400)
        var century = CronTimes(try CronExpression("0 0 29 2 *"), in: .utc, after: CivilDate(2096, 3, 1).day * 86_400)
        #expect(century.next() == CivilDate(2104, 2, 29).day * 86_400)
        var either = CronTimes(try CronExpression("0 0 30 2 mon"), in: .utc, after: CivilDate(2026, 1, 1).day * 86_400)
        #expect(either.next() == CivilDate(2026, 2, 2).day * 86_400)
    }

    @Test("a day of the month and a day of the week are joined by or, with a star by and")
    func days() throws {
        let either = try CronExpression("0 0 13 * fri")
        #expect(either.isOn(CivilDate(2026, 11, 13)))
        #expect(either.isOn(CivilDate(2026, 11, 6)))
        #expect(either.isOn(CivilDate(2026, 12, 13)))
        #expect(!either.isOn(CivilDate(2026, 11, 12)))
        let both = try CronExpression("0 0 */2 * fri")
        #expect(both.isOn(CivilDate(2026, 11, 13)))
        #expect(!both.isOn(CivilDate(2026, 11, 6)))
        #expect(!both.isOn(CivilDate(2026, 11, 15)))
    }
}
