import CDriver
import CRBD
import DriverKit
import Glibc

/// Removes images, whatever a client that died has left of them or of an earlier removal.
package struct ImageRemoval: @unchecked Sendable {
    let cluster: Cluster

    package init(_ cluster: Cluster) { self.cluster = cluster }

    /// Removes an image without clones, or the remains of one; succeeds if there is nothing to remove.
    package func remove(_ name: String, _ call: Call) throws {
        // An interrupted removal leaves an image without a name; librbd continues it when the name is free, so a second attempt is needed.
        while try removeImage(name, call) {}
        try Directory.forget(name, in: cluster)
    }

    /// Returns false if there is no such image. An image that is only held by stale watches is moved to the trash, from which maintenance
    /// removes it when the watches are gone; a partly removed image is in the trash already.
    package func removeImage(_ name: String, _ call: Call? = nil) throws -> Bool {
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

    /// The id of the image that librbd would remove by this name.
    private func id(of name: String) -> String? {
        (try? Directory.id(of: name, in: cluster)) ?? (try? Trash.removals(in: cluster).first { $0.name == name }?.id)
    }

    /// Retries while the image is busy. The watch of a dead client ends up to half a minute later (`osd_client_watch_timeout`), or, if the
    /// client was blocklisted, when the OSD has learned of it. A driver call waits for that; maintenance retries at its next run.
    /// `isForsaken` is called if the image (`id`) stays busy although no client has it open.
    package func outlivingWatches(_ call: Call?, of id: @autoclosure () -> String?, _ body: () -> Int32) -> (
        result: Int32, isForsaken: Bool
    ) {
        let limit = ContinuousClock.now + .seconds(call == nil ? 5 : 40)
        /// nil if there is no image to watch.
        func isWatched() -> Bool? { id().map { Watches.areAlive(on: $0, in: cluster) } }
        // Without a call another process may be removing the same image; `RemovalLock` says why it must not be removed twice.
        var isOthers = call == nil && isWatched() ?? false
        var isForsaken = false
        var isWaiting = false
        while true {
            let result = isOthers ? -EBUSY : RemovalLock.hold(id(), in: cluster, body)
            guard result == -EBUSY else { return (result, false) }
            if isForsaken || ContinuousClock.now > limit || call?.isCancelled ?? false { return (result, isForsaken) }
            // A client that answers is alive.
            call?.progress(done: 0, total: 0)
            let isWatched = isWatched()
            // The last watch may have ended in the meantime, so one more attempt is made.
            isForsaken = !isOthers && isWatched == false
            isOthers = call == nil && isWatched ?? false
            if isForsaken { continue }
            if !isWaiting { call?.log(CLINKER_INFO, "an image is busy: its watches are waited for") }
            isWaiting = true
            usleep(200_000)
        }
    }
}
