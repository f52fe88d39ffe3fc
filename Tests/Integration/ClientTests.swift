import Glibc
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
}
