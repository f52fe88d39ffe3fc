import BlockStorage
import Database
import Logging
import Primitives

/// Begins the removal of snapshots of backups again where it failed, until they are gone.
struct SnapshotRemovalRetries: Sendable {
    let database: any Database
    let log: Logger

    /// Begins those whose time has come.
    func begin() async {
        do {
            for id in try await database.read({ try BackupSnapshotRemovals.due(in: $0) }) { await retry(id) }
        } catch { log.error("snapshots of backups could not be removed: \(error)") }
    }

    /// What goes wrong with one keeps no other one waiting.
    private func retry(_ id: String) async {
        do {
            let caller = Caller.service(requestID: UUID.random(prefix: "req-"))
            guard try await database.write({ try BackupSnapshotRemovals.retry(id, caller: caller, in: $0) }) else { return }
            log.info("the removal of a backup's snapshot is tried again", metadata: ["snapshot": "\(id)"])
        } catch {
            log.error("the removal of a backup's snapshot could not be tried again: \(error)", metadata: ["snapshot": "\(id)"])
        }
    }
}
