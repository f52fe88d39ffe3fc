import Glibc
import Primitives

/// A value protected by a lock whose holders can wait for a change of it. (A pthread mutex, for the reason that `Guarded` gives.)
final class Monitor<Value>: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var value: Value

    init(_ value: Value) {
        self.value = value
        pthread_mutex_init(lock, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(lock)
        changed.deallocate()
        lock.deallocate()
    }

    /// Runs the closure while the lock is held, and wakes up those who wait.
    func withLock<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(lock)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(lock)
        }
        return try body(&value)
    }

    /// Runs the closure while the lock is held, again after every change, until it returns something.
    func wait<Result>(_ body: (inout Value) throws -> Result?) rethrows -> Result {
        pthread_mutex_lock(lock)
        defer {
            pthread_cond_broadcast(changed)
            pthread_mutex_unlock(lock)
        }
        while true {
            if let result = try body(&value) { return result }
            pthread_cond_wait(changed, lock)
        }
    }
}

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
