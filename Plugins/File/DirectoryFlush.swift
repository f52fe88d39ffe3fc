import DriverKit
import Glibc

/// Flushes a directory for all callers that wait for it: one flush serves everybody who changed a name before it began.
final class DirectoryFlush: @unchecked Sendable {
    private let path: String
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// For those who wait for a flush of an even number, and of an odd one: at no time does anybody wait for a third.
    private let ended = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 2)
    // Flushes are numbered from 1 as they begin. All of this is read and changed under the lock.
    private var lastBegun = 0
    private var lastEnded = 0
    private var lastFailed = 0
    private var failure: (any Error)?

    init(_ path: String) {
        self.path = path
        pthread_mutex_init(lock, nil)
        for index in 0..<2 { pthread_cond_init(ended + index, nil) }
    }

    deinit {
        for index in 0..<2 { pthread_cond_destroy(ended + index) }
        pthread_mutex_destroy(lock)
        ended.deallocate()
        lock.deallocate()
    }

    /// Returns when the names that were added and removed before the call are on stable storage.
    func flush() throws {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        // One that runs already may have missed the caller's change.
        let wanted = lastBegun + 1
        while lastEnded < wanted {
            if lastBegun == lastEnded { perform() } else { pthread_cond_wait(ended + wanted % 2, lock) }
        }
        // The system tells of what it could not write once: the next flush may succeed.
        if lastFailed >= wanted, let failure { throw failure }
    }

    /// Flushes with the lock released.
    private func perform() {
        lastBegun += 1
        pthread_mutex_unlock(lock)
        let result = Result { try File.flushDirectory(path) }
        pthread_mutex_lock(lock)
        lastEnded = lastBegun
        if case .failure(let error) = result { (lastFailed, failure) = (lastEnded, error) }
        pthread_cond_broadcast(ended + lastEnded % 2)
        // Who begins the next one.
        pthread_cond_signal(ended + (lastEnded + 1) % 2)
    }
}
