import Database
import Testing

@testable import BlockStorage

/// Volumes in which the Image service says that it keeps images: whoever can tell it of a location names what he likes.
@Suite("Volumes that are images")
struct ImageVolumesTests {
    private let storage: Storage

    init() async throws { storage = try await Storage("[DEFAULT]\nquota_volumes = -1\n") }

    private func volume(of project: String, name: String, size: Int = 1, host: String = "h@b#p") async throws -> String {
        let id = try await storage.database.write { [requests = storage.requests] tx in
            var new = NewVolume()
            new.size = size
            new.name = name
            return try requests.create(new, caller: Caller(userID: "u", projectID: project, isAdmin: false, requestID: "r"), in: tx)
        }
        try await storage.finish(id)
        try await storage.database.write {
            try Volumes.place(#require(try Volumes.lock(id, in: $0)), host: host, serviceID: nil, zone: "nova", in: $0)
        }
        return id
    }

    /// Whether a new volume of 2 GiB of the project p, on another pool of the same backend, may be cloned from it, and then shares it.
    private func isShared(_ id: String) async throws -> Bool {
        let target = try await storage.create(2)
        let (volume, operation) = try await storage.database.write { tx in
            try Volumes.place(#require(try Volumes.lock(target, in: tx)), host: "h@b#q", serviceID: nil, zone: "nova", in: tx)
            return (try #require(try Volumes.find(target, in: tx)), try #require(try Operations.latest(of: target, in: tx)))
        }
        return try await storage.database.write { tx in
            var image = KeptImage()
            image.id = "the-image"
            let tenant = ImageCache.Tenant(projectID: "tenant", userID: "keeper")
            let isShared = try ImageVolumes.share(id, holding: image, with: volume, tenant: tenant, by: operation, in: tx)
            #expect(try Operations.isClaimed(id, in: tx) == isShared)
            return isShared
        }
    }

    @Test("a volume of the user's project is cloned, and one of the internal project that has the image's name")
    func whose() async throws {
        #expect(try await isShared(volume(of: "p", name: "mine")))
        #expect(try await isShared(volume(of: "tenant", name: "image-the-image")))
        #expect(try await !isShared(volume(of: "tenant", name: "image-another")))
        #expect(try await !isShared(volume(of: "victim", name: "image-the-image")))
        #expect(try await !isShared("11111111-2222-4333-8444-555555555555"))
    }

    @Test("what is larger, lies elsewhere, is in use or is being changed is not cloned")
    func states() async throws {
        #expect(try await !isShared(volume(of: "p", name: "large", size: 3)))
        #expect(try await !isShared(volume(of: "p", name: "elsewhere", host: "h@other#p")))
        let used = try await volume(of: "p", name: "used")
        try await storage.database.write { try Volumes.setStatus(.inUse, of: #require(try Volumes.lock(used, in: $0)), in: $0) }
        #expect(try await !isShared(used))
        // Its image is being read.
        for (isReadOnly, status) in [(false, VolumeStatus.inUse), (true, .inUse), (true, .attaching)] {
            let kept = try await volume(of: "tenant", name: "image-the-image")
            try await storage.database.write { tx in
                try Volumes.setReadOnly(
                    isReadOnly, of: kept, caller: Caller(userID: "u", projectID: "tenant", isAdmin: false, requestID: "r"), in: tx)
                try Volumes.setStatus(status, of: #require(try Volumes.lock(kept, in: tx)), in: tx)
            }
            #expect(try await isShared(kept) == (isReadOnly && status == .inUse))
        }
        let changing = try await volume(of: "p", name: "changing")
        try await storage.database.write { [requests = storage.requests] tx in
            try requests.extend(changing, to: 2, allowAttached: false, caller: .service(requestID: "r"), in: tx)
        }
        try await storage.database.write { try Volumes.setStatus(.available, of: #require(try Volumes.lock(changing, in: $0)), in: $0) }
        let target = try await storage.create(2)
        let (volume, operation) = try await storage.database.write { tx in
            try Volumes.place(#require(try Volumes.lock(target, in: tx)), host: "h@b#q", serviceID: nil, zone: "nova", in: tx)
            return (try #require(try Volumes.find(target, in: tx)), try #require(try Operations.latest(of: target, in: tx)))
        }
        let isShared = try await storage.database.write { tx in
            try ImageVolumes.share(changing, holding: KeptImage(), with: volume, tenant: nil, by: operation, in: tx)
        }
        #expect(!isShared)
    }
}
