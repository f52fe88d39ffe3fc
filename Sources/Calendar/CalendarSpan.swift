/// A span of time as ISO 8601 writes it: `P30D`, `P1Y6M`, `PT36H`, `P2W`.
public struct CalendarSpan: Sendable, Equatable {
    public let months, days, seconds: Int

    /// A hundred years and more is no span that anything is kept for.
    private static let mostMonths = 1200

    /// nil: it is none, it is empty, or it is longer than a hundred years.
    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard (3...32).contains(bytes.count), bytes[0] == UInt8(ascii: "P") else { return nil }
        var (months, days, seconds) = (0, 0, 0)
        var position = 1
        var isTime = false
        /// What may still come: each unit once, in its order.
        var units = Array("YMWD".utf8)
        while position < bytes.count {
            if bytes[position] == UInt8(ascii: "T"), !isTime, position + 1 < bytes.count {
                isTime = true
                units = Array("HMS".utf8)
                position += 1
                continue
            }
            var number = 0
            let start = position
            while position < bytes.count, bytes[position].isDigit, position - start < 7 {
                number = number * 10 + Int(bytes[position]) - 48
                position += 1
            }
            guard position > start, position < bytes.count, let place = units.firstIndex(of: bytes[position]) else { return nil }
            switch (isTime, units[place]) {
            case (false, UInt8(ascii: "Y")): months += number * 12
            case (false, UInt8(ascii: "M")): months += number
            case (false, UInt8(ascii: "W")): days += number * 7
            case (false, _): days += number
            case (true, UInt8(ascii: "H")): seconds += number * 3600
            case (true, UInt8(ascii: "M")): seconds += number * 60
            case (true, _): seconds += number
            }
            units.removeSubrange(...place)
            position += 1
        }
        guard months + days + seconds > 0, months <= Self.mostMonths, days <= Self.mostMonths * 31,
            seconds <= Self.mostMonths * 31 * 86_400
        else { return nil }
        self.months = months
        self.days = days
        self.seconds = seconds
    }

    /// The moment that lies so long before another one, days and months by the clock on the wall.
    public func before(_ time: Int, in zone: TimeZone) -> Int {
        let (date, second) = zone.day(of: time)
        let earlier = date.adding(months: -months).day - days
        return zone.moments(ofLocal: earlier * 86_400 + second).first - seconds
    }
}
