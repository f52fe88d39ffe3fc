import Primitives

/// The numbers from 0 to `count`, which threads share out among themselves until one of them fails.
final class WorkQueue: Sendable {
    private struct State {
        var next = 0
        var error: (any Error)?
    }
    private let count: Int
    private let state = Guarded(State())
    private let control: TransferControl?

    init(count: Int, control: TransferControl?) {
        self.count = count
        self.control = control
    }

    /// The next number; nil when there is none, another thread has failed or the transfer was cancelled.
    func next() -> Int? {
        let isCancelled = control?.isCancelled ?? false
        return state.withLock { state in
            if isCancelled, state.error == nil { state.error = RepositoryError(.cancelled, "cancelled") }
            guard state.error == nil, state.next < count else { return nil }
            state.next += 1
            return state.next - 1
        }
    }

    func fail(_ error: any Error) { state.withLock { $0.error = $0.error ?? error } }

    /// Calls the body on threads of its own, one for each worker, and waits for all of them; throws the first error.
    ///
    /// A little work is done on the calling thread.
    func run<Worker>(_ workers: [Unchecked<Worker>], _ body: @escaping @Sendable (Worker, Int) throws -> Void) throws {
        let drain = DrainBody { [self] (worker: Unchecked<Worker>) in
            do { while let index = next() { try body(worker.value, index) } } catch { fail(error) }
        }
        if count <= 2 || workers.count == 1 {
            drain.body(workers[0])
        } else {
            let ended = Semaphore()
            for (index, worker) in workers.enumerated() {
                startThread("backup-\(index)") {
                    drain.body(worker)
                    ended.post()
                }
            }
            for _ in workers { ended.wait() }
        }
        if let error = state.withLock({ $0.error }) { throw error }
    }

    private struct DrainBody<Worker>: Sendable { let body: @Sendable (Unchecked<Worker>) -> Void }
}
