import Database
import Primitives

/// When what failed is tried again: ever later, up to an hour. The time is kept in the row of what failed.
enum RetryTime {
    /// Seconds until the next attempt after the first failure, doubled with each further one, and at most.
    private static let firstPause = 60.0, longestPause = 3600.0

    /// The time of the next attempt after so many failures, at least one.
    static func next(after failures: Int, in tx: any Transaction) -> String {
        Timestamp.format(tx.time + min(longestPause, firstPause * Double(1 << min(failures - 1, 16))))
    }

    /// The condition that the time in a column has come; it takes `bounds`.
    static func isDue(_ column: AnyColumn) -> String { "(\(column.sql) <= ? OR \(column.sql) > ?)" }

    /// Now, and the latest time that can be in a row. One behind it was noted before the clock was set back.
    static func bounds(in connection: any Connection) -> (now: Value, latest: Value) {
        (.text(Timestamp.format(connection.time)), .text(Timestamp.format(connection.time + 2 * longestPause)))
    }
}
