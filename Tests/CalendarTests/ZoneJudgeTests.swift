import Glibc
import Testing

@testable import Calendar

/// The C library, by `date`, judges what is read of the machine's database of time zones.
@Suite("Time zones beside the C library's", .enabled(if: access("/usr/share/zoneinfo/Europe/Berlin", R_OK) == 0))
struct ZoneJudgeTests {
    private static let zones = [
        "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Moscow", "America/New_York", "America/Sao_Paulo", "America/St_Johns",
        "America/Nuuk", "America/Santiago", "Africa/Casablanca", "Africa/Cairo", "Asia/Kathmandu", "Asia/Tehran", "Asia/Gaza", "Asia/Tokyo",
        "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Chatham", "Antarctica/Troll",
        "Etc/GMT+12",
    ]

    /// What `date` shows of each moment, as seconds east of UTC.
    private func judged(_ times: [Int], in zone: String) throws -> [Int] {
        var path = Array("/tmp/clinker-times-XXXXXX".utf8CString)
        let file = mkstemp(&path)
        try #require(file >= 0)
        let name = String(decoding: path.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { unlink(name) }
        let text = times.map { "@\($0)\n" }.joined()
        try #require(write(file, text, text.utf8.count) == text.utf8.count)
        close(file)
        let pipe = try #require(popen("TZ=\(zone) LC_ALL=C date -f \(name) +%:::z", "re"))
        defer { pclose(pipe) }
        var offsets: [Int] = []
        var line = [CChar](repeating: 0, count: 64)
        while fgets(&line, 64, pipe) != nil {
            // `+05:45`, `-00:44:30`
            let text = String(decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let parts = text.dropFirst().split(separator: ":").compactMap { Int($0) } + [0, 0]
            offsets.append((parts[0] * 3600 + parts[1] * 60 + parts[2]) * (text.hasPrefix("-") ? -1 : 1))
        }
        return offsets
    }

    @Test(
        "the offset is the same at a moment of every twentieth day from 1950 to 2100, and around every change of the file", arguments: zones
    )
    func offsets(name: String) throws {
        let zone = try #require(TimeZone.named(name))
        var times = Array(stride(from: -20 * 366 * 86_400, to: 130 * 366 * 86_400, by: 20 * 86_400 + 3701))
        times += zone.rules.transitions.map(\.time).filter { $0 > -1_000_000_000 }.flatMap { [$0 - 1, $0, $0 + 1] }
        let judged = try judged(times, in: name)
        try #require(judged.count == times.count)
        for (time, offset) in zip(times, judged) {
            guard zone.offset(at: time) == offset else {
                Issue.record("\(name) at \(time) is \(zone.offset(at: time)), not \(offset)")
                return
            }
        }
    }
}
