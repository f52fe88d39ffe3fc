import CRBD
import DriverKit
import Glibc

/// The lock that keeps removals of one image apart. A second removal takes librbd's own lock away from the first, and librbd 16.2 then
/// aborts the process of the first. Two clients begin the same removal where both empty the trash, be they threads or machines.
///
/// It lies with the image's header, and goes with it. It ends by itself: by then a removal has the image open, which others see by its
/// watch.
package enum RemovalLock {
    private static let name = "clinker.removal"
    private static let seconds: UInt32 = 30
    /// `LOCK_EXCLUSIVE` of Ceph's cls_lock_types.h.
    private static let exclusive: UInt8 = 1

    /// Runs the removal, or returns `-EBUSY` where another one has the lock.
    ///
    /// - Parameter image: the image's id; nil if there is none, so that there is nothing to lock.
    package static func hold(_ image: String?, in cluster: Cluster, _ removal: () -> Int32) -> Int32 {
        guard let image else { return removal() }
        let header = "rbd_header.\(image)"
        let cookie = "\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        let unlocking = CephForm.structure(CephForm.encode(name) + CephForm.encode(cookie))
        let locking = CephForm.structure(
            CephForm.encode(name) + [exclusive] + CephForm.encode(cookie) + CephForm.encode("") + CephForm.encode("an image is removed")
                + CephForm.encode(seconds) + CephForm.encode(UInt32(0)) + [0])
        let result = run("lock", locking, on: header, in: cluster)
        // The header is the last to go but one: what is left of such an image no second removal opens.
        if result == -ENOENT { return removal() }
        guard result == 0 else { return result }
        defer { _ = run("unlock", unlocking, on: header, in: cluster) }
        return removal()
    }

    /// Calls a method of the object class `lock` on an object that must exist already.
    private static func run(_ method: String, _ input: [UInt8], on object: String, in cluster: Cluster) -> Int32 {
        let operation = rados_create_write_op()
        defer { rados_release_write_op(operation) }
        rados_write_op_assert_exists(operation)
        var result: Int32 = 0
        input.withUnsafeBytes {
            rados_write_op_exec(operation, "lock", method, $0.bindMemory(to: CChar.self).baseAddress, $0.count, &result)
        }
        return rados_write_op_operate(operation, cluster.pool, object, nil, 0)
    }
}
