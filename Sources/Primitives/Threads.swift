import CLinux
import Glibc

/// Starts a detached thread with a stack of 1 MiB, for work that blocks.
///
/// - Parameters:
///   - name: shown by `ps -L` and debuggers; the first 15 bytes are used.
///   - body: runs on the thread; it must not trap.
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

/// Lowers the CPU priority (nice 10) of the calling thread and of the threads that it starts afterwards: for background work that
/// must not delay answers.
public func lowerThreadPriority() {
    let me = __priority_which_t(PRIO_PROCESS.rawValue)
    // A lower priority that was set before is kept.
    setpriority(me, 0, max(10, getpriority(me, 0)))
}

/// Gives the threads that `body` starts a short scheduler slice (0.1 ms), so that they run soon after they wake up: for threads that
/// answer requests. Kernels without that setting ignore it.
public func withShortTimeSlice<T>(_ body: () throws -> T) rethrows -> T {
    clinker_set_slice(100_000)
    defer { clinker_set_slice(0) }
    return try body()
}

/// Blocks the calling thread.
public func pause(_ seconds: Double) { usleep(UInt32(max(0, seconds) * 1e6)) }
