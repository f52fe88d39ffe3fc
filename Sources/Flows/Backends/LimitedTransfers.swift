import DriverHost
import Glibc
import Primitives
import Settings
import Transfers

/// Lets as many transfers of this node run at once as it has places for; the others wait for their turn. One that waits has no process, no
/// thread and no lock, so that whatever runs can end.
final class LimitedTransfers: TransferRunner {
    private struct State {
        var queue: TransferQueue
        var turns: [UInt64: UnsafeContinuation<Void, any Error>] = [:]
        var next: UInt64 = 0
        var isStopped = false

        /// Changes the queue; returns those whose turn it is.
        mutating func change(_ change: (inout TransferQueue) -> [UInt64]) -> [UnsafeContinuation<Void, any Error>] {
            change(&queue).compactMap { turns.removeValue(forKey: $0) }
        }
    }

    private let transfers: any TransferRunner
    private let state: Guarded<State>

    init(_ transfers: any TransferRunner, limit: Int, backupLimit: Int?) {
        self.transfers = transfers
        state = Guarded(State(queue: TransferQueue(limit: limit, backupLimit: backupLimit)))
    }

    convenience init(_ settings: Settings, _ transfers: any TransferRunner = TransferProcesses()) {
        let limit = settings[Options.flows.transferLimit]
        let backupLimit = settings[Options.flows.backupLimit]
        self.init(
            transfers, limit: limit > 0 ? limit : max(4, 2 * Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))),
            backupLimit: backupLimit > 0 ? backupLimit : nil)
    }

    func run(_ transfer: Transfer) async -> Result<DriverValue, any Error> {
        guard let demand = transfer.demand else { return await transfers.run(transfer) }
        do { try await takePlace(demand, transfer.onWaiting) } catch { return .failure(error) }
        defer { leave(demand) }
        return await transfers.run(transfer)
    }

    /// How many run, and how many wait.
    var counts: (running: Int, waiting: Int) { state.withLock { ($0.queue.long + $0.queue.short, $0.queue.waitingCount) } }

    /// Nothing begins any more: what waits is left for the next start.
    func stop() {
        let turns = state.withLock { state in
            state.isStopped = true
            return state.queue.removeAll().compactMap { state.turns.removeValue(forKey: $0) }
        }
        for turn in turns { turn.resume(throwing: Self.stopped) }
    }

    private static var stopped: OperationPostponed { OperationPostponed(reason: "its transfer had not begun when the service stopped") }

    /// Returns once there is a place, which is then taken.
    ///
    /// - Throws: `DriverFailure` if the task is cancelled, `OperationPostponed` if the service stops.
    private func takePlace(_ demand: TransferDemand, _ onWaiting: @escaping @Sendable (Bool) -> Void) async throws {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        defer { onWaiting(false) }
        try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (turn: UnsafeContinuation<Void, any Error>) in
                onWaiting(true)
                let begun = state.withLock { state -> [UnsafeContinuation<Void, any Error>]? in
                    guard !state.isStopped else { return nil }
                    state.turns[id] = turn
                    return state.change { $0.add(id, demand) }
                }
                guard let begun else { return turn.resume(throwing: Self.stopped) }
                for turn in begun { turn.resume() }
                // Cancelled before it waited: nobody has found it.
                if Task.isCancelled { cancel(id) }
            }
        } onCancel: {
            cancel(id)
        }
    }

    private func cancel(_ id: UInt64) {
        let turn = state.withLock { $0.queue.remove(id) ? $0.turns.removeValue(forKey: id) : nil }
        turn?.resume(throwing: DriverFailure(.cancelled, "cancelled"))
    }

    private func leave(_ demand: TransferDemand) {
        // Behind a stop nothing waits, and nothing begins.
        let begun = state.withLock { state in state.change { $0.end(demand) } }
        for turn in begun { turn.resume() }
    }
}
