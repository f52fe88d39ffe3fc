import BlockStorage
import DriverHost
import Flows
import Glibc
import JSON
import OpenStack
import Primitives
import Settings
import Transfers

/// Images for flows, through Glance and with Clinker's own account.
struct GlanceAccess: ImageAccess {
    private let glance: Glance
    private let conversionDirectory: String
    private let conversionMemory, conversionSeconds: Int
    private let vmdkTypes: [String]
    let converts: Bool
    let verifiesSignatures: Bool

    /// What is wrong with the directory of conversions, found without making it.
    ///
    /// - Parameter isOwned: whether the caller is the user who runs the service.
    static func problems(_ settings: Settings, isOwned: Bool) -> [String] {
        let directory = settings[Options.images.conversionDirectory]
        guard !directory.isEmpty, let problem = NeededDirectory.problem(directory, making: .itself, isOwned: isOwned) else { return [] }
        return ["[DEFAULT] image_conversion_dir: \(problem)"]
    }

    init(_ glance: Glance, settings: Settings, stateDirectory: String) throws {
        self.glance = glance
        let directory = settings[Options.images.conversionDirectory]
        conversionDirectory = directory.isEmpty ? stateDirectory + "/conversion" : directory
        guard mkdir(conversionDirectory, 0o700) == 0 || errno == EEXIST else {
            throw SettingsError([SystemError.last("[DEFAULT] image_conversion_dir: \(conversionDirectory) cannot be made").description])
        }
        conversionMemory = settings[Options.images.conversionMemory] << 30
        conversionSeconds = settings[Options.images.conversionSeconds]
        vmdkTypes = settings[Options.images.vmdkTypes]
        converts = !settings[Options.images.conversionDisabled]
        verifiesSignatures = settings[Options.images.verifySignatures] == "enabled"
    }

    func order(image: String, diskFormat: String, containerFormat: String, volumeBytes: Int) async throws -> ImageOrder {
        do throws(Unavailable) {
            var order = ImageOrder(
                servers: try await glance.addresses(), image: image, token: try await glance.token(), diskFormat: diskFormat,
                volumeBytes: volumeBytes, conversionDirectory: conversionDirectory)
            order.containerFormat = containerFormat
            order.certificateAuthorities = glance.trust.authorities
            order.certificate = glance.trust.certificate
            order.certificateKey = glance.trust.key
            order.insecure = glance.trust.isInsecure
            order.timeout = glance.timeout
            order.retries = glance.retries
            order.conversionAddressSpace = conversionMemory
            order.conversionSeconds = conversionSeconds
            order.vmdkTypes = vmdkTypes
            return order
        } catch { throw Self.failure(error) }
    }

    func newToken() async -> Secret? { try? await glance.token(isRenewed: true) }

    func locations(of image: String) async throws -> [String] {
        do throws(Unavailable) { return try await glance.locations(of: image, for: .own) } catch { throw Self.failure(error) }
    }

    func isStored(_ image: String) async throws -> Bool {
        do {
            guard let answer = try await glance.image(image, for: .own) else {
                throw DriverFailure(.notFound, "there is no image \(image), or Clinker's account is no administrator of images")
            }
            return answer["status"] == "active"
        } catch let error as Unavailable { throw Self.failure(error) }
    }

    func deleteUnfinished(_ image: String) async throws -> Bool {
        do throws(Unavailable) { return try await glance.deleteUnfinished(image, for: .own) } catch { throw Self.failure(error) }
    }

    var hasAccount: Bool { glance.hasAccount }

    func seesAllImages() async throws -> Bool {
        do throws(Unavailable) { return try await glance.seesAllImages() } catch { throw Self.failure(error) }
    }

    func isGone(_ image: String) async throws -> Bool {
        do throws(Unavailable) { return try await glance.isGone(image) } catch { throw Self.failure(error) }
    }

    func describe(_ image: String, as properties: JSONObject) async throws {
        do throws(Unavailable) { try await glance.change(image, to: properties, for: .own) } catch { throw Self.failure(error) }
    }

    private static func failure(_ error: Unavailable) -> DriverFailure { DriverFailure(.error, error.description) }
}
