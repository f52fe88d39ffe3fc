import DriverHost
import JSON
import Primitives
import Transfers

@testable import Flows

/// An Image service in memory.
final class MemoryImages: ImageAccess {
    /// nil: without data.
    private let images = Guarded<[String: String?]>([:])
    /// Where images lie.
    let lies = Guarded<[String: [String]]>([:])
    let converts = true
    let verifiesSignatures = true
    /// What was to be written to volumes.
    let fetched = Guarded<[ImageOrder]>([])

    /// What an image holds.
    subscript(id: String) -> String? { images.withLock { $0[id] ?? nil } }

    /// What all of them hold that hold something.
    var contents: [String] { images.withLock { $0.values.compactMap { $0 } } }

    /// Images that were never finished.
    var unfinished: [String] { images.withLock { $0.filter { $0.value == nil }.map(\.key) } }

    func add(_ id: String, content: String?) { images.withLock { $0[id] = .some(content) } }

    func store(_ content: String, in id: String) { images.withLock { if $0[id] != nil { $0[id] = .some(content) } } }

    func order(image: String, diskFormat: String, containerFormat: String, volumeBytes: Int) async throws -> ImageOrder {
        ImageOrder(
            servers: ["http://memory"], image: image, token: Secret(""), diskFormat: diskFormat, volumeBytes: volumeBytes,
            conversionDirectory: "/nonexistent")
    }

    func newToken() async -> Secret? { nil }

    func locations(of image: String) async throws -> [String] { lies.withLock { $0[image] ?? [] } }

    func isStored(_ image: String) async throws -> Bool {
        guard let content = images.withLock({ $0[image] }) else { throw DriverFailure(.notFound, "there is no image \(image)") }
        return content != nil
    }

    func deleteUnfinished(_ image: String) async throws -> Bool {
        images.withLock { images in
            if case .some(.none) = images[image] { images[image] = nil }
            return images[image] == nil
        }
    }

    let hasAccount = true
    /// Whether the service's account sees the images of all; nil: it is not answered.
    let seesAll = Guarded<Bool?>(true)
    /// Which images were asked about.
    let asked = Guarded<[String]>([])
    /// Images about which nothing is answered.
    let unanswered = Guarded<Set<String>>([])

    func seesAllImages() async throws -> Bool {
        guard let answer = seesAll.withLock({ $0 }) else { throw DriverFailure(.error, "the Image service answered 403") }
        return answer
    }

    func isGone(_ image: String) async throws -> Bool {
        asked.withLock { $0.append(image) }
        guard !unanswered.withLock({ $0.contains(image) }) else { throw DriverFailure(.error, "the Image service answered 503") }
        return images.withLock { $0[image] == nil }
    }

    func remove(_ id: String) { images.withLock { $0[id] = nil } }

    func describe(_ image: String, as properties: JSONObject) async throws {
        described.withLock { $0[image] = properties }
    }

    /// The properties that an image was given.
    func properties(of image: String) -> JSONObject { described.withLock { $0[image] ?? [:] } }

    private let described = Guarded<[String: JSONObject]>([:])
}
