import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc

/// Volumes that are replicated to a second cluster: their images are journaled and mirrored individually by rbd-mirror.
struct Mirroring {
    private let cluster: Cluster
    /// The clusters of `replication_device` to which images are mirrored; empty without replication.
    private let targets: [String]

    init(_ call: Call, _ cluster: Cluster) throws {
        self.cluster = cluster
        guard let device = try call.given(RBDOptions.replicationDevice) else {
            targets = []
            return
        }
        // backend_id:NAME,conf:FILE,user:NAME,...
        let members = device.split(separator: ",").map { $0.split(separator: ":", maxSplits: 1).map { $0.filter { !$0.isWhitespace } } }
        guard let id = members.first(where: { $0.first == "backend_id" && $0.count == 2 })?.last, !id.isEmpty else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "replication_device must name a backend_id: '\(device)'")
        }
        targets = [id]
        var mode = RBD_MIRROR_MODE_DISABLED
        try Cluster.check(rbd_mirror_mode_get(cluster.pool, &mode), "cannot read the mirroring of \(cluster.settings.pool)")
        guard mode == RBD_MIRROR_MODE_IMAGE else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "replication_device: the pool \(cluster.settings.pool) does not mirror single images (rbd mirror pool enable \(cluster.settings.pool) image)"
            )
        }
    }

    /// Reports the replication capabilities, which volume types request.
    func describe(_ call: Call) {
        call.set("replication_enabled", !targets.isEmpty)
        guard !targets.isEmpty else { return }
        call.list("replication_type") { call.set(nil, "async") }
        call.set("replication_count", Int64(targets.count))
        call.list("replication_targets") { for target in targets { call.set(nil, target) } }
    }

    /// Enables mirroring for the call's volume if its type requests it; succeeds if it is enabled already.
    func begin(_ call: Call) throws {
        guard call.boolean("volume.replicated") ?? false else { return }
        guard !targets.isEmpty else {
            throw DriverError(CLINKER_INVALID, "the volume's type asks for replication, and replication_device is not set")
        }
        let image = try Image(cluster, call.required("volume.name"), writable: true)
        var info = rbd_mirror_image_info_t()
        try Cluster.check(
            rbd_mirror_image_get_info(image.handle, &info, MemoryLayout.size(ofValue: info)), "cannot read the mirroring of \(image.name)")
        defer { rbd_mirror_image_get_info_cleanup(&info) }
        if info.state != RBD_MIRROR_IMAGE_ENABLED {
            // A clone can only be mirrored if its parent is.
            if try image.parent != nil { try image.flatten(call, isNew: false) }
            var features: UInt64 = 0
            try Cluster.check(rbd_get_features(image.handle, &features), "cannot read the features of \(image.name)")
            for feature in [UInt64(RBD_FEATURE_EXCLUSIVE_LOCK), UInt64(RBD_FEATURE_JOURNALING)] where features & feature == 0 {
                try Cluster.check(rbd_update_features(image.handle, feature, 1), "cannot have a journal of \(image.name)")
            }
            try Cluster.check(rbd_mirror_image_enable2(image.handle, RBD_MIRROR_IMAGE_MODE_JOURNAL), "cannot mirror \(image.name)")
        }
        call.set("replication_status", "enabled")
    }
}
