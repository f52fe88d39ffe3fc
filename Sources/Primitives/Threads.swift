import CLinux
import Glibc

/// Starts a thread of our own, for work that blocks. The body must not trap.
public func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 1 << 20)
    var thread = pthread_t()
    let box = Unmanaged.passRetained(
        Box {
            clinker_set_thread_name(String(name.prefix(15)))
            body()
        })
    let status = pthread_create(
        &thread, &attributes,
        { raw in
            if let raw { Unmanaged<Box>.fromOpaque(raw).takeRetainedValue().body() }
            return nil
        }, box.toOpaque())
    precondition(status == 0, "a thread could not be started: \(status)")
    pthread_attr_destroy(&attributes)
}

/// Lets others have the processor first: for threads that work on while somebody waits for an answer. It holds for the calling
/// thread and those that it starts.
public func yieldToOthers() {
    let me = __priority_which_t(PRIO_PROCESS.rawValue)
    // Who was told to yield more goes on to.
    setpriority(me, 0, max(10, getpriority(me, 0)))
}

/// Threads that the body starts are let run soon when they wake, for they work but a moment: threads that answer. Kernels that
/// cannot tell treat them as all others.
public func startingThreadsThatAnswer<T>(_ body: () throws -> T) rethrows -> T {
    clinker_set_slice(100_000)
    defer { clinker_set_slice(0) }
    return try body()
}

/// Holds the thread for some seconds.
public func pause(_ seconds: Double) { usleep(UInt32(max(0, seconds) * 1e6)) }

/// A queue whose consumers block on threads of their own.
public final class BlockingQueue<Element: Sendable>: Sendable {
    private struct State {
        var items: [Element] = []
        var closed = false
    }
    private let state = Guarded(State())
    private let signal = Semaphore()

    public init() {}

    /// Appends; false if the queue is closed.
    @discardableResult
    public func append(_ element: Element) -> Bool {
        let accepted = state.withLock { state in
            guard !state.closed else { return false }
            state.items.append(element)
            return true
        }
        if accepted { signal.post() }
        return accepted
    }

    /// Waits for at least one element and takes all (or at most `limit`); nil once closed and empty.
    public func take(atMost limit: Int = .max) -> [Element]? {
        while true {
            let (items, closed) = state.withLock { state -> ([Element], Bool) in
                if state.items.count <= limit {
                    defer { state.items = [] }
                    return (state.items, state.closed)
                }
                let head = Array(state.items.prefix(limit))
                state.items.removeFirst(limit)
                return (head, state.closed)
            }
            if !items.isEmpty { return items }
            if closed {
                signal.post()  // the next consumer
                return nil
            }
            signal.wait()
        }
    }

    public func close() {
        state.withLock { $0.closed = true }
        signal.post()
    }
}

/// A counting semaphore.
public final class Semaphore: @unchecked Sendable {
    private let handle = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    public init(_ value: UInt32 = 0) { sem_init(handle, 0, value) }
    deinit {
        sem_destroy(handle)
        handle.deallocate()
    }
    public func post() { sem_post(handle) }
    public func wait() { while sem_wait(handle) != 0 && errno == EINTR {} }
    /// False if `seconds` passed first.
    public func wait(seconds: Double) -> Bool {
        var limit = timespec()
        // A step of the wall clock must not lengthen the wait.
        clock_gettime(CLOCK_MONOTONIC, &limit)
        let total = Double(limit.tv_nsec) / 1e9 + seconds
        limit.tv_sec += Int(total.rounded(.down))
        limit.tv_nsec = Int((total - total.rounded(.down)) * 1e9)
        while sem_clockwait(handle, CLOCK_MONOTONIC, &limit) != 0 {
            if errno == ETIMEDOUT { return false }
        }
        return true
    }
}

/// Runs tasks on threads of its own, so that a step that reads the database never holds Swift's cooperative pool.
public final class ThreadExecutor: TaskExecutor {
    private let queue = BlockingQueue<UnownedJob>()

    /// `yields`: others have the processor first.
    public init(name: String, threads: Int, yields: Bool = false) {
        for index in 0..<threads {
            let queue = queue
            let executor = UnmanagedExecutor(self)
            startThread("\(name)-\(index)") {
                if yields { yieldToOthers() }
                while let jobs = queue.take(atMost: 1) {
                    for job in jobs { job.runSynchronously(on: executor.reference.asUnownedTaskExecutor()) }
                }
            }
        }
    }

    public func enqueue(_ job: consuming ExecutorJob) { queue.append(UnownedJob(job)) }

    public func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// Executors live as long as the process.
    private struct UnmanagedExecutor: @unchecked Sendable {
        let unmanaged: Unmanaged<ThreadExecutor>
        init(_ executor: ThreadExecutor) { unmanaged = .passRetained(executor) }
        var reference: ThreadExecutor { unmanaged.takeUnretainedValue() }
    }
}
