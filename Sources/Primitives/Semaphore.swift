import CLinux
import Glibc

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
