import Primitives
import Testing

@testable import Messaging

@Suite struct TransportURLTests {
    @Test func severalHostsHaveUsersPasswordsAndPortsOfTheirOwn() throws {
        let url = try TransportURL(
            parsing: "rabbit://ann:p%40ss%2Fword@mq1:5673,bob:b%3Ab@[fd00::1]:5674,mq3/cloud%2Fone?ssl=true&ssl_ca_file=%2Fetc%2Fca.pem")
        #expect(
            url.hosts == [
                .init(name: "mq1", port: 5673, user: "ann", password: Secret("p@ss/word")),
                .init(name: "fd00::1", port: 5674, user: "bob", password: Secret("b:b")),
                .init(name: "mq3"),
            ])
        #expect(url.virtualHost == "cloud/one")
        #expect(url.query.map(\.name) == ["ssl", "ssl_ca_file"])
        #expect(url.query.map(\.value) == ["true", "/etc/ca.pem"])
    }

    @Test(arguments: ["rabbit://", "rabbit:///", "rabbit:////", "rabbit://localhost", "kombu://localhost/%2f"])
    func whatIsNotWrittenIsTheLocalHostAndTheFirstVirtualHost(text: String) throws {
        let url = try TransportURL(parsing: text)
        #expect(url.hosts.map(\.name) == ["localhost"])
        #expect(url.virtualHost == "/")
    }

    @Test func aPercentSignThatBeginsNoEncodingStandsForItself() throws {
        #expect(try TransportURL(parsing: "rabbit://u:100%@h").hosts[0].password == Secret("100%"))
        #expect(try TransportURL(parsing: "rabbit://u:a%zzb@h").hosts[0].password == Secret("a%zzb"))
    }

    @Test func anAtSignInAPasswordBelongsToThePassword() throws {
        #expect(try TransportURL(parsing: "rabbit://u:p@ss@h").hosts[0].password == Secret("p@ss"))
    }

    @Test(arguments: [
        ("", "has no scheme"), ("mq1:5672", "has no scheme"), ("kafka://h", "scheme: 'kafka'"), ("rabbit://u:p#x@h", "'#'"),
        ("rabbit://h:0", "host 1: the port"), ("rabbit://h,g:70000", "host 2: the port"), ("rabbit://h:", "host 1: the port"),
        ("rabbit://u:p@", "host 1: the name is missing"), ("rabbit://[::1", "host 1: the address"),
        ("rabbit://[::1]x", "host 1: only a port"),
        ("rabbit://u:a%00b@h", "host 1: password: holds a NUL"), ("rabbit://u%ff:p@h", "host 1: user: is no UTF-8"),
        ("rabbit://h/%ff", "virtual host: is no UTF-8"), ("rabbit://h/v?ssl", "query: an option has no value"),
        ("rabbit://h/a b", "holds a space"),
        ("rabbit://" + Array(repeating: "h", count: 33).joined(separator: ","), "hosts: there are more than 32"),
        ("rabbit://" + String(repeating: "h", count: 9000), "longer than 8192"),
        ("rabbit://h/" + String(repeating: "v", count: 256), "virtual host: is longer"),
    ])
    func whatIsWrongIsNamedByItsMember(text: String, words: String) {
        #expect { try TransportURL(parsing: text) } throws: { "\($0)".contains(words) }
    }

    @Test func noProblemRepeatsAPassword() {
        for text in [
            "rabbit://u:hush/secret@h", "rabbit://u:hush#x@h", "rabbit://u:hush%00@h", "rabbit://u:hush?secret@h", "rabbit://u:hu sh@h",
        ] {
            do {
                let url = try TransportURL(parsing: text)
                Issue.record("\(url) was read of \(text)")
            } catch { #expect(!"\(error)".contains("hush") && !"\(error)".contains("secret"), "\(error)") }
        }
    }
}
