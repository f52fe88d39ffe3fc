import JSON
import Primitives
import TestSupport
import Testing

/// A real Keystone with users over three projects (keystone/server.py), started once for all tests.
final class KeystoneUnderTest: Sendable {
    static let shared = Result { try KeystoneUnderTest() }

    let port: UInt16
    private let program: ServerProgram
    private let facts: JSON
    private let directory: String

    private init() throws {
        directory = temporaryDirectory("keystone")
        port = try Loopback.freePort()
        let root = ServiceUnderTest.root
        program = try ServerProgram(
            "Keystone", [root + "/.keystone/bin/python", root + "/Tests/Integration/keystone/server.py", directory, "\(port)"],
            in: directory, ready: "ready.json")
        facts = try JSON(parsing: try ServiceUnderTest.read(directory + "/ready.json"))
    }

    func project(_ name: String) -> String { facts["projects"]?[name]?.string ?? "" }
    func user(_ name: String) -> String { facts["users"]?[name]?.string ?? "" }

    /// Alice's token for alpha, which was good until an hour before the start.
    var expiredToken: String { facts["expired"]?.string ?? "" }

    func ask(_ method: String, _ path: String, _ body: JSON? = nil, token: String? = nil) throws -> ServiceUnderTest.Answer {
        var text = "\(method) /v3\(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        if let token { text += "X-Auth-Token: \(token)\r\nX-Subject-Token: \(token)\r\n" }
        let content = body?.text ?? ""
        text += "Content-Length: \(content.utf8.count)\r\n\r\n\(content)"
        return try ServiceUnderTest.parse(try Loopback.exchange(port, Array(text.utf8)))
    }

    /// A token of the user for the project (nil: for none; "system": for the system).
    func token(_ user: String, project: String?) throws -> String {
        var auth: JSONObject = [
            "identity": [
                "methods": ["password"],
                "password": ["user": ["name": .string(user), "domain": ["id": "default"], "password": .string(user + "-secret")]],
            ]
        ]
        if project == "system" {
            auth["scope"] = ["system": ["all": true]]
        } else if let project {
            auth["scope"] = ["project": ["id": .string(self.project(project))]]
        } else {
            auth["scope"] = "unscoped"
        }
        let answer = try ask("POST", "/auth/tokens", ["auth": .object(auth)])
        guard answer.status == 201, let token = answer.header("X-Subject-Token") else {
            throw ServiceUnderTest.Failure("no token for \(user): \(answer.status) \(answer.text)")
        }
        return token
    }

    /// A service that trusts this Keystone, through the proxy if there is one, and waits for it so many seconds.
    func service(
        options: String = "", port: UInt16? = nil, urls: String? = nil, patience: Int = 60, authtoken: String = "token_cache_time = 300",
        account: String = "clinker", backends: String = "file", sections: String = ""
    ) throws -> ServiceUnderTest {
        try ServiceUnderTest(
            auth: "keystone", options: options, backends: backends,
            sections: """
                [file]
                volume_driver = file
                [keystone_authtoken]
                www_authenticate_uri = http://keystone.example:5000/v3
                auth_url = \(urls ?? "http://127.0.0.1:\(port ?? self.port)/v3")
                username = \(account)
                password = \(account)-secret
                project_name = service
                http_connect_timeout = \(patience)
                http_request_timeout = \(patience)
                http_request_max_retries = 1
                \(authtoken)
                \(sections)
                """)
    }
}
