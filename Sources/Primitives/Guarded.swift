import Glibc

/// A value protected by a lock. The lock is a pthread mutex, since the thread sanitizer does not understand Swift's `Mutex` and would
/// report false races.
///
/// Put a closure into a struct before protecting it: Swift wraps a bare closure in another thunk at every generic access, and after
/// thousands of accesses a call overflows the stack.
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

    /// Runs the closure while the lock is held. The closure must not wait for anything that needs this lock.
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
