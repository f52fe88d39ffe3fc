import Glibc
import HTTPServer
import Primitives
import TestSupport
import Testing

@Suite("Audit log", .serialized)
struct AuditTests {
    /// What the server logs, as it stands in its file.
    private final class LogFile {
        let descriptor: Int32

        init() { descriptor = open(temporaryDirectory("audit") + "/log", O_RDWR | O_CREAT | O_CLOEXEC, 0o600) }
        deinit { close(descriptor) }

        func text(_ server: ServerUnderTest) -> String {
            server.flush()
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = pread(descriptor, &buffer, buffer.count, 0)
            return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
        }

        /// The records of requests to the path, once there is one; it is the server's log of everything that has ended until then.
        func records(of path: String, _ server: ServerUnderTest) throws -> [String] {
            let limit = Timestamp.monotonic() + 30
            while true {
                let found = text(server).split(separator: "\n").filter { $0.contains("audit") && $0.contains("path=\(path) ") }
                if !found.isEmpty { return found.map(String.init) }
                try #require(Timestamp.monotonic() < limit, "no record of \(path)")
                usleep(20_000)
            }
        }
    }

    private static func answer(_ status: Int) -> HTTPResponse {
        HTTPResponse(status: status, body: .text("done"), contentType: "text/plain")
    }

    @Test("a request that changes something is one record, and one that reads is none")
    func answered() throws {
        let file = LogFile()
        let server = try ServerUnderTest(log: file.descriptor, isAudited: true) { _ in .ready(Self.answer(202)) }
        #expect(server.exchange("GET /read HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").contains("202"))
        #expect(server.exchange("DELETE /gone HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").contains("202"))
        let records = try file.records(of: "/gone", server)
        #expect(records.count == 1 && records[0].contains("status=202") && records[0].contains("success"))
        #expect(!file.text(server).contains("path=/read "))
    }

    @Test("a request whose client leaves in the middle of its body is a record of a failure")
    func leftWithoutBody() throws {
        let file = LogFile()
        let server = try ServerUnderTest(log: file.descriptor, isAudited: true) { _ in .ready(Self.answer(202)) }
        let descriptor = try Loopback.connect(server.port)
        Loopback.send(descriptor, Array("POST /half HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf".utf8))
        usleep(50_000)
        close(descriptor)
        let records = try file.records(of: "/half", server)
        #expect(records.count == 1 && records[0].contains("status=499") && records[0].contains("failure"), "\(records)")
    }

    @Test("a request whose client leaves before the answer is a record of what was done")
    func leftBeforeAnswer() throws {
        let file = LogFile()
        let (begun, leave) = (Semaphore(), Guarded(false))
        let server = try ServerUnderTest(log: file.descriptor, isAudited: true) { _ in
            .waiting {
                begun.post()
                while !leave.withLock({ $0 }) { try await Task.sleep(nanoseconds: 1_000_000) }
                return Self.answer(202)
            }
        }
        let descriptor = try Loopback.connect(server.port)
        Loopback.send(descriptor, Array("POST /left HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody".utf8))
        begun.wait()
        // Not an orderly end: nothing more is taken.
        var reset = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
        close(descriptor)
        usleep(50_000)
        leave.withLock { $0 = true }
        let records = try file.records(of: "/left", server)
        #expect(records.count == 1 && records[0].contains("status=202") && records[0].contains("success"), "\(records)")
    }
}
