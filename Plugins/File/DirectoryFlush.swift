import DriverKit
import Glibc

/// Flushes a directory for all callers that wait for it: one flush serves everybody who changed a name before it began.
final class DirectoryFlush: @unchecked Sendable {
    private let path: String
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let ended = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Flushes are numbered from 1 as they begin. All of this is read and changed under the lock.
    private var lastBegun = 0
    private var lastEnded = 0
    private var lastFailed = 0
    private var failure: (any Error)?

    init(_ path: String) {
        self.path = path
        pthread_mutex_init(lock, nil)
        pthread_cond_init(ended, nil)
    }

    deinit {
        pthread_cond_destroy(ended)
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
            if lastBegun == lastEnded { perform() } else { pthread_cond_wait(ended, lock) }
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
        pthread_cond_broadcast(ended)
    }
}
