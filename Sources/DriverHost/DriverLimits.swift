import Glibc
import Primitives

/// Limits of texts and log lines accepted from drivers.
enum DriverLimits {
    /// Bytes of the driver data stored with a volume or snapshot.
    static let privateText = 4096
    /// Bytes of a failure message and of a log line.
    static let message = 4096
    static let line = 4096
    /// Log lines per second, and in a burst.
    static let linesPerSecond = 100.0
    static let linesAtOnce = 1000.0

    /// Truncates a driver's text to the limit and repairs invalid UTF-8; says so in the result.
    static func cut(_ text: UnsafePointer<CChar>, to limit: Int) -> String {
        let bytes = UnsafeBufferPointer(start: UnsafeRawPointer(text).assumingMemoryBound(to: UInt8.self), count: strlen(text))
        return cut(bytes, to: limit)
    }

    static func cut(_ bytes: some RandomAccessCollection<UInt8>, to limit: Int) -> String {
        var kept = bytes.prefix(limit)
        if kept.count < bytes.count {
            // Not inside a character.
            while let last = kept.last, last & 0xC0 == 0x80 { kept = kept.dropLast() }
            if let last = kept.last, last >= 0xC0 { kept = kept.dropLast() }
        }
        let left = bytes.count - kept.count
        let words = String(validating: kept, as: UTF8.self) ?? String(decoding: kept, as: UTF8.self) + " (this was not UTF-8)"
        return left == 0 ? words : words + " (and \(left) bytes more)"
    }
}

/// Limits the rate of log lines (token bucket) and counts dropped ones.
package final class LineGate: Sendable {
    package init() {}

    private struct State {
        var room = DriverLimits.linesAtOnce
        var seenAt = Timestamp.monotonic()
        var dropped = 0
    }
    private let state = Guarded(State())

    /// Whether a line may pass, and how many were dropped before it.
    func admit(now: Double = Timestamp.monotonic()) -> (isAdmitted: Bool, dropped: Int) {
        state.withLock { state in
            state.room = min(DriverLimits.linesAtOnce, state.room + (now - state.seenAt) * DriverLimits.linesPerSecond)
            state.seenAt = now
            guard state.room >= 1 else {
                state.dropped += 1
                return (false, 0)
            }
            state.room -= 1
            defer { state.dropped = 0 }
            return (true, state.dropped)
        }
    }

    /// Passes a line on, preceded by a notice of dropped lines if there were any.
    package func pass(_ line: String, _ log: (_ line: String, _ isNotice: Bool) -> Void) {
        let (isAdmitted, dropped) = admit()
        guard isAdmitted else { return }
        if dropped > 0 {
            log("\(dropped) lines of the driver are left out: more than \(Int(DriverLimits.linesPerSecond)) in a second", true)
        }
        log(line, false)
    }
}
