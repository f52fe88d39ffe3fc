import JSON
import Primitives
import TestSupport
import Testing

/// A real Nova, with Placement and a compute service without a hypervisor (nova/server.py), in the catalogue of a real Keystone. It starts
/// in half a minute of CPU.
final class NovaServerUnderTest: Sendable {
    let keystone: KeystoneUnderTest
    private let port: UInt16
    private let program: ServerProgram
    private let services = Guarded<[String]>([])

    init(_ keystone: KeystoneUnderTest) throws {
        self.keystone = keystone
        let directory = temporaryDirectory("nova")
        let ports = try (0..<3).map { _ in try Loopback.freePort() }
        port = ports[0]
        let root = ServiceUnderTest.root
        program = try ServerProgram(
            "Nova",
            [root + "/.nova/bin/python", root + "/Tests/Integration/nova/server.py", directory] + (ports + [keystone.port]).map { "\($0)" },
            in: directory, seconds: 300)
        try register("compute", "http://127.0.0.1:\(port)/v2.1")
    }

    deinit {
        // The catalogue is that of other tests, too.
        if let token = try? keystone.token("root", project: "alpha") {
            for id in services.withLock({ $0 }) { _ = try? keystone.ask("DELETE", "/services/\(id)", token: token) }
        }
    }

    /// Puts a service into the catalogue for as long as this Nova is there.
    func register(_ type: String, _ url: String) throws {
        let token = try keystone.token("root", project: "alpha")
        let made = try keystone.ask("POST", "/services", ["service": ["type": .string(type), "name": .string(type)]], token: token)
        guard let id = made.json["service"]?["id"] else { throw ServiceUnderTest.Failure("no service: \(made.text)") }
        services.withLock { $0.append(id.string ?? "") }
        let endpoint = try keystone.ask(
            "POST", "/endpoints",
            ["endpoint": ["service_id": id, "interface": "internal", "region_id": "RegionOne", "url": .string(url)]], token: token)
        guard endpoint.status == 201 else { throw ServiceUnderTest.Failure("no endpoint: \(endpoint.text)") }
    }

    /// A request to Nova's API.
    func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String) throws -> ServiceUnderTest.Answer {
        let content = body?.text ?? ""
        let head =
            "\(method) /v2.1\(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
            + "OpenStack-API-Version: compute 2.90\r\nX-Auth-Token: \(token)\r\nContent-Length: \(content.utf8.count)\r\n\r\n"
        return try ServiceUnderTest.parse(try Loopback.exchange(port, Array((head + content).utf8)))
    }
}
