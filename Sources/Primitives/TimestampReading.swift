extension Timestamp {
    /// Parses ISO 8601 as clients write it: a year, a month, a day, a time with or without colons, an offset from UTC.
    ///
    /// - Returns: seconds since 1970; nil if the text is not a time or the date does not exist.
    public static func read(_ text: String) -> Double? {
        var reader = Digits(bytes: Array(text.utf8))
        guard let year = reader.number(4...4), year >= 1 else { return nil }
        var month = 1
        var day = 1
        var time = 0.0
        if !reader.isAtEnd {
            let isDashed = reader.take("-")
            guard let m = reader.number(isDashed ? 1...2 : 2...2) else { return nil }
            month = m
            if reader.isAtEnd {
                // YYYYMM is ambiguous: it could be YYMMDD.
                guard isDashed else { return nil }
            } else {
                let isDashed = reader.take("-")
                guard let d = reader.number(isDashed ? 1...2 : 2...2) else { return nil }
                day = d
                if !reader.isAtEnd {
                    guard reader.take("T") || reader.take(" "), let seconds = reader.timeOfDay() else { return nil }
                    time = seconds
                }
            }
        }
        guard reader.isAtEnd, (1...12).contains(month), (1...days(month, of: year)).contains(day) else { return nil }
        let seconds = Double(daysSince1970(year, month, day)) * 86_400 + time
        // With its offset the time must still lie in the years 1 to 9999.
        guard (-62_135_596_800..<253_402_300_800).contains(seconds) else { return nil }
        return seconds
    }

    private static func days(_ month: Int, of year: Int) -> Int {
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        return [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    }

    /// A cursor over digits and separators.
    private struct Digits {
        let bytes: [UInt8]
        var position = 0

        var isAtEnd: Bool { position == bytes.count }

        mutating func take(_ mark: Unicode.Scalar) -> Bool {
            guard position < bytes.count, bytes[position] == UInt8(ascii: mark) else { return false }
            position += 1
            return true
        }

        mutating func number(_ length: ClosedRange<Int>) -> Int? {
            var value = 0
            var count = 0
            while count < length.upperBound, position < bytes.count, bytes[position] >= 48, bytes[position] <= 57 {
                value = value * 10 + Int(bytes[position] - 48)
                position += 1
                count += 1
            }
            return length.contains(count) ? value : nil
        }

        private var hasDigit: Bool { position < bytes.count && bytes[position] >= 48 && bytes[position] <= 57 }

        /// Seconds since midnight in UTC.
        mutating func timeOfDay() -> Double? {
            guard let hour = number(2...2), hour < 24 else { return nil }
            var minute = 0
            var second = 0.0
            if take(":") || hasDigit {
                guard let m = number(2...2), m < 60 else { return nil }
                minute = m
                if take(":") || hasDigit {
                    guard let s = number(1...2), s < 60 else { return nil }
                    second = Double(s)
                    if take(".") || take(",") {
                        var scale = 0.1
                        guard hasDigit else { return nil }
                        while hasDigit {
                            second += Double(bytes[position] - 48) * scale
                            scale /= 10
                            position += 1
                        }
                    }
                }
            }
            guard let offset = offset() else { return nil }
            return Double(hour * 3600 + minute * 60 - offset) + second
        }

        /// Seconds east of UTC; 0 if the text has no offset.
        private mutating func offset() -> Int? {
            if isAtEnd || take("Z") { return 0 }
            let isWest = take("-")
            guard isWest || take("+"), let hours = number(2...2), hours < 24 else { return nil }
            var minutes = 0
            if take(":") || hasDigit {
                if hasDigit {
                    guard let m = number(2...2), m < 60 else { return nil }
                    minutes = m
                }
            }
            return (hours * 3600 + minutes * 60) * (isWest ? -1 : 1)
        }
    }
}
