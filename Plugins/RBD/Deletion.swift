import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc
import Synchronization

/// Deletes volumes. A volume with clones is renamed and removed with the last of them; with deferred deletion a volume is moved to the
/// trash first.
final class Deletion: @unchecked Sendable {
    private let cluster: Cluster
    let removal: ImageRemoval
    /// Seconds that a deleted volume stays in the trash; nil to delete it at once.
    private let delay: Int?
    private let interval: Int
    private let names: VolumeNames
    private let flattening: FlattenLimit
    /// Held while snapshots and volumes without remaining clones are removed.
    private let family = Mutex(())
    private let maintenance = Mutex<(isRunning: Bool, last: Int)>((false, .min))

    init(_ cluster: Cluster, delay: Int?, interval: Int, names: VolumeNames, flattening: FlattenLimit) {
        self.cluster = cluster
        removal = ImageRemoval(cluster)
        self.names = names
        self.delay = delay
        self.interval = interval
        self.flattening = flattening
    }

    func delete(_ name: String, _ call: Call) throws {
        do { try deleteIfFree(name, call) } catch let error as DriverError where [CLINKER_BUSY, CLINKER_NO_SPACE].contains(error.code) {
            // librbd removes an image's name before its data: an image that still has its name is unchanged, one without is being removed.
            let isWhole = (try? Image.find(cluster, name, writable: false) != nil) ?? false
            throw DriverError(isWhole ? CLINKER_BUSY : CLINKER_RETRY, error.message)
        }
    }

    private func deleteIfFree(_ name: String, _ call: Call) throws {
        guard let image = try Image.find(cluster, name, writable: true) else {
            try remove(name + Names.partialSuffix, call)
            return try remove(name, call)
        }
        let parent = try image.parent
        var isNeeded = false
        for snapshot in try image.snapshots {
            do { if try clear(snapshot, of: image) { continue } } catch let error as DriverError where error.code == CLINKER_BUSY {
                isNeeded = true
                continue
            }
            // A snapshot made by a user or by another application: it would be deleted with the image, or hidden from its owner.
            throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.name)")
        }
        image.close()
        if isNeeded {
            _ = try cluster.rename(name, to: name + Names.deletedSuffix)
            return
        }
        if let delay { return try Cluster.check(rbd_trash_move(cluster.pool, name, UInt64(delay)), "cannot move \(name) to the trash") }
        try remove(name, call)
        // The volume is deleted; a failure to clean up its parent is retried by maintenance.
        do { try family.withLock { _ in try removeAncestor(parent) } } catch let error as DriverError {
            call.log(CLINKER_WARNING, "\(name) is deleted; what it was cloned from is cleared later: \(error.message)")
        }
    }

    /// Removes a snapshot that exists only as the parent of a clone, once the clone is gone or was never completed. Throws BUSY if a clone
    /// needs it; returns false if it is a snapshot of another kind.
    private func clear(_ snapshot: Image.Snapshot, of image: Image) throws -> Bool {
        if snapshot.name.hasSuffix(Names.cloneSnapshotSuffix) || Names.isOfBackup(snapshot.name) {
            try image.removeSnapshot(snapshot.name)
            return true
        }
        switch try image.kind(of: snapshot) {
        case RBD_SNAP_NAMESPACE_TYPE_TRASH?: try image.clear(snapshot)
        // A snapshot of rbd-mirror, which librbd removes with the image.
        case RBD_SNAP_NAMESPACE_TYPE_MIRROR?, nil: break
        default: return false
        }
        return true
    }

    /// Removes an image without clones, or the remains of one; succeeds if there is nothing to remove.
    func remove(_ name: String, _ call: Call) throws { try removal.remove(name, call) }

    /// Cleans up after the removal of a clone: removes its parent snapshot if it was the last clone, and a deleted volume with its last
    /// snapshot.
    private func removeAncestor(_ parent: Image.Parent?) throws {
        guard let parent, parent.pool == cluster.settings.pool, parent.snapshot.hasSuffix(Names.cloneSnapshotSuffix),
            let image = try Image.find(cluster, parent.image, writable: true)
        else { return }
        do { try image.removeSnapshot(parent.snapshot) } catch let error as DriverError where error.code == CLINKER_BUSY { return }
        try removeIfForgotten(image)
    }

    private func removeIfForgotten(_ image: Image) throws {
        guard image.name.hasSuffix(Names.deletedSuffix), try image.snapshots.isEmpty else { return }
        let parent = try image.parent
        image.close()
        _ = try removal.removeImage(image.name)
        try removeAncestor(parent)
    }

    func flattenChildren(of image: Image, _ snapshot: String, _ call: Call) throws {
        for child in try image.children(of: snapshot) where child.pool == cluster.settings.pool && !child.isTrash {
            guard let clone = try Image.find(cluster, child.name, writable: true) else { continue }
            call.log(CLINKER_INFO, "\(child.name) is made independent of \(image.name)@\(snapshot)")
            try flattening.enter(call) { try clone.flatten(call, isNew: false) }
        }
    }

    // MARK: maintenance

    private func remove(_ entry: Trash.Entry) throws {
        let parent = try? Image(cluster, id: entry.id, name: entry.name).parent
        let (result, _) = removal.outlivingWatches(nil, of: entry.id) { rbd_trash_remove(cluster.pool, entry.id, false) }
        if result == -EBUSY { return }
        if result != -ENOENT { try Cluster.check(result, "cannot remove \(entry.name) from the trash") }
        try family.withLock { _ in try removeAncestor(parent) }
    }

    /// Starts a thread that completes interrupted removals and removes due images from the trash at every interval.
    func startMaintenance() {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        let seconds = now.tv_sec
        let isDue = maintenance.withLock { state in
            guard !state.isRunning, state.last == .min || seconds - state.last >= interval else { return false }
            state = (true, seconds)
            return true
        }
        guard isDue else { return }
        var thread = pthread_t()
        let started = pthread_create(
            &thread, nil,
            { opaque in
                guard let opaque else { return nil }
                let deletion = Unmanaged<Deletion>.fromOpaque(opaque).takeRetainedValue()
                try? deletion.maintain()
                deletion.maintenance.withLock { $0.isRunning = false }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        if started == 0 { pthread_detach(thread) }
    }

    private func maintain() throws {
        for name in try cluster.imageNames where name.hasSuffix(Names.deletedSuffix) {
            // An image that cannot be read or removed does not stop the others.
            try? family.withLock { _ in
                // An interrupted removal.
                guard let image = try Image.find(cluster, name, writable: true) else { return _ = try removal.removeImage(name) }
                for snapshot in try image.snapshots { _ = try? clear(snapshot, of: image) }
                try removeIfForgotten(image)
            }
        }
        for entry in try Trash.moved(in: cluster) + Trash.removals(in: cluster) where entry.isDue && names.isVolume(entry.name) {
            try? remove(entry)
        }
    }
}

/// Limits how many images are flattened at the same time, since each makes the cluster copy a whole volume.
final class FlattenLimit: Sendable {
    private let limit: Int
    private let running = Mutex(0)

    init(_ limit: Int) { self.limit = limit }

    func enter(_ call: Call, _ body: () throws -> Void) throws {
        while true {
            let entered = running.withLock { running in
                guard running < limit else { return false }
                running += 1
                return true
            }
            if entered { break }
            if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            // Reports progress while the call waits for its turn.
            call.progress(done: 0, total: 0)
            usleep(200_000)
        }
        defer { running.withLock { $0 -= 1 } }
        try body()
    }
}
