import CRBD
import DriverKit

/// The watches by which clients keep an image open.
package enum Watches {
    /// Time-out in seconds for a client's reply.
    private static let patience: UInt64 = 2

    /// Whether a client replies for the image, or may still do so. An OSD that loses a client before it has committed the client's watch
    /// records the watch with the image and never ends it (seen with Ceph 16.2): librbd considers the image open until the OSD reloads the
    /// object, which may be a month later. Such a stale watch receives no notification, so no reply to it is missing.
    package static func areAlive(on image: String, in cluster: Cluster) -> Bool {
        var reply: UnsafeMutablePointer<CChar>?
        var length = 0
        // An empty notification makes clients reload the image's header.
        let result = rados_notify2(cluster.pool, "rbd_header.\(image)", nil, 0, patience * 1000, &reply, &length)
        defer { rados_buffer_free(reply) }
        // A time-out belongs to a dead client, whose watch will end.
        guard result == 0 else { return true }
        var answers: UnsafeMutablePointer<notify_ack_t>?
        var silent: UnsafeMutablePointer<notify_timeout_t>?
        var answered = 0
        var missing = 0
        guard rados_decode_notify_response(reply, length, &answers, &answered, &silent, &missing) == 0 else { return true }
        rados_free_notify_response(answers, answered, silent)
        return answered + missing > 0
    }
}
