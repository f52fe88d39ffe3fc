import CDriver
import CRBD
import DriverKit
import Glibc
import Synchronization

/// How volumes go. One that clones hang on is renamed and goes with the last of them; one that the operator wants back perhaps
/// goes to the trash.
final class Deletion: @unchecked Sendable {
    private let cluster: Cluster
    /// Seconds that a deleted volume stays in the trash; nil: deleted at once.
    private let delay: Int?
    private let interval: Int
    private let names: VolumeNames
    private let flattening: FlattenLimit
    /// Held by whoever clears away what clones hung on.
    private let family = Mutex(())
    private let maintenance = Mutex<(isRunning: Bool, last: Int)>((false, .min))

    init(_ cluster: Cluster, delay: Int?, interval: Int, names: VolumeNames, flattening: FlattenLimit) {
        self.cluster = cluster
        self.names = names
        self.delay = delay
        self.interval = interval
        self.flattening = flattening
    }

    func delete(_ name: String, _ call: Call) throws {
        do { try deleteIfFree(name, call) } catch let error as DriverError where [CLINKER_BUSY, CLINKER_NO_SPACE].contains(error.code) {
            // librbd takes an image's name before the first of its bytes: one that has it is as it was. The other has begun to go.
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
            // A user's, or of somebody who uses the pool beside us: it would go with the image, or be out of its owner's sight.
            throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.name)")
        }
        image.close()
        if isNeeded {
            _ = try cluster.rename(name, to: name + Names.deletedSuffix)
            return
        }
        if let delay { return try Cluster.check(rbd_trash_move(cluster.pool, name, UInt64(delay)), "cannot move \(name) to the trash") }
        try remove(name, call)
        // The volume is gone, whatever becomes of what it hung on: that is looked at again later.
        do { try family.withLock { _ in try removeAncestor(parent) } } catch let error as DriverError {
            call.log(CLINKER_WARNING, "\(name) is deleted; what it was cloned from is cleared later: \(error.message)")
        }
    }

    /// Takes away a snapshot that is there for clones only: one whose clone has gone, or never came to be, holds nothing. BUSY if one
    /// needs it; false if it is a snapshot of another kind.
    private func clear(_ snapshot: Image.Snapshot, of image: Image) throws -> Bool {
        if snapshot.name.hasSuffix(Names.cloneSnapshotSuffix) || Names.isOfBackup(snapshot.name) {
            try image.removeSnapshot(snapshot.name)
            return true
        }
        switch try image.kind(of: snapshot) {
        case RBD_SNAP_NAMESPACE_TYPE_TRASH?: try image.clear(snapshot)
        // The daemon's that mirrors the image, which librbd removes with it.
        case RBD_SNAP_NAMESPACE_TYPE_MIRROR?, nil: break
        default: return false
        }
        return true
    }

    /// Removes an image that nothing hangs on, and what is left of one; success if there is nothing.
    func remove(_ name: String, _ call: Call) throws {
        // A removal that was cut off leaves an image without a name, which librbd goes on with once no other has the name: a second one.
        while try removeImage(name, call) {}
        try Directory.forget(name, in: cluster)
    }

    /// False if there is no such image. One that is held by nothing but watches which nobody ends goes to the trash, from which
    /// maintenance removes it once they are gone; one that is half removed is there already.
    private func removeImage(_ name: String, _ call: Call? = nil) throws -> Bool {
        let (result, isForsaken) = outlivingWatches(call, of: id(of: name)) {
            guard let call else { return rbd_remove(cluster.pool, name) }
            return Progress.report(call) { rbd_remove_with_progress(cluster.pool, name, $0, $1) }
        }
        if isForsaken {
            call?.log(CLINKER_WARNING, "\(name) goes to the trash: the cluster has a watch of it which nobody answers for, nor ends")
            let moved = rbd_trash_move(cluster.pool, name, 0)
            if moved == -ENOENT { return false }
            try Cluster.check(moved, "cannot move \(name) to the trash")
        } else if result == -ENOENT {
            return false
        } else {
            try Cluster.check(result, "cannot remove \(name)")
        }
        return true
    }

    /// Of the image that librbd would remove by this name.
    private func id(of name: String) -> String? {
        (try? Image.find(cluster, name, writable: false)?.id) ?? (try? Trash.removals(in: cluster).first { $0.name == name }?.id)
    }

    /// A client that died is gone, its watch up to half a minute later (`osd_client_watch_timeout`), or, where it was fenced, as soon as
    /// the OSD has seen that: until then its images are busy. A call outlives that; without one, whoever tries comes back later.
    /// `isForsaken`: the image (`id`) is busy, and will be, though nobody has it open.
    private func outlivingWatches(_ call: Call?, of id: @autoclosure () -> String?, _ body: () -> Int32) -> (
        result: Int32, isForsaken: Bool
    ) {
        let limit = ContinuousClock.now + .seconds(call == nil ? 5 : 40)
        /// Nil: there is no image to watch.
        func isWatched() -> Bool? { id().map { Watches.areAlive(on: $0, in: cluster) } }
        // Another process may be about what no call asks for, and librbd 16.2 aborts in the midst of a removal when somebody else begins one.
        var isOthers = call == nil && isWatched() ?? false
        var isForsaken = false
        var isWaiting = false
        while true {
            let result = isOthers ? -EBUSY : body()
            guard result == -EBUSY else { return (result, false) }
            if isForsaken || ContinuousClock.now > limit || call?.isCancelled ?? false { return (result, isForsaken) }
            // It is alive.
            call?.progress(done: 0, total: 0)
            let isWatched = isWatched()
            // The last watch may have ended in between: that is seen by one more attempt.
            isForsaken = !isOthers && isWatched == false
            isOthers = call == nil && isWatched ?? false
            if isForsaken { continue }
            if !isWaiting { call?.log(CLINKER_INFO, "an image is busy: its watches are waited for") }
            isWaiting = true
            usleep(200_000)
        }
    }

    /// A clone is gone: with the last one the snapshot that it hung on goes, and a deleted volume with its last snapshot.
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
        _ = try removeImage(image.name)
        try removeAncestor(parent)
    }

    func flattenChildren(of image: Image, _ snapshot: String, _ call: Call) throws {
        for child in try image.children(of: snapshot) where child.pool == cluster.settings.pool && !child.isTrash {
            guard let clone = try Image.find(cluster, child.name, writable: true) else { continue }
            call.log(CLINKER_INFO, "\(child.name) is made independent of \(image.name)@\(snapshot)")
            try flattening.enter(call) { try clone.flatten(call, isNew: false) }
        }
    }

    // MARK: what is left behind

    private func remove(_ entry: Trash.Entry) throws {
        let parent = try? Image(cluster, id: entry.id, name: entry.name).parent
        let (result, _) = outlivingWatches(nil, of: entry.id) { rbd_trash_remove(cluster.pool, entry.id, false) }
        if result == -EBUSY { return }
        if result != -ENOENT { try Cluster.check(result, "cannot remove \(entry.name) from the trash") }
        try family.withLock { _ in try removeAncestor(parent) }
    }

    /// Every interval, on a thread of its own: finishes removals that were cut off, and empties the trash of what is due.
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
        for name in try Names.images(of: cluster) where name.hasSuffix(Names.deletedSuffix) {
            // One that cannot be read, or removed yet, keeps the others from nothing.
            try? family.withLock { _ in
                // A removal that was cut off.
                guard let image = try Image.find(cluster, name, writable: true) else { return _ = try removeImage(name) }
                for snapshot in try image.snapshots { _ = try? clear(snapshot, of: image) }
                try removeIfForgotten(image)
            }
        }
        for entry in try Trash.moved(in: cluster) + Trash.removals(in: cluster) where entry.isDue && names.isVolume(entry.name) {
            try? remove(entry)
        }
    }
}

/// No more than so many images are flattened at the same time: each makes the cluster copy a whole volume.
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
            // A call that waits for its turn is alive.
            call.progress(done: 0, total: 0)
            usleep(200_000)
        }
        defer { running.withLock { $0 -= 1 } }
        try body()
    }
}
