import Glibc

/// Times as servers of objects write them, in seconds since 1970 UTC.
public enum ServerTime {
    public static func now() -> Int64 { Int64(time(nil)) }

    /// `20261130T090807Z`
    public static func compact(_ seconds: Int64) -> String {
        let parts = parts(seconds)
        return digits(parts.year, 4) + digits(parts.month, 2) + digits(parts.day, 2) + "T" + digits(parts.hour, 2) + digits(parts.minute, 2)
            + digits(parts.second, 2) + "Z"
    }

    /// `2026-11-30T09:08:07Z`
    public static func iso(_ seconds: Int64) -> String {
        let parts = parts(seconds)
        return digits(parts.year, 4) + "-" + digits(parts.month, 2) + "-" + digits(parts.day, 2) + "T" + digits(parts.hour, 2) + ":"
            + digits(parts.minute, 2) + ":" + digits(parts.second, 2) + "Z"
    }

    /// Of `2026-11-30T09:08:07.123Z`, with or without a fraction and a zone, which is UTC; nil for others.
    public static func parse(iso text: String) -> Int64? {
        let numbers = text.prefix(19).split { "-T: ".contains($0) }.compactMap { Int($0) }
        guard numbers.count == 6, text.utf8.count >= 19 else { return nil }
        return seconds(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5])
    }

    /// Of `Mon, 30 Nov 2026 09:08:07 GMT`; nil for others.
    public static func parse(http text: String) -> Int64? {
        let words = text.split { ", :".contains($0) }
        guard words.count >= 7, let day = Int(words[1]), let year = Int(words[3]),
            let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"].firstIndex(of: words[2]),
            let hour = Int(words[4]), let minute = Int(words[5]), let second = Int(words[6])
        else { return nil }
        return seconds(year, month + 1, day, hour, minute, second)
    }

    private static func digits(_ number: Int, _ count: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }

    private static func parts(_ seconds: Int64) -> (year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
        var (moment, parts) = (time_t(min(max(seconds, 0), 253_402_300_799)), tm())
        gmtime_r(&moment, &parts)
        return (
            Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday), Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec)
        )
    }

    private static func seconds(_ year: Int, _ month: Int, _ day: Int, _ hour: Int, _ minute: Int, _ second: Int) -> Int64? {
        guard (1970...9999).contains(year), (1...12).contains(month), (1...31).contains(day), (0...23).contains(hour),
            (0...59).contains(minute), (0...60).contains(second)
        else { return nil }
        var parts = tm()
        (parts.tm_year, parts.tm_mon, parts.tm_mday) = (Int32(year - 1900), Int32(month - 1), Int32(day))
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (Int32(hour), Int32(minute), Int32(second))
        return Int64(timegm(&parts))
    }
}
