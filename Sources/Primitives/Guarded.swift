import Glibc

/// A value behind a lock. The lock is the C library's, which the thread sanitizer sees; it cannot see the one of Swift's
/// `Mutex` and would report races where there are none.
///
/// A function is guarded as a struct's member: Swift wraps a bare one anew whenever a generic lends it, even to be read, until a call
/// of it goes through so many wrappers that the stack ends.
public final class Guarded<Value>: @unchecked Sendable {
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value

    public init(_ value: Value) {
        self.value = value
        pthread_mutex_init(lock, nil)
    }

    deinit {
        pthread_mutex_destroy(lock)
        lock.deallocate()
    }

    /// Runs the closure alone. It must not wait for anything that needs this lock.
    public func withLock<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        return try body(&value)
    }

    /// The same, or nil at once if another thread holds the lock.
    public func withLockIfAvailable<Result>(_ body: (inout Value) throws -> Result) rethrows -> Result? {
        guard pthread_mutex_trylock(lock) == 0 else { return nil }
        defer { pthread_mutex_unlock(lock) }
        return try body(&value)
    }
}
