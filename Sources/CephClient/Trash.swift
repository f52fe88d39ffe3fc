import CDriver
import CRBD
import DriverKit
import Glibc

/// The pool's trash, which librbd keeps beside the images (the object `rbd_trash` of class `rbd`).
package enum Trash {
    package struct Entry {
        package let id, name: String
        /// Whether its deferment time is over.
        package let isDue: Bool
    }

    /// The images moved to the trash, without those that are being removed.
    package static func moved(in cluster: Cluster) throws -> [Entry] {
        var count = 64
        while true {
            var found = [rbd_trash_image_info_t](repeating: rbd_trash_image_info_t(), count: count)
            let result = rbd_trash_list(cluster.pool, &found, &count)
            if result == -ERANGE { continue }
            try Cluster.check(result, "cannot list the trash of \(cluster.settings.pool)")
            defer { rbd_trash_list_cleanup(&found, count) }
            let now = time(nil)
            return found.prefix(count).map {
                Entry(id: String(cString: $0.id), name: String(cString: $0.name), isDue: $0.deferment_end_time <= now)
            }
        }
    }

    /// Seconds after which a removal counts as interrupted if no client has the image open. A younger one may be about to open it.
    private static let patience = 60
    private static let pageLength: UInt64 = 64
    /// `TRASH_IMAGE_SOURCE_REMOVING` of Ceph's cls_rbd_types.h.
    private static let isRemoval: UInt8 = 3

    /// Images whose removal has begun, which librbd's list leaves out; due are those whose removal began a while ago.
    package static func removals(in cluster: Cluster) throws -> [Entry] {
        var found: [Entry] = []
        var last = ""
        while let answer = try cluster.execute(
            "trash_list", of: "rbd_trash", CephForm.encode(last) + CephForm.encode(pageLength), limit: 1 << 15)
        {
            var page = CephForm.Reader(answer)
            let count = page.number(UInt32.self) ?? 0
            for _ in 0..<count {
                guard let id = page.text(), var image = page.structure(), let source = image.number(UInt8.self), let name = image.text(),
                    let movedAt = image.number(UInt32.self)
                else { throw DriverError(CLINKER_ERROR, "the trash of \(cluster.settings.pool) cannot be read") }
                last = id
                guard source == isRemoval else { continue }
                found.append(Entry(id: id, name: name, isDue: Int(movedAt) + patience < time(nil)))
            }
            if count < pageLength { break }
        }
        return found
    }
}
