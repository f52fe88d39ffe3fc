import Glibc
import KeyManager
import Primitives
import TestSupport
import Testing

@Suite struct FileKeyStoreTests {
    let directory = temporaryDirectory("keys") + "/keys"

    private func store() -> FileKeyStore { FileKeyStore(directory) }

    private func request(_ name: String, bits: Int = 256) throws -> KeyRequest { try KeyRequest(bits: bits, name: name) }

    private func failure(_ body: () async throws -> Void) async -> KeyFailure? {
        do { try await body() } catch { return error as? KeyFailure }
        return nil
    }

    private func path(_ id: String) -> String { "\(directory)/\(id).key" }

    private func put(_ bytes: [UInt8], _ path: String, mode: mode_t = 0o600) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode)
        _ = write(descriptor, bytes, bytes.count)
        fchmod(descriptor, mode)
        close(descriptor)
    }

    private func content(_ path: String) -> [UInt8] {
        let descriptor = open(path, O_RDONLY)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &bytes, bytes.count)
        return Array(bytes.prefix(max(count, 0)))
    }

    private func mode(_ path: String) -> mode_t {
        var info = stat()
        lstat(path, &info)
        return info.st_mode & 0o7777
    }

    @Test(arguments: KeyRequest.lengths) func `a key outlives the store that made it`(bits: Int) async throws {
        let id = try await store().create(request("a", bits: bits))
        let key = try await store().key(id)
        #expect(key.bits == bits)
        #expect(try await store().key(id) == key)
    }

    @Test func `a key made twice under a name is one key, other names have others`() async throws {
        let store = store()
        let first = try await store.create(request("a"))
        #expect(try await store.create(request("a")) == first)
        let other = try await store.create(request("b"))
        #expect(other != first)
        let keys = (try await store.key(first), try await store.key(other))
        #expect(keys.0 != keys.1)
    }

    @Test func `a copy has the content and another id, and stays when the original goes`() async throws {
        let store = store()
        let id = try await store.create(request("a"))
        let key = try await store.key(id)
        let copy = try await store.copy(id, as: request("b"))
        #expect(copy != id)
        try await store.delete(id)
        #expect(try await store.key(copy) == key)
        #expect(await failure { _ = try await store.key(id) }?.kind == .notFound)
    }

    @Test func `what is gone may be deleted, by its id or its name`() async throws {
        let store = store()
        try await store.discard("never made")
        let id = try await store.create(request("a"))
        try await store.discard("a")
        try await store.delete(id)
        #expect(await failure { _ = try await store.key(id) }?.kind == .notFound)
    }

    @Test func `nobody else may read what is written, and no file holds a key in the clear`() async throws {
        let store = store()
        let id = try await store.create(request("a"))
        #expect(mode(directory) == 0o700)
        #expect(mode(path(id)) == 0o600)
        #expect(mode(directory + "/outer.key") == 0o600)
        let key = try await store.key(id)
        let (file, outer) = (content(path(id)), content(directory + "/outer.key"))
        for bytes in [key.reveal(), Array(key.passphrase.reveal().utf8), Array(Base64.encode(key.reveal()).utf8)] {
            #expect(!file.contains(bytes) && !outer.contains(bytes))
        }
    }

    // MARK: damage

    @Test func `every changed byte of a key's file is found`() async throws {
        let id = try await store().create(request("a"))
        let whole = content(path(id))
        let key = try await store().key(id)
        for index in whole.indices {
            var bytes = whole
            bytes[index] ^= 1
            put(bytes, path(id))
            let failed = await failure {
                let found = try await store().key(id)
                #expect(found == key)
            }
            // JSON has bytes that say nothing, as the form of white space.
            #expect(failed == nil || failed?.kind == .damaged, "byte \(index)")
            if failed != nil { #expect(failed?.description.contains(path(id)) == true) }
        }
        for count in 0..<whole.count {
            put(Array(whole.prefix(count)), path(id))
            #expect(await failure { _ = try await store().key(id) }?.kind == .damaged, "\(count) bytes")
        }
    }

    @Test func `a key's file under another name is refused`() async throws {
        let store = store()
        let (a, b) = (try await store.create(request("a")), try await store.create(request("b")))
        put(content(path(a)), path(b))
        #expect(await failure { _ = try await store.key(b) }?.kind == .damaged)
    }

    @Test func `links, directories, huge files and what others may read are refused`() async throws {
        let id = try await store().create(request("a"))
        let whole = content(path(id))
        let cases: [(String, () -> Void)] = [
            (
                "link",
                {
                    put(whole, directory + "/elsewhere"); symlink(directory + "/elsewhere", path(id))
                }
            ),
            ("directory", { mkdir(path(id), 0o700) }),
            ("huge", { put([UInt8](repeating: 32, count: 5000), path(id)) }),
            ("readable", { put(whole, path(id), mode: 0o640) }),
            ("pipe", { mkfifo(path(id), 0o600) }),
        ]
        for (name, make) in cases {
            unlink(path(id))
            make()
            #expect(await failure { _ = try await store().key(id) }?.kind == .damaged, "\(name)")
            rmdir(path(id))
        }
    }

    @Test func `without the outer key no key is read and none is made`() async throws {
        let id = try await store().create(request("a"))
        let outer = content(directory + "/outer.key")
        unlink(directory + "/outer.key")
        for failed in [await failure { _ = try await store().key(id) }, await failure { _ = try await store().create(request("b")) }] {
            #expect(failed?.kind == .damaged)
            #expect(failed?.description.contains("outer.key is missing") == true)
        }
        put(Array(String(repeating: "ab", count: 32).utf8), directory + "/outer.key")
        #expect(await failure { _ = try await store().key(id) }?.kind == .damaged)
        put(Array("no key".utf8), directory + "/outer.key")
        #expect(await failure { _ = try await store().key(id) }?.description.contains("outer.key is damaged") == true)
        put(outer, directory + "/outer.key")
        _ = try await store().key(id)
    }

    @Test func `foreign files are named`() async throws {
        let store = store()
        let id = try await store.create(request("a"))
        #expect(try await store.problems() == [])
        put([1], directory + "/notes.txt")
        put([1], path("11111111-1111-4111-8111-111111111111"))
        let problems = try await store.problems()
        #expect(problems.count == 2)
        #expect(problems.contains { $0.contains("notes.txt is no key") })
        #expect(problems.contains { $0.contains("11111111-1111-4111-8111-111111111111.key is damaged") })
        _ = try await store.key(id)
    }

    @Test func `a draft that a death left behind is in nobody's way`() async throws {
        let store = store()
        _ = try await store.create(request("a"))
        let id = try await store.create(request("b"))
        try await store.delete(id)
        put([1], "\(directory)/.\(id).key.\(getpid()).draft")
        #expect(try await store.create(request("b")) == id)
        _ = try await store.key(id)
    }

    @Test(arguments: ["", "..", "../outer", "outer", "00000000-0000-4000-8000-00000000000/", "AAAAAAAA-0000-4000-8000-000000000000"])
    func `what is no id names no file`(id: String) async throws {
        let store = store()
        _ = try await store.create(request("a"))
        #expect(await failure { _ = try await store.key(id) }?.kind == .notFound)
        #expect(await failure { try await store.delete(id) }?.kind == .notFound)
        #expect(access(directory + "/outer.key", F_OK) == 0)
    }

    @Test func `only keys that somebody can use are asked for`() {
        for bits in [0, -8, 8, 100, 257, 1 << 40] { #expect(throws: KeyFailure.self) { try KeyRequest(bits: bits, name: "a") } }
        for name in ["", "a/b", "a b", "ä", "a&b", String(repeating: "a", count: 256)] {
            #expect(throws: KeyFailure.self) { try KeyRequest(bits: 256, name: name) }
        }
        #expect(throws: KeyFailure.self) { try KeyRequest(bits: 256, algorithm: "a\nb", name: "a") }
    }
}
