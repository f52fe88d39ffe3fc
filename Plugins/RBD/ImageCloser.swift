import CRBD
import Glibc
import Synchronization

/// Closes images that were opened to read, none of them younger than `age`. A thread of librbd that has told of an image's opening takes
/// a lock of the image, or of its parent, once more: after whoever waited may have gone on. Where that one has closed the image by then,
/// the thread aborts, or writes into memory that is not its own any more (seen with Ceph 16.2: of six processes that did nothing but
/// open and close clones on two processors, with an allocator that overwrites what is freed, each died within 250 rounds).
/// An image that is open to write takes the time of a few round trips to the cluster before it goes (none died in 2,400 rounds).
final class ImageCloser: Sendable {
    private static let age = Duration.milliseconds(100)

    private struct Closed: @unchecked Sendable {
        let handle: rbd_image_t
        /// When it may go.
        let due: ContinuousClock.Instant
    }

    /// In the order in which they were closed.
    private let waiting = Mutex<[Closed]>([])

    /// Now or soon: by a later call, `closeAll` at the latest.
    func close(_ handle: rbd_image_t, openedAt: ContinuousClock.Instant) {
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

    /// Returns when none is open any more, after the time that the youngest takes to come of age.
    func closeAll() {
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
