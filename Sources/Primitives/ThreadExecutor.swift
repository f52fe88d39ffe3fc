/// A task executor with its own threads, for tasks that block (database reads), which must not occupy Swift's cooperative pool.
public final class ThreadExecutor: TaskExecutor {
    private let queue = BlockingQueue<UnownedJob>()

    /// - Parameter yields: whether the threads have a lower CPU priority.
    public init(name: String, threads: Int, yields: Bool = false) {
        for index in 0..<threads {
            let queue = queue
            let executor = UnmanagedExecutor(self)
            startThread("\(name)-\(index)") {
                if yields { lowerThreadPriority() }
                while let job = queue.next() { job.runSynchronously(on: executor.reference.asUnownedTaskExecutor()) }
            }
        }
    }

    public func enqueue(_ job: consuming ExecutorJob) { queue.append(UnownedJob(job)) }

    public func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// Keeps the executor alive forever: executors live as long as the process.
    private struct UnmanagedExecutor: @unchecked Sendable {
        let unmanaged: Unmanaged<ThreadExecutor>
        init(_ executor: ThreadExecutor) { unmanaged = .passRetained(executor) }
        var reference: ThreadExecutor { unmanaged.takeUnretainedValue() }
    }
}
