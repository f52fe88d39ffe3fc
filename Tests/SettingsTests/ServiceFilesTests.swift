import Glibc
import Settings
import TestSupport
import Testing

@testable import clinker

/// What is said of the files with which other services are reached over TLS.
@Suite("Files for other services")
struct ServiceFilesTests {
    private let directory = temporaryDirectory("files")
    private let authority = TestCertificate("authority", use: .authority)

    /// Writes a file that nobody else may read.
    private func file(_ name: String, _ text: String, mode: mode_t = 0o600) -> String {
        let path = directory + "/" + name
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        #expect(write(descriptor, text, text.utf8.count) == text.utf8.count && fchmod(descriptor, mode) == 0)
        return path
    }

    private func problems(_ section: String, _ lines: [String]) throws -> [String] {
        let more = [
            "DEFAULT": "auth_strategy = keystone\ntransport_url = rabbit://h", "key_manager": "backend = barbican",
            "oslo_messaging_notifications": "driver = messagingv2",
            "oslo_messaging_rabbit": "ssl = true\nssl_ca_file = \(file("default.pem", authority.certificate))",
        ]
        var text = ""
        for name in Set(more.keys).union([section]).sorted() {
            text += "[\(name)]\n\(more[name] ?? "")\n" + (name == section ? lines.joined(separator: "\n") + "\n" : "")
        }
        return try ServiceFiles.problems(Settings(text: text, known: .clinker), isOwned: true)
    }

    @Test(
        "authorities must be whole certificates in PEM, in a file that can be read and that nobody else may write",
        arguments: [
            ("DEFAULT", "glance_ca_certificates_file"), ("keystone_authtoken", "cafile"), ("nova", "cafile"),
            ("barbican", "verify_ssl_path"),
            ("oslo_messaging_rabbit", "ssl_ca_file"),
        ])
    func authorities(section: String, option: String) throws {
        func said(_ path: String) throws -> [String] { try problems(section, ["\(option) = \(path)"]) }
        let whole = authority.certificate
        #expect(try said(file("whole.pem", "a comment\n" + whole + whole)).isEmpty)
        for (path, words) in [
            ("/nonexistent.pem", "cannot be read: No such file or directory"), (directory, "is no file"),
            (file("empty.pem", ""), "certificate"), (file("text.pem", "no certificate\n"), "certificate"),
            (file("cut.pem", String(whole.prefix(whole.count / 2))), "not whole certificates of authorities in PEM"),
            (file("second.pem", whole + whole.prefix(whole.count / 2)), "not whole certificates of authorities in PEM"),
            (file("open.pem", whole, mode: 0o666), "can be written by others"),
        ] {
            let problems = try said(path)
            #expect(problems.count == 1 && problems[0].hasPrefix("[\(section)] \(option): \(path)"), "\(path): \(problems)")
            #expect(problems.first?.contains(words) == true, "\(path): \(problems)")
        }
    }

    @Test(
        "a certificate needs its key, which nobody else may read",
        arguments: [
            ("DEFAULT", "glance_certfile", "glance_keyfile"), ("keystone_authtoken", "certfile", "keyfile"),
            ("nova", "certfile", "keyfile"),
            ("oslo_messaging_rabbit", "ssl_cert_file", "ssl_key_file"),
        ])
    func pairs(section: String, certificate: String, key: String) throws {
        let (mine, other) = (TestCertificate("clinker", use: .client), TestCertificate("other", use: .client))
        let (shown, secret) = (file("shown.pem", mine.certificate), file("secret.pem", mine.privateKey))
        func said(_ shown: String?, _ secret: String?) throws -> String {
            try problems(
                section, [shown.map { "\(certificate) = \($0)" }, secret.map { "\(key) = \($0)" }].compactMap { $0 }
            ).joined(separator: "\n")
        }
        #expect(try said(shown, secret) == "")
        #expect(try said(file("both.pem", mine.certificate + mine.privateKey), nil) == "")
        let cut = file("cut.pem", String(mine.certificate.prefix(200)))
        #expect(try said(cut, secret).hasPrefix("[\(section)] \(certificate): \(cut), \(secret): no certificate with its key in PEM"))
        #expect(try said(shown, nil).hasPrefix("[\(section)] \(certificate): "))
        #expect(try said(nil, secret).hasPrefix("[\(section)] \(key) is set"))
        let wrong = file("wrong.pem", other.privateKey)
        #expect(try said(shown, wrong) == "[\(section)] \(certificate): \(wrong) is not the key of the first certificate in \(shown)")
        let readable = file("readable.pem", mine.privateKey, mode: 0o644)
        #expect(try said(shown, readable).hasPrefix("[\(section)] \(key): \(readable) holds secrets and can be read by others"))
    }

    @Test("of services that are not asked no files are looked at")
    func unused() throws {
        let settings = try Settings(
            text: """
                [DEFAULT]
                auth_strategy = noauth
                [keystone_authtoken]
                cafile = /nonexistent.pem
                [nova]
                cafile = /nonexistent.pem
                [barbican]
                verify_ssl_path = /nonexistent.pem
                [oslo_messaging_rabbit]
                ssl = true
                ssl_ca_file = /nonexistent.pem
                """, known: .clinker)
        #expect(try ServiceFiles.problems(settings, isOwned: true).isEmpty)
    }

    @Test("what is told of a service holds no password of a URL")
    func passwords() {
        for (text, told) in [
            ("at http://u:p@h:1/v3, https://q@i/@x", "at http://h:1/v3, https://i/@x"), ("mail a@b", "mail a@b"),
            ("http://h/a@b", "http://h/a@b"),
        ] { #expect(FirstLook.withoutPasswords(text) == told) }
    }
}
