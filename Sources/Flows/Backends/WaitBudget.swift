import DriverHost
import Primitives

/// How long a call waits for a backend that is down, all its waits together.
struct WaitBudget {
    /// In seconds; nil waits for as long as it takes.
    private var left: Double?

    init(seconds: Double?) { left = seconds }

    /// Waits until `isUp` has seen the backend up, for as many seconds as it is told; throws `failure` once the budget is spent. Only
    /// time that went by counts: a backend that comes and goes is waited for as often as it does.
    mutating func wait(after failure: DriverFailure, until isUp: (Double) async -> Bool) async throws {
        if let left, left <= 0 { throw failure }
        let begun = Timestamp.monotonic()
        _ = await isUp(min(left ?? 60, 60))
        // Up, and yet the call did not find it so: not again and again without a pause.
        if Timestamp.monotonic() - begun < 0.02 { try await Task.sleep(nanoseconds: 20_000_000) }
        if let left { self.left = left - (Timestamp.monotonic() - begun) }
    }
}
