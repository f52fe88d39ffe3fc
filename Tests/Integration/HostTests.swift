import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Driver hosts that misbehave: what they do ends with them, is bounded, and is told.
@Suite("Driver hosts", .serialized)
struct HostTests {
    private func error(_ service: ServiceUnderTest, of volume: String) throws -> String {
        try OperationTests.operations(service, "resource_id=\(volume)").first?["error"]?.string ?? ""
    }

    @Test("codes that are none, endless messages and bad text fail their call, and are told to administrators")
    func answers() async throws {
        let fault = try FaultyBackend()
        let service = try fault.service()
        // The host's own numbers are no codes: the call was repeated without end.
        for (action, words) in [
            ("-1", "CLINKER_ERROR: the driver returned -1, which is no code"),
            ("-2", "CLINKER_ERROR: the driver returned -2, which is no code"),
            ("77", "CLINKER_ERROR: the driver returned 77, which is no code"), ("long", "xxxx (and 5904 bytes more)"),
            ("noise", "the driver's result 'provider_id' is not UTF-8"), ("3", "CLINKER_BUSY: fault 3 in create_volume"),
        ] {
            try fault.set("create_volume \(action) 1\n")
            let id = try service.create()
            try service.wait(id, "error")
            let error = try error(service, of: id)
            #expect(error.contains(words), "\(action): \(error.prefix(300))")
            let operation = try #require(try OperationTests.operations(service, "resource_id=\(id)").first?["id"]?.string)
            let shown = try await OperationTests.clinker(service, ["operation", "show", operation])
            #expect(shown.output.contains(words))
        }
    }

    @Test("users are told what a driver's code means, and never what it said")
    func users() async throws {
        let fault = try FaultyBackend()
        var lines = ""
        for (name, role) in [("ulla", "member"), ("anna", "admin")] {
            let (_, hash) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "5", name, "secret"])
            lines += hash.prefix { !$0.isNewline } + ":\(ServiceUnderTest.project):\(role)\n"
        }
        try ServiceUnderTest.write(fault.directory + "/users", lines)
        let service = try fault.service(auth: "http_basic", options: "http_basic_auth_user_file = \(fault.directory)/users")
        func ask(_ method: String, _ path: String, as name: String, _ body: String? = nil) throws -> ServiceUnderTest.Answer {
            // name:secret
            let word = ["ulla": "dWxsYTpzZWNyZXQ=", "anna": "YW5uYTpzZWNyZXQ="][name] ?? ""
            return try service.request(
                method, "/v3/\(ServiceUnderTest.project)\(path)", headers: [("Authorization", "Basic \(word)")], body: body)
        }
        try fault.set("create_volume 3 1\nconnect_volume 1 1\n")
        let created = try ask("POST", "/volumes", as: "ulla", #"{"volume": {"size": 1}}"#)
        let id = try #require(created.json["volume"]?["id"]?.string)
        var errors: [String: String] = [:]
        let limit = Timestamp.monotonic() + 20
        for name in ["ulla", "anna"] {
            while errors[name] == nil, Timestamp.monotonic() < limit {
                errors[name] = try ask("GET", "/operations?resource_id=\(id)", as: name).json["operations"]?.array?.first?["error"]?.string
                if errors[name] == nil { usleep(20_000) }
            }
        }
        #expect(errors["anna"] == "CLINKER_BUSY: fault 3 in create_volume")
        #expect(errors["ulla"] == "The operation failed. The storage still uses it. The messages of the resource say more.")
    }

    @Test("what a driver and its programs print, and log while it opens, are lines of its backend; a flood of them is cut")
    func lines() throws {
        let fault = try FaultyBackend()
        try fault.set("create_volume print 1\ncreate_volume shout 1\n")
        let service = try fault.service(callTimeout: 20)
        for _ in 0..<2 { try service.wait(try service.create(), "available") }
        let lines = service.log.split(separator: "\n")
        for words in [
            "the fault driver opens", "printed on the standard output", "printed on the standard error",
            "lines of the driver are left out: more than 100 in a second",
        ] { #expect(lines.contains { $0.contains(words) && $0.contains("backend=fault") }, "\(words): \(service.story)") }
        let shouted = lines.count { $0.contains("shouted") }
        #expect(shouted >= 900 && shouted < 2_500, "\(shouted)")
    }

    @Test("a child that keeps the wire does not hide its host's death; a host dies before the core when memory is short")
    func forks() throws {
        let fault = try FaultyBackend()
        try fault.set("create_volume fork 1\n")
        let service = try fault.service(callTimeout: 100)
        let id = try service.create()
        // The child sleeps for longer.
        try service.wait(id, "available", seconds: 15)
        let host = try #require(service.processes("driver-host").first)
        #expect(try ServiceUnderTest.read("/proc/\(host)/oom_score_adj") == "500\n")
        let metrics = try service.request("GET", "/metrics", version: nil).text
        let memory = metrics.split(separator: "\n").first { $0.hasPrefix("clinker_backend_memory_bytes{backend=\"node@fault\"}") }
        #expect(memory.flatMap { Double($0.split(separator: " ").last ?? "") } ?? 0 > 1_000_000, "\(metrics)")
    }

    @Test("a host that holds more memory than it may is killed, and its call repeated")
    func memory() throws {
        let fault = try FaultyBackend()
        try fault.set("create_volume swell 1\n")
        let service = try fault.service(more: "driver_memory_limit = 200", callTimeout: 100)
        try service.wait(try service.create(), "available")
        #expect(service.log.contains("more than driver_memory_limit: it is killed"), "\(service.story)")
    }

    @Test("a volume moves from and to a backend whose driver takes little at once")
    func sizes() throws {
        let directory = temporaryDirectory("sizes")
        let driver = try MutantTests.build(in: directory)
        let service = try ServiceUnderTest(
            backends: "little,two",
            sections: """
                [little]
                volume_driver = \(driver)
                directory = \(directory)/volumes
                minimum = 4096
                maximum = 65536
                [two]
                volume_driver = file
                """)
        for name in ["little", "two"] { _ = try MoveTests.type(service, name, ["volume_backend_name": .string(name)]) }
        let id = try service.create(["volume_type": "little"])
        try service.wait(id, "available")
        let words = String(repeating: "words ", count: 100_000)
        let file = open("\(directory)/volumes/volume-\(id)", O_WRONLY | O_CLOEXEC)
        #expect(pwrite(file, words, words.utf8.count, 7 << 20) == words.utf8.count)
        close(file)
        for type in ["two", "little"] {
            let retype: JSON = ["new_type": .string(type), "migration_policy": "on-demand"]
            #expect(try MoveTests.action(service, id, "os-retype", retype).status == 202)
            let moved = try service.wait(id, "available")
            #expect(moved?["volume_type"] == .string(type), "\(service.story)")
        }
        let name = try #require(ServiceUnderTest.entries(directory + "/volumes").first { $0.hasPrefix("volume-") })
        let moved = open(directory + "/volumes/" + name, O_RDONLY | O_CLOEXEC)
        defer { close(moved) }
        var bytes = [UInt8](repeating: 0, count: words.utf8.count)
        #expect(pread(moved, &bytes, bytes.count, 7 << 20) == bytes.count && bytes == Array(words.utf8))
    }

    @Test("a call that hangs can be cancelled")
    func cancellation() throws {
        let fault = try FaultyBackend()
        try fault.set("create_volume hang 1\n")
        let service = try fault.service(callTimeout: 3_600)
        let id = try service.create()
        // The driver took the fault: it hangs.
        let limit = Timestamp.monotonic() + 60
        while try ServiceUnderTest.read(fault.faults) != "", Timestamp.monotonic() < limit { usleep(10_000) }
        let operation = try #require(try OperationTests.operations(service, "resource_id=\(id)").first?["id"]?.string)
        #expect(try service.api("POST", "/operations/\(operation)/cancel").status == 202)
        try service.wait(id, "error", seconds: 40)
        #expect(try error(service, of: id) == "cancelled")
    }
}
