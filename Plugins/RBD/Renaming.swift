import CephClient
import CRBD
import DriverKit
import Glibc

/// librbd renames an image in three steps: it creates the new name's object, changes the directory, and removes the old name's object. A
/// process that dies in between leaves both names' objects, and librbd then refuses the rename (EEXIST).
extension Cluster {
    /// Renames the image, or completes an interrupted rename. Returns false if there is no image with the old name.
    func rename(_ old: String, to target: String) throws -> Bool {
        let what = "cannot rename \(old) to \(target)"
        var result = rbd_rename(pool, old, target)
        if result == -EEXIST, let id = try imageID(named: old), try imageID(named: target) == id {
            if try nameInDirectory(ofID: id) == target {
                result = rados_remove(pool, Self.nameObject(old))
            } else {
                try Self.check(rados_remove(pool, Self.nameObject(target)), what)
                result = rbd_rename(pool, old, target)
            }
        }
        if result == -ENOENT { return false }
        try Self.check(result, what)
        return true
    }

    private static func nameObject(_ name: String) -> String { "rbd_id.\(name)" }

    private func imageID(named name: String) throws -> String? {
        var answer = try execute("get_id", of: Self.nameObject(name), []).map { CephForm.Reader($0) }
        return answer?.text()
    }

    private func nameInDirectory(ofID id: String) throws -> String? {
        var answer = try execute("dir_get_name", of: "rbd_directory", CephForm.encode(id)).map { CephForm.Reader($0) }
        return answer?.text()
    }
}
