/// When something comes again and again, as cron's tables say it: minute, hour, day of the month, month, day of the week.
///
/// Each field is `*`, a number, a range `1-5`, a list `1,3,5-7`, or one of these with a step: `*/15`, `9-17/2`, `3/10` (from 3 on). Months
/// and days of the week may be named by their first three letters; Sunday is 0 and 7. Where both the day of the month and the day of the week are
/// limited, one of them is enough, as in cron.
public struct CronExpression: Sendable {
    /// Why a text is no expression: the rule that it breaks.
    public struct Problem: Error, Sendable, Equatable {
        public let text: String
    }

    let minutes, hours, daysOfMonth, months, weekdays: UInt64
    let limitsDays, limitsWeekdays: Bool
    /// Every hour: such a schedule counts on when clocks are changed.
    let isEveryHour: Bool

    private struct FieldRule {
        let name: String
        let range: ClosedRange<Int>
        var names: [String] = []
        /// Of the first name.
        var firstName = 0
    }

    private static let fields = [
        FieldRule(name: "minute", range: 0...59), FieldRule(name: "hour", range: 0...23),
        FieldRule(name: "day of the month", range: 1...31),
        FieldRule(
            name: "month", range: 1...12,
            names: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], firstName: 1),
        FieldRule(name: "day of the week", range: 0...7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ]

    /// Nobody writes a longer one by hand.
    public static let longest = 255

    public init(_ text: String) throws(Problem) {
        guard text.utf8.count <= Self.longest else { throw Problem(text: "it has more than \(Self.longest) bytes") }
        let words = text.utf8.split { $0 == 32 || $0 == 9 }.map { String(decoding: $0, as: UTF8.self) }
        guard words.count == Self.fields.count else {
            throw Problem(
                text: "it has \(words.count) fields instead of 5: minute, hour, day of the month, month, day of the week")
        }
        var sets: [UInt64] = []
        for (word, rule) in zip(words, Self.fields) { sets.append(try Self.read(word, rule)) }
        if sets[4] & 1 << 7 != 0 { sets[4] = (sets[4] | 1) & ~(1 << 7) }
        minutes = sets[0]
        hours = sets[1]
        daysOfMonth = sets[2]
        months = sets[3]
        weekdays = sets[4]
        // As in cron, what begins with a star limits nothing by itself.
        limitsDays = !words[2].hasPrefix("*")
        limitsWeekdays = !words[4].hasPrefix("*")
        isEveryHour = hours == (1 << 24) - 1
        guard everComes else { throw Problem(text: "it never comes: no month of it has such a day") }
    }

    /// A day of the month that every month of the set lacks comes never, unless a day of the week is enough.
    private var everComes: Bool {
        if limitsDays, limitsWeekdays { return true }
        return (1...12).contains { month in
            months & 1 << UInt64(month) != 0
                && (1...CivilDate.days(in: month, of: 2000)).contains { daysOfMonth & 1 << UInt64($0) != 0 }
        }
    }

    private static func read(_ word: String, _ rule: FieldRule) throws(Problem) -> UInt64 {
        var set: UInt64 = 0
        for item in word.split(separator: ",", omittingEmptySubsequences: false) {
            let parts = item.split(separator: "/", omittingEmptySubsequences: false)
            var step = 1
            if parts.count > 1 {
                guard parts.count == 2, let number = decimal(parts[1]), (1...rule.range.upperBound).contains(number) else {
                    throw Problem(text: "the \(rule.name)'s step '\(item)' is no number from 1 to \(rule.range.upperBound)")
                }
                step = number
            }
            var range = rule.range
            if parts[0] != "*" {
                let ends = parts[0].split(separator: "-", omittingEmptySubsequences: false)
                let first = try value(ends[0], rule)
                guard ends.count <= 2 else { throw Problem(text: "the \(rule.name) '\(item)' is no range") }
                let last = ends.count == 2 ? try value(ends[1], rule) : parts.count > 1 ? rule.range.upperBound : first
                guard first <= last else { throw Problem(text: "the \(rule.name)'s range '\(item)' ends before it begins") }
                range = first...last
            } else if rule.name == "day of the week" {
                // Sunday once.
                range = 0...6
            }
            for number in stride(from: range.lowerBound, through: range.upperBound, by: step) { set |= 1 << UInt64(number) }
        }
        return set
    }

    private static func value(_ text: Substring, _ rule: FieldRule) throws(Problem) -> Int {
        if let place = rule.names.firstIndex(of: text.lowercased()) { return rule.firstName + place }
        guard let number = decimal(text), rule.range.contains(number) else {
            let names = rule.names.isEmpty ? "" : ", and none of \(rule.names.joined(separator: ", "))"
            throw Problem(
                text: "the \(rule.name) '\(text)' is no number from \(rule.range.lowerBound) to \(rule.range.upperBound)\(names)")
        }
        return number
    }

    private static func decimal(_ text: Substring) -> Int? {
        (1...4).contains(text.utf8.count) && text.utf8.allSatisfy(\.isDigit) ? Int(text) : nil
    }

    func isOn(_ date: CivilDate) -> Bool {
        let (_, month, day) = date.components
        guard months & 1 << UInt64(month) != 0 else { return false }
        let isDay = daysOfMonth & 1 << UInt64(day) != 0
        let isWeekday = weekdays & 1 << UInt64(date.weekday) != 0
        return limitsDays && limitsWeekdays ? isDay || isWeekday : isDay && isWeekday
    }
}
