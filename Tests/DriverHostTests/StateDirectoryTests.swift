import Glibc
import TestSupport
import Testing

@testable import DriverHost

@Suite("A backend's own directory")
struct StateDirectoryTests {
    @Test("no name of a backend leads out of the state directory, and no two lead to one place")
    func names() {
        for (name, file) in [
            ("rbd1", "rbd1"), ("a b.c", "a b.c"), ("..", "%2E."), (".", "%2E"), ("../../etc", "%2E.%2F..%2Fetc"), ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"), ("/", "%2F"), ("é", "é"),
        ] {
            #expect(StateDirectory.path(of: name, in: "/state") == "/state/volumes/\(file)")
            #expect(StateDirectory.path(ofStore: name, in: "/state") == "/state/backups/\(file)")
        }
    }

    private func options(_ name: String, _ state: String) -> DriverValue {
        .members(["backend": .string(name), "state_dir": .string(StateDirectory.path(of: name, in: state))])
    }

    private func mode(_ path: String) -> mode_t {
        var info = stat()
        return stat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
    }

    @Test("it is made for its owner alone before the driver is opened, and kept as it is afterwards")
    func made() throws {
        let state = temporaryDirectory("own")
        for _ in 0..<2 {
            for name in ["one", "../up", "a/b"] { try StateDirectory.make(for: options(name, state)) }
            #expect(["/volumes", "/volumes/one", "/volumes/%2E.%2Fup", "/volumes/a%2Fb"].allSatisfy { mode(state + $0) == 0o700 })
        }
        #expect(access(state + "/up", F_OK) != 0)
        // Options that name none, as those of `driver serve`, make none.
        try StateDirectory.make(for: .members(["backend": .string("x")]))
        let failure = #expect(throws: DriverFailure.self) { try StateDirectory.make(for: options("one", "/proc/none")) }
        #expect(failure?.code == .badConfiguration && failure?.message.contains("/proc/none/volumes") == true)
    }

    @Test("what an earlier release kept under a name that is another one today is found again")
    func renamed() throws {
        let state = temporaryDirectory("own")
        for directory in ["/volumes", "/volumes/a", "/volumes/a/b", "/volumes/a/b/kept"] { mkdir(state + directory, 0o700) }
        try StateDirectory.make(for: options("a/b", state))
        #expect(access(state + "/volumes/a%2Fb/kept", F_OK) == 0 && access(state + "/volumes/a/b", F_OK) != 0)
    }
}
