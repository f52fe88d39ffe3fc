import Glibc
import Primitives
import TestSupport
import Testing

/// The real clients, as PyPI has them: python-openstackclient, python-cinderclient, openstacksdk.
@Suite("Real clients")
struct ClientTests {
    private var clients: String { LoadedClients.environment }

    /// `loaded`: the commands need not start and load themselves each time.
    private func bash(_ script: String, _ arguments: [String] = [], loaded: Bool = true, environment: [String] = []) async throws -> (
        status: Int32, output: String
    ) {
        let path = (loaded ? try LoadedClients.path.get() + ":" : "") + clients + "/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return try await ServiceUnderTest.run("/usr/bin/env", environment + ["PATH=" + path, "bash", "-e", script] + arguments)
    }

    /// The commands of a document's walk, for the service.
    private func commands(of document: String, _ service: ServiceUnderTest) throws -> [String] {
        let text = try ServiceUnderTest.read(ServiceUnderTest.root + "/" + document)
        let marker = try #require(text.ranges(of: "<!-- walk -->").first)
        let begin = try #require(text[marker.upperBound...].ranges(of: "```sh\n").first)
        let end = try #require(text[begin.upperBound...].ranges(of: "```").first)
        return text[begin.upperBound..<end.lowerBound].replacing(":8776", with: ":\(service.port)")
            .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// Runs the README's walk.
    private func shortWalk(_ service: ServiceUnderTest) async throws {
        let script = service.directory + "/short-walk.sh"
        try ServiceUnderTest.write(
            script, "cd \(service.directory)\n" + (try commands(of: "README.md", service)).joined(separator: "\n"))
        let result = try await bash(script, loaded: false)
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("| first  | available |") && result.output.contains("| second | available |"), "\(result.output)")
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
    }

    /// Runs the walk of docs/first-volume.md; `identity` replaces what it says of who asks, as the options of the two commands.
    private func walk(_ service: ServiceUnderTest, identity: (cloud: String, cinder: String)? = nil, environment: [String] = [])
        async throws
    {
        var lines = try commands(of: "docs/first-volume.md", service)
        if let identity {
            var replaced = 0
            for (name, value) in [("cloud", identity.cloud), ("noauth", identity.cinder)] {
                for index in lines.indices where lines[index].hasPrefix(name + "=") {
                    lines[index] = "\(name)=\"\(value)\""
                    replaced += 1
                }
            }
            #expect(replaced == 2)
        }
        let script = service.directory + "/walk.sh"
        try ServiceUnderTest.write(script, "cd \(service.directory)\n" + lines.joined(separator: "\n"))
        // Word for word as a user runs it, but for the users of a cloud.
        let result = try await bash(script, loaded: identity != nil, environment: environment)
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.ranges(of: "hello from first").count == 2, "\(result.output)")
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
    }

    // Two at a time: the commands take a second each, most of it their own start.

    @Test(
        "the walks of the README and of docs/first-volume.md, word for word, and volumes that move: migrate, retype, manage, quota, messages, services"
    )
    func walkAndMoves() async throws {
        async let moves: Void = moves()
        let service = try ServiceUnderTest(options: BackupTests.options + "\nbackup_format = repository")
        try await shortWalk(service)
        try await walk(service)
        #expect(try service.api("GET", "/volumes").json["volumes"] == [])
        try await moves
    }

    @Test("the description of the API is valid OpenAPI 3.1, at the first microversion and the last")
    func description() async throws {
        let service = try ServiceUnderTest()
        for version in ["3.0", "3.71"] {
            let served = try service.request("GET", "/openapi.json?microversion=\(version)", version: nil)
            #expect(served.status == 200)
            let path = service.directory + "/openapi-\(version).json"
            try ServiceUnderTest.write(path, served.text)
            let result = try await ServiceUnderTest.run(
                clients + "/bin/python", ["-m", "openapi_spec_validator", "--schema", "3.1.0", path])
            #expect(result.status == 0, "\(version): \(result.output)")
        }
    }

    private func moves() async throws {
        let service = try MoveTests.service()
        let result = try await bash(
            ServiceUnderTest.sources + "/clients/moves.sh", ["http://127.0.0.1:\(service.port)", service.state + "/volumes"])
        #expect(result.status == 0 && result.output.hasSuffix("moves: done\n"), "\(result.output)\n\(service.log.suffix(2000))")
        try await DoctorTests.expectNothing(service)
    }

    @Test("file, rbd and nfs backends, whose volumes others write and read: snapshots, clones, reverts, moves between all of them")
    func backends() async throws {
        let ceph = try StorageUnderTest.ceph.get()
        let nfs = try StorageUnderTest.nfs.get()
        let service = try ServiceUnderTest(
            backends: "file,rbd,nfs",
            sections: "[file]\nvolume_driver = file\n[rbd]\n\(try StorageUnderTest.rbdSection("rbd_max_clone_depth = 2"))\n"
                + "[nfs]\n\(try StorageUnderTest.nfsSection())\n")
        let result = try await bash(
            ServiceUnderTest.sources + "/clients/backends.sh",
            ["http://127.0.0.1:\(service.port)", ceph.directory + "/ceph.conf", nfs.directory + "/export", "file", "rbd", "nfs"])
        #expect(result.status == 0 && result.output.hasSuffix("backends: done\n"), "\(result.output)\n\(service.log.suffix(3000))")
        try await DoctorTests.expectNothing(service)
        #expect(StorageUnderTest.volumes(in: nfs.directory + "/export").isEmpty)
        #expect(ServiceUnderTest.entries(service.state + "/volumes/file").isEmpty)
    }

    @Test("os-brick reads and writes a volume of rbd with what its attachment says")
    func brick() async throws {
        let ceph = try StorageUnderTest.ceph.get()
        let keyring = ceph.directory + "/cinder.keyring"
        let key = try await ServiceUnderTest.run(
            "/usr/bin/ceph", ["-c", ceph.directory + "/ceph.conf", "auth", "get", "client.cinder", "-o", keyring])
        #expect(key.status == 0, "\(key.output)")
        let service = try ServiceUnderTest(
            backends: "rbd", sections: "[rbd]\n\(try StorageUnderTest.rbdSection("rbd_keyring_conf = \(keyring)"))\n")
        let result = try await bash(ServiceUnderTest.sources + "/clients/rbd-brick.sh", ["http://127.0.0.1:\(service.port)"])
        #expect(result.status == 0 && result.output.contains("brick: rbd done"), "\(result.output)\n\(service.story)")
        // What opens the cluster is nobody's to read.
        let secret = try ServiceUnderTest.read(keyring).split(separator: "key = ").last?.prefix { !$0.isWhitespace } ?? ""
        #expect(secret.count > 20 && !service.log.contains(secret))
    }

    @Test("the walk of docs/first-volume.md by a member of a project: known to a real Keystone, and to a file")
    func walksOfMembers() async throws {
        async let basic: Void = walkWithPassword()
        try await walkWithKeystone()
        try await basic
    }

    private func walkWithKeystone() async throws {
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service()
        let config = try clouds(service, users: ["alice"]) { keystoneCloud(keystone, service, $0, $1) }
        let endpoint = "http://127.0.0.1:\(service.port)/v3/\(keystone.project("alpha"))"
        try await walk(
            service,
            identity: (
                cloud: "--os-cloud alice",
                cinder: "--os-auth-url http://127.0.0.1:\(keystone.port)/v3 --os-username alice --os-password alice-secret"
                    + " --os-project-name alpha --os-user-domain-id default --os-project-domain-id default --os-endpoint \(endpoint)"
                    + " --os-volume-api-version 3.71"
            ), environment: ["OS_CLIENT_CONFIG_FILE=\(config)"])
    }

    private func walkWithPassword() async throws {
        let service = try await basicService()
        let config = try clouds(service, users: ["alice"]) { basicCloud(service, $0, $1) }
        let project = Self.projects["alpha"] ?? ""
        try await walk(
            service,
            identity: (
                cloud: "--os-cloud alice",
                cinder: "--os-auth-type http_basic --os-username alice --os-password alice-secret --os-project-id \(project)"
                    + " --os-endpoint http://127.0.0.1:\(service.port)/v3/\(project) --os-volume-api-version 3.71"
            ), environment: ["OS_CLIENT_CONFIG_FILE=\(config)"])
    }

    @Test("images become volumes and volumes images by the openstack command, for users of a real Keystone and a real Glance")
    func images() async throws {
        _ = try GlanceUnderTest.shared.get()
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service(account: "glance")
        let config = try clouds(service, users: ["alice", "bob"]) { keystoneCloud(keystone, service, $0, $1) }
        let result = try await bash(
            ServiceUnderTest.sources + "/clients/images.sh", [service.directory], environment: ["OS_CLIENT_CONFIG_FILE=\(config)"])
        #expect(result.status == 0 && result.output.hasSuffix("images: done\n"), "\(result.output)\n\(service.story)")
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

    // MARK: users of a cloud

    private static let projects = ["alpha": "0123456789abcdef0123456789abcdea", "beta": "0123456789abcdef0123456789abcdeb"]
    private static let users = [("alice", "alpha", "member"), ("root", "alpha", "admin"), ("bob", "beta", "member")]

    /// Writes a clouds.yaml with a cloud for each user.
    private func clouds(_ service: ServiceUnderTest, users: [String], _ cloud: (_ name: String, _ project: String) -> String) throws
        -> String
    {
        let entries = Self.users.filter { users.contains($0.0) }.map { name, project, _ in
            "  \(name):\n    volume_api_version: '3'\n    block_storage_default_microversion: '3.71'\n" + cloud(name, project)
        }
        let config = service.directory + "/clouds.yaml"
        try ServiceUnderTest.write(config, "clouds:\n" + entries.joined())
        return config
    }

    private func keystoneCloud(_ keystone: KeystoneUnderTest, _ service: ServiceUnderTest, _ name: String, _ project: String) -> String {
        """
            auth: {auth_url: 'http://127.0.0.1:\(keystone.port)/v3', username: \(name), password: \(name)-secret, project_name: \(project), user_domain_id: default, project_domain_id: default}
            block_storage_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(keystone.project(project))
            volume_endpoint_override: http://127.0.0.1:\(service.port)/v3/\(keystone.project(project))

        """
    }

    private func basicCloud(_ service: ServiceUnderTest, _ name: String, _ project: String) -> String {
        let endpoint = "http://127.0.0.1:\(service.port)/v3/\(Self.projects[project] ?? "")"
        return """
                auth_type: http_basic
                auth: {endpoint: '\(endpoint)', username: \(name), password: \(name)-secret}
                block_storage_endpoint_override: \(endpoint)
                volume_endpoint_override: \(endpoint)

            """
    }

    private func basicService() async throws -> ServiceUnderTest {
        let path = temporaryDirectory("users") + "/users"
        var lines = ""
        for (name, project, role) in Self.users {
            let (_, hash) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "5", name, name + "-secret"])
            lines += hash.prefix { !$0.isNewline } + ":\(Self.projects[project] ?? ""):\(role)\n"
        }
        try ServiceUnderTest.write(path, lines)
        return try ServiceUnderTest(
            auth: "http_basic", options: "http_basic_auth_user_file = \(path)\n\(BackupTests.options)")
    }

    private func cloud(_ service: ServiceUnderTest, _ config: String) async throws {
        let result = try await bash(ServiceUnderTest.sources + "/clients/cloud.sh", environment: ["OS_CLIENT_CONFIG_FILE=\(config)"])
        #expect(result.status == 0 && result.output.hasSuffix("all good\n"), "\(result.output)\n\(service.log.suffix(2000))")
    }

    @Test("tenants and operators of a real Keystone, and of a file, through clouds.yaml")
    func tenants() async throws {
        async let basic: Void = tenantsOfFile()
        let keystone = try KeystoneUnderTest.shared.get()
        let service = try keystone.service(options: BackupTests.options)
        try await cloud(service, clouds(service, users: ["alice", "root", "bob"]) { keystoneCloud(keystone, service, $0, $1) })
        try await basic
    }

    private func tenantsOfFile() async throws {
        let service = try await basicService()
        try await cloud(service, clouds(service, users: ["alice", "root", "bob"]) { basicCloud(service, $0, $1) })
    }
}
