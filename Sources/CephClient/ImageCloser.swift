import CRBD
import Glibc
import Synchronization

/// Closes images that were opened for reading, but not before they are `age` old. After a thread of librbd has reported that an image is
/// open it takes a lock of the image, or of its parent, once more. If the caller has closed the image by then, the thread aborts or writes
/// into freed memory (seen with Ceph 16.2: of six processes that only opened and closed clones on two processors, with an allocator that
/// overwrites freed memory, each died within 250 rounds). Closing an image that is open for writing takes a few round trips to the cluster,
/// which is long enough (no process died in 2,400 rounds).
package final class ImageCloser: Sendable {
    private static let age = Duration.milliseconds(100)

    private struct Closed: @unchecked Sendable {
        let handle: rbd_image_t
        /// When it may be closed.
        let due: ContinuousClock.Instant
    }

    /// In the order in which they were closed.
    private let waiting = Mutex<[Closed]>([])

    /// Closes the image now or in a later call, in `closeAll` at the latest.
    package func close(_ handle: rbd_image_t, openedAt: ContinuousClock.Instant) {
        let closed = Closed(handle: handle, due: openedAt + Self.age)
        let now = ContinuousClock.now
        let due = waiting.withLock { waiting in
            waiting.append(closed)
            let due = waiting.filter { $0.due <= now }
            waiting.removeAll { $0.due <= now }
            return due
        }
        for image in due { rbd_close(image.handle) }
    }

    /// Closes all images; waits until the youngest is old enough.
    package func closeAll() {
        let all = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        for image in all {
            let rest = ContinuousClock.now.duration(to: image.due)
            if rest > .zero { usleep(UInt32(rest.components.attoseconds / 1_000_000_000_000) + 1) }
            rbd_close(image.handle)
        }
    }
}
