import Glibc
import HTTPServer
import Primitives
import Synchronization
import TestSupport
import Testing

/// Certificates for the tests, made once.
private enum Made {
    static let authority = TestCertificate("authority", use: .authority)
    static let between = TestCertificate("between", .rsa, use: .authority, issuer: authority)
    static let ec = TestCertificate("server", issuer: authority)
    static let rsa = TestCertificate("server", .rsa, issuer: authority)
    static let chained = TestCertificate("server", .rsa, issuer: between)
    static let expired = TestCertificate("server", days: -1, issuer: authority)
    static let elsewhere = TestCertificate("server", hosts: ["elsewhere.example"], issuer: authority)
    static let client = TestCertificate("client", use: .client, issuer: authority)
    static let stranger = TestCertificate("client", use: .client)
    static let serverAsClient = TestCertificate("server", issuer: authority)
}

/// The files of a certificate and what serves them.
final class TLSFilesUnderTest: @unchecked Sendable {
    let directory = temporaryDirectory("tls")
    var configuration: TLSConfiguration

    init(_ certificate: TestCertificate, authority: TestCertificate? = nil) {
        configuration = TLSConfiguration(certificateFile: directory + "/cert.pem", keyFile: directory + "/key.pem")
        put(certificate)
        if let authority {
            write("ca.pem", authority.certificate)
            configuration.authoritiesFile = directory + "/ca.pem"
        }
    }

    deinit {
        for name in ["cert.pem", "key.pem", "ca.pem"] { unlink(directory + "/" + name) }
        rmdir(directory)
    }

    func put(_ certificate: TestCertificate) {
        write("cert.pem", certificate.chain)
        write("key.pem", certificate.privateKey)
    }

    func write(_ name: String, _ text: String) {
        unlink(directory + "/" + name)
        let file = open(directory + "/" + name, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        _ = text.withCString { Glibc.write(file, $0, strlen($0)) }
        close(file)
    }
}

private let echo: Responder = { request in
    .ready(
        HTTPResponse(
            status: 200, body: .text("\(request.scheme)\(request.method) \(request.rawPath) \(request.body.count)"),
            contentType: "text/plain"))
}

@Suite("TLS", .serialized)
struct TLSTests {
    private static let get = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

    private static func serving(
        _ files: TLSFilesUnderTest, handshakeTimeout: Int = 10, handshakes: Int = 0, connectionLimit: Int = 100,
        responder: @escaping Responder = echo
    ) throws -> (server: ServerUnderTest, endpoint: TLSEndpoint) {
        let endpoint = try TLSEndpoint(files.configuration)
        let server = try ServerUnderTest(
            connectionLimit: connectionLimit, tls: endpoint, handshakeTimeout: handshakeTimeout, handshakes: handshakes,
            responder: responder)
        return (server, endpoint)
    }

    private static func ask(
        _ port: UInt16, _ text: String = get, host: String = "localhost", showing own: TestCertificate? = nil,
        priorities: String = "NORMAL",
        authority: TestCertificate = Made.authority
    ) throws -> String {
        let connection = try TLSConnection(
            port, authorities: authority.certificate, host: host, showing: own, priorities: priorities)
        connection.send(text)
        return try connection.receive(silence: 60_000).text
    }

    @Test(
        "keys of either kind are shown with their chain, and served with TLS 1.3 and 1.2",
        arguments: ["ec", "rsa", "chained"], ["TLS1.3", "TLS1.2"])
    func kinds(kind: String, version: String) throws {
        let files = TLSFilesUnderTest(kind == "ec" ? Made.ec : kind == "rsa" ? Made.rsa : Made.chained)
        let (server, _) = try Self.serving(files)
        let connection = try TLSConnection(
            server.port, authorities: Made.authority.certificate, priorities: "NORMAL:-VERS-ALL:+VERS-\(version)")
        #expect(connection.version == version)
        connection.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        let answer = try connection.receive(silence: 2_000, until: "/b 5").text
        #expect(answer.contains("https://GET /a 0") && answer.contains("POST /b 5"), "\(answer)")
    }

    @Test("a client refuses a certificate that has ended, is another host's or another authority's")
    func refusedByClients() throws {
        for (certificate, authority) in [
            (Made.expired, Made.authority), (Made.elsewhere, Made.authority), (Made.ec, TestCertificate("other", use: .authority)),
        ] {
            let (server, _) = try Self.serving(TLSFilesUnderTest(certificate))
            #expect(throws: TLSConnection.Failure.self) { try Self.ask(server.port, authority: authority) }
        }
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.elsewhere))
        #expect(try Self.ask(server.port, host: "elsewhere.example").contains("GET /a"))
    }

    @Test("versions before TLS 1.2 are refused with an alert that says so", arguments: ["TLS1.0", "TLS1.1"])
    func old(version: String) throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.rsa))
        let failure = #expect(throws: TLSConnection.Failure.self) {
            try Self.ask(server.port, priorities: "LEGACY:-VERS-ALL:+VERS-\(version)")
        }
        #expect(failure?.alert?.lowercased().contains("protocol version") == true, "\(failure.map { "\($0)" } ?? "")")
    }

    @Test("one version and named ciphers are spoken where they are asked for, and no others")
    func algorithms() throws {
        let files = TLSFilesUnderTest(Made.rsa)
        files.configuration.versions = try TLSVersions(named: "TLSv1_2")
        files.configuration.ciphers = try TLSCiphers(list: "ECDHE-RSA-AES256-GCM-SHA384:!aNULL")
        let (server, _) = try Self.serving(files)
        #expect(try Self.ask(server.port).contains("GET /a"))
        #expect(throws: TLSConnection.Failure.self) { try Self.ask(server.port, priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.3") }
        #expect(throws: TLSConnection.Failure.self) {
            try Self.ask(server.port, priorities: "NORMAL:-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305")
        }
        #expect(throws: TLSProblem.self) { try TLSVersions(named: "TLSv1") }
        #expect(throws: TLSProblem.self) { try TLSVersions(named: "TLSv9") }
        let problem = #expect(throws: TLSProblem.self) { try TLSCiphers(list: "HIGH:RC4-SHA") }
        #expect(problem?.description.contains("'RC4-SHA'") == true)
        for all in ["", "HIGH:!aNULL:!MD5", "!aNULL"] { #expect(try TLSCiphers(list: all) == TLSCiphers()) }
    }

    @Test("with ca_file only clients with a certificate of its authority, for clients, are served", arguments: ["TLS1.3", "TLS1.2"])
    func clientCertificates(version: String) throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec, authority: Made.authority))
        let priorities = "NORMAL:-VERS-ALL:+VERS-\(version)"
        #expect(try Self.ask(server.port, showing: Made.client, priorities: priorities).contains("GET /a"))
        let none = #expect(throws: TLSConnection.Failure.self) { try Self.ask(server.port, priorities: priorities) }
        #expect(none?.alert != nil, "\(none.map { "\($0)" } ?? "")")
        for other in [Made.stranger, Made.serverAsClient] {
            let failure = #expect(throws: TLSConnection.Failure.self) { try Self.ask(server.port, showing: other, priorities: priorities) }
            #expect(failure?.alert != nil, "\(failure.map { "\($0)" } ?? "")")
        }
    }

    @Test("new files are shown to new connections; open ones go on, and a bad file changes nothing")
    func reload() throws {
        let files = TLSFilesUnderTest(Made.ec)
        let (server, endpoint) = try Self.serving(files)
        func connect() throws -> TLSConnection { try TLSConnection(server.port, authorities: Made.authority.certificate) }
        let first = try connect()
        files.put(Made.rsa)
        try endpoint.replace(files.configuration)
        let second = try connect()
        #expect(first.certificate != second.certificate)
        files.write("key.pem", Made.ec.privateKey)
        let mismatch = #expect(throws: TLSProblem.self) { try endpoint.replace(files.configuration) }
        #expect(mismatch?.description.contains("is not the key of the first certificate") == true, "\(mismatch.map { "\($0)" } ?? "")")
        files.write("cert.pem", "no certificate")
        #expect(throws: TLSProblem.self) { try endpoint.replace(files.configuration) }
        #expect(try connect().certificate == second.certificate)
        for connection in [first, second] {
            connection.send("GET /after HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try connection.receive(silence: 2_000, until: "/after 0").text.contains("GET /after"))
        }
    }

    @Test("files that others may read or write, that are missing or none are refused, each with its reason")
    func files() throws {
        let files = TLSFilesUnderTest(Made.ec)
        chmod(files.configuration.keyFile, 0o644)
        let readable = #expect(throws: TLSProblem.self) { try TLSEndpoint(files.configuration) }
        #expect(readable?.description.contains("holds secrets and can be read by others") == true)
        chmod(files.configuration.keyFile, 0o600)
        chmod(files.configuration.certificateFile, 0o666)
        #expect(throws: TLSProblem.self) { try TLSEndpoint(files.configuration) }
        chmod(files.configuration.certificateFile, 0o644)
        #expect(try TLSEndpoint(files.configuration).warning() == nil)
        var missing = files.configuration
        missing.authoritiesFile = files.directory + "/none"
        #expect(throws: TLSProblem.self) { try TLSEndpoint(missing) }
        missing.authoritiesFile = files.directory
        #expect(throws: TLSProblem.self) { try TLSEndpoint(missing) }
        files.put(Made.expired)
        #expect(try TLSEndpoint(files.configuration).warning()?.contains("has ended") == true)
        files.put(TestCertificate("server", days: 3, issuer: Made.authority))
        #expect(try TLSEndpoint(files.configuration).warning()?.contains("ends in") == true)
    }

    @Test(
        "what is no handshake is closed, not left hanging, and others are served",
        arguments: [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\u{16}\u{3}\u{1}\u{0}\u{5}hello", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
            "SSH-2.0-x\r\n",
        ])
    func nonsense(bytes: String) throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec), handshakeTimeout: 1)
        let descriptor = try Loopback.connect(server.port)
        defer { close(descriptor) }
        Loopback.send(descriptor, Array(bytes.utf8))
        #expect(Loopback.receive(descriptor, silence: 5_000).isClosed)
        #expect(try Self.ask(server.port).contains("GET /a"))
    }

    @Test("a handshake that is not finished in time ends, however many there are, and delays nobody")
    func slow() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec), handshakeTimeout: 1)
        let half = try (0..<50).map { index in
            let descriptor = try Loopback.connect(server.port)
            // The head of a record, and a part of it.
            if index % 2 == 0 { Loopback.send(descriptor, [0x16, 3, 1, 2, 0, 1, 0]) }
            return descriptor
        }
        defer { for descriptor in half { close(descriptor) } }
        #expect(try Self.ask(server.port).contains("GET /a"))
        for descriptor in half { #expect(Loopback.receive(descriptor, silence: 10_000).isClosed) }
    }

    @Test("a handshake whose last message is wrong has failed: the client is told, whatever it sends behind it")
    func wrongFinished() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec))
        for _ in 0..<5 {
            let failure = #expect(throws: TLSConnection.Failure.self) {
                // TLS 1.3: for the client the handshake is over when it has sent its message.
                let connection = try TLSConnection(
                    server.port, authorities: Made.authority.certificate, priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.3",
                    spoilsFinished: true)
                connection.send(Self.get + String(repeating: "x", count: 100_000))
                _ = try connection.receive(silence: 5_000)
            }
            #expect(failure?.alert != nil, "\(failure.map { "\($0)" } ?? "")")
        }
        #expect(try Self.ask(server.port).contains("GET /a"))
    }

    @Test("one address may have only so many handshakes that have not ended")
    func handshakes() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec), handshakes: 5)
        let half = try (0..<5).map { _ in try Loopback.connect(server.port) }
        usleep(50_000)
        let more = try Loopback.connect(server.port)
        defer { close(more) }
        #expect(Loopback.receive(more, silence: 5_000).isClosed)
        for descriptor in half { close(descriptor) }
        // They are counted until they are closed, and those that have ended are not.
        var kept: [TLSConnection] = []
        for _ in 0..<200 where kept.count < 10 {
            // For a client of TLS 1.3 its handshake is over before the server knows.
            if let connection = try? TLSConnection(server.port, authorities: Made.authority.certificate) {
                kept.append(connection)
            } else {
                usleep(20_000)
            }
        }
        #expect(kept.count == 10)
    }

    @Test("a client that wants new keys in the middle of a connection loses it, and others go on")
    func renegotiation() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec))
        let connection = try TLSConnection(
            server.port, authorities: Made.authority.certificate, priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2")
        connection.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(try connection.receive(silence: 2_000, until: "/a 0").text.contains("GET /a"))
        #expect(connection.renegotiate() != "done")
        #expect(try Self.ask(server.port).contains("GET /a"))
    }

    @Test("a body that is too large is answered before it is read, also to a client that sends all of it")
    func tooLarge() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec))
        for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
            let connection = try TLSConnection(server.port, authorities: Made.authority.certificate)
            let content = String(repeating: "x", count: 1_000_000)
            connection.send("POST /x HTTP/1.1\r\nHost: h\r\n\(framing)\r\n\r\n")
            connection.send(framing.hasPrefix("T") ? "F4240\r\n\(content)\r\n0\r\n\r\n" : content)
            let answer = try connection.receive(silence: 5_000)
            #expect(answer.text.hasPrefix("HTTP/1.1 413") && answer.text.hasSuffix("}"), "\(framing): \(answer.text)")
        }
    }

    @Test("a body without end is answered with TLS as well")
    func endless() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec))
        let connection = try TLSConnection(server.port, authorities: Made.authority.certificate)
        connection.send("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        let chunk = "2710\r\n\(String(repeating: "x", count: 10_000))\r\n"
        for _ in 0..<120 where !connection.send(chunk) { break }
        #expect(try connection.receive(silence: 5_000).text.hasPrefix("HTTP/1.1 413"))
    }

    @Test("handlers that wait are answered over TLS")
    func waiting() throws {
        let (server, _) = try Self.serving(TLSFilesUnderTest(Made.ec)) { request in
            .waiting {
                try await Task.sleep(nanoseconds: 20_000_000)
                return HTTPResponse(status: 200, body: .text(String(repeating: "y", count: 300_000) + request.rawPath), contentType: nil)
            }
        }
        let answer = try Self.ask(server.port)
        #expect(answer.hasSuffix("y/a") && answer.utf8.count > 300_000)
    }

    @Test("no request fails while files are read again and again under load")
    func reloadUnderLoad() throws {
        let files = TLSFilesUnderTest(Made.ec)
        let (server, endpoint) = try Self.serving(files)
        final class Load: Sendable {
            let failures = Guarded<[String]>([])
            let answered = Atomic<Int>(0)
            let isOver = Atomic<Bool>(false)
            let done = Semaphore()
        }
        let load = Load()
        let port = server.port
        for worker in 0..<4 {
            startThread("client") {
                var kept: TLSConnection?
                while !load.isOver.load(ordering: .relaxed) {
                    do {
                        // Half of them keep their connection.
                        let connection =
                            try worker % 2 == 0
                            ? kept ?? TLSConnection(port, authorities: Made.authority.certificate)
                            : TLSConnection(port, authorities: Made.authority.certificate)
                        if worker % 2 == 0 { kept = connection }
                        connection.send("GET /load HTTP/1.1\r\nHost: h\r\n\r\n")
                        let answer = try connection.receive(silence: 5_000, until: "/load 0").text
                        guard answer.hasSuffix("/load 0") else { throw Loopback.Failure(description: "no answer: \(answer)") }
                        load.answered.wrappingAdd(1, ordering: .relaxed)
                    } catch { load.failures.withLock { $0.append("\(error)") } }
                }
                load.done.post()
            }
        }
        for round in 0..<60 {
            files.put(round % 2 == 0 ? Made.rsa : Made.ec)
            try endpoint.replace(files.configuration)
            usleep(10_000)
        }
        load.isOver.store(true, ordering: .relaxed)
        for _ in 0..<4 { #expect(load.done.wait(seconds: 20)) }
        #expect(load.failures.withLock { $0 } == [] && load.answered.load(ordering: .relaxed) > 50)
    }
}
