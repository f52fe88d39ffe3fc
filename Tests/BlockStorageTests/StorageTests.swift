import Database
import Glibc
import JSON
import Primitives
import Settings
import TestSupport
import Testing

@testable import BlockStorage

/// A migrated database in a directory that goes with the test, and the requests on it.
final class Storage: Sendable {
    let directory: String
    let database: SQLiteDatabase
    let requests: VolumeRequests
    let rung: Rung
    let caller = Caller(userID: "u", projectID: "p", isAdmin: false, requestID: "req-test")

    final class Rung: Sendable {
        let ids = Guarded<[String]>([])
    }

    init(_ configuration: String = "") async throws {
        directory = temporaryDirectory("storage")
        database = try SQLiteDatabase(path: directory + "/db")
        let rung = Rung()
        self.rung = rung
        requests = VolumeRequests(try Settings(text: configuration))
        database.listen(to: .runnableOperations) { id in rung.ids.withLock { $0.append(id) } }
        try await database.migrate(Schema.migrations)
        try await database.write { try VolumeTypes.ensureDefault(named: "__DEFAULT__", in: $0) }
    }

    deinit {
        database.close()
    }

    func create(_ size: Int = 1, name: String? = nil, source: String? = nil) async throws -> String {
        try await database.write { [requests, caller] tx in
            var new = NewVolume()
            new.size = size
            new.name = name
            new.sourceVolumeID = source
            return try requests.create(new, caller: caller, in: tx)
        }
    }

    /// As the flow would: available on a host, the operation finished.
    func finish(_ id: String, state: String = "available") async throws {
        try await database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) {
                try Volumes.place(volume, host: "h@b#p", serviceID: nil, zone: "nova", in: tx)
                try Volumes.setStatus(VolumeStatus(rawValue: state), of: volume, in: tx)
            }
            for operation in try Operations.runnable(in: tx) where operation.resourceID == id {
                try Operations.finish(operation, state: .done, error: nil, in: tx)
            }
        }
    }

    func usage(_ resource: String) throws -> Int {
        try database.readBlocking { try Quotas.entries(project: "p", defaults: self.requests.quotas, in: $0) }.first {
            $0.resource == resource
        }?
        .inUse ?? -1
    }

    func status(_ id: String) throws -> String? { try database.readBlocking { try Volumes.find(id, in: $0)?.status.rawValue } }
}

/// Counts the statements that run.
private final class CountingTransaction: Transaction {
    private let tx: any Transaction
    private(set) var count = 0

    init(_ tx: any Transaction) { self.tx = tx }

    var time: Double { tx.time }
    var now: String { tx.now }
    var dialect: any Dialect { tx.dialect }
    func ring(_ topic: Topic, _ subject: String) { tx.ring(topic, subject) }
    func notesLocks(_ locks: () -> [RowLock]) { tx.notesLocks(locks) }
    func query(_ sql: SQL, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        count += 1
        try tx.query(sql, values, each)
    }
    func query(text: String, _ values: [Value], _ each: (any Row) throws -> Bool) throws {
        count += 1
        try tx.query(text: text, values, each)
    }
    func collect(_ sql: SQL, _ values: [Value]) throws -> Rows {
        count += 1
        return try tx.collect(sql, values)
    }
    func collect(text: String, _ values: [Value], expecting: Int) throws -> Rows {
        count += 1
        return try tx.collect(text: text, values, expecting: expecting)
    }
    func run(_ sql: SQL, _ values: [Value]) throws -> Int {
        count += 1
        return try tx.run(sql, values)
    }
    func run(text: String, _ values: [Value]) throws -> Int {
        count += 1
        return try tx.run(text: text, values)
    }
}

/// Runs every change twice, the first time in vain: as an engine does that finds another one's in its way.
private struct RepeatingDatabase: Database {
    let database: SQLiteDatabase
    struct InVain: Error {}

    nonisolated(nonsending) func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) async throws -> T {
        do {
            return try await database.write { tx in
                _ = try body(tx)
                throw InVain()
            }
        } catch is InVain { return try await database.write(body) }
    }
    nonisolated(nonsending) func read<T: Sendable>(_ limit: ReadLimit, _ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await database.read(limit, body)
    }
    func readBlocking<T>(_ limit: ReadLimit, _ body: (any Connection) throws -> T) throws -> T { try database.readBlocking(limit, body) }
    func listen(to topic: Topic, _ listener: @escaping @Sendable (_ subject: String) -> Void) { database.listen(to: topic, listener) }
    func migrate(_ migrations: [Migration]) async throws { try await database.migrate(migrations) }
    func close() { database.close() }
}

@Suite("Volumes, quotas and operations")
struct StorageTests {
    @Test("a change may be run again from its beginning: it is made, charged and rung for once")
    func repeated() async throws {
        let storage = try await Storage()
        let database = RepeatingDatabase(database: storage.database)
        let volumes = try await database.write { [storage] tx in
            var new = NewVolume()
            new.size = 2
            return try Volumes.shown(storage.requests.create(new, caller: storage.caller, in: tx), to: storage.caller, in: tx)
        }
        #expect(volumes.count == 1)
        #expect(try storage.usage("volumes") == 1 && storage.usage("gigabytes") == 2)
        #expect(try storage.database.readBlocking { try Operations.unfinished(in: $0) }.reduce(0) { $0 + $1.count } == 1)
        #expect(storage.rung.ids.withLock { $0.count } == 1)
    }

    @Test("limits of the class default go before the file's, unless the file says that they do not", arguments: [true, false])
    func defaultClass(counts: Bool) async throws {
        let storage = try await Storage("[DEFAULT]\nquota_volumes = 2\nuse_default_quota_class = \(counts)\n")
        try await storage.database.write { try Quotas.setLimits([(resource: "volumes", limit: 1)], class: "default", in: $0) }
        let limit = counts ? 1 : 2
        let shown = try storage.database.readBlocking { try Quotas.entries(project: "p", defaults: storage.requests.quotas, in: $0) }
        #expect(shown.first { $0.resource == "volumes" }?.limit == limit)
        for _ in 0..<limit { _ = try await storage.create() }
        await #expect(
            throws: StorageError(
                .overQuota, "VolumeLimitExceeded: Maximum number of volumes allowed (\(limit)) exceeded for quota 'volumes'.")
        ) { try await storage.create() }
        // What a project has of its own counts always.
        try await storage.database.write {
            try Quotas.setLimits([(resource: "volumes", limit: 3)], project: "p", defaults: storage.requests.quotas, in: $0)
        }
        _ = try await storage.create()
    }

    @Test("a type takes a name for which limits and usage were left: they are nobody's, and stand in nobody's way")
    func leftLimits() async throws {
        let storage = try await Storage()
        try await storage.database.write { tx in
            let type = try VolumeTypes.create(name: "old", description: nil, isPublic: true, extraSpecs: [:], in: tx)
            for name in ["volumes_old", "gigabytes_old", "volumes_new", "snapshots_new"] {
                try Quotas.setLimits([(resource: name, limit: 7)], class: "default", in: tx)
            }
            try tx.run(
                text: "INSERT INTO quota_usages (project_id, resource, in_use) VALUES ('p', 'volumes_new', 0), ('p', 'volumes_old', 3)", [])
            _ = try VolumeTypes.update(type.id, name: "new", description: nil, isPublic: nil, in: tx)
        }
        let limits = try storage.database.readBlocking { connection in
            try connection.rows(SQL("SELECT resource, hard_limit FROM quota_class_limits ORDER BY resource")) {
                "\($0.text(0)) \($0.int(1))"
            }
        }
        #expect(limits == ["gigabytes_new 7", "volumes_new 7"])
        #expect(try storage.usage("volumes_new") == 3)
    }

    @Test("a create makes the row, the charge and the operation together, or none of them")
    func createIsOneChange() async throws {
        let storage = try await Storage("[DEFAULT]\nquota_gigabytes = 3\nquota_volumes = 2\n")
        let id = try await storage.create(2)
        #expect(try storage.status(id) == "creating")
        #expect(try storage.usage("volumes") == 1 && storage.usage("gigabytes") == 2 && storage.usage("gigabytes___DEFAULT__") == 2)
        #expect(try storage.database.readBlocking { try Operations.unfinished(in: $0) }.reduce(0) { $0 + $1.count } == 1)
        await #expect(
            throws: StorageError(
                .overQuota,
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 2G, quota is 3G and 2G has been consumed."
            )
        ) { try await storage.create(2) }
        _ = try await storage.create(1)
        await #expect(
            throws: StorageError(
                .overQuota,
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 1G, quota is 3G and 3G has been consumed."
            )
        ) {
            try await storage.create(1)
        }
        #expect(try storage.usage("volumes") == 2)
        #expect(try storage.database.readBlocking { try Operations.unfinished(in: $0) }.reduce(0) { $0 + $1.count } == 2)
        #expect(storage.rung.ids.withLock { $0.count } == 2)
    }

    @Test("parallel creates cannot pass a quota together")
    func quotaUnderLoad() async throws {
        let storage = try await Storage("[DEFAULT]\nquota_volumes = 7\n")
        let made = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<50 { group.addTask { (try? await storage.create()) != nil } }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(made == 7)
        #expect(try storage.usage("volumes") == 7)
    }

    @Test("of two deletes one wins, the other gets Cinder's words")
    func deleteOnce() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id)
        try await storage.database.write { try storage.requests.delete(id, force: false, caller: storage.caller, in: $0) }
        await #expect {
            try await storage.database.write { try storage.requests.delete(id, force: false, caller: storage.caller, in: $0) }
        } throws: {
            ($0 as? StorageError)?.message.hasPrefix("Invalid volume: Volume status must be available or error") ?? false
        }
        #expect(try storage.status(id) == "deleting")
    }

    @Test("a volume of another project does not exist for a member")
    func foreign() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        let other = Caller(userID: "x", projectID: "q", isAdmin: false, requestID: "req")
        #expect(throws: StorageError.volumeNotFound(id)) { try storage.database.readBlocking { try Volumes.get(id, for: other, in: $0) } }
    }

    @Test("every guarded transition starts only where its row says", arguments: VolumeTransition.allCases)
    func transitions(transition: VolumeTransition) async throws {
        let storage = try await Storage()
        let rule = transition.rule
        for state in (VolumeStatus.settable + [.reverting]).map(\.rawValue) {
            let id = try await storage.create()
            try await storage.finish(id, state: state)
            let moved = try await storage.database.write { tx in
                try Volumes.lock(id, in: tx).map { try Volumes.perform(transition, on: $0, in: tx) }
            }
            // beginDetaching needs an attachment beside the state.
            let expected = (rule.from?.contains(VolumeStatus(rawValue: state)) ?? true) && !rule.conditions.contains(.attached)
            #expect(moved == expected, "\(transition) from \(state)")
            #expect(try storage.status(id) == (expected ? rule.to?.rawValue ?? state : state))
            try await storage.database.write { tx in
                if let volume = try Volumes.lock(id, in: tx) {
                    try Quotas.add(-volume.value.charge, type: "__DEFAULT__", project: "p", in: tx)
                    try Volumes.remove(volume, in: tx)
                }
            }
        }
    }

    @Test("a volume that is copied to another place is not attached meanwhile, and the request does not wait")
    func attachWhileMigrating() async throws {
        let storage = try await Storage()
        let (database, requests, caller) = (storage.database, storage.requests, storage.caller)
        let id = try await storage.create()
        try await storage.finish(id)
        let attachment = try await database.write {
            try requests.reserve(volumeID: id, instanceID: nil, mode: nil, caller: caller, in: $0)
        }
        let ways: [(String, @Sendable (any Transaction) throws -> Void)] = [
            ("attachment create", { _ = try requests.reserve(volumeID: id, instanceID: nil, mode: nil, caller: caller, in: $0) }),
            ("os-reserve", { try Volumes.reserve(id, caller: caller, in: $0) }),
            ("os-initialize_connection", { _ = try requests.connect(volumeID: id, connector: [:], caller: caller, in: $0) }),
            (
                "attachment update",
                { _ = try requests.connectAttachment(attachment, connector: [:], isNew: false, caller: caller, in: $0) }
            ),
        ]
        let states: [(status: VolumeStatus, migration: MigrationStatus?, isMoving: Bool)] = [
            (.available, .starting, true), (.available, .migrating, true), (.retyping, nil, true), (.available, .success, false),
            (.available, .error, false),
        ]
        for state in states {
            for (name, way) in ways {
                try await database.write { tx in
                    let t = Volumes.table
                    try tx.update(
                        t, t.id(id), set: t.status(state.status), t.previousStatus(.available), t.migrationStatus(state.migration),
                        t.attachStatus(.detached))
                }
                let before = try database.readBlocking { try Operations.runnable(in: $0).count }
                do {
                    try await database.write { try way($0) }
                    #expect(!state.isMoving, "\(name) is accepted: \(state)")
                } catch let refused as StorageError {
                    #expect(state.isMoving && refused.kind == .invalid, "\(name), \(state): \(refused.message)")
                }
                if state.isMoving {
                    #expect(try database.readBlocking { try Operations.runnable(in: $0).count } == before, "\(name) left an operation")
                    #expect(try database.readBlocking { try Volumes.find(id, in: $0)?.status } == state.status, "\(name), \(state)")
                }
            }
        }
    }

    @Test("a state that this release does not know survives: it is read, shown, kept beside another one and written back")
    func unknownStates() async throws {
        let storage = try await Storage()
        let id = try await storage.create()
        try await storage.finish(id, state: "shelved-by-tomorrow")
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) {
                try Volumes.setMigrationStatus(MigrationStatus(rawValue: "half-way"), of: volume, in: tx)
            }
        }
        await #expect {
            try await storage.database.write { [storage] in
                try storage.requests.extend(id, to: 2, allowAttached: false, caller: storage.caller, in: $0)
            }
        } throws: { ($0 as? StorageError)?.message.hasSuffix("currently shelved-by-tomorrow.") ?? false }
        try await storage.database.write { [storage] tx in
            try Volumes.resetStatus(id, status: nil, attachStatus: nil, migrationStatus: .error, caller: storage.caller, in: tx)
            try storage.requests.delete(id, force: true, caller: storage.caller, in: tx)
        }
        let volume = try storage.database.readBlocking { try #require(try Volumes.find(id, in: $0)) }
        #expect(volume.status == .deleting && volume.previousStatus?.rawValue == "shelved-by-tomorrow")
        #expect(volume.status.shown == .deleting && VolumeStatus(rawValue: "shelved-by-tomorrow").shown.rawValue == "shelved-by-tomorrow")
    }

    @Test("the attachments of a page are read by one statement, and each volume has its own")
    func attachmentsOfPage() async throws {
        let storage = try await Storage()
        var attached: [String: Int] = [:]
        for index in 0..<6 {
            let id = try await storage.create()
            try await storage.finish(id)
            attached[id] = index % 2
            guard index % 2 == 1 else { continue }
            try await storage.database.write { [storage] tx in
                try Attachments.attach(
                    volumeID: id, instanceID: nil, host: "h", mountpoint: "/dev/vdb", mode: "rw", caller: storage.caller, in: tx)
            }
        }
        let counts = try await storage.database.write { [attached] tx in
            let counted = CountingTransaction(tx)
            let page = try VolumeQuery(projectID: "p", limit: 50).page(in: counted)
            page.forEach { row, _, attachments in
                let id = row[VolumeTable.table.id]
                #expect(attachments.count == attached[id] && attachments.allSatisfy { $0.volumeID == id })
            }
            return [page.count, counted.count]
        }
        // The rows, the name of their type, the attachments.
        #expect(counts == [6, 3])
    }

    @Test(
        "each volume of a page has the name of its own type, and a type is looked up once", arguments: ["", "b", "aab", "abcabc", "bbbbac"])
    func typesOfPage(types: String) async throws {
        let storage = try await Storage()
        try await storage.database.write { tx in
            for name in ["a", "b", "c"] {
                _ = try VolumeTypes.create(name: name, description: nil, isPublic: true, extraSpecs: [:], in: tx)
            }
        }
        for type in types {
            try await storage.database.write { [storage] tx in
                var new = NewVolume()
                new.size = 1
                new.typeName = String(type)
                new.name = String(type)
                _ = try storage.requests.create(new, caller: storage.caller, in: tx)
            }
        }
        let (names, statements) = try await storage.database.write { tx in
            let counted = CountingTransaction(tx)
            var names: [String] = []
            try VolumeQuery(projectID: "p", limit: 50).page(in: counted).forEach { row, type, _ in
                names.append(try #require(type).name)
                #expect(row[VolumeTable.table.name] == type?.name)
            }
            return (names, counted.count)
        }
        #expect(names.joined() == String(types.reversed()))
        #expect(statements == 1 + Set(types).count)
    }

    @Test(
        "an encrypted image opens only what its own project makes of it, and an encrypted volume is sent as it lies"
    )
    func encryptedAndImages() async throws {
        let storage = try await Storage()
        func image(key: String?, format: String = "raw", size: Int = 1) throws -> SourceImage {
            var answer: JSONObject = [
                "id": "11111111-2222-4333-8444-555555555555", "status": "active", "size": JSON(size), "min_disk": 0, "min_ram": 0,
                "disk_format": .string(format), "container_format": "bare",
            ]
            if let key { answer["cinder_encryption_key_id"] = .string(key) }
            return try #require(SourceImage(.object(answer)))
        }
        let id = try await storage.database.write { [storage] tx in
            let type = try VolumeTypes.create(name: "secret", description: nil, isPublic: true, extraSpecs: [:], in: tx)
            var values = TypeEncryption.Values()
            (values.provider, values.controlLocation, values.cipher, values.keySize) = ("luks", "front-end", "aes-xts-plain64", 256)
            _ = try TypeEncryptions.create(values, ofType: type.id, in: tx)
            var new = NewVolume()
            new.size = 1
            new.typeName = "secret"
            return try storage.requests.create(new, caller: storage.caller, in: tx)
        }
        try await storage.finish(id)
        func refusal(_ ask: @escaping @Sendable (any Transaction) throws -> Void) async -> String {
            do { try await storage.database.write { try ask($0) } } catch { return (error as? StorageError)?.message ?? "\(error)" }
            return "done"
        }
        let (requests, caller) = (storage.requests, storage.caller)
        func make(_ image: SourceImage, _ caller: Caller, type: String? = "secret") async -> String {
            await refusal {
                var new = NewVolume()
                new.size = 1
                new.typeName = type
                new.image = .found(image)
                _ = try requests.create(new, caller: caller, in: $0)
            }
        }
        let foreign = "is encrypted by a key that was not made for it by this service, or not for this project."
        // Anybody can say of his image that it has a key.
        #expect(await make(try image(key: "k"), caller).contains(foreign))
        try await storage.database.write { try ImageKeys.note("k", ofImage: "11111111-2222-4333-8444-555555555555", project: "p", in: $0) }
        #expect(await make(try image(key: "k"), caller) == "done")
        #expect(await make(try image(key: "other"), caller).contains(foreign))
        let other = Caller(userID: "x", projectID: "q", isAdmin: true, requestID: "req-other")
        #expect(await make(try image(key: "k"), other).contains(foreign))
        #expect(await make(try image(key: "k", format: "qcow2"), caller).contains("disk_format raw or luks"))
        #expect(await make(try image(key: nil), caller) == "done")
        #expect(await make(try image(key: nil, size: 1 << 30), caller).contains("a header takes"))
        #expect(await make(try image(key: "k", size: 1 << 30), caller) == "done")
        // Nobody could read it where the type is not encrypted.
        #expect(await make(try image(key: "k"), caller, type: nil).contains("must be of an encrypted type"))
        let plain = try await storage.create()
        try await storage.finish(plain)
        let overPlain = await refusal { [image = try image(key: "k")] in
            try requests.reimage(plain, from: image, allowsReserved: false, caller: caller, in: $0)
        }
        #expect(overPlain.contains("must be of an encrypted type"))
        #expect(try storage.status(plain) == "available")
        // What the service cannot encrypt by is known at once; an empty volume is its hosts' concern.
        for (name, provider, cipher) in [
            ("second", "luks2", "aes-xts-plain64"), ("bare", "plain", nil), ("rare", "luks", "serpent-xts-plain64"),
        ] {
            try await storage.database.write { tx in
                let type = try VolumeTypes.create(name: name, description: nil, isPublic: true, extraSpecs: [:], in: tx)
                var values = TypeEncryption.Values()
                (values.provider, values.controlLocation, values.cipher, values.keySize) = (provider, "front-end", cipher, 256)
                _ = try TypeEncryptions.create(values, ofType: type.id, in: tx)
            }
            let said = await make(try image(key: nil), caller, type: name)
            #expect(name == "second" ? said == "done" : said.contains("cannot be encrypted by the provider '\(provider)'"), "\(said)")
            #expect(await make(try image(key: "k"), caller, type: name) == "done")
        }

        func upload(_ format: String) async -> String {
            let copy = NewImage(id: UUID.random(), name: "n", diskFormat: format, containerFormat: "bare")
            return await refusal {
                try requests.checkUpload(of: id, to: copy, isForced: false, caller: caller, in: $0)
                try requests.upload(id, to: copy, isForced: false, caller: caller, in: $0)
            }
        }
        #expect(await upload("raw").contains("has no key"))
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.setEncryptionKey("v", of: volume, in: tx) }
        }
        #expect(await upload("qcow2").contains("must use 'raw' disk_format and 'bare' container_format"))
        // A key that was made for another project's volume comes to no volume, and none comes to a volume with snapshots.
        func reimage(_ image: SourceImage, undone: Bool = false) async -> String {
            await refusal {
                try requests.reimage(id, from: image, allowsReserved: false, caller: caller, in: $0)
                if undone { throw StorageError(.failed, "undone") }
            }
        }
        #expect(await reimage(try image(key: "other")).contains(foreign))
        #expect(await reimage(try image(key: "k", format: "qcow2")).contains("disk_format raw or luks"))
        #expect(await reimage(try image(key: "k"), undone: true) == "undone")
        #expect(await reimage(try image(key: nil), undone: true) == "undone")
        #expect(await reimage(try image(key: nil, size: 1 << 30)).contains("a header takes"))
        #expect(try storage.status(id) == "available")
        // What an image is said to have had as a key is not said of another.
        let members = try await storage.database.write { tx in
            guard let volume = try Volumes.lock(id, in: tx) else { return JSONObject() }
            try Volumes.updateMap(.image, of: volume, in: tx) { $0 = ["cinder_encryption_key_id": "x", "os_distro": "debian"] }
            let new = NewImage(id: "i", name: "n", diskFormat: "raw", containerFormat: "bare")
            return try requests.description(of: new, from: id, in: tx)
        }
        #expect(members["os_distro"] == "debian" && members["cinder_encryption_key_id"] == nil)
        #expect(await upload("raw") == "done")
        #expect(try storage.status(id) == "uploading")
    }

    @Test("a project has so many images of encrypted volumes, each with a key, and no more")
    func imageKeyLimit() async throws {
        let storage = try await Storage("[DEFAULT]\nimage_keys_per_project = 2\n")
        let id = try await storage.create()
        try await storage.finish(id)
        let requests = storage.requests
        func check(_ image: String) async throws {
            let new = NewImage(id: image, name: "n", diskFormat: "raw", containerFormat: "bare")
            try await storage.database.read { try requests.checkUpload(of: id, to: new, isForced: false, caller: storage.caller, in: $0) }
        }
        try await storage.database.write { tx in
            for image in ["a", "b"] { try ImageKeys.note("k", ofImage: image, project: "p", in: tx) }
            try ImageKeys.note("k", ofImage: "c", project: "other", in: tx)
        }
        // One that is not encrypted has none.
        try await check("d")
        try await storage.database.write { tx in
            if let volume = try Volumes.lock(id, in: tx) { try Volumes.setEncryptionKey("v", of: volume, in: tx) }
        }
        let refusal = await #expect(throws: StorageError.self) { try await check("d") }
        #expect(refusal?.kind == .overQuota && refusal?.message.contains("image_keys_per_project") == true)
        try await storage.database.write { try ImageKeys.forget(ofImage: "a", in: $0) }
        try await check("d")
    }

    @Test("a volume whose upload ended without saying so is again what its attachments say")
    func strandedUpload() async throws {
        let storage = try await Storage()
        let (idle, used) = (try await storage.create(), try await storage.create())
        for id in [idle, used] { try await storage.finish(id) }
        try await storage.database.write { [storage] tx in
            try Attachments.attach(
                volumeID: used, instanceID: UUID.random(), host: nil, mountpoint: "/dev/vdb", mode: "rw", caller: storage.caller, in: tx)
        }
        // One after the other: of two ids either may be the one that is locked first.
        for id in [idle, used] {
            try await storage.database.write { tx in
                if let volume = try Volumes.lock(id, in: tx) { try Volumes.setStatus(.uploading, of: volume, in: tx) }
            }
        }
        func findings() async throws -> [Finding] {
            try await storage.database.read {
                try DatabaseExamination.findings(knownFlows: [], reservationAge: 86_400, snapshotsChargeGigabytes: true, in: $0)
                    .filter { $0.kind == .stranded || $0.kind == .attachState }
            }
        }
        let found = try await findings()
        #expect(Set(found.map(\.resource)) == [idle, used] && found.count == 2, "\(found.map(\.text))")
        for finding in found {
            #expect(try await finding.repaired(in: storage.database).outcome?.contains("its status was set to") == true)
        }
        #expect(try storage.status(idle) == "available" && storage.status(used) == "in-use")
        #expect(try await findings().isEmpty)
    }

    @Test("creating a volume takes eight statements at most")
    func statements() async throws {
        let storage = try await Storage()
        let counts = try await storage.database.write { [storage] tx in
            try [nil, "nova"].map { zone in
                var new = NewVolume()
                new.size = 1
                new.zone = zone
                let counted = CountingTransaction(tx)
                _ = try storage.requests.create(new, caller: storage.caller, in: counted)
                return counted.count
            }
        }
        #expect(counts.allSatisfy { $0 <= 8 }, "\(counts)")
    }

    @Test("operations on one thing run one after the other; clones of one source run together")
    func claims() async throws {
        let storage = try await Storage()
        let source = try await storage.create()
        try await storage.finish(source)
        storage.rung.ids.withLock { $0 = [] }
        let first = try await storage.create(source: source)
        _ = try await storage.create(source: source)
        #expect(storage.rung.ids.withLock { $0.count } == 2)
        // The source's deletion waits for both clones.
        try await storage.database.write { try storage.requests.delete(source, force: false, caller: storage.caller, in: $0) }
        #expect(storage.rung.ids.withLock { $0.count } == 2)
        try await storage.finish(first)
        #expect(storage.rung.ids.withLock { $0.count } == 2)
        let all = try storage.database.readBlocking { try Operations.runnable(in: $0) }
        #expect(all.count == 1)
        try await storage.finish(all[0].resourceID)
        #expect(storage.rung.ids.withLock { $0.count } == 3)
        #expect(try storage.database.readBlocking { try Operations.runnable(in: $0) }.first?.flow == DeleteVolumeArguments.flow)
    }

    @Test(
        "the volume's state follows its attachments",
        arguments: [
            (["attached", "reserved"], "in-use", "attached"), (["reserved", "attaching"], "attaching", "attaching"),
            (["detaching"], "detaching", "detaching"),
            ([], "available", "detached"), (["error_attaching"], "available", "detached"), (["reserved"], "reserved", "reserved"),
        ])
    func derived(attachments: [String], status: String, attachStatus: String) {
        let result = VolumeStatus.derived(fromAttachments: attachments.map { AttachmentStatus(rawValue: $0) })
        #expect(result.status.rawValue == status && result.attachStatus.rawValue == attachStatus)
    }

    @Test(
        "pages by marker show everything once, whatever the order and the directions",
        arguments: [
            [("created_at", false)], [("name", true)], [("name", false), ("size", true)], [("size", true)],
            [("status", true), ("name", false), ("size", true)],
        ])
    func paging(sort: [(String, Bool)]) async throws {
        let storage = try await Storage("[DEFAULT]\nquota_volumes = -1\nquota_gigabytes = -1\n")
        for index in 0..<23 { _ = try await storage.create(index % 4 + 1, name: index % 5 == 0 ? nil : "n\(index % 3)") }
        func page(_ limit: Int, _ marker: String?) throws -> [String] {
            var query = VolumeQuery(projectID: "p", limit: limit)
            query.sort = sort.compactMap { item in VolumeQuery.Column(rawValue: item.0).map { (column: $0, ascending: item.1) } }
            query.marker = marker
            var ids: [String] = []
            try storage.database.readBlocking { try query.page(in: $0).forEach { row, _, _ in ids.append(row[VolumeTable.table.id]) } }
            return ids
        }
        let whole = try page(100, nil)
        #expect(whole.count == 23)
        var collected: [String] = []
        while true {
            let next = try page(4, collected.last)
            collected += next
            if next.count < 4 { break }
        }
        #expect(collected == whole)
    }

    @Test("the default page, first or deep, is served by an index")
    func queryPlans() async throws {
        let storage = try await Storage()
        for text in [
            "SELECT v.id FROM volumes v WHERE v.project_id = 'p' ORDER BY v.created_at DESC, v.id DESC LIMIT 50 OFFSET 0",
            "SELECT v.id FROM volumes v WHERE v.project_id = 'p' AND (v.created_at, v.id) < ('x', 'y') ORDER BY v.created_at DESC, v.id DESC LIMIT 50 OFFSET 0",
            "SELECT v.id FROM volumes v ORDER BY v.created_at DESC, v.id DESC LIMIT 50",
        ] {
            var plan = ""
            try storage.database.readBlocking {
                try $0.query(text: "EXPLAIN QUERY PLAN " + text, []) {
                    plan += $0.text(3); return true
                }
            }
            #expect(plan.contains("INDEX volumes_") && !plan.contains("TEMP B-TREE"), "\(plan)")
        }
    }

    @Test("a type in use keeps its extra specs, the default and the last type cannot be deleted")
    func types() async throws {
        let storage = try await Storage()
        let gold = try await storage.database.write {
            try VolumeTypes.create(name: "gold", description: nil, isPublic: true, extraSpecs: ["a": "b"], in: $0)
        }
        await #expect(throws: StorageError(.conflict, "Volume Type gold already exists.")) {
            try await storage.database.write {
                try VolumeTypes.create(name: "gold", description: nil, isPublic: true, extraSpecs: [:], in: $0)
            }
        }
        let standard = try storage.database.readBlocking { try VolumeTypes.named("__DEFAULT__", in: $0) }
        await #expect(throws: StorageError.self) {
            try await storage.database.write { try VolumeTypes.delete(standard?.id ?? "", defaultName: "__DEFAULT__", in: $0) }
        }
        _ = try await storage.create()
        await #expect(throws: StorageError(.invalid, "Volume Type is currently in use.")) {
            try await storage.database.write { try VolumeTypes.updateExtraSpecs(standard?.id ?? "", in: $0) { $0["x"] = "y" } }
        }
        try await storage.database.write { try VolumeTypes.delete(gold.id, defaultName: "__DEFAULT__", in: $0) }
    }
}

@Suite("Lists of volumes")
struct VolumeQueryTests {
    /// The scope, the filters, and what each line of the plan must and must not hold.
    @Test("filters are served by an index, in a project by no more than its rows")
    func plans() async throws {
        let storage = try await Storage()
        func plan(_ project: String?, _ filters: [VolumeQuery.Filter]) throws -> String {
            var query = VolumeQuery(projectID: project, limit: 50)
            query.filters = filters
            return try storage.database.readBlocking { try query.plan(in: $0) }.joined(separator: "; ")
        }
        for (project, filters, index, sorts) in [
            (nil, [], "volumes_by_time", false), ("p", [], "volumes_of_project (project_id=?)", false),
            (nil, [.equals(.id, .text("i"))], "autoindex_volumes_1 (id=?)", false),
            ("p", [.equals(.id, .text("i"))], "autoindex_volumes_1 (id=?)", false),
            (nil, [.equals(.display_name, .text("n"))], "volumes_by_name (name=?)", true),
            ("p", [.equals(.display_name, .text("n"))], "volumes_by_name (name=? AND project_id=?)", false),
            (nil, [.equals(.status, .text("error"))], "volumes_by_status (status=?)", false),
            ("p", [.equals(.status, .text("error"))], "volumes_of_project (project_id=?)", false),
            (nil, [.host("h@b#p")], "volumes_on_host", true), ("p", [.host("h@b#p")], "volumes_of_project (project_id=?)", false),
            (nil, [.equals(.volume_type_id, .text("t"))], "volumes_of_type (volume_type_id=?)", false),
            ("p", [.equals(.volume_type_id, .text("t"))], "volumes_of_project (project_id=?)", false),
            ("p", [.matches(.description, .like("x"))], "volumes_of_project (project_id=?)", false),
            ("p", [.map(.metadata, [(key: "a", value: "b")])], "volumes_of_project (project_id=?)", false),
            ("p", [.equals(.size, .int(1))], "volumes_of_project (project_id=?)", false),
            ("p", [.compare(.created_at, ">", .text("2026"))], "volumes_of_project (project_id=? AND created_at>?)", false),
        ] as [(String?, [VolumeQuery.Filter], String, Bool)] {
            let plan = try plan(project, filters)
            #expect(plan.contains(index), "\(project ?? "all") \(filters): \(plan)")
            #expect(plan.contains("TEMP B-TREE") == sorts, "sorts? \(project ?? "all") \(filters): \(plan)")
            #expect(!plan.contains("SCAN v;") && !plan.hasSuffix("SCAN v"), "\(plan)")
        }
    }
}
