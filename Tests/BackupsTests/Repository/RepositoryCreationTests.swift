import JSON
import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("A repository and its keys")
struct RepositoryCreationTests {
    private let directory = temporaryDirectory("repository")
    private var store: DirectoryStore { DirectoryStore(directory) }

    @Test("what was created opens with its password only, and restic opens it too", .enabled(if: Restic.isInstalled))
    func creation() throws {
        let made = try Repository.create(in: store, password: Secret("secret"), chunkSize: 256 << 10)
        let opened = try Repository.open(store, password: Secret("secret"))
        #expect(opened.id == made.id)
        #expect(opened.chunkSize == 256 << 10)
        #expect(try opened.snapshots().isEmpty)
        #expect(kind { try Repository.open(store, password: Secret("Secret")) } == .wrongPassword)
        #expect(kind { try Repository.create(in: store, password: Secret("secret")) } == .exists)
        let check = try Restic(directory: directory)("check")
        #expect(check.status == 0, "\(check.output)")
        #expect(try Restic(directory: directory, password: "wrong")("check").status != 0)
    }

    @Test("a repository that restic made opens", .enabled(if: Restic.isInstalled))
    func foreign() throws {
        let initialized = try Restic(directory: directory)("init", "--repository-version", "2")
        #expect(initialized.status == 0, "\(initialized.output)")
        let opened = try Repository.open(store, password: Secret("secret"))
        #expect(opened.chunkSize == 1 << 20)
    }

    @Test("a second key opens the repository until it is removed; the key in use stays", .enabled(if: Restic.isInstalled))
    func keys() throws {
        let repository = try Repository.create(in: store, password: Secret("secret"))
        let second = try repository.addKey(Secret("tenant"))
        #expect(try Set(repository.keyList().map(\.id)) == [repository.openedKey, second])
        let asTenant = try Repository.open(store, password: Secret("tenant"))
        #expect(asTenant.id == repository.id)
        #expect(try Restic(directory: directory, password: "tenant")("check").status == 0)
        #expect(kind { try repository.removeKey(repository.openedKey) } == .invalid)
        try repository.removeKey(second)
        #expect(kind { try repository.removeKey(second) } == .notFound)
        #expect(kind { try Repository.open(store, password: Secret("tenant")) } == .wrongPassword)
        #expect(kind { try repository.addKey(Secret("")) } == .invalid)
    }

    @Test("arguments, missing parts and damage are told apart")
    func refusals() throws {
        #expect(kind { try Repository.open(store, password: Secret("x")) } == .notFound)
        #expect(kind { try Repository.create(in: store, password: Secret("")) } == .invalid)
        for size in [0, 1 << 17, 3 << 18, 1 << 23] {
            #expect(kind { try Repository.create(in: store, password: Secret("x"), chunkSize: size) } == .invalid)
        }
        let repository = try Repository.create(in: store, password: Secret("x"))
        var config = try readFile(directory + "/config")
        config[20] ^= 1
        writeFile(directory + "/config", config)
        #expect(kind { try Repository.open(store, password: Secret("x")) } == .damaged)
        try SealedObjects(store, repository.keys).saveConfig(Array("{\"version\":3,\"id\":\"\(repository.id)\"}".utf8))
        #expect(kind { try Repository.open(store, password: Secret("x")) } == .unsupported)
        try SealedObjects(store, repository.keys).saveConfig(
            Array(
                "{\"version\":2,\"id\":\"\(repository.id)\",\"chunker_polynomial\":\"25b468838dcb75\",\"clinker\":{\"version\":1,\"chunk_size\":9223372036854775807}}"
                    .utf8))
        #expect(kind { try Repository.open(store, password: Secret("x")) } == .damaged)
        try store.remove([ObjectKind.keys.name(repository.openedKey)])
        #expect(kind { try Repository.open(store, password: Secret("x")) } == .notFound)
    }

    @Test("a key file's costs are checked before memory is taken")
    func keyBombs() throws {
        let good = try KeyFile.make(.random(), password: Secret("x"), hostname: "h")
        #expect(try KeyFile(parsing: Array(good.json.text.utf8), name: "k").open(Secret("x")) != nil)
        for (member, value) in [("N", JSON.integer(1 << 40)), ("N", 1000), ("r", 1_000_000), ("p", -1), ("kdf", "argon2"), ("salt", "***")]
        {
            var json = good.json.object!
            json[member] = value
            #expect(kind { try KeyFile(parsing: Array(JSON.object(json).text.utf8), name: "k") } != nil, "\(member)")
        }
    }
}

/// The kind of the repository error that the body throws; nil if it throws none.
func kind<T>(_ body: () throws -> T) -> RepositoryError.Kind? {
    do { _ = try body() } catch { return (error as? RepositoryError)?.kind }
    return nil
}
