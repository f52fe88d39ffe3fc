import BlockStorage
import Database
import DriverHost
public import JSON
import KeyManager
import Logging
public import Primitives
public import Transfers

/// The Image service as flows use it, with the service's own account. `GlanceAccess` is the one over the network; tests have one in memory.
public protocol ImageAccess: Sendable {
    /// Whether images are converted that are not raw.
    var converts: Bool { get }
    /// Whether signed images become volumes only where their signature is right.
    var verifiesSignatures: Bool { get }
    /// What a transfer needs to read or write an image. Throws `DriverFailure`.
    func order(image: String, diskFormat: String, containerFormat: String, volumeBytes: Int) async throws -> ImageOrder
    /// A new token in the place of one that is refused; nil: there is none.
    func newToken() async -> Secret?
    /// Where the Image service says that it keeps an image: none where it tells nobody.
    func locations(of image: String) async throws -> [String]
    /// Whether an image has its data. Throws where that cannot be found out, or there is no such image.
    func isStored(_ image: String) async throws -> Bool
    /// Deletes an image that has no data yet. False: it has data, and stays.
    func deleteUnfinished(_ image: String) async throws -> Bool
    /// Whether the Image service is asked by an account of the service's.
    var hasAccount: Bool { get }
    /// Whether that account is seen to see the images of all: what it does not see is not there. Throws where that cannot be found out.
    func seesAllImages() async throws -> Bool
    /// Whether the Image service itself says that it shows no such image. Throws where that cannot be found out.
    func isGone(_ image: String) async throws -> Bool
    /// Gives an image properties.
    func describe(_ image: String, as properties: JSONObject) async throws
}

/// The Image service, as far as the steps of one operation may use it.
struct OperationImages: Sendable {
    let access: any ImageAccess
    private let operation: BlockStorage.Operation
    private let services: FlowServices

    init(_ operation: BlockStorage.Operation, _ services: FlowServices) throws {
        guard let access = services.images else {
            throw DriverFailure(.badConfiguration, "this service knows no Image service: glance_api_servers is not set")
        }
        self.access = access
        self.operation = operation
        self.services = services
    }

    /// Writes an image to a volume, `object`, which lies at `host`. `targetIsZero`: nothing but this operation ever wrote to it; `through`: it
    /// is encrypted on the way; `isEncrypted`: it is already. Returns whether it is signed, and rightly.
    func fetch(
        _ image: KeptImage, to object: DriverValue, gibibytes: Int, at host: String, targetIsZero: Bool, through luks: LUKSOrder? = nil,
        isEncrypted: Bool = false
    ) async throws -> Bool {
        let signature = try await signature(of: image)
        guard access.converts || image.diskFormat == "raw" else { throw DriverFailure(.invalid, ImageFailure.format) }
        var order = try await access.order(
            image: image.id, diskFormat: image.diskFormat, containerFormat: image.containerFormat, volumeBytes: gibibytes << 30)
        order.size = image.size
        order.md5 = image.checksum
        order.hashAlgorithm = image.hashAlgorithm
        order.hashValue = image.hashValue
        order.encryption = luks
        order.signature = signature
        if isEncrypted { order.allowedFormats.append("luks") }
        let volume = try await OperationBackend(at: host, operation, services).transferEnd(object)
        // Only the first attempt finds what nobody wrote to: a later one writes zeroes, too.
        let isFirst = targetIsZero ? try await beginWriting() : false
        order.targetIsZero = isFirst
        var asked = order
        let output = try await run {
            defer { asked.targetIsZero = false }
            return Transfer(.fetchImage(asked), from: nil, to: volume.end)
        } limit: {
            volume.limit
        }
        note("image written to a volume", image.id, output)
        return signature != nil
    }

    /// Writes an image to the operation's volume, which nothing was written to yet. Returns whether it is signed, and rightly.
    func fetch<Flow: FlowDefinition>(_ image: KeptImage, to run: FlowRun<Flow>) async throws -> Bool {
        let volume = try await run.volume()
        guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
        return try await fetch(
            image, to: .members(["volume": run.driverArguments(volume)]), gibibytes: volume.size, at: host, targetIsZero: true)
    }

    /// Sends a volume, `object`, which lies at `host`, to an image without data.
    func store(
        _ object: DriverValue, gibibytes: Int, at host: String, to image: String, diskFormat: String, containerFormat: String
    ) async throws {
        guard access.converts || diskFormat == "raw" else { throw DriverFailure(.invalid, ImageFailure.format) }
        // It was sent before a death of the process.
        guard try await !access.isStored(image) else { return }
        let order = try await access.order(
            image: image, diskFormat: diskFormat, containerFormat: containerFormat, volumeBytes: gibibytes << 30)
        let volume = try await OperationBackend(at: host, operation, services).transferEnd(object)
        let output = try await run {
            Transfer(.storeImage(order), from: volume.end, to: nil)
        } limit: {
            volume.limit
        }
        note("volume sent to an image", image, output)
    }

    var keys: (any KeyManager)? { services.keys }

    /// Whether this is the first attempt to write, also after a death.
    private func beginWriting() async throws -> Bool {
        try await services.database.write { [operation] tx in
            try Operations.lock(operation.id, in: tx)
            return try Operations.beginWriting(operation.id, in: tx)
        }
    }

    private func run(_ make: () -> Transfer, limit: () -> Int) async throws -> DriverValue {
        try await OperationTransfer(operation: operation, services: services).run {
            var transfer = make()
            transfer.bytesPerSecond = limit()
            transfer.onTokenExpired = { [access] in await access.newToken() }
            return transfer
        }
    }

    private func note(_ what: String, _ image: String, _ output: DriverValue) {
        services.log.info(
            "\(what)",
            metadata: [
                "image": "\(image)", "bytes": "\(output["bytes"]?.integer ?? 0)", "seconds": "\(output["seconds"]?.real ?? 0)",
                "operation_id": "\(operation.id)", "request_id": "\(operation.requestID)",
            ])
    }
}

/// Why an image is not even read.
enum ImageFailure {
    static let format = "images that are not raw are not converted: image_conversion_disable is set"

    /// What the user is told of a failure with an image's data.
    static func detail(_ failure: StepFailure) -> Message.Detail {
        if let refusal = SignatureRefusal(of: failure.message) { return detail(refusal) }
        if OperationKeys.isAtFault(failure) { return .keyMissing }
        return switch failure.code {
        case .invalid where failure.message == format: .imageFormat
        case .invalid: .imageUnacceptable
        case .noSpace: .noSpaceForImage
        default: .imageNotRead
        }
    }

    private static func detail(_ refusal: SignatureRefusal) -> Message.Detail {
        switch refusal {
        case .certificateMissing: .certificateMissing
        case .certificateRefused: .certificateRefused
        case .certificateUnusable: .certificateUnusable
        case .certificateNotValid: .certificateNotValid
        case .notVerified, .mismatch: .signatureNotVerified
        }
    }
}
