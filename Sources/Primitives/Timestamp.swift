import Glibc

/// Times in the one representation used everywhere: UTC, ISO 8601 with microseconds and without a zone
/// (`2026-11-21T04:33:24.626634`). Text of this form sorts as time does.
public enum Timestamp {
    /// The current time of the wall clock.
    public static func now() -> String {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return format(seconds: time.tv_sec, microseconds: time.tv_nsec / 1000)
    }

    /// Seconds since 1970, with fractions.
    public static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Seconds of the monotonic clock, for measuring spans.
    public static func monotonic() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Writes the current time into a buffer without making a `String`; returns the number of bytes, 26.
    public static func write(into buffer: UnsafeMutableBufferPointer<UInt8>) -> Int {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return write(seconds: time.tv_sec, microseconds: time.tv_nsec / 1000, into: buffer)
    }

    public static func format(_ seconds: Double) -> String {
        let whole = seconds.rounded(.down)
        return format(seconds: Int(whole), microseconds: Int((seconds - whole) * 1e6))
    }

    public static func format(seconds: Int, microseconds: Int) -> String {
        String(unsafeUninitializedCapacity: 26) { write(seconds: seconds, microseconds: microseconds, into: $0) }
    }

    private static func write(seconds: Int, microseconds: Int, into text: UnsafeMutableBufferPointer<UInt8>) -> Int {
        // Civil date from days: H. Hinnant, "chrono-compatible low-level date algorithms".
        let day = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let secondOfDay = seconds - day * 86400
        let z = day + 719468
        let era = (z >= 0 ? z : z - 146096) / 146097
        let dayOfEra = z - era * 146097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let dayOfMonth = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func put(_ value: Int, _ width: Int, _ at: Int, _ after: UInt8?) {
            var value = value
            for index in stride(from: at + width - 1, through: at, by: -1) {
                text[index] = UInt8(ascii: "0") + UInt8(value % 10)
                value /= 10
            }
            if let after { text[at + width] = after }
        }
        put(year, 4, 0, UInt8(ascii: "-"))
        put(month, 2, 5, UInt8(ascii: "-"))
        put(dayOfMonth, 2, 8, UInt8(ascii: "T"))
        put(secondOfDay / 3600, 2, 11, UInt8(ascii: ":"))
        put(secondOfDay / 60 % 60, 2, 14, UInt8(ascii: ":"))
        put(secondOfDay % 60, 2, 17, UInt8(ascii: "."))
        put(microseconds, 6, 20, nil)
        return 26
    }

    /// Reads the representation back, with or without fractions and a trailing `Z`; nil for anything else.
    public static func parse(_ text: String) -> Double? {
        var bytes = Array(text.utf8)
        if bytes.last == UInt8(ascii: "Z") { bytes.removeLast() }
        func number(_ start: Int, _ length: Int) -> Int? {
            guard start + length <= bytes.count else { return nil }
            var value = 0
            for byte in bytes[start..<start + length] {
                guard byte >= 48, byte <= 57 else { return nil }
                value = value * 10 + Int(byte - 48)
            }
            return value
        }
        func has(_ character: Character, at index: Int) -> Bool { index < bytes.count && bytes[index] == character.asciiValue }
        guard let year = number(0, 4), has("-", at: 4), let month = number(5, 2), has("-", at: 7), let day = number(8, 2),
            (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        var hour = 0
        var minute = 0
        var second = 0
        var fraction = 0.0
        if bytes.count > 10 {
            guard has("T", at: 10) || has(" ", at: 10), let h = number(11, 2), has(":", at: 13), let m = number(14, 2) else { return nil }
            hour = h
            minute = m
            if bytes.count > 16 {
                guard has(":", at: 16), let s = number(17, 2) else { return nil }
                second = s
                if bytes.count > 19 {
                    let digits = bytes.count - 20
                    guard has(".", at: 19), (1...9).contains(digits), let f = number(20, digits) else { return nil }
                    fraction = Double(f) / pow(10, Double(digits))
                }
            }
        }
        guard hour < 24, minute < 60, second < 61 else { return nil }
        return Double(daysSince1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) + fraction
    }

    static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int {
        let y = month <= 2 ? year - 1 : year
        let era = y / 400
        let yearOfEra = y - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146097 + dayOfEra - 719468
    }
}
