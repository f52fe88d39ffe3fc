import BlockStorage
import Database
import DriverHost
import JSON
import Primitives

/// The image cache of a backend, as the steps of one operation use it.
struct ImageCaching: Sendable {
    private let cache: ImageCache
    private let operation: BlockStorage.Operation
    private let services: FlowServices

    /// nil where the backend of the volume has no cache.
    init?(for volume: Volume, _ operation: BlockStorage.Operation, _ services: FlowServices) {
        guard !volume.isOfEncryptedType, let host = volume.backend, let tenant = services.settings.imageTenant,
            let limits = services.backends.backend(host)?.imageCacheLimits
        else { return nil }
        cache = ImageCache(host, of: tenant, limits: limits, quotas: services.settings.quotas)
        self.operation = operation
        self.services = services
    }

    /// The cache's volume with the image, which nobody changes as long as the operation lasts; nil: the image is to be read. Waits while the image is
    /// being written to it.
    func source(of image: KeptImage, for volume: Volume) async throws -> String? {
        var filling = ImageCache.Filling.fill
        while true {
            switch try await use(image, for: volume, filling) {
            case .clone(let id): return id
            case .read: return nil
            case .wait(let id):
                try await waitForEnd(of: id)
                // What failed for one fails for all that wait for it: they read the image themselves, and say why they cannot.
                filling = .nothing
            }
        }
    }

    private func use(_ image: KeptImage, for volume: Volume, _ filling: ImageCache.Filling) async throws -> ImageCache.Use {
        func use(_ filling: ImageCache.Filling) async throws -> ImageCache.Use {
            try await services.database.write { [cache, operation] tx in
                try cache.use(image, for: volume, by: operation, filling: filling, in: tx)
            }
        }
        do { return try await use(filling) } catch let error as StorageError where error.kind == .overQuota {
            services.log.warning(
                "an image is not cached: the internal project's quota does not allow it: \(error.message)",
                metadata: [
                    "image": "\(image.id)", "backend": "\(cache.host)", "operation_id": "\(operation.id)",
                    "request_id": "\(operation.requestID)",
                ])
            return try await use(.refused)
        }
    }

    /// Waits until no operation fills the volume. The removal of one that could not be filled may take as long as its storage does.
    private func waitForEnd(of id: String) async throws {
        @Sendable func isFilled(_ connection: any Connection) throws -> Bool {
            guard let volume = try Volumes.find(id, in: connection), [.creating, .downloading].contains(volume.status) else { return false }
            return try Operations.isChanged(id, in: connection)
        }
        var pause: UInt64 = 20_000_000
        while try await services.database.read({ try isFilled($0) }) {
            guard !services.isStopping.withLock({ $0 }) else {
                throw OperationPostponed(reason: "an image that it waits for is still being cached, and the service stops")
            }
            try await Task.sleep(nanoseconds: pause)
            pause = min(pause * 2, 500_000_000)
        }
    }
}
