import DriverHost
import Primitives

/// What work on an image tells the core: how far it is, and that it lives.
final class ImageReport: Sendable {
    private let wire: Wire
    private struct State { var done: UInt64 = 0, total: UInt64 = 0, toldAt = 0.0 }
    private let state = Guarded(State())

    init(_ wire: Wire) { self.wire = wire }

    func progress(_ done: UInt64, of total: UInt64) {
        tell(every: 0.1) {
            $0.done = done; $0.total = max(done, total)
        }
    }
    func life() { tell(every: 1) { _ in } }

    private func tell(every seconds: Double, _ change: (inout State) -> Void) {
        let told: State? = state.withLock { state in
            change(&state)
            let now = Timestamp.monotonic()
            guard now - state.toldAt >= seconds else { return nil }
            state.toldAt = now
            return state
        }
        guard let told else { return }
        wire.send(
            Frame(
                kind: .progress, id: 0,
                value: .members(["done": .integer(Int64(clamping: told.done)), "total": .integer(Int64(clamping: told.total))])))
    }
}
