import BlockStorage
import Database
import KeyManager
import Logging
import Primitives

/// Deletes keys that operations were to delete and gave up: again and again, ever less often, until each is gone.
public final class LeftKeySweep: Sendable {
    private let services: FlowServices
    private let limit: Int
    private let hasTakenOver = Guarded(false)

    /// Keys of a turn.
    static let turn = 20
    /// Notes of an earlier release that are taken over in one transaction.
    private static let part = 200

    public convenience init(_ services: FlowServices) { self.init(services, limit: Self.turn) }

    init(_ services: FlowServices, limit: Int) {
        self.services = services
        self.limit = limit
    }

    /// One turn: tries those whose time has come, and no further once the key manager does not answer.
    func tick() async {
        do {
            try await takeOver()
            guard services.keys != nil else { return }
            for key in try await services.database.read({ [limit] in try LeftKeys.due(limit: limit, in: $0) }) {
                try Task.checkCancellation()
                guard try await delete(key) else { return }
            }
        } catch is CancellationError {} catch { services.log.error("keys that were left could not be deleted: \(error)") }
    }

    /// What an earlier release noted, once.
    private func takeOver() async throws {
        guard !hasTakenOver.withLock({ $0 }) else { return }
        while try await services.database.write({ try LeftKeys.takeOver(limit: Self.part, in: $0) }) == Self.part {
            try Task.checkCancellation()
        }
        hasTakenOver.withLock { $0 = true }
    }

    /// False: the key manager does not answer, and the others need not be tried now.
    private func delete(_ key: LeftKey) async throws -> Bool {
        let metadata: Logger.Metadata = ["volume": "\(key.volumeID)", "key": "\(key.keyID ?? "-")"]
        do {
            // What is in use is not left, whoever noted it.
            if let id = key.keyID, try await services.database.read({ try Volumes.find(key.volumeID, in: $0) })?.encryptionKeyID == id {
                services.log.warning("a key that was to be deleted is its volume's, and stays", metadata: metadata)
            } else {
                let keys = OperationKeys(services)
                let purpose = key.madeBy.map { OperationKeys.Purpose.restored(key.volumeID, operation: $0) } ?? .volume(key.volumeID)
                try await unlessCancelled { try await keys.deleteOnce(key.keyID, for: purpose) }
                services.log.info("a key that was left was deleted", metadata: metadata)
            }
            // A death before this is no harm: a key that is gone is deleted.
            try await services.database.write { try LeftKeys.forget(key, in: $0) }
            return true
        } catch let failure as KeyFailure {
            try await services.database.write { try LeftKeys.failed(key, message: "the key manager: \(failure)", in: $0) }
            services.log.warning("a key that was left was not deleted: \(failure)", metadata: metadata)
            return failure.kind != .unavailable
        }
    }
}
