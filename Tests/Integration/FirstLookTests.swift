import Glibc
import Primitives
import TestSupport
import Testing

/// What the log says soon after a start of the services that requests will need: Keystone, Glance, Barbican and Nova.
@Suite("The first look at other services")
struct FirstLookTests {
    private static let always = 1_000_000

    /// What one program answers in the place of all services.
    private func rules(_ port: UInt16, login: Int = 201, types: [String], nova: Int = 200) -> [HTTPFaultProxy.Rule] {
        let services = types.map {
            #"{"type": "\#($0)", "endpoints": [{"interface": "public", "region_id": "r", "url": "http://127.0.0.1:\#(port)/\#($0)"}]}"#
        }
        func rule(_ method: String, _ target: String, _ status: Int, _ body: String) -> HTTPFaultProxy.Rule {
            .init(method, target, .answer(status: status, headers: ["X-Subject-Token: own"], body: body), times: Self.always)
        }
        return [
            rule("POST", "/v3/auth/tokens", login, #"{"token": {"expires_at": "2099-01-01T00:00:00.000000Z"}}"#),
            rule("GET", "/v3/auth/catalog", 200, #"{"catalog": [\#(services.joined(separator: ", "))]}"#),
            rule("GET", "/image/v2/images", 200, #"{"images": []}"#),
            rule("GET", "/key-manager/v1/secrets", 200, #"{"secrets": []}"#), rule("GET", "/compute/servers", nova, #"{"servers": []}"#),
        ]
    }

    private func service(_ port: UInt16, options: String = "") throws -> ServiceUnderTest {
        try ServiceUnderTest(
            auth: "keystone", options: "service_look_delay = 1\n" + options,
            sections: """
                [file]
                volume_driver = file
                [keystone_authtoken]
                auth_url = http://somebody:from-a-url@127.0.0.1:\(port)/v3
                username = clinker
                password = of-the-account
                project_name = service
                http_request_max_retries = 0
                [key_manager]
                backend = barbican

                """)
    }

    /// The lines of the look, once the last of those that are expected is there.
    private func lines(_ service: ServiceUnderTest, _ last: [String]) throws -> [Substring] {
        let limit = Timestamp.monotonic() + 120
        while true {
            let lines = service.log.split(separator: "\n").filter {
                $0.contains("cannot be used, and") || $0.contains("that are used answer")
            }
            if last.allSatisfy({ words in lines.contains { $0.contains(words) } }) { return lines }
            guard Timestamp.monotonic() < limit else { throw ServiceUnderTest.Failure("nothing is told of \(last):\n\(service.story)") }
            usleep(20_000)
        }
    }

    @Test("all that answer are one line")
    func good() throws {
        let services = try HTTPFaultProxy(to: nil)
        services.set(rules(services.port, types: ["image", "key-manager", "compute"]))
        let service = try service(services.port)
        let told = try lines(service, ["that are used answer"])
        #expect(told.count == 1 && told[0].contains("Keystone, Glance, Barbican, Nova"), "\(told)")
    }

    @Test("one that is missing in the catalogue, and one that answers with an error, are a warning each with option, address and cause")
    func bad() throws {
        let services = try HTTPFaultProxy(to: nil)
        services.set(rules(services.port, types: ["image", "compute"], nova: 503))
        let service = try service(services.port)
        let told = try lines(service, ["Barbican cannot be used", "Nova cannot be used"])
        #expect(told.count == 2 && !service.log.contains("that are used answer"), "\(told)")
        for words in [
            "the catalogue has no public endpoint of key-manager ([key_manager] backend = barbican, [barbican] barbican_endpoint_type = public",
            "Nova at http://127.0.0.1:\(services.port)/compute answered 503 ([nova] interface = public",
        ] { #expect(told.contains { $0.contains(words) }, "\(words): \(told)") }
        // Nothing is refused for it.
        #expect(try service.request("GET", "/").status == 300)
    }

    @Test("a wrong account is one warning, without the password, and nobody else is asked")
    func wrongAccount() throws {
        let services = try HTTPFaultProxy(to: nil)
        services.set(rules(services.port, login: 401, types: ["image", "compute", "key-manager"]))
        let service = try service(services.port, options: "glance_api_servers = http://127.0.0.1:\(services.port)/image")
        let told = try lines(service, ["Keystone cannot be used"])
        #expect(told.count == 1, "\(told)")
        #expect(
            told[0].contains(
                "Keystone at http://127.0.0.1:\(services.port) answered 401 to Clinker's own account ([keystone_authtoken] auth_url = http://127.0.0.1:\(services.port)/v3, username, password)"
            ), "\(told)")
        #expect(!told[0].contains("from-a-url") && !service.log.contains("of-the-account"))
        #expect(services.heads.allSatisfy { $0.contains("/v3/auth/tokens") }, "\(services.heads)")
    }
}
