/// The moments of a cron expression in a time zone, one after the other, each once.
///
/// A schedule of certain hours follows the clock on the wall: a time that the clock passes over when it is put forward comes when it does so,
/// several such times together once; a time that the clock shows twice when it is put back comes the first time. A schedule of every hour
/// counts on meanwhile: it comes as often in the hour that is there twice, and nothing is made up for an hour that is not there.
public struct CronTimes: Sequence, IteratorProtocol, Sendable {
    private let expression: CronExpression
    private let zone: TimeZone
    private var last: Int
    private var date: CivilDate
    /// Of the day, those that are still to come, the next one last.
    private var pending: [Int] = []

    /// From the year 9999 on there is nothing.
    private static let end = CivilDate(9999, 1, 1)
    /// The rarest expression, 29 February on one day of the week, comes within forty years, also over a century without the day.
    private static let longestPause = 366 * 41

    /// Those after a moment.
    public init(_ expression: CronExpression, in zone: TimeZone, after time: Int) {
        self.expression = expression
        self.zone = zone
        last = time
        // A clock that was put back over midnight shows a day again.
        date = CivilDate(day: zone.day(of: time).date.day - 1)
    }

    public mutating func next() -> Int? {
        var looked = 0
        while true {
            if let time = pending.popLast() {
                guard time > last else { continue }
                last = time
                return time
            }
            guard date < Self.end, looked < Self.longestPause else { return nil }
            if expression.isOn(date) { pending = times(on: date) }
            date = CivilDate(day: date.day + 1)
            looked += 1
        }
    }

    /// All of a local day, the last one first.
    private func times(on date: CivilDate) -> [Int] {
        let midnight = date.day * 86_400
        var times: Set<Int> = []
        var passed: Int?
        for hour in 0..<24 where expression.hours & 1 << UInt64(hour) != 0 {
            for minute in 0..<60 where expression.minutes & 1 << UInt64(minute) != 0 {
                switch zone.moments(ofLocal: midnight + hour * 3600 + minute * 60) {
                case .once(let time): times.insert(time)
                case .never(let time): if expression.isEveryHour { passed = time } else { times.insert(time) }
                case .twice(let first, let second):
                    times.insert(first)
                    if expression.isEveryHour { times.insert(second) }
                }
            }
        }
        // A day that a place left out as a whole.
        if times.isEmpty, let passed { times.insert(passed) }
        return times.sorted(by: >)
    }
}
