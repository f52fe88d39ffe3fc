import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Too little of something: descriptors, or drivers that answer.
@Suite("Starvation", .serialized)
struct StarvationTests {
    @Test("out of file descriptors it serves fewer clients, loses nothing, and recovers when they leave")
    func descriptors() async throws {
        let service = try ServiceUnderTest(start: false)
        try service.launch(wrapper: ["/usr/bin/prlimit", "--nofile=80:80"])
        try service.waitUntilServing()
        let kept = try service.create()
        try service.wait(kept, "available")
        var held: [Int32] = []
        for _ in 0..<200 { held.append(try Loopback.connect(UInt16(service.port))) }
        usleep(500_000)
        for descriptor in held { close(descriptor) }
        #expect(try service.request("GET", "/").status == 300)
        let ids = try (0..<5).map { _ in try service.create() }
        for id in ids { try service.wait(id, "available") }
        for host in service.processes("driver-host") { kill(host, SIGKILL) }
        try service.wait(try service.create(), "available")
        #expect(try service.volume(kept) != nil)
        #expect(!service.log.contains("the core ended"), "\(service.log.suffix(2000))")
    }

    @Test("while every driver call hangs, reads are answered, heartbeats go on and new work is accepted")
    func hangingDriver() throws {
        let backend = try FaultyBackend()
        let service = try backend.service(
            options: "report_interval = 1\nquota_volumes = -1", more: "backend_native_threads_pool_size = 4", callTimeout: 60)
        try service.wait(try service.create(), "available")
        try backend.set(["create_volume", "stats"].map { "\($0) hang 100\n" }.joined())
        for _ in 0..<40 { _ = try service.create() }
        var beats: Set<String> = []
        let end = Timestamp.monotonic() + 8
        while Timestamp.monotonic() < end {
            let services = try service.api("GET", "/os-services").json["services"]?.array ?? []
            #expect(services.allSatisfy { $0["state"] == "up" })
            if let time = services.first(where: { $0["binary"] == "cinder-volume" })?["updated_at"]?.string { beats.insert(time) }
            usleep(50_000)
        }
        let times = beats.compactMap { Timestamp.parse($0) }.sorted()
        let longest = zip(times.dropFirst(), times).map { $0 - $1 }.max() ?? 0
        #expect(times.count >= 4, "\(beats)")
        print("heartbeats every second while 40 calls hang: \(times.count) in 8 s, longest gap \(longest) s")
        #expect(try service.create().isEmpty == false)
    }

    @Test("a driver that hangs while it opens is given up and opened again")
    func hangingOpen() throws {
        let backend = try FaultyBackend()
        try backend.set("open hang 1\n")
        let service = try backend.service(more: "driver_open_timeout = 1")
        try service.wait(try service.create(), "available")
        #expect(service.log.contains("the driver did not open within 1 s"))
    }
}
