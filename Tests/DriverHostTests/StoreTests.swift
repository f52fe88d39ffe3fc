import Backups
import CDriver
import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import DriverHost
@testable import Transfers

@Suite("Stores of backups")
struct StoreTests {
    /// The store of C that the conformance suite's mutants are made of, with a bug or none.
    private func store(bug: String = "none", _ flags: [String] = [], onLog: @escaping @Sendable (String) -> Void = { _ in }) throws -> Store
    {
        let directory = temporaryDirectory("store")
        let path = try build(flags, in: directory)
        return try Store(
            StorePlugin(path: path),
            options: .members(["directory": .string(directory + "/objects"), "bug": .string(bug), "state_dir": .string(directory)])
        ) { _, line in onLog(line) }
    }

    private func build(_ flags: [String], in directory: String, _ source: String? = nil) throws -> String {
        let path = directory + "/clinker-store.so"
        let sources = ["instance", "reading", "writing"].map { CompiledDriver.sources + "/store-mutants/\($0).c" }
        let pid = try spawn(
            "/usr/bin/cc",
            ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I", CompiledDriver.header, "-o", path] + flags
                + (source.map { [$0] } ?? sources) + ["-lcrypto"], descriptors: [])
        #expect(reap(pid) == 0, "cc failed")
        return path
    }

    private func put(_ store: Store, _ name: String, _ text: String) throws {
        try Array(text.utf8).withUnsafeBytes { try store.put(name, [$0]) }
    }

    private func get(_ store: Store, _ name: String) throws -> String {
        var bytes = [UInt8](repeating: 0, count: 1000)
        let count = try bytes.withUnsafeMutableBytes { try store.get(name, at: 0, into: $0) }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    @Test("a library is described by its kinds, and one kind is not taken for another")
    func kinds() throws {
        let store = try build([], in: temporaryDirectory("store"))
        let library = try PluginLibrary(path: store)
        #expect(library.kinds == [.store])
        let plugin = try #require(try library.plugins().first)
        #expect(plugin.kind == .store && plugin.name == "mutants" && plugin.options == nil)
        #expect(plugin.nativeCalls.contains("put_open") && plugin.support.contains { $0.call == "put" && $0.support == .native })
        #expect { try Plugin(path: store) } throws: { "\($0)".contains("no driver of volumes: name it by backup_driver") }
        let driver = try CompiledDriver.build("simple.c", as: "clinker-simple.so")
        #expect(try PluginLibrary(path: driver).kinds == [.volume])
        #expect { try StorePlugin(path: driver) } throws: { "\($0)".contains("no store of backups: name it by volume_driver") }
        #expect { try StorePlugin(path: try CompiledDriver.build("broken.c", as: "clinker-broken.so", ["-DNO_SYMBOL"])) } throws: {
            "\($0)".contains("exports no clinker_store_v1")
        }
    }

    @Test(
        "a store that cannot be used is refused in one line that says what to do",
        arguments: [
            (".abi = 2", "built for driver ABI 2"), (".size = 100", "store table of 100 bytes"), (".name = 0", "has no name"),
            (".get = 0", "lacks the mandatory get"), (".put_close = 0", "only put_open, put_write of put_open"),
            (".kind = CLINKER_VOLUME_DRIVER", "set .kind = CLINKER_BACKUP_DRIVER"), (".threads = 0", "CLINKER_THREADS_PARALLEL"),
        ])
    func broken(change: String, reason: String) throws {
        let directory = temporaryDirectory("store")
        let file = fopen(directory + "/broken.c", "w")
        fputs(
            """
            #include <clinker/driver.h>
            static int f() { return 0; }
            static void c(void *i) { (void)i; }
            #define F (void *)f
            #pragma GCC diagnostic ignored "-Wpedantic"
            #pragma GCC diagnostic ignored "-Woverride-init"
            static const clinker_store store = {
                .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_store), .name = "broken", .kind = CLINKER_BACKUP_DRIVER,
                .threads = CLINKER_THREADS_PARALLEL, .open = F, .close = c, .capabilities = F, .stats = F, .put = F, .get = F,
                .stat_object = F, .list = F, .remove = F, .put_open = F, .put_write = F, .put_close = F, \(change),
            };
            CLINKER_STORE(store)

            """, file)
        fclose(file)
        let path = try build([], in: directory, directory + "/broken.c")
        #expect { try StorePlugin(path: path) } throws: { "\($0)".contains(reason) && !"\($0)".contains("\n") }
    }

    @Test("a store is found by its plain name and by Cinder's Python path, and one that is not there names what is")
    func names() throws {
        let directory = temporaryDirectory("store")
        for (file, source) in [("libClinkerBackupPOSIX.so", "posix"), ("libClinkerNFS.so", "nfs"), ("clinker-acme.so", "acme")] {
            #expect(creat(directory + "/" + file, 0o755) >= 0, "\(source)")
        }
        func path(_ driver: String) throws -> String { try Plugin.path(for: driver, in: directory, kind: .store) }
        for name in [
            "posix", "POSIX", "glusterfs", "cinder.backup.drivers.posix.PosixBackupDriver", "cinder.backup.drivers.posix",
            "cinder.backup.drivers.glusterfs.GlusterfsBackupDriver",
        ] { #expect(try path(name) == directory + "/libClinkerBackupPOSIX.so") }
        #expect(try path("acme") == directory + "/clinker-acme.so")
        #expect { try path("cinder.backup.drivers.swift.SwiftBackupDriver") } throws: {
            "\($0)".contains("backup_driver = cinder.backup.drivers.swift.SwiftBackupDriver: no such plugin")
                && "\($0)".hasSuffix("it has posix")
        }
        #expect { try path("cinder.backup.drivers.acme.Acme") } throws: { "\($0)".contains("known are cinder.backup.drivers.ceph") }
    }

    @Test("objects of unknown size are kept by the host where the store has no writers")
    func spool() throws {
        let store = try store(["-DWITHOUT_WRITERS"])
        let writer = try store.write("a/b")
        for piece in ["one ", "", "two"] { try Array(piece.utf8).withUnsafeBytes { try writer.append($0) } }
        #expect(try store.object("a/b") == nil)
        try writer.commit()
        #expect(try get(store, "a/b") == "one two")
        #expect(throws: DriverFailure.self) { try writer.commit() }
        let other = try store.write("a/c")
        try Array("x".utf8).withUnsafeBytes { try other.append($0) }
        other.abandon()
        #expect(try store.object("a/c") == nil)
        #expect(throws: DriverFailure.self) { try Array("x".utf8).withUnsafeBytes { try other.append($0) } }
        try store.write("empty").commit()
        #expect(try store.object("empty")?.size == 0)
    }

    @Test(
        "a store that gives what the header does not allow is refused, not believed",
        arguments: [
            ("list_unsorted", "comes after"), ("list_after_included", "comes after"), ("list_twice", "comes after"),
            ("list_size_unset", "without its size set"), ("get_done_too_many", "says that it read"), ("code_unknown", "which is no code"),
        ])
    func disbelief(bug: String, words: String) throws {
        let store = try store(bug: bug)
        for index in 0..<200 { try put(store, "o\(index * 7919 % 200)", "1") }
        #expect {
            try store.list("", after: "o1") { _ in true }
            _ = try get(store, "o1")
            _ = try get(store, "none")
        } throws: { "\($0)".contains(words) }
    }

    @Test("more names than a call takes are removed, and a name that is given twice is asked for once")
    func removal() throws {
        let store = try store()
        let names = (0..<2_500).map { "o\($0)" }
        for name in names where name.hasSuffix("7") { try put(store, name, "1") }
        try store.remove(names + names)
        var left = 0
        try store.list("", after: "") { _ in
            left += 1
            return true
        }
        #expect(left == 0)
    }

    @Test("as a store of backups it keeps the order, the ranges and the failures of the plugin")
    func asObjectStore() throws {
        let store = try PluginStore(try store())
        #expect(store.traits.listsConsistently && store.traits.preferredObjectSize == 32 << 20 && store.traits.maximumObjectSize == 1 << 40)
        try Array("hello".utf8).withUnsafeBytes { try store.put("a/b", [$0], sha256: nil) }
        let writer = try store.write("a/c")
        try Array("there".utf8).withUnsafeBytes { try writer.append($0) }
        try writer.commit()
        var names: [String] = []
        try store.list("a", after: "") { name, size in
            names.append("\(name) \(size)")
            return true
        }
        #expect(names == ["a/b 5", "a/c 5"])
        #expect(try store.size(of: "a/b") == 5 && store.size(of: "none") == nil)
        func kind(_ body: () throws -> Void) -> StoreFailure.Kind? {
            do { try body() } catch { return (error as? StoreFailure)?.kind }
            return nil
        }
        var byte: [UInt8] = [0]
        #expect(kind { _ = try byte.withUnsafeMutableBytes { try store.get("none", at: 0, into: $0) } } == .notFound)
        #expect(kind { try store.put("../x", [], sha256: nil) } == .permanent)
        try store.remove(["a/b", "a/c", "none"])
        #expect(try store.size(of: "a/b") == nil)
        for (code, wanted) in [
            (DriverFailure.Code.retry, StoreFailure.Kind.temporary), (.noSpace, .noSpace), (.badConfiguration, .forbidden),
            (.cancelled, .cancelled), (.busy, .permanent),
        ] { #expect(StoreFailure(DriverFailure(code, "why")).kind == wanted) }
    }

    @Test("what says RETRY is called again, and a list goes on where it broke off")
    func retries() throws {
        let directory = temporaryDirectory("store")
        let file = fopen(directory + "/flaky.c", "w")
        // Every second call fails; a list fails behind each name.
        fputs(
            """
            #include <clinker/driver.h>
            #include <string.h>
            static int calls;
            static int trouble(clinker_call *c) { return ++calls % 2 ? clinker_fail(c, CLINKER_RETRY, "trouble %d", calls) : 0; }
            static int o(clinker_call *c, void **i) { (void)c; *i = &calls; return 0; }
            static void cl(void *i) { (void)i; }
            static int ok(void *i, clinker_call *c) { (void)i; (void)c; return 0; }
            static int put(void *i, clinker_call *c, const char *n, const clinker_slice *s, uint32_t k, const unsigned char *h) {
                (void)i; (void)n; (void)s; (void)k; (void)h; return trouble(c); }
            static int get(void *i, clinker_call *c, const char *n, void *b, uint64_t p, uint64_t l, uint64_t *d) {
                (void)i; (void)p; (void)l; memset(b, 'x', 1); *d = 1;
                return strcmp(n, "down") ? trouble(c) : clinker_fail(c, CLINKER_RETRY, "it is down"); }
            static int st(void *i, clinker_call *c, const char *n, clinker_object *r) { (void)i; (void)n; r->length = 7; return trouble(c); }
            static int list(void *i, clinker_call *c, const char *p, const char *a, clinker_object_function each, void *q) {
                (void)i; (void)p;
                for (char n[2] = "a"; n[0] <= 'e'; n[0]++) if (strcmp(n, a) > 0) {
                    clinker_object object = {.size = sizeof object, .name = n, .length = 1};
                    int stop = each(q, &object);
                    return stop ? stop : n[0] < 'e' ? clinker_fail(c, CLINKER_RETRY, "the page after %s", n) : 0;
                }
                return 0; }
            static int rm(void *i, clinker_call *c, const char *const *n, uint32_t k) { (void)i; (void)n; (void)k; return trouble(c); }
            static const clinker_store store = {
                .abi = CLINKER_DRIVER_ABI, .size = sizeof(clinker_store), .name = "flaky", .kind = CLINKER_BACKUP_DRIVER,
                .threads = CLINKER_THREADS_PARALLEL, .open = o, .close = cl, .capabilities = ok, .stats = ok, .put = put, .get = get,
                .stat_object = st, .list = list, .remove = rm,
            };
            CLINKER_STORE(store)

            """, file)
        fclose(file)
        let plugin = try StorePlugin(path: try build([], in: directory, directory + "/flaky.c"))
        let store = try PluginStore(Store(plugin, options: .object([])), pauses: [1, 1, 1, 1, 1])
        // It says nothing of itself: a list is not trusted then.
        #expect(store.traits == ObjectStoreTraits(listsConsistently: false))
        try store.put("a", [], sha256: nil)
        var byte: [UInt8] = [0]
        #expect(try byte.withUnsafeMutableBytes { try store.get("a", at: 0, into: $0) } == 1)
        #expect(try store.size(of: "a") == 7)
        try store.remove(["a"])
        var names = ""
        try store.list("", after: "") { name, _ in
            names += name
            return true
        }
        #expect(names == "abcde")
        let failure = #expect(throws: StoreFailure.self) { try byte.withUnsafeMutableBytes { _ = try store.get("down", at: 0, into: $0) } }
        #expect(failure?.kind == .temporary && failure?.description == "it is down")
    }
}
