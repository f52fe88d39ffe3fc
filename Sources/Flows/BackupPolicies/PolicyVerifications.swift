import BlockStorage
import Database
import Logging
import Primitives

/// Verifies the backups of policies again when their last verification is longer ago than the policy says. As for everybody's requests, a
/// project's are verified a few at a time.
struct PolicyVerifications: Sendable {
    let database: any Database
    let requests: VolumeRequests
    let log: Logger

    private struct State {
        /// On the monotonic clock.
        var nextLook = 0.0
        /// When a backup's verification was begun.
        var begun: [String: Double] = [:]
    }
    private let state = Guarded(State())

    init(database: any Database, requests: VolumeRequests, log: Logger) {
        self.database = database
        self.requests = requests
        self.log = log
    }

    /// Seconds between looks; and until what was not verified all the same is tried again.
    private static let lookPause = 60.0, retryPause = 3600.0
    /// Backups of one policy that are begun at a time.
    private static let mostDue = 20

    /// Begins what is due. `isDue`: also if it was looked at a moment ago.
    func begin(isDue: Bool = false) async {
        let now = Timestamp.monotonic()
        let isTime = state.withLock { state in
            guard isDue || now >= state.nextLook else { return false }
            state.nextLook = now + Self.lookPause
            state.begun = state.begun.filter { now - $0.value < Self.retryPause }
            return true
        }
        guard isTime else { return }
        do {
            for policy in try await database.read({ try BackupPolicies.verifying(in: $0) }) {
                let tried = state.withLock { Set($0.begun.keys) }
                let due = try await database.read { [requests] in
                    try requests.dueVerifications(of: policy, except: tried, limit: Self.mostDue, in: $0)
                }
                for (id, project) in due {
                    do {
                        try await database.write { [requests] in try requests.verifyAgain(id, project: project, in: $0) }
                        state.withLock { $0.begun[id] = now }
                    } catch let refusal as StorageError {
                        // Somebody else of the project was faster: as many as may be verified at once are.
                        log.debug("a backup is not verified again yet: \(refusal.message)", metadata: ["backup": "\(id)"])
                    }
                }
            }
        } catch { log.error("backups of policies could not be verified again: \(error)") }
    }

    /// Cancels what restorations wait for: who restores is not kept waiting for hours by what is read in the background.
    func giveWay() async {
        do {
            for operation in try await database.read({ [requests] in try requests.obstructingVerifications(in: $0) }) {
                try await database.write { [requests] in try requests.cancelVerification(operation, in: $0) }
                log.info(
                    "a policy's verification of a backup is cancelled, since the backup is being restored",
                    metadata: ["backup": "\(operation.resourceID)"])
            }
        } catch { log.error("verifications could not be cancelled for restorations: \(error)") }
    }
}
