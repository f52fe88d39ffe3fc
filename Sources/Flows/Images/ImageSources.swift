import BlockStorage
import Database
import DriverHost
import Logging
import Primitives

/// What in a backend already holds an image: where that is cloned, nothing is read.
struct ImageSources: Sendable {
    enum Source: Sendable {
        /// What the Image service keeps in the same storage, and says where.
        case location(String)
        /// A volume of the same backend, which nobody changes as long as the operation lasts.
        case volume(String)
    }

    private let image: KeptImage
    private let operation: BlockStorage.Operation
    private let services: FlowServices

    init(of image: KeptImage, _ operation: BlockStorage.Operation, _ services: FlowServices) {
        self.image = image
        self.operation = operation
        self.services = services
    }

    /// Finds it for a volume that is placed; nil: the image is to be read.
    func find(for volume: Volume) async throws -> Source? {
        guard !volume.isOfEncryptedType, let images = services.images else { return nil }
        // What is refused when it is read is not cloned either, and only reading it shows whether its signature is right.
        guard try await OperationImages(operation, services).signature(of: image) == nil else { return nil }
        if let found = try await stored(for: volume, images) { return found }
        return try await ImageCaching(for: volume, operation, services)?.source(of: image, for: volume).map { .volume($0) }
    }

    private func stored(for volume: Volume, _ images: any ImageAccess) async throws -> Source? {
        guard image.diskFormat == "raw", image.containerFormat == "bare", let host = volume.backend else { return nil }
        let start = services.backends.backend(host)?.capabilities?["image_locations"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        guard start != nil || services.settings.clonesImageVolumes else { return nil }
        let locations: [String]
        do { locations = try await images.locations(of: image.id) } catch let failure as DriverFailure {
            services.log.warning(
                "the Image service does not say where an image lies: \(failure.message)",
                metadata: ["image": "\(image.id)", "operation_id": "\(operation.id)", "request_id": "\(operation.requestID)"])
            return nil
        }
        if let start, let location = locations.first(where: { $0.utf8.starts(with: start.utf8) && $0.utf8.count <= Self.longestLocation }) {
            return .location(location)
        }
        guard services.settings.clonesImageVolumes else { return nil }
        for id in locations.compactMap(Self.volumeID) {
            let isShared = try await services.database.write { [image, operation, tenant = services.settings.imageTenant] tx in
                try ImageVolumes.share(id, holding: image, with: volume, tenant: tenant, by: operation, in: tx)
            }
            if isShared { return .volume(id) }
        }
        return nil
    }

    /// Bytes.
    private static let longestLocation = 1024

    /// The volume of `cinder://VOLUME` and of `cinder://STORE/VOLUME`.
    private static func volumeID(_ location: String) -> String? {
        guard location.utf8.starts(with: "cinder://".utf8) else { return nil }
        let parts = location.dropFirst("cinder://".count).split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let id = parts.last.map(String.init), UUID.isUUIDLike(id) else { return nil }
        return id
    }
}
