import Testing

@testable import BlockStorage
@testable import Calendar

@Suite("Schedules of backup policies")
struct BackupScheduleTests {
    private func schedule(_ text: String, jitter: Int = 0, window: (Int, Int)? = nil, id: String = "a") throws -> BackupSchedule {
        BackupSchedule(
            try CronExpression(text), in: .utc, jitter: jitter,
            window: window.flatMap { DailyWindow(start: $0.0 * 3600, end: $0.1 * 3600) },
            policyID: id)
    }

    private func time(_ day: Int, _ hour: Int, _ minute: Int = 0) -> Int {
        CivilDate(2026, 11, day).day * 86_400 + hour * 3600 + minute * 60
    }

    @Test("a policy's share of the jitter is always the same, within it, and different ones spread evenly")
    func jitter() throws {
        let ids = (0..<4000).map { "00000000-0000-4000-8000-\(String($0 + 100_000_000_000))" }
        let shares = ids.map { BackupSchedule.share(of: 599, $0) }
        #expect(shares.allSatisfy { (0...599).contains($0) })
        #expect(shares == ids.map { BackupSchedule.share(of: 599, $0) })
        let tenths = Dictionary(shares.map { ($0 / 60, 1) }, uniquingKeysWith: +)
        #expect((0..<10).allSatisfy { (300...500).contains(tenths[$0] ?? 0) }, "\(tenths)")
        #expect(BackupSchedule.share(of: 0, "a") == 0)
        // The same in every release: the runs of a policy do not move.
        #expect(BackupSchedule.share(of: 3600, "5f0c7c1e-2d0b-4a43-9a4b-0a6f2f0a3c11") == Self.kept)
        let moved = try schedule("0 2 * * *", jitter: 3600, id: "x")
        let share = BackupSchedule.share(of: 3600, "x")
        #expect(moved.next(after: time(10, 0)) == BackupSchedule.Occurrence(time: time(10, 2), start: time(10, 2) + share))
        #expect(moved.next(after: time(10, 2) + share - 1)?.time == time(10, 2))
        #expect(moved.next(after: time(10, 2) + share)?.time == time(11, 2))
    }

    /// FNV-1a of the id, shifted by 16 bits, modulo 3601.
    private static let kept = Int(
        ("5f0c7c1e-2d0b-4a43-9a4b-0a6f2f0a3c11".utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 } >> 16)
            % 3601)

    @Test("what is due outside of the window waits for its beginning, and runs there once")
    func window() throws {
        let night = try schedule("0 * * * *", window: (22, 1))
        #expect(
            night.occurrences(after: time(10, 12)).prefix(5).map(\.start) == [
                time(10, 22), time(10, 23), time(11, 0), time(11, 22), time(11, 23),
            ])
        #expect(try schedule("0 3 * * *", window: (22, 1)).next(after: time(10, 12)) == .init(time: time(10, 3), start: time(10, 22)))
    }

    @Test("a run that is due is found, with those that came before it")
    func due() throws {
        let hourly = try schedule("0 * * * *")
        let first = try #require(hourly.next(after: time(10, 1, 30)))
        #expect(hourly.due(from: first, at: time(10, 2) - 1) == nil)
        #expect(hourly.due(from: first, at: time(10, 2)) == .init(latest: first, missed: 0, isMore: false, isLate: false))
        // Five minutes are no lateness; more are.
        #expect(hourly.due(from: first, at: time(10, 2, 5))?.isLate == false)
        #expect(hourly.due(from: first, at: time(10, 2, 6))?.isLate == true)
        let day = try #require(hourly.due(from: first, at: time(11, 2, 30)))
        #expect(day.missed == 24 && day.isLate && !day.isMore && day.latest.time == time(11, 2))
        // In time for the last one, though not for those before it.
        let almost = try #require(hourly.due(from: first, at: time(10, 5, 1)))
        #expect(almost.missed == 3 && !almost.isLate && almost.latest.time == time(10, 5))
        let years = try #require(hourly.due(from: first, at: time(10, 2) + 10 * 366 * 86_400))
        #expect(years.isMore && years.missed == 1000 && years.isLate)
    }
}
