import Glibc
import JSON
import Primitives
import Testing

/// A driver's host died, and a program that it had started runs on: the backend waits for its end, and nobody else does.
@Suite("What the dead leave", .serialized)
struct RemainsTests {
    /// The program that the backend is waiting for, once the log says so.
    private func program(_ service: ServiceUnderTest, after length: Int) throws -> pid_t {
        let limit = Timestamp.monotonic() + 60
        while Timestamp.monotonic() < limit {
            let news = service.log.dropFirst(length)
            if let found = news.firstRange(of: "what was begun for it earlier still runs: sleep ("),
                let pid = pid_t(news[found.upperBound...].prefix { $0.isNumber })
            {
                return pid
            }
            usleep(10_000)
        }
        throw ServiceUnderTest.Failure("nobody waits for a program: \(service.story)")
    }

    @Test("a call is not repeated before the program that its first host left has ended")
    func repetition() throws {
        let backend = try FaultyBackend()
        let service = try backend.service(callTimeout: 30)
        try backend.set("create_volume leave-2 1\n")
        let id = try service.create()
        let program = try program(service, after: 0)
        try service.wait(id, "available")
        #expect(kill(program, 0) != 0)
        #expect(backend.files == ["volume-" + id])
    }

    @Test("while a backend waits the API answers and others work, in the next core and in the next service too")
    func isolation() async throws {
        let backend = try FaultyBackend()
        let service = try backend.service(callTimeout: 30, beside: (name: "plain", section: "[plain]\nvolume_driver = file"))
        for (type, name) in [("waiting", "fault"), ("working", "plain")] {
            _ = try MoveTests.type(service, type, ["volume_backend_name": .string(name)])
        }
        func create(_ type: String) throws -> String { try service.create(["volume_type": .string(type)]) }
        func othersWork() throws { try service.wait(try create("working"), "available") }
        let attached = try create("waiting")
        try service.wait(attached, "available")

        try backend.set("create_volume leave-1000 1\n")
        let first = try create("waiting")
        var left = try program(service, after: 0)
        try othersWork()

        for core in service.processes("core") { kill(core, SIGKILL) }
        #expect(try service.volume(first)?["status"] == "creating")
        let accepted = try create("waiting")
        async let connected = withCheckedContinuation { (continuation: CheckedContinuation<Int, Never>) in
            startThread("client") {
                let answer = try? service.api(
                    "POST", "/attachments", ["attachment": ["volume_uuid": .string(attached), "connector": LifecycleTests.connector]])
                continuation.resume(returning: answer?.status ?? 0)
            }
        }
        try service.wait(attached, "attaching")
        try othersWork()
        for id in [first, accepted] { #expect(try service.volume(id)?["status"] == "creating") }
        #expect(kill(left, SIGKILL) == 0)
        // What was asked for meanwhile was not interrupted.
        #expect(await connected == 200)
        for id in [first, accepted] { try service.wait(id, "available") }

        try backend.set("create_volume leave-1000 1\n")
        let length = service.log.count
        let second = try create("waiting")
        left = try program(service, after: length)
        for pid in service.processes("core") + service.processes("driver-host") { kill(pid, SIGKILL) }
        service.signal(SIGKILL)
        _ = service.waitForEnd()
        try service.start()
        try othersWork()
        #expect(try service.volume(second)?["status"] == "creating")
        #expect(kill(left, SIGKILL) == 0)
        try service.wait(second, "available")
        #expect(Set([attached, first, accepted, second].map { "volume-" + $0 }) == backend.files)
    }
}
