import CRBD
import DriverKit

/// What clients hold an image open by.
enum Watches {
    /// Seconds that a client has to answer in.
    private static let patience: UInt64 = 2

    /// Whether a client answers for the image, or may do so yet. An OSD that loses a client before it has committed the client's watch
    /// notes the watch with the image and never ends it (seen with Ceph 16.2): librbd takes the image for open until the OSD loads what
    /// it knows of it again, an hour later or a month. Such a watch is sent no notification, so nobody fails to answer one.
    static func areAlive(on image: String, in cluster: Cluster) -> Bool {
        var reply: UnsafeMutablePointer<CChar>?
        var length = 0
        // An empty notification tells clients to read the image's header again.
        let result = rados_notify2(cluster.pool, "rbd_header.\(image)", nil, 0, patience * 1000, &reply, &length)
        defer { rados_buffer_free(reply) }
        // A time-out among them: of a client that died and whose watch will end.
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
