import BlockStorage
import DriverHost
import Logging
import Primitives
public import Settings

/// Deletes the keys of images that are gone: nobody tells when an image is deleted, and the key belongs to this service's account.
///
/// A key that is deleted too early makes an image worthless. So an image counts as gone when the Image service itself says twice, a while
/// apart, that it shows no such image, both times to an account that is seen to see the images of all.
public final class ImageKeySweep: Sendable {
    private let services: FlowServices
    private let retention: Double
    private let limit: Int
    private let now: @Sendable () -> Double
    private let state = Guarded(State())

    private struct State {
        /// The image that was asked about last, in the order of their ids. It begins anywhere: nobody restarts the service so often that the
        /// last are never asked about.
        var last = UUID.random()
        /// When images were first said to be gone.
        var gone: [String: Double] = [:]
        var problem: String?
    }

    /// Seconds between two turns.
    let pause: Double
    private static let longestPause = 300.0
    /// Images of a turn.
    static let turn = 50

    public convenience init(_ services: FlowServices, settings: Settings) {
        self.init(services, retention: Double(settings[Options.images.keyRetention]), limit: Self.turn) { Timestamp.monotonic() }
    }

    init(_ services: FlowServices, retention: Double, limit: Int, now: @escaping @Sendable () -> Double) {
        self.services = services
        self.retention = retention
        self.limit = limit
        self.now = now
        pause = min(max(retention / 2, 1), Self.longestPause)
    }

    /// Why keys of images that are gone stay; nil: they are deleted, or nothing is known yet.
    var problem: String? {
        guard let images = services.images else { return "no Image service is known: glance_api_servers is not set" }
        guard images.hasAccount else {
            return "the Image service is asked without an account of the service's (auth_strategy is not keystone), and nobody can tell "
                + "whether an image is gone or hidden"
        }
        return state.withLock { $0.problem }
    }

    /// One turn: asks about some images, those first that were said to be gone a while ago.
    func tick() async {
        guard let images = services.images, images.hasAccount, services.keys != nil else { return }
        do {
            let (due, others) = try await next()
            let isDue = Set(due.map(\.imageID))
            let (gone, trouble) = try await ask(due + others, isDue, images)
            if !gone.isEmpty {
                guard try await unlessCancelled({ try await images.seesAllImages() }) else {
                    return complain(
                        "Clinker's account was not seen to see images of other projects, and nobody can tell whether an image is gone or hidden"
                    )
                }
                state.withLock { $0.problem = nil }
                for key in gone {
                    if isDue.contains(key.imageID) { await delete(key) } else { state.withLock { $0.gone[key.imageID] = now() } }
                }
            }
            if let trouble { throw trouble }
            state.withLock { if $0.gone.isEmpty { $0.problem = nil } }
        } catch is CancellationError {} catch { complain((error as? DriverFailure)?.message ?? "\(error)") }
    }

    /// Which images are said to be gone, up to the first about which nothing is answered, and why that is.
    private func ask(_ keys: [ImageKeys.Noted], _ isDue: Set<String>, _ images: any ImageAccess) async throws -> (
        gone: [ImageKeys.Noted], trouble: (any Error)?
    ) {
        var gone: [ImageKeys.Noted] = []
        for key in keys {
            try Task.checkCancellation()
            if !isDue.contains(key.imageID) { state.withLock { $0.last = key.imageID } }
            do {
                if try await unlessCancelled({ try await images.isGone(key.imageID) }) {
                    gone.append(key)
                } else {
                    state.withLock { $0.gone[key.imageID] = nil }
                }
            } catch let error as CancellationError {
                throw error
            } catch {
                // As if it had never been said, and again when all others were asked about: it keeps nobody waiting.
                state.withLock { $0.gone[key.imageID] = nil }
                return (gone, error)
            }
        }
        return (gone, nil)
    }

    /// Images to ask about: those whose time has come, the longest gone first, and, for the rest of the turn, those that were not asked about
    /// for the longest time.
    private func next() async throws -> (due: [ImageKeys.Noted], others: [ImageKeys.Noted]) {
        let (last, gone) = state.withLock { ($0.last, $0.gone) }
        let (time, limit) = (now(), limit)
        var ripe = gone.filter { time - $0.value >= retention }.map { (image: $0.key, since: $0.value) }
        ripe.sort { ($0.since, $0.image) < ($1.since, $1.image) }
        // Half of the turn: what cannot be deleted keeps nobody else waiting.
        let (images, most) = (ripe.map(\.image), (limit + 1) / 2)
        let (due, others, forgotten) = try await services.database.read { connection in
            var (due, forgotten): ([ImageKeys.Noted], [String]) = ([], [])
            for image in images where due.count < most {
                if let key = try ImageKeys.noted(ofImage: image, in: connection) { due.append(key) } else { forgotten.append(image) }
            }
            let room = limit - due.count
            var others = try ImageKeys.noted(after: last, limit: room, in: connection)
            if others.count < room {
                let rest = try ImageKeys.noted(after: "", limit: room - others.count, in: connection)
                others += rest.filter { $0.imageID <= last }
            }
            return (due, others.filter { gone[$0.imageID] == nil }, forgotten)
        }
        // Those were uploads that were taken back.
        state.withLock { state in for image in forgotten { state.gone[image] = nil } }
        return (due, others)
    }

    private func delete(_ key: ImageKeys.Noted) async {
        do {
            let keys = OperationKeys(services)
            try await unlessCancelled { try await keys.delete(key.keyID, for: .image(key.imageID)) }
            try await services.database.write { try ImageKeys.forget(key, in: $0) }
            state.withLock { $0.gone[key.imageID] = nil }
            services.log.info("the key of an image that is gone was deleted", metadata: ["image": "\(key.imageID)", "key": "\(key.keyID)"])
        } catch {
            // Again when as much time has passed.
            state.withLock { $0.gone[key.imageID] = now() }
            complain("the key \(key.keyID) of image \(key.imageID) was not deleted: \((error as? DriverFailure)?.message ?? "\(error)")")
        }
    }

    private func complain(_ problem: String) {
        state.withLock { $0.problem = problem }
        services.log.warning("keys of images that are gone stay: \(problem)")
    }
}
