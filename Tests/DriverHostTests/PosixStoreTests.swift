import CDriver
import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import DriverHost

/// What is particular to the POSIX store; the conformance suite sees the rest.
@Suite("The POSIX store")
struct PosixStoreTests {
    /// Beside the tests, as the file driver.
    private static func path() -> String {
        let file = filePluginPath()
        return file.prefix(upTo: file.lastIndex(of: "/")!) + "/libClinkerBackupPOSIX.so"
    }

    private func open(_ options: [String: String]) throws -> Store {
        try Store(StorePlugin(path: Self.path()), options: .object(options.map { DriverValue.Member($0.key, .string($0.value)) }))
    }

    private func put(_ store: Store, _ name: String, _ bytes: [UInt8] = [1, 2, 3]) throws {
        try bytes.withUnsafeBytes { try store.put(name, [$0]) }
    }

    private func mode(_ path: String) -> mode_t {
        var info = stat()
        return lstat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
    }

    private func code(_ body: () throws -> Void) -> DriverFailure.Code? {
        do { try body() } catch { return (error as? DriverFailure)?.code }
        return nil
    }

    private func names(_ store: Store) throws -> [String] {
        var names: [String] = []
        try store.list("", after: "") { object in
            names.append(object.name)
            return true
        }
        return names
    }

    private func folder(_ path: String) throws -> [String] {
        guard let listing = opendir(path) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    @Test("objects are files of mode 600 in folders of mode 700, which are removed when they are empty")
    func layout() throws {
        let directory = temporaryDirectory("posix")
        let store = try open(["backup_posix_path": directory])
        try put(store, "volume_1/20261130/backup-00001")
        #expect(mode(directory + "/volume_1") == 0o700 && mode(directory + "/volume_1/20261130") == 0o700)
        #expect(mode(directory + "/volume_1/20261130/backup-00001") == 0o600)
        #expect(try folder(directory) == [".clinker-partial", "volume_1"] && folder(directory + "/.clinker-partial") == [])
        try store.remove(["volume_1/20261130/backup-00001"])
        #expect(try folder(directory) == [".clinker-partial"])
    }

    @Test("without a path it keeps the objects in a directory of its own below the state directory")
    func own() throws {
        let directory = temporaryDirectory("posix")
        try put(try open(["state_dir": directory]), "a")
        #expect(mode(directory + "/objects/a") == 0o600 && mode(directory + "/objects") == 0o700)
    }

    @Test("a directory that is not there, is relative, can be written by others, or is no mount point where it must be, is refused by name")
    func refusals() throws {
        let directory = temporaryDirectory("posix")
        for (options, words) in [
            (["backup_posix_path": directory + "/none"], "/none cannot be used (make it, or mount the share)"),
            (["backup_posix_path": "relative"], "must be an absolute path"),
            (["backup_posix_path": directory, "backup_posix_require_mount": "yes"], "is no mount point: mount the share"),
            ([:], "backup_posix_path is not set"),
        ] {
            #expect { try open(options) } throws: {
                ($0 as? DriverFailure)?.code == .badConfiguration && "\($0)".contains(words)
            }
        }
        chmod(directory, 0o777)
        #expect { try open(["backup_posix_path": directory]) } throws: { "\($0)".contains("(mode 777): chmod go-w") }
        chmod(directory, 0o755)
        _ = try open(["backup_posix_path": directory])
    }

    @Test("what a dead writer left is removed after a day; a writer that lives and a file of today stay")
    func oldPartials() throws {
        let directory = temporaryDirectory("posix")
        let store = try open(["backup_posix_path": directory])
        let writer = try store.write("living")
        let living = try #require(try folder(directory + "/.clinker-partial").first)
        for name in ["dead", "today"] { close(creat(directory + "/.clinker-partial/" + name, 0o600)) }
        for name in [living, "dead"] {
            let old = [timespec(tv_sec: time(nil) - 90_000, tv_nsec: 0), timespec(tv_sec: time(nil) - 90_000, tv_nsec: 0)]
            #expect(utimensat(AT_FDCWD, directory + "/.clinker-partial/" + name, old, 0) == 0)
        }
        _ = try open(["backup_posix_path": directory])
        #expect(try folder(directory + "/.clinker-partial") == [living, "today"].sorted())
        try writer.commit()
        #expect(try names(store) == ["living"])
    }

    @Test("folders that are deeper than any object's name is long are not walked, and what lies in them is no object")
    func depth() throws {
        let directory = temporaryDirectory("posix")
        let store = try open(["backup_posix_path": directory])
        let deepest = (1...64).map { "w\($0)" }.joined(separator: "/")
        try put(store, deepest)
        var path = directory
        for _ in 0..<200 {
            path += "/d"
            #expect(mkdir(path, 0o700) == 0)
            close(creat(path + "/file", 0o600))
        }
        let found = try names(store)
        #expect(found.count == 64 && found.last == deepest)
        for name in found { #expect(try store.object(name) != nil, "\(name)") }
    }

    @Test("links and what is no plain file are neither listed nor followed, and stay")
    func strangers() throws {
        let directory = temporaryDirectory("posix")
        let elsewhere = temporaryDirectory("elsewhere")
        close(creat(elsewhere + "/secret", 0o600))
        let store = try open(["backup_posix_path": directory])
        try put(store, "real/object")
        #expect(symlink(elsewhere, directory + "/link") == 0 && symlink(elsewhere + "/secret", directory + "/file") == 0)
        #expect(mkfifo(directory + "/fifo", 0o600) == 0)
        close(creat(directory + "/.hidden", 0o600))
        #expect(try names(store) == ["real/object"])
        var byte: [UInt8] = [0]
        for name in ["link/secret", "file", "fifo", "link"] {
            #expect(code { _ = try byte.withUnsafeMutableBytes { try store.get(name, at: 0, into: $0) } } == .notFound, "\(name)")
            #expect(try store.object(name) == nil)
            try store.remove([name])
        }
        #expect(code { try put(store, "link/new") } == .exists)
        #expect(
            try folder(elsewhere) == ["secret"] && folder(directory) == [".clinker-partial", ".hidden", "fifo", "file", "link", "real"])
        // A link of an object's name is replaced, not written through.
        try put(store, "file", [9])
        var info = stat()
        #expect(stat(elsewhere + "/secret", &info) == 0 && info.st_size == 0 && mode(directory + "/file") == 0o600)
    }

    @Test("a directory that is removed under it is told as such: nothing in it is merely not found")
    func gone() throws {
        let directory = temporaryDirectory("posix")
        mkdir(directory + "/store", 0o700)
        let store = try open(["backup_posix_path": directory + "/store"])
        try put(store, "a/b")
        let remover = try spawn("/bin/rm", ["-rf", directory + "/store"], descriptors: [])
        #expect(reap(remover) == 0)
        var byte: [UInt8] = [0]
        #expect(code { _ = try byte.withUnsafeMutableBytes { try store.get("a/b", at: 0, into: $0) } } == .badConfiguration)
        #expect(code { _ = try store.object("a/b") } == .badConfiguration)
        #expect(code { _ = try names(store) } == .badConfiguration)
        #expect(code { try put(store, "a/c") } == .badConfiguration)
        #expect(code { try store.remove(["a/b"]) } == .badConfiguration)
        #expect(code { _ = try store.stats() } == .badConfiguration)
    }

    @Test("a full filesystem is NO_SPACE and leaves nothing; a read-only one is still read, and says so")
    func fullAndReadOnly() throws {
        let directory = temporaryDirectory("posix") + "/small"
        mkdir(directory, 0o700)
        let mounted = reap(try spawn("/bin/mount", ["-t", "tmpfs", "-o", "size=4m,mode=700", "none", directory], descriptors: [])) == 0
        guard mounted else { return }
        defer { _ = (try? spawn("/bin/umount", ["-l", directory], descriptors: [])).map { reap($0) } }
        let store = try open(["backup_posix_path": directory, "backup_posix_require_mount": "true"])
        try put(store, "kept")
        #expect(code { try put(store, "large", [UInt8](repeating: 1, count: 8 << 20)) } == .noSpace)
        let writer = try store.write("larger")
        #expect(
            code {
                let piece = [UInt8](repeating: 1, count: 1 << 20)
                for _ in 0..<8 { try piece.withUnsafeBytes { try writer.append($0) } }
            } == .noSpace)
        #expect(code { try writer.commit() } != nil)
        #expect(try names(store) == ["kept"] && folder(directory + "/.clinker-partial") == [])
        try put(store, "fits", [UInt8](repeating: 1, count: 1 << 20))
        #expect(try store.stats()["problems"] == nil)
        #expect(reap(try spawn("/bin/mount", ["-o", "remount,ro", directory], descriptors: [])) == 0)
        #expect(code { try put(store, "new") } == .badConfiguration)
        #expect(code { try store.remove(["kept"]) } == .badConfiguration)
        let problem = try store.stats()["problems"]?.list?.first?.string
        #expect(problem?.contains("Read-only file system") == true)
        let again = try open(["backup_posix_path": directory])
        #expect(try names(again) == ["fits", "kept"])
    }
}
