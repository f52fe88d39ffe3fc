import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What cannot run says so in one line and ends with a status that is not 0.
@Suite("Starting")
struct StartTests {
    private func clinker(_ arguments: [String]) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(ServiceUnderTest.binary, arguments)
    }

    private func file(_ text: String) throws -> String {
        let path = temporaryDirectory("start") + "/clinker.conf"
        try ServiceUnderTest.write(path, text)
        return path
    }

    private func expectRefusal(_ configuration: String, _ reason: String, arguments: [String] = []) async throws {
        let path = try file(configuration)
        let result = try await clinker(["serve", "--config", path] + (arguments.isEmpty ? ["--state-dir", path + ".state"] : arguments))
        #expect(result.status != 0, "\(result.output)")
        let lines = result.output.split(separator: "\n").filter { $0.hasPrefix("clinker: ") }
        #expect(lines.count == 1 && lines.first?.contains(reason) == true, "\(result.output)")
    }

    static let head = "[DEFAULT]\nauth_strategy = noauth\nosapi_volume_listen = 127.0.0.1\nosapi_volume_listen_port = 0\n"

    @Test("wrong values, missing things and other people's ports are refused in one line")
    func refusals() async throws {
        try await expectRefusal(
            Self.head + "osapi_max_limit = many\nenabled_backends = file\n[file]\nvolume_driver = file\n",
            "osapi_max_limit must be an integer")
        try await expectRefusal(
            Self.head + "quota_volumes = -5\nenabled_backends = file\n[file]\nvolume_driver = file\n",
            "quota_volumes must be between -1 and 2147483647")
        try await expectRefusal(Self.head, "enabled_backends names no backend")
        try await expectRefusal(
            "[DEFAULT]\nauth_strategy = noauth\nenabled_backends = file\n[file]\nvolume_driver = file\n", "everybody is admin")
        try await expectRefusal(
            Self.head + "enabled_backends = file\n[file]\nvolume_driver = file\n[cors]\nallowed_origin = https://a.example,*\n",
            "allowed_origin = * would make every web page one")
        // What is bound is what counts, not how it is written.
        try await expectRefusal(
            "[DEFAULT]\nauth_strategy = noauth\nosapi_volume_listen = ::ffff:0.0.0.0\nosapi_volume_listen_port = 0\nenabled_backends = file\n[file]\nvolume_driver = file\n",
            "everybody is admin")
        try await expectRefusal(
            "[DEFAULT]\nenabled_backends = file\n[file]\nvolume_driver = file\n[keystone_authtoken]\nusername = x\npassword = y\n",
            "[keystone_authtoken] auth_url is not set")
        try await expectRefusal(Self.head + "enabled_backends = x\n[x]\nvolume_driver = nosuch\n", "no such plugin")
        try await expectRefusal(Self.head + "enabled_backends = x\n[x]\na = b\n", "[x] volume_driver is not set")
        try await expectRefusal(
            Self.head + "enabled_backends = file\n[file]\nvolume_driver = file\n[database]\nconnection = postgresql://x\n", "SQLite")
        try await expectRefusal(
            Self.head + "enabled_backends = file\n[file]\nvolume_driver = file\n", "the state directory /proc/nothing cannot be made",
            arguments: ["--state-dir", "/proc/nothing"])
        let missing = try await clinker(["serve", "--config", "/nonexistent.conf"])
        #expect(
            missing.status != 0
                && missing.output.contains("cannot read the configuration file /nonexistent.conf: No such file or directory"))
    }

    @Test("noauth listens on whatever is loopback, however it is written")
    func loopback() throws {
        for address in ["127.1", "0:0:0:0:0:ffff:127.0.0.1"] {
            let service = try ServiceUnderTest(start: false)
            let text = try ServiceUnderTest.read(service.configuration)
            try ServiceUnderTest.write(
                service.configuration, text.replacing("osapi_volume_listen = 127.0.0.1", with: "osapi_volume_listen = \(address)"))
            try service.start()
        }
    }

    @Test("a port in use and a state directory in use are refused; the first service goes on")
    func inUse() async throws {
        let service = try ServiceUnderTest()
        let path = try file(
            "[DEFAULT]\nauth_strategy = noauth\nosapi_volume_listen = 127.0.0.1\nosapi_volume_listen_port = \(service.port)\nenabled_backends = file\n[file]\nvolume_driver = file\n"
        )
        let port = try await clinker(["serve", "--config", path, "--state-dir", path + ".state"])
        #expect(port.status != 0 && port.output.contains("127.0.0.1:\(service.port) is in use by another program"))
        let state = try await clinker(["serve", "--config", path, "--state-dir", service.state])
        #expect(state.status != 0 && state.output.contains("another clinker uses the state directory"))
        #expect(try service.request("GET", "/").status == 300)
    }

    @Test("a plugin that others may write is refused: its backend is down and says why, the rest serves")
    func worldWritable() throws {
        let directory = temporaryDirectory("plugin")
        let source = ServiceUnderTest.binary.dropLast("clinker".count) + "libClinkerFile.so"
        let copy = directory + "/libClinkerFile.so"
        let status = reap(try spawnCopy(String(source), copy))
        #expect(status == 0)
        chmod(copy, 0o666)
        let service = try ServiceUnderTest(sections: "[file]\nvolume_driver = \(copy)\n")
        let id = try service.create()
        try service.wait(id, "error", seconds: 40)
        #expect(service.log.contains("can be written by others (mode 666)"))
        #expect(try service.api("GET", "/os-services").status == 200)
    }

    private func spawnCopy(_ source: String, _ target: String) throws -> pid_t {
        try Primitives.spawn("/bin/cp", [source, target], descriptors: [])
    }

    @Test("a misspelt option: serve warns and names the nearest, config check fails")
    func misspelt() async throws {
        let text = "[DEFAULT]\nauth_strategy = noauth\nosapi_max_limits = 5\n"
        let check = try await clinker(["config", "check", "--config", try file(text)])
        #expect(check.status == 1 && check.output.contains("did you mean [DEFAULT] osapi_max_limit?"))
        let service = try ServiceUnderTest(options: "osapi_max_limits = 5")
        #expect(service.log.contains("did you mean [DEFAULT] osapi_max_limit?"))
        let good = try await clinker([
            "config", "check", "--config", try file("[DEFAULT]\nauth_strategy = noauth\ntransport_url = rabbit://x\n"),
        ])
        #expect(good.status == 0)
    }

    @Test("the sample configuration is one that config check accepts, and options lists them all")
    func sample() async throws {
        let sample = try await clinker(["config", "sample"])
        let check = try await clinker(["config", "check", "--config", try file(sample.output)])
        #expect(check.status == 0, "\(check.output)")
        #expect(try await clinker(["config", "options"]).output.contains("[DEFAULT] osapi_volume_listen_port = 8776"))
    }

    @Test("driver list and show tell what there is")
    func drivers() async throws {
        let list = try await clinker(["driver", "list"])
        #expect(list.status == 0 && list.output.contains("file\t1.0.0\tvolume"))
        let show = try await clinker(["driver", "show", "file"])
        #expect(show.output.contains("threads: parallel") && show.output.contains("clone_volume"))
        #expect(try await clinker(["driver", "show", "nosuch"]).status == 1)
    }

    @Test("the database is checked and copied while the service runs, and a copy takes its place")
    func database() async throws {
        let service = try ServiceUnderTest()
        let id = try service.create()
        try service.wait(id, "available")
        let path = service.directory + "/backup.db"
        let check = try await clinker(["db", "check", "--state-dir", service.state])
        #expect(check.status == 0 && check.output.contains("clinker.db: good"), "\(check.output)")
        let backup = try await clinker(["db", "backup", "--state-dir", service.state, path])
        #expect(backup.status == 0, "\(backup.output)")
        #expect(try await clinker(["db", "backup", "--state-dir", service.state, path]).status == 1)
        #expect(service.stop() == 0)
        for suffix in ["", "-wal", "-shm"] { unlink(service.state + "/clinker.db" + suffix) }
        #expect(rename(path, service.state + "/clinker.db") == 0)
        try service.start()
        #expect(try service.volume(id)?["status"] == "available")
    }

    @Test("a damaged database is refused in one line, and check says that it is damaged")
    func damaged() async throws {
        let service = try ServiceUnderTest()
        try service.wait(try service.create(), "available")
        #expect(service.stop() == 0)
        let path = service.state + "/clinker.db"
        let file = open(path, O_WRONLY)
        let junk = [UInt8](repeating: 0x5A, count: 8192)
        _ = junk.withUnsafeBytes { pwrite(file, $0.baseAddress, $0.count, 0) }
        close(file)
        try service.launch()
        #expect(service.waitForEnd() == 78)
        let lines = service.log.split(separator: "\n").filter { $0.hasPrefix("clinker: ") }
        #expect(lines.count == 1 && lines.first?.contains("run 'clinker db check'") == true, "\(service.log)")
        let check = try await clinker(["db", "check", "--state-dir", service.state])
        #expect(check.status == 1 && check.output.contains("not a database"), "\(check.output)")
    }
}
