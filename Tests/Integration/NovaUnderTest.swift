import Glibc
import JSON
import Primitives
import Processes
import TestSupport

/// A Nova of the tests: a program of keystone/ that asks the real Keystone about tokens.
final class NovaUnderTest: Sendable {
    let port: UInt16
    private let lifeline: Int32
    private let pid: pid_t
    private let isRunning = Guarded(true)

    /// `nova.py` tells where instances run and what they use, `compute.py` swaps volumes.
    init(_ keystone: KeystoneUnderTest, program: String = "nova.py") throws {
        port = try Loopback.freePort()
        let (mine, theirs) = try socketPair()
        lifeline = mine
        defer { close(theirs) }
        pid = try spawn(
            "/usr/bin/env", ["python3", ServiceUnderTest.sources + "/keystone/" + program, "\(port)", "\(keystone.port)"],
            descriptors: [(source: theirs, target: 0)])
        let limit = Timestamp.monotonic() + 20
        while true {
            if let descriptor = try? Loopback.connect(port) {
                close(descriptor)
                break
            }
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("\(program) does not answer") }
            usleep(20_000)
        }
    }

    deinit { stop() }

    func stop() {
        guard
            isRunning.withLock({ running in
                defer { running = false }; return running
            })
        else { return }
        close(lifeline)
        _ = reap(pid)
    }

    /// Puts it into the catalogue, in the second region; the first one's does not answer. Returns the service's id.
    func register(with keystone: KeystoneUnderTest, _ root: String) throws -> String {
        let made = try keystone.ask("POST", "/services", ["service": ["type": "compute", "name": "nova"]], token: root)
        guard let compute = made.json["service"]?["id"]?.string else { throw ServiceUnderTest.Failure("no service: \(made.text)") }
        for (region, url) in [("RegionOne", "http://127.0.0.1:9/v2.1"), ("RegionTwo", "http://127.0.0.1:\(port)/v2.1/")] {
            if region != "RegionOne" { _ = try keystone.ask("POST", "/regions", ["region": ["id": .string(region)]], token: root) }
            let endpoint = try keystone.ask(
                "POST", "/endpoints",
                ["endpoint": ["service_id": .string(compute), "interface": "internal", "region_id": .string(region), "url": .string(url)]],
                token: root)
            guard endpoint.status == 201 else { throw ServiceUnderTest.Failure("no endpoint: \(endpoint.text)") }
        }
        return compute
    }

    /// A request to the program itself.
    private func ask(_ method: String, _ path: String, _ body: String = "") throws -> JSON {
        let head = "\(method) \(path) HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
        return try ServiceUnderTest.parse(try Loopback.exchange(port, Array((head + body).utf8))).json
    }

    // MARK: nova.py

    /// From now on an instance uses a volume by the attachment.
    func use(_ instance: String, _ volume: String, _ attachment: String) throws {
        _ = try ask("PUT", "/uses/\(instance)/\(volume)/\(attachment)")
    }

    /// Ids of the servers that it was asked for.
    func asked() throws -> [String] { try ask("GET", "/asked")["asked"]?.array?.compactMap(\.string) ?? [] }

    // MARK: compute.py

    /// Says what is to be: members are replaced.
    func set(_ members: JSONObject) throws { _ = try ask("PUT", "/control", JSON.object(members).text) }

    /// What was not as it must be, what it was told, and which swaps it was asked for.
    func story() throws -> JSON { try ask("GET", "/control") }
}
