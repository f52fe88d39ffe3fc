import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc

/// Volumes from volumes, snapshots and images: clones, which share their parent's objects until they are flattened, and full copies.
extension RBDDriver {
    func cloneVolume(_ call: Call) throws {
        try clone(call)
        try mirroring.begin(call)
    }

    private func clone(_ call: Call) throws {
        let (source, target) = (try name(call, "source.name"), try name(call, "volume.name"))
        let size = try call.gibibytes("volume.size")
        let snapshot = target + Names.cloneSnapshotSuffix
        let origin = try Image(cluster, source, writable: true)
        if maxCloneDepth == 0 { return try copy(origin, to: target, size: size, call) }
        // A complete clone exists; its snapshot of the source must not be taken again.
        if try !origin.hasSnapshot(snapshot), let made = try Image.find(cluster, target, writable: false), try made.isWhole {
            return try growIfSmaller(target, to: size)
        }
        // Remains of an interrupted clone are removed with their snapshot, here or by maintenance.
        for attempt in 1...3 {
            do {
                try origin.makeSnapshot(snapshot)
                try clone(source, snapshot, of: origin.size, to: target, size: size, call)
                break
            } catch {
                try? origin.removeSnapshot(snapshot)
                guard let failure = error as? DriverError, failure.code == CLINKER_NOT_FOUND, attempt < 3 else { throw error }
            }
        }
        guard try Names.cloneDepth(of: origin, atMost: maxCloneDepth) >= maxCloneDepth else { return }
        try flattening.enter(call) { try Image(cluster, target, writable: true).flatten(call, isNew: true) }
        do { try origin.removeSnapshot(snapshot) } catch let error as DriverError where error.code == CLINKER_BUSY {}
    }

    func createVolumeFromSnapshot(_ call: Call) throws {
        let (source, snapshot) = (try name(call, "source.name"), try name(call, "snapshot.name"))
        let target = try name(call, "volume.name")
        try clone(
            source, snapshot, of: call.integer("snapshot.size").map { UInt64($0) << 30 }, to: target, size: call.gibibytes("volume.size"),
            call
        )
        if flattensVolumesFromSnapshots {
            try flattening.enter(call) { try Image(cluster, target, writable: true).flatten(call, isNew: true) }
        }
        try mirroring.begin(call)
    }

    func cloneImage(_ call: Call) throws {
        let target = try name(call, "volume.name")
        let size = try call.gibibytes("volume.size")
        guard let location = ImageLocation(try call.required("image.location"), ofImage: try call.required("image.id")),
            try location.fsid == cluster.fsid, !names.isVolume(location.image)
        else { throw DriverError(CLINKER_UNSUPPORTED, "the image does not lie in this cluster as the Image service stores images") }
        do {
            try cluster.withPool(location.pool) { pool in
                let bytes = try Image.size(of: location.image, at: location.snapshot, in: pool, of: cluster)
                guard bytes <= size else {
                    throw DriverError(CLINKER_UNSUPPORTED, "the image has \(bytes) bytes, more than the volume")
                }
                if let said = call.integer("image.bytes"), said != Int64(clamping: bytes) {
                    throw DriverError(CLINKER_UNSUPPORTED, "the image has \(bytes) bytes and not \(said)")
                }
                try clone(location.image, location.snapshot, in: pool, of: bytes, to: target, size: size, call)
            }
        } catch let error as DriverError where error.code == CLINKER_NOT_FOUND {
            throw DriverError(CLINKER_UNSUPPORTED, error.message)
        }
        try mirroring.begin(call)
    }

    /// Clones, or continues with a complete existing clone, and resizes it.
    ///
    /// - Parameter parentSize: nil if unknown.
    private func clone(
        _ source: String, _ snapshot: String, in pool: rados_ioctx_t? = nil, of parentSize: UInt64?, to target: String, size: UInt64,
        _ call: Call
    ) throws {
        var isNew = true
        let pool = pool ?? cluster.pool
        do { try clone(source, snapshot, in: pool, to: target) } catch let error as DriverError where error.code == CLINKER_EXISTS {
            let existing = try Image.find(cluster, target, writable: false)
            isNew = try existing.map { try !$0.isWhole } ?? true
            existing?.close()
            if isNew {
                // Remains of a crash: a name without an image, or an incomplete clone.
                try deletion.remove(target, call)
                try clone(source, snapshot, in: pool, to: target)
            }
        }
        if !isNew || parentSize != size { try growIfSmaller(target, to: size) }
    }

    private func growIfSmaller(_ target: String, to size: UInt64) throws {
        let image = try Image(cluster, target, writable: false)
        guard try image.size < size else { return }
        image.close()
        try Image(cluster, target, writable: true).grow(to: size)
    }

    private func clone(_ source: String, _ snapshot: String, in pool: rados_ioctx_t, to target: String) throws {
        let result = try withOptions { rbd_clone3(pool, source, snapshot, cluster.pool, target, $0) }
        try Cluster.check(result, "cannot clone \(source)@\(snapshot) to \(target)")
    }

    /// A full copy has a temporary name until it is complete.
    private func copy(_ origin: Image, to target: String, size: UInt64, _ call: Call) throws {
        if try Image.find(cluster, target, writable: false) == nil {
            let partial = target + Names.partialSuffix
            try deletion.remove(partial, call)
            let result = try withOptions { options in
                Progress.report(call) { rbd_copy_with_progress3(origin.handle, cluster.pool, partial, options, $0, $1) }
            }
            try Cluster.check(result, "cannot copy \(origin.name) to \(partial)")
            try Cluster.check(rbd_rename(cluster.pool, partial, target), "cannot rename \(partial)")
        }
        try Image(cluster, target, writable: true).grow(to: size)
    }
}
