/// When a clock changes, as the database of time zones has it: the changes that were, and the rule by which they go on.
struct TimeZoneRules: Sendable {
    struct Transition: Sendable {
        let time: Int
        /// Seconds east of UTC from then on.
        let offset: Int
    }

    enum Rest: Sendable {
        case fixed(Int)
        case yearly(YearlyChange)
    }

    /// In the order of time.
    let transitions: [Transition]
    /// Before all of them.
    let first: Int
    /// After all of them.
    let last: Rest

    func offset(at time: Int) -> Int {
        guard let newest = transitions.last, time < newest.time else {
            switch last {
            case .fixed(let offset): return offset
            case .yearly(let change): return change.offset(at: time)
            }
        }
        // The last one that is not after the time.
        var (low, high) = (0, transitions.count)
        while low < high {
            let middle = (low + high) / 2
            if transitions[middle].time <= time { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? first : transitions[low - 1].offset
    }
}

extension TimeZoneRules {
    /// Of a file of RFC 8536; nil if it is none. Every count in it is checked against its length.
    init?(tzif bytes: [UInt8]) {
        var reader = ZoneReader(bytes)
        guard var counts = reader.header() else { return nil }
        var width = 4
        if counts.version >= 2 {
            // The same again with times of 64 bits.
            guard reader.skip(counts.length(width: 4)), let second = reader.header() else { return nil }
            counts = second
            width = 8
        }
        guard counts.types > 0, reader.has(counts.length(width: width)) else { return nil }
        let times = (0..<counts.times).map { _ in reader.integer(width) }
        let kinds = (0..<counts.times).map { _ in reader.integer(1) & 0xFF }
        var types: [(offset: Int, isDaylight: Bool)] = []
        for _ in 0..<counts.types {
            types.append((reader.integer(4), reader.integer(1) != 0))
            _ = reader.integer(1)
        }
        // A day and a bit: no clock is farther from UTC.
        guard kinds.allSatisfy({ $0 < types.count }), types.allSatisfy({ abs($0.offset) <= 93_600 }),
            zip(times, times.dropFirst()).allSatisfy(<)
        else { return nil }
        _ = reader.skip(counts.lengthBehindTypes(width: width))
        transitions = zip(times, kinds).map { Transition(time: $0, offset: types[$1].offset) }
        let first = types.first { !$0.isDaylight }?.offset ?? types[0].offset
        self.first = first
        let fixed = Rest.fixed(transitions.last?.offset ?? first)
        guard width == 8, let footer = reader.line(), !footer.isEmpty else {
            last = fixed
            return
        }
        guard let rest = Rest(posix: footer) else { return nil }
        last = rest
    }
}

/// Reads a file of a time zone, number by number.
private struct ZoneReader {
    struct Counts {
        var version = 1
        var utcFlags = 0, standardFlags = 0, leaps = 0, times = 0, types = 0, characters = 0

        func length(width: Int) -> Int { times * (width + 1) + types * 6 + lengthBehindTypes(width: width) }
        func lengthBehindTypes(width: Int) -> Int { characters + leaps * (width + 4) + standardFlags + utcFlags }
    }

    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    func has(_ count: Int) -> Bool { count >= 0 && count <= bytes.count - position }

    mutating func skip(_ count: Int) -> Bool {
        guard has(count) else { return false }
        position += count
        return true
    }

    mutating func header() -> Counts? {
        guard has(44), bytes[position..<position + 4].elementsEqual("TZif".utf8) else { return nil }
        var counts = Counts()
        let version = bytes[position + 4]
        counts.version = version.isDigit ? Int(version) - 48 : 1
        position += 20
        for member in [\Counts.utcFlags, \.standardFlags, \.leaps, \.times, \.types, \.characters] {
            let count = integer(4)
            guard (0...bytes.count).contains(count) else { return nil }
            counts[keyPath: member] = count
        }
        return counts
    }

    /// A signed number, the greatest byte first; the caller has looked that it is there.
    mutating func integer(_ width: Int) -> Int {
        var value = bytes[position] >= 128 ? -1 : 0
        for byte in bytes[position..<position + width] { value = value << 8 | Int(byte) }
        position += width
        return value
    }

    /// What stands between two line ends.
    mutating func line() -> String? {
        guard has(2), bytes[position] == 10 else { return nil }
        let rest = bytes[(position + 1)...]
        guard let end = rest.firstIndex(of: 10) else { return nil }
        return String(validating: rest[..<end], as: UTF8.self)
    }
}
