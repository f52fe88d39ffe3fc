/// The part of each day within which something may be begun, by the clock on the wall. It may go over midnight.
public struct DailyWindow: Sendable, Equatable {
    /// Seconds since midnight; the end is no part of it.
    public let start, end: Int

    /// nil where both are the same.
    public init?(start: Int, end: Int) {
        guard start != end else { return nil }
        self.start = start
        self.end = end
    }

    /// Of `HH:MM`.
    public static func seconds(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        guard bytes.count == 5, bytes[2] == UInt8(ascii: ":"), [0, 1, 3, 4].allSatisfy({ bytes[$0].isDigit }) else { return nil }
        let hour = Int(bytes[0]) * 10 + Int(bytes[1]) - 528
        let minute = Int(bytes[3]) * 10 + Int(bytes[4]) - 528
        return hour < 24 && minute < 60 ? hour * 3600 + minute * 60 : nil
    }

    public func contains(_ time: Int, in zone: TimeZone) -> Bool {
        let second = zone.day(of: time).second
        return start < end ? (start..<end).contains(second) : second >= start || second < end
    }

    /// The moment itself, or the window's next beginning.
    public func admitted(_ time: Int, in zone: TimeZone) -> Int {
        guard !contains(time, in: zone) else { return time }
        let date = zone.day(of: time).date
        for day in date.day...date.day + 2 {
            let begin = zone.moments(ofLocal: day * 86_400 + start).first
            if begin > time { return begin }
        }
        return time
    }
}
