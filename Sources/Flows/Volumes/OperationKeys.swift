import BlockStorage
import Database
import DriverHost
import KeyManager
import Logging
import Primitives

/// Keys of encrypted volumes and backups, as the steps of operations make and delete them. Every key has a name that follows from what it
/// is for: a step that is repeated after a death finds the key that it made, and the step that takes it back finds it too.
struct OperationKeys: Sendable {
    private let services: FlowServices
    private var manager: (any KeyManager)? { services.keys }

    init(_ services: FlowServices) { self.services = services }

    /// What the key is for.
    enum Purpose: Sendable {
        case volume(String)
        case backup(String)
        case image(String)
        /// Of a volume that is restored over by an operation.
        case restored(String, operation: String)

        var name: String {
            switch self {
            case .volume(let id): "clinker-volume-\(id)"
            case .backup(let id): "clinker-backup-\(id)"
            case .image(let id): "clinker-image-\(id)"
            case .restored(let id, let operation): "clinker-volume-\(id)-\(operation)"
            }
        }
    }

    /// Bits of a key of a type that does not say.
    private static let usualSize = 256

    /// The id of a new key for a new volume: of its own, or, if it is made of another volume's content, a copy of that one's, `origin`.
    func make(for volume: Volume, _ encryption: TypeEncryption, origin: String?) async throws -> String {
        if let origin { return try await copy(origin, for: .volume(volume.id), userID: volume.userID) }
        let cipher = encryption.values.cipher?.split(separator: "-").first.map { $0.lowercased() }
        let size = encryption.values.keySize
        return try await attempt { manager throws(KeyFailure) in
            try await manager.create(
                KeyRequest(
                    bits: size ?? Self.usualSize, algorithm: cipher ?? "aes", name: Purpose.volume(volume.id).name, userID: volume.userID))
        }
    }

    /// A copy of a key, under an id of its own.
    func copy(_ id: String, for purpose: Purpose, userID: String) async throws -> String {
        try await attempt { manager throws(KeyFailure) in
            let key = try await manager.key(id)
            return try await manager.keep(key, as: KeyRequest(bits: key.bits, name: purpose.name, userID: userID))
        }
    }

    func key(_ id: String) async throws -> EncryptionKey {
        try await attempt { manager throws(KeyFailure) in try await manager.key(id) }
    }

    /// Deletes the key, and what was made for the same and was never recorded.
    ///
    /// - Throws: `DriverFailure`, `.retry` while the key manager does not answer.
    func delete(_ id: String?, for purpose: Purpose) async throws {
        try await attempt(whenUnavailable: .retry) { manager throws(KeyFailure) in try await Self.remove(id, purpose, from: manager) }
    }

    /// The same, as long as it takes.
    func deletePatiently(_ id: String?, for purpose: Purpose) async throws {
        try await patiently { manager throws(KeyFailure) in try await Self.remove(id, purpose, from: manager) }
    }

    /// Lets the user read the key, in the place of who was let before: as long as it takes.
    func open(_ id: String, to userID: String) async throws {
        try await patiently { manager throws(KeyFailure) in try await manager.open(id, to: userID) }
    }

    /// Deletes what was made for the purpose: as long as it takes.
    func discard(_ purpose: Purpose) async throws {
        try await patiently { manager throws(KeyFailure) in try await manager.discard(purpose.name) }
    }

    /// Deletes the key, and what was made for the same and was never recorded, if that can be now.
    ///
    /// - Returns: why the key stays.
    func deleteNow(_ id: String?, for purpose: Purpose) async -> String? {
        do throws(KeyFailure) {
            try await deleteOnce(id, for: purpose)
            return nil
        } catch { return error.description }
    }

    /// The same, as its manager fails.
    func deleteOnce(_ id: String?, for purpose: Purpose) async throws(KeyFailure) {
        guard let manager else { throw KeyFailure(.unavailable, "there is no key manager") }
        try await Self.remove(id, purpose, from: manager)
    }

    private static func remove(_ id: String?, _ purpose: Purpose, from manager: any KeyManager) async throws(KeyFailure) {
        if let id { try await manager.delete(id) }
        try await manager.discard(purpose.name)
    }

    /// Seconds between two questions to a manager that does not answer.
    private static let pause = 10.0
    /// How often one is asked that refuses the service's account: it may be about to get its rights.
    private static let mostRefusals = 6

    private func patiently(_ body: (any KeyManager) async throws(KeyFailure) -> Void) async throws {
        guard let manager else { throw DriverFailure(.invalid, "there is no key manager") }
        var refusals = 0
        while true {
            do throws(KeyFailure) { return try await body(manager) } catch {
                if error.kind == .refused { refusals += 1 }
                guard error.kind == .unavailable || error.kind == .refused && refusals < Self.mostRefusals else {
                    throw DriverFailure(.invalid, "\(Self.failureBegin)\(error)")
                }
                services.log.warning("a key waits for its manager: \(error)")
            }
            let end = Timestamp.monotonic() + min(Self.pause, services.retryPause * 100)
            while case let rest = end - Timestamp.monotonic(), rest > 0 {
                if services.isStopping.withLock({ $0 }) {
                    throw OperationPostponed(reason: "its key manager does not answer, and the service stops")
                }
                try await Task.sleep(nanoseconds: UInt64(min(rest, 0.2) * 1e9))
            }
        }
    }

    /// - Parameter whenUnavailable: by default `.invalid`, for another backend has no other keys: nothing is tried elsewhere.
    private func attempt<T: Sendable>(
        whenUnavailable: DriverFailure.Code = .invalid, _ body: (any KeyManager) async throws(KeyFailure) -> T
    ) async throws -> T {
        guard let manager else { throw DriverFailure(.invalid, "there is no key manager") }
        do throws(KeyFailure) { return try await body(manager) } catch {
            // It was asked no more for that reason: the next start asks again.
            if error.kind == .unavailable, services.isStopping.withLock({ $0 }) {
                throw OperationPostponed(reason: "its key manager does not answer, and the service stops")
            }
            throw DriverFailure(error.kind == .unavailable ? whenUnavailable : .invalid, "\(Self.failureBegin)\(error)")
        }
    }

    /// What the message of a failure begins with that is the key manager's.
    private static let failureBegin = "the key manager: "

    /// Whether an operation failed for want of a key.
    static func isAtFault(_ failure: StepFailure) -> Bool { failure.message.utf8.starts(with: failureBegin.utf8) }
}
