import CDriver
import CRBD
import DriverKit
import Glibc

/// The pool's list of names, which librbd keeps beside the images (the object `rbd_directory` of class `rbd`).
package enum Directory {
    /// The id of the image that a name leads to; nil if there is none.
    package static func id(of name: String, in cluster: Cluster) throws -> String? {
        guard let answer = try cluster.execute("get_id", of: "rbd_id.\(name)", []) else { return nil }
        var reader = CephForm.Reader(answer)
        return reader.text()
    }

    /// Removes a name without an image from the list: librbd removes the object that maps a name to its image before it removes the name,
    /// and a client that dies in between leaves the name behind.
    package static func forget(_ name: String, in cluster: Cluster) throws {
        var size: UInt64 = 0
        var time = time_t()
        let leads = rados_stat(cluster.pool, "rbd_id.\(name)", &size, &time)
        if leads == 0 { return }
        if leads != -ENOENT { try Cluster.check(leads, "cannot look for the image of \(name)") }
        guard let answer = try cluster.execute("dir_get_id", of: object, CephForm.encode(name)) else { return }
        var reader = CephForm.Reader(answer)
        guard let id = reader.text() else { return }
        // ESTALE: the name belongs to another image now.
        _ = try cluster.execute("dir_remove_image", of: object, CephForm.encode(name) + CephForm.encode(id), ignoring: [-ESTALE])
    }

    private static let object = "rbd_directory"
}
