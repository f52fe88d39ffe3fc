import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc

/// Images that exist already: listing them, taking them over as volumes and snapshots, and renaming them.
extension RBDDriver {
    func listVolumes(_ call: Call) throws {
        defer { cluster.closer.closeAll() }
        let names = try cluster.imageNames
        try call.list("volumes") {
            for (index, name) in names.enumerated() {
                if index % 64 == 0 { call.progress(done: UInt64(index), total: UInt64(names.count)) }
                guard let volume = try listedVolume(name) else { continue }
                call.object(nil) {
                    call.set("name", name)
                    call.set("bytes", Int64(volume.bytes))
                    call.set("size", Int64((volume.bytes + 1_073_741_823) >> 30))
                    if volume.isWatched { call.set("unsafe", "a client has it open") }
                    call.list("snapshots") {
                        for snapshot in volume.snapshots where !snapshot.hasSuffix(Names.cloneSnapshotSuffix) {
                            call.object(nil) { call.set("name", snapshot) }
                        }
                    }
                }
            }
        }
    }

    private struct ListedVolume {
        let bytes: UInt64
        let isWatched: Bool
        let snapshots: [String]
    }

    /// nil if the image is internal to this driver, or was removed since its name was read: an image that is open to be read does not keep
    /// a removal back, so it may go between any two of these calls.
    private func listedVolume(_ name: String) throws -> ListedVolume? {
        do {
            let image = try Image(cluster, name, writable: false)
            let snapshots = try image.snapshots.map(\.name)
            // Deleted volumes that clones still need.
            if name.hasSuffix(Names.deletedSuffix), !snapshots.isEmpty { return nil }
            return ListedVolume(bytes: try image.size, isWatched: try image.isWatched, snapshots: snapshots)
        } catch let error as DriverError where error.code == CLINKER_NOT_FOUND { return nil }
    }

    func manageVolume(_ call: Call) throws {
        let (reference, target) = (try self.reference(call), try name(call, "volume.name"))
        // A client that has it open would not notice the rename, nor a second writer.
        if let found = try Image.find(cluster, reference, writable: false) {
            defer { found.close() }
            if try found.isWatched { throw DriverError(CLINKER_BUSY, "a client has the image \(reference) open") }
        }
        try rename(reference, as: target)
        let image = try Image(cluster, target, writable: true)
        // Volumes are whole GiB; the added bytes read as zeroes.
        let size = max(1, (try image.size + 1_073_741_823) >> 30)
        try image.grow(to: size << 30)
        image.close()
        try mirroring.begin(call)
        call.set("size", Int64(size))
    }

    func renameVolume(_ call: Call) throws {
        let target = try name(call, "volume.name")
        try rename(name(call, "source.name"), as: target)
        try Image(cluster, target, writable: false).close()
    }

    private func rename(_ old: String, as target: String) throws {
        guard old != target else { return }
        // The old name is gone: an earlier attempt has renamed it.
        _ = try cluster.rename(old, to: target)
    }

    func manageSnapshot(_ call: Call) throws {
        let (reference, target) = (try self.reference(call), try name(call, "snapshot.name"))
        let image = try Image(cluster, name(call, "volume.name"), writable: true)
        if reference != target {
            let result = rbd_snap_rename(image.handle, reference, target)
            if result != -ENOENT { try Cluster.check(result, "cannot rename the snapshot \(reference) to \(target)") }
        }
        guard let found = try image.snapshots.first(where: { $0.name == target }) else {
            throw DriverError(CLINKER_NOT_FOUND, "\(image.name) has no snapshot \(reference)")
        }
        try image.makeSnapshot(target)
        call.set("size", Int64((found.size + 1_073_741_823) >> 30))
    }

    // An unmanaged object stays as it is.
    func unmanageVolume(_ call: Call) throws {}
    func unmanageSnapshot(_ call: Call) throws {}

    private func reference(_ call: Call) throws -> String {
        try name(call, call.referenceArgument)
    }
}
