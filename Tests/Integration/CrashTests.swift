import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Whatever dies, what was accepted is carried on. The driver is the plain C one, made slow so that death comes in the middle.
@Suite("Death in the middle", .serialized)
struct CrashTests {
    static let plugin: String = {
        let path = temporaryDirectory("plugin") + "/clinker-simple.so"
        let root = ServiceUnderTest.root
        if let pid = try? spawn(
            "/usr/bin/cc",
            [
                "-std=c11", "-fPIC", "-shared", "-I", root + "/Sources/CDriver/include", "-o", path,
                root + "/Tests/DriverHostTests/Drivers/simple.c",
            ], descriptors: [])
        {
            reap(pid)
        }
        return path
    }()

    private func service(delay: Int, options: String = "", backend: String = "") throws -> ServiceUnderTest {
        let directory = temporaryDirectory("simple")
        return try ServiceUnderTest(
            options: "quota_volumes = -1\nquota_gigabytes = -1\n\(options)", backends: "simple",
            sections: "[simple]\nvolume_driver = \(Self.plugin)\ndirectory = \(directory)/volumes\ndelay_ms = \(delay)\n\(backend)\n")
    }

    private func backendFiles(_ service: ServiceUnderTest) throws -> Set<String> {
        let line = try ServiceUnderTest.read(service.directory + "/clinker.conf").split(separator: "\n").first { $0.hasPrefix("directory") }
        return Set(ServiceUnderTest.entries(String(line?.split(separator: " ").last ?? "")))
    }

    /// Rows, quota and backend say the same.
    private func audit(_ service: ServiceUnderTest, _ ids: [String]) throws {
        for id in ids { try service.wait(id, "available") }
        #expect(try backendFiles(service) == Set(ids.map { "volume-" + $0 }))
        #expect(try service.usage("volumes") == Int64(ids.count))
        #expect(try service.usage("gigabytes") == Int64(ids.count))
        // A backend that is just coming up shows no pools yet.
        var pools: [JSON] = []
        let limit = Timestamp.monotonic() + 60
        while pools.isEmpty, Timestamp.monotonic() < limit {
            pools = try service.api("GET", "/scheduler-stats/get_pools?detail=true").json["pools"]?.array ?? []
        }
        #expect(pools.first?["capabilities"]?["allocated_capacity_gb"]?.integer == Int64(ids.count))
        for id in ids { #expect(try service.api("DELETE", "/volumes/\(id)").status == 202) }
        for id in ids { try service.wait(id, nil) }
        #expect(try service.usage("volumes") == 0 && backendFiles(service).isEmpty)
    }

    @Test("the core is killed while volumes are being made: no connection is refused, every volume becomes available")
    func core() throws {
        let service = try service(delay: 200)
        var ids = try (0..<8).map { _ in try service.create() }
        let core = try #require(service.processes("core").first)
        kill(core, SIGKILL)
        let died = Timestamp.monotonic()
        // The socket is the supervisor's: this connection waits instead of being refused.
        ids.append(try service.create())
        #expect(Timestamp.monotonic() - died < 10)
        #expect(service.processes("core").first != core)
        try audit(service, ids)
    }

    @Test("the driver host is killed while volumes are being made: the calls are repeated")
    func host() throws {
        let service = try service(delay: 200)
        let ids = try (0..<8).map { _ in try service.create() }
        let limit = Timestamp.monotonic() + 60
        func calls() throws -> Double? {
            ObservabilityTests.samples(try service.request("GET", "/metrics").text)[#"clinker_backend_calls{backend="node@simple"}"#]
        }
        while try calls() ?? 0 < 2, Timestamp.monotonic() < limit {}
        let host = try #require(service.processes("driver-host").first)
        kill(host, SIGKILL)
        // Reads do not notice.
        #expect(try service.api("GET", "/volumes").status == 200)
        try audit(service, ids)
        #expect(service.log.contains("the call is repeated"))
    }

    @Test("everything is killed at once: the next start carries on")
    func everything() throws {
        let service = try service(delay: 200)
        let ids = try (0..<5).map { _ in try service.create() }
        for pid in service.processes("core") + service.processes("driver-host") { kill(pid, SIGKILL) }
        service.signal(SIGKILL)
        _ = service.waitForEnd()
        try service.start()
        try audit(service, ids)
    }

    @Test("the supervisor alone is killed: its children end, and the next start carries on")
    func supervisor() throws {
        let service = try service(delay: 100)
        let ids = try (0..<5).map { _ in try service.create() }
        service.signal(SIGKILL)
        _ = service.waitForEnd()
        try service.start()
        try audit(service, ids)
    }

    @Test("SIGTERM finishes what runs, and leaves the rest for the next start")
    func drain() throws {
        let service = try service(delay: 100)
        let ids = try (0..<5).map { _ in try service.create() }
        #expect(service.stop() == 0)
        #expect(service.log.contains("operations_left=0"))
        try service.start()
        try audit(service, ids)
    }

    @Test("a clone over block handles survives the host's death in the middle")
    func clone() throws {
        let service = try service(delay: 50)
        let source = try service.create()
        try service.wait(source, "available")
        let clones = try (0..<3).map { _ in try service.create(["source_volid": .string(source)]) }
        usleep(120_000)
        if let host = service.processes("driver-host").first { kill(host, SIGKILL) }
        try audit(service, [source] + clones)
    }

    @Test("SIGHUP reads the configuration again without ending anything")
    func reload() throws {
        let service = try service(delay: 0)
        let core = service.processes("core")
        service.signal(SIGHUP)
        let limit = Timestamp.monotonic() + 60
        while !service.log.contains("configuration read again"), Timestamp.monotonic() < limit { usleep(10_000) }
        #expect(service.log.contains("configuration read again"))
        #expect(service.processes("core") == core)
    }

    @Test("a driver call without progress loses its lease: its host is killed, and after a few tries the volume is in error")
    func lease() throws {
        let service = try service(delay: 5_000, backend: "driver_call_timeout = 1")
        let id = try service.create()
        let host = service.processes("driver-host").first
        try service.wait(id, "error", seconds: 60)
        #expect(service.log.contains("a driver call showed no progress for 1 s: its host is killed"))
        #expect(service.processes("driver-host").first != host)
        #expect(try service.usage("volumes") == 1)
        #expect(try service.api("DELETE", "/volumes/\(id)").status == 202)
        try service.wait(id, nil)
        #expect(try service.usage("volumes") == 0 && backendFiles(service).isEmpty)
    }

    @Test("a client does not wait longer than rpc_response_timeout: the call is cancelled and taken back")
    func timeout() throws {
        let service = try service(delay: 0, options: "rpc_response_timeout = 1", backend: "connect_delay_ms = 10000")
        let id = try service.create()
        try service.wait(id, "available")
        let started = Timestamp.monotonic()
        let answer = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
        #expect(answer.status == 502 && Timestamp.monotonic() - started < 5, "\(answer.text)")
        try service.wait(id, "available")
        #expect(try service.api("GET", "/attachments").json["attachments"] == [])
        #expect(service.log.contains("step failed: cancelled"))
    }

    @Test("a client that gave up while its operation waited for its turn leaves nothing behind")
    func abandoned() async throws {
        let service = try service(delay: 0, options: "rpc_response_timeout = 1", backend: "connect_delay_ms = 2500")
        let id = try service.create()
        try service.wait(id, "available")
        // The first call holds the volume for as long as its driver does not notice that it was cancelled.
        async let first = withCheckedContinuation { (continuation: CheckedContinuation<Int, Never>) in
            startThread("client") {
                let answer = try? service.api(
                    "POST", "/volumes/\(id)/action", ["os-initialize_connection": ["connector": LifecycleTests.connector]])
                continuation.resume(returning: answer?.status ?? 0)
            }
        }
        usleep(100_000)
        let second = try service.api(
            "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
        #expect(await first == 502)
        #expect(second.status == 502)
        try service.wait(id, "available", seconds: 10)
        #expect(try service.api("GET", "/attachments").json["attachments"] == [])
    }

    @Test("a request whose core dies is taken back: no attachment is left reserved")
    func interruptedAttachment() async throws {
        let service = try service(delay: 0, backend: "connect_delay_ms = 3000")
        let id = try service.create()
        try service.wait(id, "available")
        async let lost = withCheckedContinuation { (continuation: CheckedContinuation<Int, Never>) in
            startThread("client") {
                let answer = try? service.api(
                    "POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
                continuation.resume(returning: answer?.status ?? 0)
            }
        }
        try service.wait(id, "attaching")
        for core in service.processes("core") { kill(core, SIGKILL) }
        #expect(await lost == 0)
        try service.wait(id, "available", seconds: 10)
        #expect(try service.api("GET", "/attachments").json["attachments"] == [])
    }

    @Test("what a driver logs comes out under the request's id")
    func driverLog() throws {
        let service = try service(delay: 0)
        let answer = try service.api("POST", "/volumes", ["volume": ["size": 1]])
        let id = try #require(answer.json["volume"]?["id"]?.string)
        try service.wait(id, "available")
        let request = try #require(answer.header("x-openstack-request-id"))
        #expect(service.log.split(separator: "\n").contains { $0.contains("making a file") && $0.contains("request_id=\(request)") })
    }
}
