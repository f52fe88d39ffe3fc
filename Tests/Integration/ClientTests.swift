import Glibc
import Primitives
import Testing

/// The real clients, as PyPI has them: python-openstackclient, python-cinderclient, openstacksdk.
@Suite("Real clients")
struct ClientTests {
    /// The virtual environment that the set-up made.
    private var clients: String {
        getenv("CLINKER_CLIENTS").map { String(cString: $0) } ?? ServiceUnderTest.root + "/.clients"
    }

    private func bash(_ script: String, _ arguments: [String] = []) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(
            "/usr/bin/env", ["PATH=\(clients)/bin:/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-e", script] + arguments)
    }

    @Test("the README's walk, word for word: create, attach, fill, detach, clone, extend, read both back, delete")
    func walk() async throws {
        let readme = try ServiceUnderTest.read(ServiceUnderTest.root + "/README.md")
        let marker = try #require(readme.ranges(of: "<!-- walk -->").first)
        let begin = try #require(readme[marker.upperBound...].ranges(of: "```sh\n").first)
        let end = try #require(readme[begin.upperBound...].ranges(of: "```").first)
        let service = try ServiceUnderTest()
        let script = service.directory + "/walk.sh"
        let text = readme[begin.upperBound..<end.lowerBound].split(separator: ":8776", omittingEmptySubsequences: false)
        #expect(text.count > 1)
        try ServiceUnderTest.write(script, "cd \(service.directory)\n" + text.joined(separator: ":\(service.port)"))
        let result = try await bash(script)
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.ranges(of: "hello from first").count == 2, "\(result.output)")
        #expect(try service.api("GET", "/volumes").json["volumes"] == [])
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
    }

    @Test("other commands and forms of the openstack and cinder clients")
    func forms() async throws {
        let service = try ServiceUnderTest()
        let result = try await bash(ServiceUnderTest.sources + "/clients/forms.sh", ["http://127.0.0.1:\(service.port)"])
        #expect(result.status == 0 && result.output.hasSuffix("forms: done\n"), "\(result.output)")
    }

    @Test("openstacksdk does the same")
    func sdk() async throws {
        let service = try ServiceUnderTest()
        let result = try await ServiceUnderTest.run(
            clients + "/bin/python", [ServiceUnderTest.sources + "/clients/sdk.py", "http://127.0.0.1:\(service.port)"])
        #expect(result.status == 0 && result.output.hasSuffix("sdk: done\n"), "\(result.output)")
    }

    private func cloud(_ service: ServiceUnderTest, _ cloud: (_ name: String, _ project: String) -> String) async throws {
        let entries = [("alice", "alpha"), ("root", "alpha"), ("bob", "beta")].map { name, project in
            "  \(name):\n    volume_api_version: '3'\n    block_storage_default_microversion: '3.71'\n" + cloud(name, project)
        }
        let config = service.directory + "/clouds.yaml"
        try ServiceUnderTest.write(config, "clouds:\n" + entries.joined())
        let result = try await ServiceUnderTest.run(
            "/usr/bin/env",
            [
                "OS_CLIENT_CONFIG_FILE=\(config)", "PATH=\(clients)/bin:/usr/sbin:/usr/bin:/sbin:/bin", "bash",
                ServiceUnderTest.sources + "/clients/cloud.sh",
            ])
        #expect(result.status == 0 && result.output.hasSuffix("all good\n"), "\(result.output)\n\(service.log.suffix(2000))")
    }

    @Test("users of a real Keystone, through clouds.yaml")
    func keystone() async throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service()
        try await cloud(service) { name, project in
            """
                auth: {auth_url: 'http://127.0.0.1:\(keystone.port)/v3', username: \(name), password: \(name)-secret, project_name: \(project), user_domain_id: default, project_domain_id: default}
                block_storage_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(keystone.project(project))
                volume_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(keystone.project(project))

            """
        }
    }

    @Test("users of a file, without an identity service")
    func basic() async throws {
        let users = "/tmp/clinker-users-\(UUID.random())"
        let projects = ["alpha": "0123456789abcdef0123456789abcdea", "beta": "0123456789abcdef0123456789abcdeb"]
        var lines = ""
        for (name, project, role) in [("alice", "alpha", "member"), ("root", "alpha", "admin"), ("bob", "beta", "member")] {
            let (_, hash) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "5", name, name + "-secret"])
            lines += hash.prefix { !$0.isNewline } + ":\(projects[project] ?? ""):\(role)\n"
        }
        try ServiceUnderTest.write(users, lines)
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(users)")
        try await cloud(service) { name, project in
            """
                auth_type: http_basic
                auth: {endpoint: 'http://127.0.0.1:\(service.port)/v3/\(projects[project] ?? "")', username: \(name), password: \(name)-secret}
                block_storage_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(projects[project] ?? "")
                volume_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(projects[project] ?? "")

            """
        }
    }
}
