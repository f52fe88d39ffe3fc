import Primitives

/// What happens at a time unless it is called off before, to a quarter of a second. One sleep for all of it: one that is cancelled keeps
/// its memory until it would have ended.
final class Deadlines: Sendable {
    static let shared = Deadlines()

    private struct Deadline {
        let at: Double
        let act: @Sendable () -> Void
    }
    private struct State {
        var deadlines: [UInt64: Deadline] = [:]
        var next: UInt64 = 0
        var isKeepingTime = false
    }
    private let state = Guarded(State())

    /// The number by which it is called off.
    func add(_ seconds: Double, _ act: @escaping @Sendable () -> Void) -> UInt64 {
        let (number, isKeepingTime) = state.withLock { state in
            state.next += 1
            state.deadlines[state.next] = Deadline(at: Timestamp.monotonic() + seconds, act: act)
            defer { state.isKeepingTime = true }
            return (state.next, state.isKeepingTime)
        }
        if !isKeepingTime { Task { await keepTime() } }
        return number
    }

    func remove(_ number: UInt64) { state.withLock { _ = $0.deadlines.removeValue(forKey: number) } }

    private func keepTime() async {
        while true {
            try? await Task.sleep(nanoseconds: 250_000_000)
            let now = Timestamp.monotonic()
            let due = state.withLock { state -> [Deadline]? in
                if state.deadlines.isEmpty {
                    state.isKeepingTime = false
                    return nil
                }
                let due = state.deadlines.filter { $0.value.at <= now }
                for number in due.keys { state.deadlines[number] = nil }
                return Array(due.values)
            }
            guard let due else { return }
            for deadline in due { deadline.act() }
        }
    }
}
