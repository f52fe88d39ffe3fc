import CDriver
import CRBD
import DriverKit
import Glibc

/// An open image of the pool.
package final class Image {
    package struct Snapshot {
        package let id: UInt64
        package let name: String
        package let size: UInt64
    }

    /// The parent of a clone.
    package struct Parent: Equatable {
        package let pool: String
        package let image: String
        package let snapshot: String
    }

    package let name: String
    package let cluster: Cluster
    package let handle: rbd_image_t
    private var isOpen = true
    /// nil for an image that is open for writing.
    private let openedToReadAt: ContinuousClock.Instant?

    /// Throws NOT_FOUND if there is no such image. With `snapshot` the image is opened at that snapshot.
    package init(_ cluster: Cluster, _ name: String, writable: Bool, snapshot: String? = nil) throws {
        self.cluster = cluster
        self.name = name
        var opened: rbd_image_t?
        let result = writable ? rbd_open(cluster.pool, name, &opened, snapshot) : rbd_open_read_only(cluster.pool, name, &opened, snapshot)
        try Cluster.check(result, "cannot open image \(name)\(snapshot.map { "@\($0)" } ?? "")")
        guard let handle = opened else { throw DriverError(CLINKER_ERROR, "librbd gave no image for \(name)") }
        self.handle = handle
        openedToReadAt = writable ? nil : .now
    }

    /// An image of the trash.
    package init(_ cluster: Cluster, id: String, name: String) throws {
        self.cluster = cluster
        self.name = name
        var opened: rbd_image_t?
        try Cluster.check(rbd_open_by_id_read_only(cluster.pool, id, &opened, nil), "cannot open image \(name) in the trash")
        guard let handle = opened else { throw DriverError(CLINKER_ERROR, "librbd gave no image for \(name)") }
        self.handle = handle
        openedToReadAt = .now
    }

    deinit { close() }

    package func close() {
        guard isOpen else { return }
        isOpen = false
        if let openedToReadAt { cluster.closer.close(handle, openedAt: openedToReadAt) } else { rbd_close(handle) }
    }

    /// nil if there is none.
    package static func find(_ cluster: Cluster, _ name: String, writable: Bool) throws -> Image? {
        do { return try Image(cluster, name, writable: writable) } catch let error as DriverError where error.code == CLINKER_NOT_FOUND {
            return nil
        }
    }

    /// The prefix of its objects' names.
    package var id: String {
        get throws {
            var buffer = [CChar](repeating: 0, count: 64)
            try Cluster.check(rbd_get_id(handle, &buffer, buffer.count), "cannot read the id of \(name)")
            return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// Bytes.
    package var size: UInt64 {
        get throws {
            var size: UInt64 = 0
            try Cluster.check(rbd_get_size(handle, &size), "cannot read the size of \(name)")
            return size
        }
    }

    /// Bytes of a snapshot of an image in any pool. Throws NOT_FOUND if there is none that the client may read.
    package static func size(of image: String, at snapshot: String, in pool: rados_ioctx_t, of cluster: Cluster) throws -> UInt64 {
        var opened: rbd_image_t?
        let result = rbd_open_read_only(pool, image, &opened, snapshot)
        if result == -EPERM || result == -EACCES { throw DriverError(CLINKER_NOT_FOUND, "\(image)@\(snapshot) may not be read") }
        try Cluster.check(result, "cannot open \(image)@\(snapshot)")
        guard let handle = opened else { throw DriverError(CLINKER_ERROR, "librbd gave no image for \(image)") }
        let openedAt = ContinuousClock.Instant.now
        defer { cluster.closer.close(handle, openedAt: openedAt) }
        var size: UInt64 = 0
        try Cluster.check(rbd_get_size(handle, &size), "cannot read the size of \(image)@\(snapshot)")
        return size
    }

    /// Resizes the image to at least this many bytes; an image never shrinks.
    package func grow(to bytes: UInt64) throws {
        guard try size < bytes else { return }
        try Cluster.check(rbd_resize2(handle, bytes, false, nil, nil), "cannot resize \(name)")
    }

    // MARK: snapshots

    package var snapshots: [Snapshot] {
        get throws {
            var count: Int32 = 16
            while true {
                var found = [rbd_snap_info_t](repeating: rbd_snap_info_t(), count: Int(count))
                let result = rbd_snap_list(handle, &found, &count)
                if result == -ERANGE { continue }
                try Cluster.check(result, "cannot list the snapshots of \(name)")
                defer { if result > 0 { rbd_snap_list_end(&found) } }
                return found.prefix(Int(result)).map { Snapshot(id: $0.id, name: String(cString: $0.name), size: $0.size) }
            }
        }
    }

    package func hasSnapshot(_ snapshot: String) throws -> Bool {
        var exists = false
        try Cluster.check(rbd_snap_exists(handle, snapshot, &exists), "cannot look for \(name)@\(snapshot)")
        return exists
    }

    /// Checks the name of an image or snapshot: '/' and '@' would lead to another pool, namespace or snapshot.
    package static func checkedName(_ name: String) throws -> String {
        guard !name.isEmpty, name.utf8.count <= 200, !name.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "@") })
        else {
            throw DriverError(CLINKER_INVALID, "'\(name)' cannot be the name of an image or snapshot")
        }
        return name
    }

    /// Creates a snapshot; succeeds if it exists.
    ///
    /// - Parameter isProtected: what has children is protected, and cannot be removed before that is lifted.
    package func makeSnapshot(_ snapshot: String, isProtected: Bool = true) throws {
        let created = rbd_snap_create(handle, snapshot)
        if created != -EEXIST { try Cluster.check(created, "cannot create \(name)@\(snapshot)") }
        guard isProtected else { return }
        let protected = rbd_snap_protect(handle, snapshot)
        if protected != -EBUSY { try Cluster.check(protected, "cannot protect \(name)@\(snapshot)") }
    }

    /// Throws BUSY if the snapshot has children; succeeds if it does not exist.
    package func removeSnapshot(_ snapshot: String) throws {
        let unprotected = rbd_snap_unprotect(handle, snapshot)
        if unprotected == -ENOENT { return }
        if unprotected != -EINVAL { try Cluster.check(unprotected, "cannot unprotect \(name)@\(snapshot)") }
        let removed = rbd_snap_remove(handle, snapshot)
        if removed != -ENOENT { try Cluster.check(removed, "cannot remove \(name)@\(snapshot)") }
    }

    /// The namespace of the snapshot: a user's, a group's or librbd's own. `TRASH` is a removed snapshot that is kept under another name
    /// until its last clone is gone. nil if it does not exist.
    package func kind(of snapshot: Snapshot) throws -> rbd_snap_namespace_type_t? {
        var type = RBD_SNAP_NAMESPACE_TYPE_USER
        let result = rbd_snap_get_namespace_type(handle, snapshot.id, &type)
        if result == -ENOENT { return nil }
        try Cluster.check(result, "cannot read the kind of \(name)@\(snapshot.name)")
        return type
    }

    /// Whether a client has the image open; stale watches do not count. Throws NOT_FOUND if the image was removed since it was opened.
    package var isWatched: Bool {
        get throws {
            var count = 8
            while true {
                var found = [rbd_image_watcher_t](repeating: rbd_image_watcher_t(), count: count)
                let result = rbd_watchers_list(handle, &found, &count)
                if result == -ERANGE { continue }
                try Cluster.check(result, "cannot list the watchers of \(name)")
                rbd_watchers_list_cleanup(&found, count)
                return try count > 0 && Watches.areAlive(on: id, in: cluster)
            }
        }
    }

    /// Removes such a snapshot if its last clone is gone but the client died before it could remove the snapshot. Throws BUSY if there is a
    /// clone.
    package func clear(_ snapshot: Snapshot) throws {
        let result = rbd_snap_remove_by_id(handle, snapshot.id)
        if result != -ENOENT { try Cluster.check(result, "cannot clear away \(name)@\(snapshot.name)") }
    }

    // MARK: parents and children

    package var parent: Parent? {
        get throws {
            var image = rbd_linked_image_spec_t()
            var snapshot = rbd_snap_spec_t()
            let result = rbd_get_parent(handle, &image, &snapshot)
            if result == -ENOENT { return nil }
            try Cluster.check(result, "cannot read the parent of \(name)")
            defer {
                rbd_linked_image_spec_cleanup(&image)
                rbd_snap_spec_cleanup(&snapshot)
            }
            return Parent(
                pool: String(cString: image.pool_name), image: String(cString: image.image_name), snapshot: String(cString: snapshot.name))
        }
    }

    /// The clones of a snapshot of this image: names, and whether they are in the trash.
    package func children(of snapshot: String) throws -> [(name: String, pool: String, isTrash: Bool)] {
        let image = try Image(cluster, name, writable: false, snapshot: snapshot)
        var count = 16
        while true {
            var found = [rbd_linked_image_spec_t](repeating: rbd_linked_image_spec_t(), count: count)
            let result = rbd_list_children3(image.handle, &found, &count)
            if result == -ERANGE { continue }
            try Cluster.check(result, "cannot list the children of \(name)@\(snapshot)")
            defer { rbd_linked_image_spec_list_cleanup(&found, count) }
            return found.prefix(count).map {
                (name: String(cString: $0.image_name), pool: String(cString: $0.pool_name), isTrash: $0.trash)
            }
        }
    }

    /// Metadata key that marks a complete image before it is flattened: an image with neither parent nor mark is an incomplete clone.
    private static let wholeKey = "clinker.whole"

    /// Whether this image is a complete clone.
    package var isWhole: Bool {
        get throws {
            if let parent = try parent {
                guard let origin = try Image.find(cluster, parent.image, writable: false) else { return false }
                // If the parent does not list its child, its snapshot can be removed although the child needs it.
                return try origin.children(of: parent.snapshot).contains { $0.name == name }
            }
            return try isMarked(Self.wholeKey)
        }
    }

    private func isMarked(_ key: String) throws -> Bool {
        var value = [CChar](repeating: 0, count: 16)
        var length = value.count
        let result = rbd_metadata_get(handle, key, &value, &length)
        if result == -ENOENT { return false }
        try Cluster.check(result, "cannot read the metadata of \(name)")
        return true
    }

    private func mark(_ key: String) throws { try Cluster.check(rbd_metadata_set(handle, key, "1"), "cannot mark \(name)") }

    /// Copies the parent's data into the image, which then does not depend on it. Can be cancelled and continues where it stopped.
    /// `isNew`: no client has ever written to the image.
    package func flatten(_ call: Call, isNew: Bool) throws {
        if try parent != nil {
            if try !isNew || isMarked(Self.wholeKey) { try setMapAside() }
            try mark(Self.wholeKey)
            let result = Progress.report(call) { rbd_flatten_with_progress(handle, $0, $1) }
            // EINVAL: it has no parent.
            if result != -EINVAL { try Cluster.check(result, "cannot flatten \(name)") }
        }
        try takeMapBack(call)
    }

    // librbd skips objects that its object map lists, and the map lists an object before it is written: if a client dies in between, a
    // later flatten does not copy the parent's data of that object (seen with Ceph 16.2; rebuilding the map keeps such entries). Without a
    // map every object is examined.
    private static let mapKey = "clinker.map"
    private static let mapFeatures = UInt64(RBD_FEATURE_OBJECT_MAP) | UInt64(RBD_FEATURE_FAST_DIFF)

    private func setMapAside() throws {
        var features: UInt64 = 0
        try Cluster.check(rbd_get_features(handle, &features), "cannot read the features of \(name)")
        guard features & Self.mapFeatures != 0 else { return }
        try mark(Self.mapKey)
        try Cluster.check(rbd_update_features(handle, features & Self.mapFeatures, 0), "cannot set the object map of \(name) aside")
    }

    private func takeMapBack(_ call: Call) throws {
        guard try isMarked(Self.mapKey) else { return }
        var features: UInt64 = 0
        try Cluster.check(rbd_get_features(handle, &features), "cannot read the features of \(name)")
        let missing = Self.mapFeatures & ~features
        if missing != 0 { try Cluster.check(rbd_update_features(handle, missing, 1), "cannot give \(name) an object map") }
        let rebuilt = Progress.report(call) { rbd_rebuild_object_map(handle, $0, $1) }
        try Cluster.check(rebuilt, "cannot rebuild the object map of \(name)")
        try Cluster.check(rbd_metadata_remove(handle, Self.mapKey), "cannot unmark \(name)")
    }
}

/// Passes librbd's progress to the host, and the host's cancellation to librbd.
package enum Progress {
    private final class Box {
        let call: Call
        init(_ call: Call) { self.call = call }
    }

    package static func report(_ call: Call, _ body: (librbd_progress_fn_t, UnsafeMutableRawPointer) -> Int32) -> Int32 {
        let box = Box(call)
        return withExtendedLifetime(box) {
            body(
                { done, total, opaque in
                    guard let opaque else { return 0 }
                    let call = Unmanaged<Box>.fromOpaque(opaque).takeUnretainedValue().call
                    call.progress(done: done, total: total)
                    return call.isCancelled ? -ECANCELED : 0
                }, Unmanaged.passUnretained(box).toOpaque())
        }
    }
}
