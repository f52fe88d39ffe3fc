import Database
import JSON
import Settings
import Testing

@testable import BlockStorage

/// What a backend's image cache gives new volumes, and what it gives up for them.
@Suite("Image cache")
struct ImageCacheTests {
    private let storage: Storage
    private let settings: Settings

    init() async throws {
        let text = "[DEFAULT]\nquota_volumes = 8\nquota_gigabytes = 1000\n"
        storage = try await Storage(text)
        settings = try Settings(text: text)
        storage.database.accompany(by: NotificationOutbox(node: "node"))
    }

    private func cache(_ host: String = "h@b", gigabytes: Int = 0, count: Int = 0) -> ImageCache {
        ImageCache(
            host, of: ImageCache.Tenant(projectID: "tenant", userID: "keeper"),
            limits: ImageCache.Limits(gigabytes: gigabytes, count: count), quotas: Quotas.Defaults(settings))
    }

    private func image(_ id: String, gibibytes: Int = 1, updatedAt: String? = "2026-01-01T00:00:00Z") -> KeptImage {
        var image = KeptImage()
        image.id = id
        image.diskFormat = "qcow2"
        image.virtualSize = gibibytes << 30
        image.updatedAt = updatedAt
        return image
    }

    /// Asks as the operation of a new volume, which is placed on `h@b#p`; that goes on until `end` says so.
    private func use(
        _ image: KeptImage, _ cache: ImageCache? = nil, size: Int = 1, filling: ImageCache.Filling = .fill, ends: Bool = true
    ) async throws -> ImageCache.Use {
        let id = try await storage.database.write { [requests = storage.requests] tx in
            var new = NewVolume()
            new.size = size
            let caller = Caller(userID: "u", projectID: UUID.next(), isAdmin: false, requestID: "req-test")
            return try requests.create(new, caller: caller, in: tx)
        }
        let operation = try await storage.database.write { tx in
            try Volumes.place(#require(try Volumes.lock(id, in: tx)), host: "h@b#p", serviceID: nil, zone: "nova", in: tx)
            return try #require(try Operations.latest(of: id, in: tx))
        }
        let found = try await storage.database.write { [asked = cache ?? self.cache()] tx in
            try asked.use(image, for: #require(try Volumes.find(id, in: tx)), by: operation, filling: filling, in: tx)
        }
        if ends { try await storage.database.write { try Operations.finish(operation, state: .done, error: nil, in: $0) } }
        return found
    }

    private enum UUID {
        static func next() -> String { String(UInt64.random(in: 0 ... .max), radix: 16) }
    }

    /// Has the image cached, and returns the volume.
    private func cached(_ image: KeptImage, _ cache: ImageCache? = nil, size: Int = 1) async throws -> String {
        guard case .wait(let id) = try await use(image, cache, size: size) else { throw StorageError(.failed, "nothing is cached") }
        try await storage.finish(id)
        return id
    }

    private func cachedAll(_ count: Int, _ cache: ImageCache) async throws -> [String] {
        var volumes: [String] = []
        for index in 0..<count { volumes.append(try await cached(image("\(index)"), cache)) }
        return volumes
    }

    private func entries() throws -> [String] {
        try storage.database.readBlocking { try ImageCacheEntries.ofBackend("h@b", in: $0).map(\.imageID) }
    }

    private func told() throws -> [String] {
        try storage.database.readBlocking { try PendingNotifications.first(1000, in: $0) }
            .filter { $0.eventType.hasPrefix("image_volume_cache.") }
            .map { "\($0.eventType.dropFirst("image_volume_cache.".count)) \((try? JSON(parsing: $0.payload))?["image_id"]?.string ?? "")" }
    }

    @Test(
        "what is not cached is written to a volume of the internal project, as large as the image, which is charged for it; others wait for it"
    )
    func fills() async throws {
        guard case .wait(let id) = try await use(image("a", gibibytes: 2), size: 9) else { throw StorageError(.failed, "not filled") }
        #expect(try await use(image("a"), size: 9) == .wait(id))
        let volume = try #require(try storage.database.readBlocking { try Volumes.find(id, in: $0) })
        #expect(volume.projectID == "tenant" && volume.userID == "keeper" && volume.name == "image-a" && volume.size == 2)
        #expect(volume.adminMetadata("readonly") == "True" && volume.status == .creating)
        let usage = try storage.database.readBlocking { try Quotas.usages(ofProject: "tenant", in: $0) }
        #expect(usage["volumes"] == 1 && usage["gigabytes"] == 2)
        let operation = try #require(try storage.database.readBlocking { try Operations.latest(of: id, in: $0) })
        #expect(operation.flow == CacheImageArguments.flow && operation.projectID == "tenant" && operation.requestID == "req-test")
        try await storage.finish(id)
        #expect(try await use(image("a"), size: 9) == .clone(id))
        #expect(try told() == ["miss a", "hit a"])
    }

    @Test(
        "a volume that is smaller than the cached one reads the image itself, as do those without a time of the image or of another backend"
    )
    func fits() async throws {
        let id = try await cached(image("a", gibibytes: 5), size: 5)
        #expect(try await use(image("a"), size: 4) == .read)
        #expect(try await use(image("a", updatedAt: nil), size: 5) == .read)
        #expect(try await use(image("a"), cache("h@other"), size: 5, filling: .nothing) == .read)
        #expect(try await use(image("a"), size: 5) == .clone(id))
    }

    @Test("an image that was changed since is cached anew, and what was cached of it is deleted; an older time than the cached one is none")
    func changes() async throws {
        let old = try await cached(image("a"))
        #expect(try await use(image("a", updatedAt: "2025-12-31T23:59:59Z")) == .clone(old))
        let new = try await cached(image("a", updatedAt: "2026-01-01T00:00:01Z"))
        #expect(try storage.status(old) == "deleting" && new != old)
        #expect(try await use(image("a", updatedAt: "2026-01-01T00:00:01Z")) == .clone(new))
        #expect(try entries() == ["a"])
        #expect(try told() == ["miss a", "hit a", "miss a", "evict a", "hit a"])
    }

    @Test("the longest unused goes first, as many as there must be for the count and for the size; what would never fit drives nothing out")
    func room() async throws {
        let limited = cache(gigabytes: 6, count: 3)
        let a = try await cached(image("a", gibibytes: 2), limited, size: 2)
        let b = try await cached(image("b", gibibytes: 2), limited, size: 2)
        _ = try await cached(image("c", gibibytes: 1), limited, size: 2)
        #expect(try await use(image("a"), limited, size: 2) == .clone(a))
        // By count: b is the longest unused.
        _ = try await cached(image("d", gibibytes: 1), limited, size: 2)
        #expect(try entries() == ["c", "a", "d"] && storage.status(b) == "deleting")
        // By size: 1 + 2 + 1 + 4 is over 6 until c and a are gone.
        _ = try await cached(image("e", gibibytes: 4), limited, size: 4)
        #expect(try entries() == ["d", "e"])
        #expect(try await use(image("f", gibibytes: 7), limited, size: 7) == .read)
        #expect(try entries() == ["d", "e"])
    }

    @Test("what a volume is being cloned from, or is being filled, is not given up, and a deletion of it waits for the clone")
    func inUse() async throws {
        let limited = cache(count: 1)
        let a = try await cached(image("a"), limited)
        #expect(try await use(image("a"), limited, ends: false) == .clone(a))
        #expect(try await use(image("b"), limited) == .read)
        #expect(try await use(image("a", updatedAt: "2027-01-01T00:00:00Z"), limited) == .read)
        #expect(try entries() == ["a"] && storage.status(a) == "available")
        try await storage.database.write { [requests = storage.requests] tx in
            try requests.delete(a, force: false, caller: .service(requestID: "req-admin"), in: tx)
            #expect(try #require(try Operations.latest(of: a, in: tx)).state == .waiting)
        }
        // Nobody is given what is about to go.
        #expect(try await use(image("a"), limited, filling: .nothing) == .read)
        #expect(try entries().isEmpty)
    }

    @Test("a volume that somebody may have changed, or that another project has, is no cached image any more")
    func foreign() async throws {
        let written = try await cached(image("a"))
        try await storage.database.write { [requests = storage.requests] tx in
            _ = try requests.connect(
                volumeID: written, connector: ["host": "c"], caller: .service(requestID: "req-admin"), in: tx)
        }
        #expect(try entries().isEmpty)
        let given = try await cached(image("b"))
        try await storage.database.write { tx in
            let caller = Caller(userID: "x", projectID: "other", isAdmin: false, requestID: "r")
            try Volumes.give(#require(try Volumes.lock(given, in: tx)), to: caller, in: tx)
        }
        #expect(try await use(image("b"), filling: .nothing) == .read)
        #expect(try entries().isEmpty && storage.status(given) == "available")
    }

    @Test("a cached image that goes for another one is charged for no more, so that a quota of as many as the limit is enough")
    func charges() async throws {
        let limited = cache(count: 8)
        let volumes = try await cachedAll(8, limited)
        _ = try await cached(image("new"), limited)
        #expect(try entries() == (1..<8).map(String.init) + ["new"] && storage.status(volumes[0]) == "deleting")
        func charged() throws -> Int? { try storage.database.readBlocking { try Quotas.usages(ofProject: "tenant", in: $0)["volumes"] } }
        #expect(try charged() == 8)
        try await storage.database.write { tx in try Volumes.erase(#require(try Volumes.lock(volumes[0], in: tx)), in: tx) }
        #expect(try charged() == 8)
    }

    @Test("where the internal project has no quota left nothing is cached, and nothing goes for it")
    func quota() async throws {
        _ = try await cachedAll(8, cache())
        for cache in [cache(), cache(count: 9)] {
            await #expect(throws: StorageError.self) { try await use(image("new"), cache) }
            #expect(try await use(image("new"), cache, filling: .refused) == .read)
        }
        #expect(try entries().count == 8 && told().filter { $0 == "miss new" }.count == 2)
    }

    @Test("an entry goes with its volume")
    func gone() async throws {
        let id = try await cached(image("a"))
        try await storage.database.write { tx in try Volumes.erase(#require(try Volumes.lock(id, in: tx)), in: tx) }
        #expect(try entries().isEmpty)
    }
}
