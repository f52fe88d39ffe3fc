import Glibc
import JSON
import Primitives
import Processes
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
        try Processes.spawn("/bin/cp", [source, target], descriptors: [])
    }

    @Test("a misspelt option: serve warns and names the nearest, config check fails")
    func misspelt() async throws {
        let text = "[DEFAULT]\nauth_strategy = noauth\nosapi_max_limits = 5\n"
        let check = try await clinker(["config", "check", "--config", try file(text)])
        #expect(check.status == 1 && check.output.contains("did you mean [DEFAULT] osapi_max_limit?"))
        let service = try ServiceUnderTest(options: "osapi_max_limits = 5")
        #expect(service.log.contains("did you mean [DEFAULT] osapi_max_limit?"))
        let good = try await clinker([
            "config", "check", "--config",
            try file(
                "[DEFAULT]\nosapi_volume_listen = 127.0.0.1\nauth_strategy = noauth\nenabled_backends = file\ntransport_url = rabbit://x\n[file]\nvolume_driver = file\n"
            ),
        ])
        #expect(good.status == 0, "\(good.output)")
    }

    @Test("the sample configuration is one that config check accepts, and options lists them all")
    func sample() async throws {
        let sample = try await clinker(["config", "sample"])
        let check = try await clinker(["config", "check", "--config", try file(sample.output)])
        #expect(check.status == 0, "\(check.output)")
        #expect(try await clinker(["config", "options"]).output.contains("[DEFAULT] osapi_volume_listen_port = 8776"))
    }

    @Test("the program and its drivers are bound when they are loaded, and what was bound is read-only")
    func binding() async throws {
        let directory = ServiceUnderTest.binary.prefix(upTo: ServiceUnderTest.binary.lastIndex(of: "/") ?? ServiceUnderTest.binary.endIndex)
        for name in ["clinker", "libClinkerFile.so", "libClinkerRBD.so", "libClinkerLVM.so", "libClinkerNFS.so"] {
            let result = try await ServiceUnderTest.run("/usr/bin/env", ["readelf", "-lWd", "\(directory)/\(name)"])
            #expect(result.output.contains("NOW") && result.output.contains("GNU_RELRO"), "\(name): \(result.output)")
        }
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
        var info = stat()
        #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o600)
        // Nobody makes it write through a link that was put there before.
        #expect(symlink(service.directory + "/elsewhere", service.directory + "/second.db.partial") == 0)
        #expect(try await clinker(["db", "backup", "--state-dir", service.state, service.directory + "/second.db"]).status == 0)
        #expect(access(service.directory + "/elsewhere", F_OK) != 0)
        #expect(service.stop() == 0)
        for suffix in ["", "-wal", "-shm"] { unlink(service.state + "/clinker.db" + suffix) }
        #expect(rename(path, service.state + "/clinker.db") == 0)
        try service.start()
        #expect(try service.volume(id)?["status"] == "available")
    }

    @Test("what holds secrets and others can read, and what others can write, is refused at the start with the command that mends it")
    func exposed() async throws {
        let plain = Self.head + "enabled_backends = file\n[file]\nvolume_driver = file\n"
        let secret = plain + "some_password = x\n"
        let directory = temporaryDirectory("exposed")
        let path = directory + "/clinker.conf"
        func refusal(_ text: String, _ mode: mode_t, _ arguments: [String] = ["serve"]) async throws -> String {
            try ServiceUnderTest.write(path, text)
            chmod(path, mode)
            // Who is let through is stopped by the state directory.
            let result = try await clinker(
                arguments + ["--config", path] + (arguments == ["serve"] ? ["--state-dir", "/proc/nothing"] : []))
            return result.output
        }
        for (text, mode, told) in [
            (secret, 0o644, "\(path) holds secrets and can be read by others (mode 644): chmod 600 \(path) ([file] some_password)"),
            (secret, 0o622, "\(path) can be written by others (mode 622): chmod go-w \(path)"), (plain, 0o666, "chmod go-w \(path)"),
            (Self.head + "transport_url = rabbit://u:p@h\n", 0o644, "([DEFAULT] transport_url)"),
        ] as [(String, mode_t, String)] {
            for arguments in [["serve"], ["config", "check"]] {
                let output = try await refusal(text, mode, arguments)
                #expect(output.contains("clinker: ") && output.contains(told), "\(output)")
            }
        }
        for (text, mode) in [(secret, 0o600), (plain, 0o644), (secret, 0o400)] as [(String, mode_t)] {
            #expect(try await refusal(text, mode).contains("the state directory /proc/nothing cannot be made"))
        }
        if geteuid() == 0 {
            // As packages install it: root's, and the service's group reads it; another group does not.
            #expect(try await refusal(secret, 0o640).contains("cannot be made"))
            #expect(chown(path, 0, 12_345) == 0)
            #expect(try await refusal(secret, 0o640).contains("can be read by others (mode 640)"))
            #expect(chown(path, 12_345, 0) == 0)
            #expect(try await refusal(plain, 0o644).contains("belongs to user 12345, not to root or the service's user: chown 0"))
            #expect(chown(path, 0, 0) == 0)
        }
        // Who may write a directory on the way puts another file in its place.
        let exposed = directory + "/open"
        mkdir(exposed, 0o700)
        mkdir(exposed + "/inside", 0o700)
        chmod(exposed, 0o777)
        let rules = exposed + "/inside/policy.yaml"
        for file in [exposed + "/inside/clinker.conf", exposed + "/inside/users", rules] {
            try ServiceUnderTest.write(file, file.hasSuffix(".conf") ? plain : "")
            chmod(file, 0o600)
        }
        func started(_ text: String, _ file: String? = nil) async throws -> String {
            if file == nil {
                try ServiceUnderTest.write(path, text)
                chmod(path, 0o600)
            }
            return try await clinker(["serve", "--config", file ?? path, "--state-dir", "/proc/nothing"]).output
        }
        let withUsers = plain.replacing("noauth", with: "http_basic\nhttp_basic_auth_user_file = \(exposed)/inside/users")
        symlink(exposed + "/inside/clinker.conf", directory + "/link.conf")
        for attempt in 0..<2 {
            for output in [
                try await started("", exposed + "/inside/clinker.conf"), try await started("", directory + "/link.conf"),
                try await started(withUsers), try await started(plain + "[oslo_policy]\npolicy_file = \(rules)\n"),
            ] {
                let told =
                    attempt == 0 ? "\(exposed) can be written by others (mode 777): chmod go-w \(exposed)" : "/proc/nothing cannot be made"
                #expect(output.contains(told), "\(output)")
            }
            chmod(exposed, 0o755)
        }
        let users = directory + "/users"
        try ServiceUnderTest.write(users, "")
        chmod(users, 0o644)
        let basic = plain.replacing("noauth", with: "http_basic\nhttp_basic_auth_user_file = \(users)")
        try ServiceUnderTest.write(path, basic)
        chmod(path, 0o600)
        let refused = try await clinker(["serve", "--config", path, "--state-dir", directory + "/state"])
        #expect(refused.output.contains("\(users) holds secrets and can be read by others"), "\(refused.output)")
        #expect(access(directory + "/state", F_OK) != 0, "what is refused leaves nothing behind")
        mkdir(directory + "/state", 0o700)
        chmod(directory + "/state", 0o777)
        let open = try await clinker(["serve", "--config", path, "--state-dir", directory + "/state"])
        #expect(open.output.contains("\(directory)/state can be written by others (mode 777): chmod go-w"), "\(open.output)")
        mkdir(directory + "/volumes", 0o700)
        chmod(directory + "/volumes", 0o777)
        let volumes = try await clinker([
            "driver", "serve", "file", "volume-x", "--socket", directory + "/socket", "--set", "file_directory=\(directory)/volumes",
        ])
        #expect(volumes.output.contains("\(directory)/volumes can be written by others (mode 777): chmod go-w"), "\(volumes.output)")
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
