/// Standard and daylight-saving time by a rule that is the same each year.
struct YearlyChange: Sendable {
    /// A day of each year, and seconds since its midnight.
    struct Moment: Sendable {
        enum Day: Sendable {
            /// The n-th such weekday of the month; 5 is the last.
            case weekday(month: Int, week: Int, weekday: Int)
            /// 1 to 365, as if there were no 29 February.
            case withoutLeapDay(Int)
            /// 0 to 365.
            case ofYear(Int)
        }
        let day: Day
        let seconds: Int

        /// By a clock that shows `offset`, in the year.
        func time(in year: Int, offset: Int) -> Int { date(in: year).day * 86_400 + seconds - offset }

        private func date(in year: Int) -> CivilDate {
            switch day {
            case .weekday(let month, let week, let weekday):
                let first = CivilDate(year, month, 1)
                let day = 1 + (weekday - first.weekday + 7) % 7 + (week - 1) * 7
                return CivilDate(year, month, day > CivilDate.days(in: month, of: year) ? day - 7 : day)
            case .withoutLeapDay(let day):
                return CivilDate(day: CivilDate(year, 1, 1).day + day - 1 + (CivilDate.isLeap(year) && day >= 60 ? 1 : 0))
            case .ofYear(let day): return CivilDate(day: CivilDate(year, 1, 1).day + day)
            }
        }
    }

    /// Seconds east of UTC.
    let standard, daylight: Int
    let begin, end: Moment

    func offset(at time: Int) -> Int {
        let year = CivilDate(day: (time + standard).floorDivided(by: 86_400)).components.year
        // A change near the turn of the year may be said in the next or the last one.
        var latest: (time: Int, offset: Int)?
        for year in year - 1...year + 1 {
            for change in [(begin.time(in: year, offset: standard), daylight), (end.time(in: year, offset: daylight), standard)]
            where change.0 <= time && change.0 >= latest?.time ?? .min { latest = change }
        }
        return latest?.offset ?? standard
    }
}

extension TimeZoneRules.Rest {
    /// As POSIX writes it in TZ: `CET-1CEST,M3.5.0,M10.5.0/3`; nil if it is not written so.
    init?(posix text: String) {
        var reader = PosixReader(text)
        guard reader.name(), let standard = reader.offset() else { return nil }
        if reader.isAtEnd {
            self = .fixed(standard)
            return
        }
        guard reader.name() else { return nil }
        var daylight = standard + 3600
        if !reader.has(",") {
            guard let offset = reader.offset() else { return nil }
            daylight = offset
        }
        guard reader.take(","), let begin = reader.moment(), reader.take(","), let end = reader.moment(), reader.isAtEnd else { return nil }
        self = .yearly(YearlyChange(standard: standard, daylight: daylight, begin: begin, end: end))
    }
}

private struct PosixReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ text: String) { bytes = Array(text.utf8) }

    var isAtEnd: Bool { position == bytes.count }
    func has(_ mark: Unicode.Scalar) -> Bool { position < bytes.count && bytes[position] == UInt8(ascii: mark) }

    mutating func take(_ mark: Unicode.Scalar) -> Bool {
        guard has(mark) else { return false }
        position += 1
        return true
    }

    /// Three letters and more, or anything between angle brackets.
    mutating func name() -> Bool {
        let start = position
        if take("<") {
            while position < bytes.count, !has(">") { position += 1 }
            return take(">") && position - start > 2
        }
        while position < bytes.count, bytes[position].isLetter { position += 1 }
        return position - start >= 3
    }

    private mutating func number(_ range: ClosedRange<Int>) -> Int? {
        var value = 0
        var count = 0
        while position < bytes.count, bytes[position].isDigit, count < 4 {
            value = value * 10 + Int(bytes[position]) - 48
            position += 1
            count += 1
        }
        return count > 0 && range.contains(value) ? value : nil
    }

    /// `hh[:mm[:ss]]`, with a sign before it.
    private mutating func seconds(hours most: Int) -> Int? {
        let isNegative = take("-")
        if !isNegative { _ = take("+") }
        guard let hours = number(0...most) else { return nil }
        var seconds = hours * 3600
        if take(":") {
            guard let minutes = number(0...59) else { return nil }
            seconds += minutes * 60
            if take(":") {
                guard let rest = number(0...59) else { return nil }
                seconds += rest
            }
        }
        return isNegative ? -seconds : seconds
    }

    /// Seconds east of UTC; POSIX counts them to the west.
    mutating func offset() -> Int? { seconds(hours: 24).map { -$0 } }

    mutating func moment() -> YearlyChange.Moment? {
        let day: YearlyChange.Moment.Day
        if take("M") {
            guard let month = number(1...12), take("."), let week = number(1...5), take("."), let weekday = number(0...6) else {
                return nil
            }
            day = .weekday(month: month, week: week, weekday: weekday)
        } else if take("J") {
            guard let number = number(1...365) else { return nil }
            day = .withoutLeapDay(number)
        } else {
            guard let number = number(0...365) else { return nil }
            day = .ofYear(number)
        }
        guard take("/") else { return YearlyChange.Moment(day: day, seconds: 7200) }
        // RFC 8536 lets them lie up to a week away.
        guard let seconds = seconds(hours: 167) else { return nil }
        return YearlyChange.Moment(day: day, seconds: seconds)
    }
}
