import CDriver
import Glibc
import Primitives
import Processes
import TestSupport
import Testing

@testable import DriverHost

/// C drivers of this directory, compiled by `cc` against the header alone.
enum CompiledDriver {
    static let sources = String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/")!)) + "/Drivers"
    static let header = String(#filePath.components("/Tests/")[0]) + "/Sources/CDriver/include"

    /// Compiles a driver into a directory of its own and returns its path.
    static func build(_ source: String, as name: String, _ flags: [String] = []) throws -> String {
        let path = temporaryDirectory("driver") + "/" + name
        let pid = try spawn(
            "/usr/bin/cc",
            ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-I", header, "-o", path, "\(sources)/\(source)"] + flags,
            descriptors: [])
        #expect(reap(pid) == 0, "cc failed")
        return path
    }
}

extension String {
    func components(_ separator: String) -> [Substring] { split(separator: separator) }
}

/// The file driver as it was built beside the tests, or where the environment says: a plugin that was built for a
/// sanitizer cannot be opened.
func filePluginPath() -> String {
    if let path = getenv("CLINKER_FILE_PLUGIN") { return String(cString: path) }
    let executable = executablePath()
    return executable.prefix(upTo: executable.lastIndex(of: "/")!) + "/libClinkerFile.so"
}

@Suite("Plugins")
struct PluginTests {
    @Test("a plain C driver compiled against the header alone is opened and described")
    func plainC() throws {
        let plugin = try Plugin(path: try CompiledDriver.build("simple.c", as: "clinker-simple.so"))
        #expect(plugin.name == "simple")
        #expect(plugin.version == "1.0")
        #expect(!plugin.isSerialized)
        #expect(plugin.nativeCalls.contains("create_volume") && !plugin.nativeCalls.contains("clone_volume"))
    }

    @Test(
        "a plugin that cannot be used is refused in one line that says what to do",
        arguments: [
            (["-DNO_SYMBOL"], "exports no clinker_driver_v1"), (["-DWRONG_ABI"], "built for driver ABI 2, this host speaks 1"),
            (["-DMISSING_CALL"], "lacks the mandatory delete_volume"), (["-DSHORT_TABLE"], "driver table of 16 bytes"),
            (["-DNO_NAME"], "has no name"),
        ])
    func broken(flags: [String], reason: String) throws {
        let path = try CompiledDriver.build("broken.c", as: "clinker-broken.so", flags)
        #expect { try Plugin(path: path) } throws: { "\($0)".contains(reason) && !"\($0)".contains("\n") }
    }

    @Test("a driver of a shorter, older table is opened: what it lacks is unsupported")
    func olderTable() throws {
        let path = try CompiledDriver.build("broken.c", as: "clinker-old.so")
        let plugin = try Plugin(path: path)
        #expect(plugin.nativeCalls.contains("delete_volume"))
    }

    @Test("a plugin that others may write is refused, and one in a directory that others may write")
    func writable() throws {
        let path = try CompiledDriver.build("simple.c", as: "clinker-simple.so")
        chmod(path, 0o757)
        #expect { try Plugin(path: path) } throws: { "\($0)".contains("can be written by others") }
        chmod(path, 0o755)
        let directory = String(path.prefix(upTo: path.lastIndex(of: "/")!))
        chmod(directory, 0o777)
        #expect { try Plugin(path: path) } throws: { "\($0)".contains("\(directory) can be written by others") }
        chmod(directory, 0o755)
        _ = try Plugin(path: path)
    }

    @Test("a plugin is refused below a directory that others may write or own, or through a link of theirs; /tmp is none of these")
    func ancestors() throws {
        let built = try CompiledDriver.build("simple.c", as: "clinker-simple.so")
        let top = temporaryDirectory("plugins")
        for directory in ["/open", "/open/mine", "/open/mine/lib", "/links"] { mkdir(top + directory, 0o755) }
        let path = top + "/open/mine/lib/clinker-simple.so"
        #expect(rename(built, path) == 0)
        #expect(symlink("../open/./mine/../mine/lib", top + "/links/current") == 0)
        let linked = top + "/links/current/clinker-simple.so"
        for place in [path, linked] { #expect(try Plugin(path: place).name == "simple") }
        // Who may write it puts another directory there between the look and the use.
        chmod(top + "/open", 0o777)
        for place in [path, linked] {
            #expect { try Plugin(path: place) } throws: { "\($0)".contains("\(top)/open can be written by others (mode 777)") }
        }
        chmod(top + "/open", 0o1777)
        #expect(try Plugin(path: path).name == "simple")
        chmod(top + "/open", 0o755)
        #expect { try Plugin(path: top + "/links/current") } throws: { "\($0)".contains("is a directory") }
        #expect { try Plugin(path: path + "/x.so") } throws: { "\($0)".contains("Not a directory") }
        #expect(symlink("loop", top + "/links/loop") == 0)
        #expect { try Plugin(path: top + "/links/loop/x.so") } throws: { "\($0)".contains("symbolic links") }
        guard geteuid() == 0 else { return }
        for (place, told) in [("/open", "/open"), ("/open/mine", "/open/mine"), ("/links/current", "/links/current")] {
            #expect(lchown(top + place, 12_345, 12_345) == 0)
            #expect { try Plugin(path: linked) } throws: { "\($0)".contains("\(top)\(told) belongs to user 12345") }
            #expect(lchown(top + place, 0, 0) == 0)
        }
        #expect(try Plugin(path: linked).name == "simple")
    }

    @Test("a file that is no library, a relative path and a missing file are refused")
    func noLibrary() throws {
        let path = temporaryDirectory("driver") + "/clinker-text.so"
        let file = fopen(path, "w")
        fputs("hello", file)
        fclose(file)
        #expect { try Plugin(path: path) } throws: { "\($0)".contains("cannot be opened") }
        #expect { try Plugin(path: "clinker-text.so") } throws: { "\($0)".contains("must be absolute") }
        #expect { try Plugin(path: "/nonexistent/clinker-x.so") } throws: { "\($0)".contains("No such file") }
    }

    @Test("a driver is found by its plain name and by Cinder's Python path; an unknown one names what there is")
    func names() throws {
        let path = try CompiledDriver.build("simple.c", as: "libClinkerRBD.so")
        let directory = String(path.prefix(upTo: path.lastIndex(of: "/")!))
        #expect(try Plugin.path(for: "rbd", in: directory) == path)
        #expect(try Plugin.path(for: "cinder.volume.drivers.rbd.RBDDriver", in: directory) == path)
        #expect(try Plugin.path(for: path, in: "/") == path)
        #expect { try Plugin.path(for: "ceph", in: directory) } throws: { "\($0)".contains("it has rbd") }
        #expect { try Plugin.path(for: "cinder.volume.drivers.acme.Acme", in: directory) } throws: {
            "\($0)".contains("no plugin replaces")
        }
    }
}

@Suite("Driver values and wire")
struct WireTests {
    static let value = DriverValue.members([
        "a": .integer(-5), "b": .real(2.5), "c": .string("é"), "d": .secret("hunter2"),
        "e": .list([.null, .boolean(true), .boolean(false)]),
        "dotted.name": .string("direct"), "f": .members(["g": .members(["h": .string("deep")])]),
    ])

    @Test("a value comes back as it was sent")
    func roundTrip() throws {
        var bytes: [UInt8] = []
        Self.value.encode(into: &bytes)
        #expect(try DriverValue(decoding: bytes) == Self.value)
    }

    @Test("nested values are found by their path, items by their number")
    func paths() {
        #expect(Self.value.find("f.g.h")?.string == "deep")
        #expect(Self.value.find("e.1") == .boolean(true))
        #expect(Self.value.find("dotted.name")?.string == "direct")
        #expect(Self.value.find("f.x") == nil && Self.value.find("e.9") == nil && Self.value.find("") == nil)
    }

    @Test("secrets are hidden in what is logged")
    func secrets() { #expect(!Self.value.loggable.contains("hunter2")) }

    @Test("a wire's descriptor is nobody else's as long as anyone may still send: nothing meant for a dead host reaches another")
    func descriptor() throws {
        let (mine, theirs) = try socketPair()
        defer { close(theirs) }
        func heard() -> (count: Int, code: Int32) {
            var byte: UInt8 = 0
            let count = recv(theirs, &byte, 1, Int32(MSG_DONTWAIT))
            return (count, count < 0 ? errno : 0)
        }
        var wire: Wire? = Wire(mine)
        var late = wire
        wire = nil
        #expect(heard() == (-1, EAGAIN))
        #expect(late?.send(Frame(kind: .cancel, id: 1, value: .null)) == true && heard().count == 1)
        late = nil
        while heard().count > 0 {}
        #expect(heard() == (0, 0))
    }

    @Test("truncated and invented bytes are refused without a crash")
    func malformed() {
        var bytes: [UInt8] = []
        Self.value.encode(into: &bytes)
        for count in 0..<bytes.count { #expect(throws: (any Error).self) { try DriverValue(decoding: Array(bytes[..<count])) } }
        #expect(throws: (any Error).self) { try DriverValue(decoding: bytes + [0]) }
        #expect(throws: (any Error).self) { try DriverValue(decoding: [7, 255, 255, 255, 255]) }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<2_000 {
            let noise = (0..<Int.random(in: 1...40, using: &generator)).map { _ in UInt8.random(in: 0...9, using: &generator) }
            _ = try? DriverValue(decoding: noise)
        }
        let deep = [UInt8](repeating: 0, count: 0) + (0..<100).flatMap { _ in [7, 1, 0, 0, 0] as [UInt8] } + [0]
        #expect(throws: (any Error).self) { try DriverValue(decoding: deep) }
    }
}
