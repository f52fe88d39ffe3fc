import CDriver
import CRBD
import DriverKit
import Glibc

/// What the names of images and snapshots say: they are Cinder's.
enum Names {
    /// Of the snapshot that a clone of a volume hangs on.
    static let cloneSnapshotSuffix = ".clone_snap"
    /// Of a volume that is deleted as far as its user sees, while clones need its objects.
    static let deletedSuffix = ".deleted"
    /// Of a full copy that is being made.
    static let partialSuffix = ".partial"
    /// Of a volume's snapshot that users know.
    static let userSnapshotPrefix = "snapshot-"

    static func images(of cluster: Cluster) throws -> [String] {
        var count = 64
        while true {
            var found = [rbd_image_spec_t](repeating: rbd_image_spec_t(), count: count)
            let result = rbd_list2(cluster.pool, &found, &count)
            if result == -ERANGE { continue }
            try Cluster.check(result, "cannot list the images of \(cluster.settings.pool)")
            defer { rbd_image_spec_list_cleanup(&found, count) }
            return found.prefix(count).map { String(cString: $0.name) }
        }
    }

    /// How many clones lie between an image and one that is not a clone of a volume.
    static func cloneDepth(of image: Image, atMost limit: Int) throws -> Int {
        var depth = 0
        var current = image
        while depth < limit, let parent = try current.parent, parent.snapshot.hasSuffix(cloneSnapshotSuffix),
            let next = try Image.find(image.cluster, parent.image, writable: false)
        {
            depth += 1
            current = next
        }
        return depth
    }
}
