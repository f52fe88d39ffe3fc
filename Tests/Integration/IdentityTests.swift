import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// Who asks: real tokens of a real Keystone, and what is no token.
@Suite("Identity", .serialized)
struct IdentityTests {
    let keystone: KeystoneUnderTest

    init() throws { keystone = try KeystoneUnderTest.shared.get() }

    private func ask(
        _ service: ServiceUnderTest, _ method: String, _ path: String, token: String?, project: String? = "alpha",
        headers: [(String, String)] = [],
        _ body: JSON? = nil
    ) throws -> ServiceUnderTest.Answer {
        let prefix = project.map { "/v3/\(keystone.project($0))" } ?? "/v3"
        return try service.request(method, prefix + path, headers: (token.map { [("X-Auth-Token", $0)] } ?? []) + headers, body: body?.text)
    }

    private func refused(_ answer: ServiceUnderTest.Answer, _ why: String) {
        #expect(answer.status == 401, "\(why): \(answer.status) \(answer.text)")
        #expect(answer.header("WWW-Authenticate") == "Keystone uri=\"http://keystone.example:5000/v3\"")
        #expect(
            answer.json["error"] == ["code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication."])
    }

    @Test("without a token, with garbage, an oversized or a revoked one: 401 as Cinder's, on every path but the versions")
    func refusals() throws {
        let service = try keystone.service(authtoken: "token_cache_time = 1")
        for path in ["/volumes", "/nothing", "/types"] { refused(try ask(service, "GET", path, token: nil), path) }
        refused(try service.request("GET", "/v3/"), "/v3/")
        #expect(try service.request("GET", "/").status == 300)
        #expect(try service.request("GET", "/healthcheck").status == 200)
        let good = try keystone.token("alice", project: "alpha")
        for bad in [
            "garbage", "gAAAAABk", String(good.dropLast(4)) + "AAAA", String(repeating: "x", count: 9_000), "a b", good + "\u{E9}",
            "../../v3/users",
        ] {
            refused(try ask(service, "GET", "/volumes", token: bad), String(bad.prefix(20)))
        }
        #expect(try ask(service, "GET", "/volumes", token: good).status == 200)
        #expect(try keystone.ask("DELETE", "/auth/tokens", token: good).status == 204)
        let limit = Timestamp.monotonic() + 60
        while try ask(service, "GET", "/volumes", token: good).status == 200, Timestamp.monotonic() < limit { usleep(100_000) }
        refused(try ask(service, "GET", "/volumes", token: good), "revoked")
        #expect(!service.log.contains(good), "a token is in the log")
        #expect(!service.log.contains("clinker-secret"))
    }

    @Test("an expired token is none, unless a service that may vouches for it")
    func expired() throws {
        let service = try keystone.service()
        let expired = keystone.expiredToken
        #expect(expired.hasPrefix("gAAAA"))
        refused(try ask(service, "GET", "/volumes", token: expired), "expired")
        let nova = try keystone.token("nova", project: "service")
        #expect(try ask(service, "GET", "/volumes", token: expired, headers: [("X-Service-Token", nova)]).status == 200)
        let bob = try keystone.token("bob", project: "beta")
        let strict = try keystone.service(authtoken: "service_token_roles_required = True")
        refused(try ask(strict, "GET", "/volumes", token: expired, headers: [("X-Service-Token", bob)]), "no service's token")
        refused(try ask(service, "GET", "/volumes", token: expired, headers: [("X-Service-Token", expired)]), "vouching for itself")
        refused(try ask(service, "GET", "/volumes", token: expired), "still expired")
    }

    /// The names in an answer, at every depth; of lists the first item. What is named after a type differs between clouds.
    private func shape(_ value: JSON, _ path: String = "") -> Set<String> {
        switch value {
        case .object(let object):
            return object.members.reduce(into: []) { names, member in
                if ["volumes_", "gigabytes_", "snapshots_"].contains(where: { member.name.hasPrefix($0) }) { return }
                names.formUnion([path + "/" + member.name])
                // What is in it is the driver's.
                if member.name == "connection_info" { return }
                names.formUnion(shape(member.value, path + "/" + member.name))
            }
        case .array(let items): return items.first.map { shape($0, path + "/0") } ?? []
        default: return []
        }
    }

    @Test("each captured exchange of a real Cinder with a real Keystone: status, refusal, challenge, and what each role sees")
    func captures() throws {
        let service = try keystone.service(
            options: "quota_volumes = 100000", authtoken: "token_cache_time = 300\nservice_token_roles = service")
        let tokens = try ["root", "alice", "rita"].reduce(into: ["bad": "gAAAAABnothing"]) {
            $0[$1] = try keystone.token($1, project: "alpha")
        }
        let nova = try keystone.token("nova", project: "service")
        _ = try ask(service, "POST", "/types", token: tokens["root"], ["volume_type": ["name": "fake"]])
        var known = ["PROJECT": keystone.project("alpha"), "ffffffffffffffffffffffffffffffff": "ffffffffffffffffffffffffffffffff"]
        let types = try ask(service, "GET", "/types", token: tokens["root"]).json["volume_types"]?.array ?? []
        for type in types { known[type["name"] == "fake" ? "FAKE" : "TYPE"] = type["id"]?.string }
        for line in try ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/identity.jsonl").split(separator: "\n") {
            let entry = try JSON(parsing: String(line))
            func fill(_ text: String) -> String { known.reduce(text) { $0.replacing($1.key, with: $1.value) } }
            var headers: [(String, String)] = []
            if let user = entry["user"]?.string { headers.append(("X-Auth-Token", tokens[user] ?? "")) }
            if entry["service"] == true { headers.append(("X-Service-Token", nova)) }
            let answer = try service.request(
                entry["method"]?.string ?? "", fill(entry["path"]?.string ?? ""), version: entry["version"]?.string, headers: headers,
                body: entry["body"]?.string.map(fill))
            let told = "\(entry["name"]?.string ?? ""): \(answer.status) \(answer.text.prefix(300))"
            #expect(answer.status == Int(entry["status"]?.integer ?? 0), "\(told)")
            #expect(answer.header("WWW-Authenticate") == entry["challenge"]?.string, "\(told)")
            guard let captured = entry["answer"], captured != .null else { continue }
            if answer.status >= 400 {
                #expect(answer.json == (try JSON(parsing: fill(captured.text))), "\(told)")
            } else {
                let (ours, theirs) = (shape(answer.json), shape(captured))
                #expect(ours == theirs, "\(told): \(ours.symmetricDifference(theirs))")
            }
            if let id = answer.json["volume"]?["id"]?.string, known["VOLUME"] == nil {
                known["VOLUME"] = id
                let limit = Timestamp.monotonic() + 20
                while try ask(service, "GET", "/volumes/\(id)", token: tokens["root"]).json["volume"]?["status"] != "available",
                    Timestamp.monotonic() < limit
                { usleep(10_000) }
            }
            if let id = answer.json["attachment"]?["id"]?.string { known["ATTACHMENT"] = id }
        }
    }

    @Test("headers that claim an identity claim nothing")
    func forged() throws {
        let service = try keystone.service()
        let forged = [
            ("X-User-Id", "root"), ("X-Roles", "admin"), ("X-Role", "admin"), ("X-Project-Id", keystone.project("beta")),
            ("X-Identity-Status", "Confirmed"),
            ("X-Is-Admin-Project", "True"), ("OpenStack-System-Scope", "all"), ("X-Service-Roles", "service"),
        ]
        refused(try ask(service, "GET", "/volumes", token: nil, headers: forged), "forged")
        let alice = try keystone.token("alice", project: "alpha")
        #expect(try ask(service, "GET", "/os-services", token: alice, headers: forged).status == 403)
        #expect(try ask(service, "GET", "/volumes", token: alice, project: "beta", headers: forged).status == 400)
    }

    @Test("projects do not see each other; an administrator sees all; unscoped and system tokens belong to none")
    func tenants() throws {
        let service = try keystone.service()
        let alice = try keystone.token("alice", project: "alpha")
        let bob = try keystone.token("bob", project: "beta")
        let root = try keystone.token("root", project: "alpha")
        let made = try ask(service, "POST", "/volumes", token: alice, ["volume": ["size": 1]])
        let id = made.json["volume"]?["id"]?.string ?? ""
        #expect(made.status == 202 && made.json["volume"]?["user_id"]?.string == keystone.user("alice"))
        #expect(made.json["volume"]?["migration_status"] == nil)
        for (method, path, body) in [
            ("GET", "/volumes/\(id)", nil as JSON?), ("DELETE", "/volumes/\(id)", nil),
            ("PUT", "/volumes/\(id)", ["volume": ["name": "x"]]),
            ("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 2]]), ("GET", "/volumes/\(id)/metadata", nil),
            ("POST", "/attachments", ["attachment": ["volume_uuid": .string(id)]]),
        ] {
            let answer = try ask(service, method, path, token: bob, project: "beta", body)
            #expect(answer.status == 404, "\(method) \(path): \(answer.status) \(answer.text)")
        }
        #expect(try ask(service, "POST", "/volumes", token: bob, project: "beta", ["volume": ["source_volid": .string(id)]]).status == 404)
        for query in ["", "?all_tenants=1", "?project_id=\(keystone.project("alpha"))"] {
            let answer = try ask(service, "GET", "/volumes" + query, token: bob, project: "beta")
            #expect(answer.json["volumes"] == [] || answer.status == 400, "\(query): \(answer.text)")
        }
        let seen = try ask(service, "GET", "/volumes/detail?all_tenants=1", token: root).json["volumes"]?.array?.first
        #expect(seen?["id"]?.string == id && seen?["os-vol-host-attr:host"] != nil)
        #expect(try ask(service, "GET", "/volumes/\(id)", token: alice).json["volume"]?["os-vol-host-attr:host"] == nil)
        #expect(try ask(service, "GET", "/volumes", token: alice, project: "beta").message == "Malformed request url")
        let unscoped = try keystone.token("alice", project: nil)
        #expect(try ask(service, "GET", "/volumes", token: unscoped, project: nil).status == 403)
        let system = try keystone.token("sysadmin", project: "system")
        #expect(try ask(service, "GET", "/os-services", token: system, project: nil).status == 200)
        #expect(try ask(service, "GET", "/volumes/detail?all_tenants=1", token: system, project: nil).json["volumes"]?.array?.count == 1)
        #expect(try ask(service, "POST", "/volumes", token: system, project: nil, ["volume": ["size": 1]]).status == 400)
    }

    @Test("Keystone is asked once for a token, however many clients bring it at once, and once for one that is bad")
    func singleFlight() throws {
        let proxy = try Proxy(to: keystone.port)
        let service = try keystone.service(port: proxy.port)
        let token = try keystone.token("alice", project: "alpha")
        _ = proxy.count("")
        for (brought, status) in [(token, 200), (String(token.dropLast(4)) + "AAAA", 401)] {
            let finished = Semaphore()
            for index in 0..<24 {
                startThread("client-\(index)") {
                    #expect((try? ask(service, "GET", "/volumes", token: brought))?.status == status)
                    finished.post()
                }
            }
            for _ in 0..<24 { finished.wait() }
            #expect(proxy.count("GET /v3/auth/tokens") == 1, "\(status)")
        }
    }

    @Test("what cannot be a token is refused by its form: Keystone is not asked, beside the user's token or as it")
    func impossibleTokens() throws {
        let proxy = try Proxy(to: keystone.port)
        let service = try keystone.service(port: proxy.port)
        let token = try keystone.token("alice", project: "alpha")
        _ = proxy.count("")
        let forms: [String] = ["bad", UUID.random(), String(token.dropLast()), token + "x", "h" + String(token.dropFirst())]
        for bad in forms {
            refused(try ask(service, "GET", "/volumes", token: bad), bad)
            refused(try ask(service, "GET", "/volumes", token: bad, headers: [("X-Service-Token", bad)]), bad)
        }
        #expect(proxy.count("GET /v3/auth/tokens") == 0)
        #expect(try ask(service, "GET", "/volumes", token: token).status == 200)
    }

    @Test(
        "when Keystone is down, slow or talks nonsense, known tokens go on and others get 503, never 401 and never in",
        arguments: ["refuse", "hang", "500", "garbage", "empty"])
    func outage(kind: String) throws {
        let proxy = try Proxy(to: keystone.port)
        let service = try keystone.service(port: proxy.port, patience: 8)
        let known = try keystone.token("alice", project: "alpha")
        let unknown = try keystone.token("rita", project: "alpha")
        #expect(try ask(service, "GET", "/volumes", token: known).status == 200)
        let failures: [String: Proxy.Mode] = [
            "refuse": .refuse, "hang": .hang, "500": .answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
            "garbage": .answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>!!\n"),
            "empty": .answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ]
        proxy.set(try #require(failures[kind]))
        #expect(try ask(service, "GET", "/volumes", token: known).status == 200)
        let answer = try ask(service, "GET", "/volumes", token: unknown)
        #expect(answer.status == 503 && answer.header("Retry-After") != nil, "\(answer.status) \(answer.text)")
        #expect(try service.request("GET", "/").status == 300)
        proxy.set(.pass)
        let limit = Timestamp.monotonic() + 20
        while try ask(service, "GET", "/volumes", token: unknown).status != 200, Timestamp.monotonic() < limit { usleep(100_000) }
        #expect(try ask(service, "GET", "/volumes", token: unknown).status == 200)
    }

    @Test("an account of our own that Keystone refuses is our failure: 503 and a line in the log")
    func ownAccount() throws {
        let service = try keystone.service(authtoken: "password = wrong")
        #expect(try ask(service, "GET", "/volumes", token: try keystone.token("alice", project: "alpha")).status == 503)
        #expect(service.log.contains("Clinker's own account"))
    }

    @Test("several URLs: the one that answers is asked; https with an unknown certificate is not believed")
    func urls() throws {
        let dead = try Loopback.freePort()
        let service = try keystone.service(urls: "http://127.0.0.1:\(dead), http://127.0.0.1:\(keystone.port)/v3/")
        let token = try keystone.token("alice", project: "alpha")
        #expect(try ask(service, "GET", "/volumes", token: token).status == 200)
        let tls = try TLSServer()
        let distrusted = try keystone.service(urls: "https://127.0.0.1:\(tls.port)")
        #expect(try ask(distrusted, "GET", "/volumes", token: token).status == 503)
        #expect(distrusted.log.contains("ertificate") || distrusted.log.contains("SSL"), "\(distrusted.log.suffix(1000))")
    }

    @Test("an application credential serves as Clinker's own account")
    func applicationCredential() throws {
        let mine = try keystone.token("clinker", project: "service")
        let made = try keystone.ask(
            "POST", "/users/\(keystone.user("clinker"))/application_credentials",
            ["application_credential": ["name": .string(UUID.random()), "secret": "of-the-application"]], token: mine)
        let id = made.json["application_credential"]?["id"]?.string ?? ""
        #expect(made.status == 201, "\(made.text)")
        let service = try keystone.service(
            authtoken:
                "auth_type = v3applicationcredential\napplication_credential_id = \(id)\napplication_credential_secret = of-the-application"
        )
        #expect(try ask(service, "GET", "/volumes", token: try keystone.token("rita", project: "alpha")).status == 200)
    }

    @Test("a service's token beside the user's: good ones count, bad ones are refused, and roles are asked for where they must be")
    func serviceTokens() throws {
        let service = try keystone.service(authtoken: "service_token_roles = service\nservice_token_roles_required = True")
        let alice = try keystone.token("alice", project: "alpha")
        func with(_ token: String) throws -> Int {
            try ask(service, "GET", "/volumes", token: alice, headers: [("X-Service-Token", token)]).status
        }
        #expect(try with(try keystone.token("nova", project: "service")) == 200)
        #expect(try with(try keystone.token("rita", project: "alpha")) == 401)
        #expect(try with("garbage") == 401)
    }

    @Test("users of a file: names and passwords of http_basic, with projects and roles; the file is read again")
    func basic() async throws {
        let directory = temporaryDirectory("users")
        let file = directory + "/users"
        func line(_ name: String, _ password: String, _ project: String, _ roles: String) async throws -> String {
            let (_, output) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "5", name, password])
            return output.trimmingPrefix { $0.isNewline }.prefix { !$0.isNewline } + ":\(project):\(roles)\n"
        }
        let beta = "0123456789abcdef0123456789abcde0"
        var users = try await [
            line("root", "r00t", ServiceUnderTest.project, "admin"), line("alice", "pass:word", ServiceUnderTest.project, "member"),
            line("bob", "b0b", beta, "reader"),
        ]
        // As editors of other systems end lines.
        try ServiceUnderTest.write(file, ("# users\n" + users.joined()).replacing("\n", with: "\r\n"))
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(file)")
        func ask(_ method: String, _ path: String, _ credentials: String?, project: String = ServiceUnderTest.project, _ body: JSON? = nil)
            throws
            -> ServiceUnderTest.Answer
        {
            try service.request(
                method, "/v3/\(project)\(path)", headers: credentials.map { [("Authorization", "Basic " + Self.base64($0))] } ?? [],
                body: body?.text)
        }
        #expect(try ask("GET", "/volumes", "alice:pass:word").status == 200)
        #expect(try ask("POST", "/volumes", "alice:pass:word", ["volume": ["size": 1]]).status == 202)
        #expect(try ask("GET", "/os-services", "alice:pass:word").status == 403)
        #expect(try ask("GET", "/os-services", "root:r00t").status == 200)
        #expect(try ask("GET", "/volumes", "bob:b0b", project: beta).json["volumes"] == [])
        #expect(try ask("POST", "/volumes", "bob:b0b", project: beta, ["volume": ["size": 1]]).status == 403)
        #expect(try ask("GET", "/volumes", "bob:b0b").status == 400)
        for wrong in ["alice:wrong", "alice:", "alice", "nobody:x", ":", "", "alice:pass:word\u{0}", String(repeating: "x", count: 2000)] {
            let answer = try ask("GET", "/volumes", wrong)
            #expect(
                answer.status == 401 && answer.header("WWW-Authenticate") == "Basic realm=\"Block Storage\", charset=\"UTF-8\"",
                "\(wrong.prefix(20))")
        }
        #expect(try service.request("GET", "/v3/\(beta)/volumes", headers: [("Authorization", "Basic ????")]).status == 401)
        #expect(try service.request("GET", "/v3/\(beta)/volumes", headers: [("Authorization", "Bearer x")]).status == 401)
        // A role that is taken away is away, though the password is known; a user that is taken out is out; a broken file changes nothing.
        let demoted = users[0].replacing(":admin", with: ":reader")
        try ServiceUnderTest.write(file, demoted)
        var limit = Timestamp.monotonic() + 60
        while try ask("GET", "/os-services", "root:r00t").status != 403, Timestamp.monotonic() < limit { usleep(100_000) }
        #expect(try ask("GET", "/os-services", "root:r00t").status == 403)
        users[0] = demoted
        try ServiceUnderTest.write(file, users[0])
        limit = Timestamp.monotonic() + 60
        while try ask("GET", "/volumes", "alice:pass:word").status != 401, Timestamp.monotonic() < limit { usleep(100_000) }
        #expect(try ask("GET", "/volumes", "alice:pass:word").status == 401)
        try ServiceUnderTest.write(file, "nonsense\n")
        limit = Timestamp.monotonic() + 60
        while !service.log.contains("users not read again"), Timestamp.monotonic() < limit { usleep(100_000) }
        #expect(try ask("GET", "/volumes", "root:r00t").status == 200)
        #expect(!service.log.contains("r00t") && !service.log.contains("pass:word"))
    }

    @Test("a burst of logins does not keep a right one waiting: those who left cost nothing, of those who stay the last is first")
    func burst() async throws {
        let directory = temporaryDirectory("users")
        let (_, output) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "11", "alice", "secret"])
        let line = output.trimmingPrefix { $0.isNewline }.prefix { !$0.isNewline } + ":\(ServiceUnderTest.project):member\n"
        try ServiceUnderTest.write(directory + "/users", String(line))
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(directory)/users")
        func begin(_ name: String) throws -> Int32 {
            let socket = try Loopback.connect(UInt16(service.port))
            let text =
                "GET /v3/\(ServiceUnderTest.project)/volumes HTTP/1.1\r\nHost: h\r\nAuthorization: Basic \(Self.base64(name + ":x"))\r\n\r\n"
            _ = text.withCString { write(socket, $0, strlen($0)) }
            return socket
        }
        for index in 0..<200 { close(try begin("left-\(index)")) }
        let waiting = try (0..<30).map { try begin("stayed-\($0)") }
        defer { for socket in waiting { close(socket) } }
        let answer = try service.request(
            "GET", "/v3/\(ServiceUnderTest.project)/volumes", headers: [("Authorization", "Basic " + Self.base64("alice:secret"))])
        #expect(answer.status == 200, "\(answer.text)")
        var answered = 0
        for socket in waiting {
            var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            answered += Int(poll(&entry, 1, 0))
        }
        #expect(answered < waiting.count / 2, "\(answered) wrong logins were answered before the right one")
        // More than may wait are told so, and when to come again.
        let crowd = try (0..<100).map { try begin("crowd-\($0)") }
        defer { for socket in crowd { close(socket) } }
        var refusals = 0
        for socket in crowd.prefix(20) {
            var bytes = [UInt8](repeating: 0, count: 2000)
            let count = recv(socket, &bytes, bytes.count, 0)
            let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
            if text.hasPrefix("HTTP/1.1 503"), text.contains("Retry-After: 1") { refusals += 1 }
        }
        #expect(refusals > 0)
    }

    @Test("a right login goes before those of names that nobody has, and of one name, however many addresses these come from")
    func manyAddresses() async throws {
        let directory = temporaryDirectory("users")
        var lines = ""
        for name in ["alice", "bob"] {
            let (_, output) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "11", name, "secret"])
            lines += output.trimmingPrefix { $0.isNewline }.prefix { !$0.isNewline } + ":\(ServiceUnderTest.project):member\n"
        }
        try ServiceUnderTest.write(directory + "/users", lines)
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(directory)/users")
        func begin(_ login: String, from address: UInt8) throws -> Int32 {
            let socket = try Loopback.connect(UInt16(service.port), from: address)
            let text =
                "GET /v3/\(ServiceUnderTest.project)/volumes HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic \(Self.base64(login))\r\n\r\n"
            Loopback.send(socket, Array(text.utf8))
            return socket
        }
        func answered(_ sockets: [Int32]) -> Int {
            sockets.count { socket in
                var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
                return poll(&entry, 1, 0) > 0
            }
        }
        // Guesses at one user's password, and names that there are not.
        let waiting = try (0..<100).map { try begin($0 % 5 == 0 ? "bob:guess-\($0)" : "nobody-\($0):x", from: UInt8(2 + $0)) }
        defer { for socket in waiting { close(socket) } }
        let right = try begin("alice:secret", from: 200)
        defer { close(right) }
        let answer = try ServiceUnderTest.parse(Loopback.receive(right, silence: 60_000).bytes)
        #expect(answer.status == 200, "\(answer.text)")
        // What ran when it came, and turns of the other name.
        #expect(answered(waiting) < waiting.count / 4, "\(answered(waiting)) wrong logins were answered before the right one")
        // From where a user logged in before, guesses at his own password keep him from nothing.
        try await Self.changePassword(of: "alice", to: "other", in: directory + "/users", of: service)
        let more = try (0..<40).map { try begin("alice:guess-\($0)", from: UInt8(2 + $0)) }
        defer { for socket in more { close(socket) } }
        let again = try begin("alice:other", from: 200)
        defer { close(again) }
        let second = try ServiceUnderTest.parse(Loopback.receive(again, silence: 60_000).bytes)
        #expect(second.status == 200, "\(second.text)")
        #expect(answered(more) < more.count / 2, "\(answered(more)) guesses were answered before the right one")
    }

    @Test("a stream of events ends when its user may not follow it any more: user gone, role gone, by a ticket too")
    func streamsOfUsers() async throws {
        let directory = temporaryDirectory("users")
        let file = directory + "/users"
        var lines: [String: String] = [:]
        for name in ["alice", "bob", "carol"] {
            let (_, output) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "5", name, "secret"])
            lines[name] = output.trimmingPrefix { $0.isNewline }.prefix { !$0.isNewline } + ":\(ServiceUnderTest.project):member\n"
        }
        try ServiceUnderTest.write(file, lines.values.joined())
        let service = try ServiceUnderTest(auth: "http_basic", options: "http_basic_auth_user_file = \(file)")
        let events = "/v3/\(ServiceUnderTest.project)/events"
        func header(_ name: String) -> String { "Authorization: Basic \(Self.base64(name + ":secret"))" }
        func ticket(_ name: String) throws -> String {
            let answer = try service.request(
                "POST", events + "/tickets", headers: [("Authorization", "Basic " + Self.base64(name + ":secret"))])
            return try #require(answer.json["ticket"]?["id"]?.string)
        }
        let follower = try OperationTests.Follower(service, events, headers: [header("alice")])
        let byTicket = try OperationTests.Follower(service, events + "?ticket=" + ticket("bob"))
        let unused = try ticket("bob")
        let staying = try OperationTests.Follower(service, events, headers: [header("carol")])
        #expect(follower.head.hasPrefix("HTTP/1.1 200") && byTicket.head.hasPrefix("HTTP/1.1 200"))
        // Alice is gone, and Bob has no role any more.
        try ServiceUnderTest.write(file, (lines["carol"] ?? "") + (lines["bob"] ?? "").replacing(":member", with: ":"))
        #expect(follower.ends() && byTicket.ends())
        #expect(try service.request("GET", events + "?ticket=" + unused).status == 401)
        let made = try service.request(
            "POST", "/v3/\(ServiceUnderTest.project)/volumes", headers: [("Authorization", "Basic " + Self.base64("carol:secret"))],
            body: #"{"volume": {"size": 1}}"#)
        #expect(made.status == 202)
        #expect(try staying.next("operation.accepted")["resource_id"]?.string == made.json["volume"]?["id"]?.string)
    }

    @Test("a stream of events ends when Keystone does not know its token any more")
    func streamOfToken() throws {
        let service = try keystone.service(authtoken: "token_cache_time = 1")
        let token = try keystone.token("alice", project: "alpha")
        let other = try keystone.token("bob", project: "beta")
        let follower = try OperationTests.Follower(
            service, "/v3/\(keystone.project("alpha"))/events", headers: ["X-Auth-Token: \(token)"])
        let staying = try OperationTests.Follower(
            service, "/v3/\(keystone.project("beta"))/events", headers: ["X-Auth-Token: \(other)"])
        #expect(follower.head.hasPrefix("HTTP/1.1 200") && staying.head.hasPrefix("HTTP/1.1 200"))
        #expect(try keystone.ask("DELETE", "/auth/tokens", token: token).status == 204)
        #expect(follower.ends())
        #expect(try ask(service, "POST", "/volumes", token: other, project: "beta", ["volume": ["size": 1]]).status == 202)
        #expect(try staying.next("operation.accepted")["kind"]?.string == "operation.accepted")
    }

    /// Returns when the service has read the file again.
    private static func changePassword(of name: String, to password: String, in file: String, of service: ServiceUnderTest) async throws {
        let (_, output) = try await ServiceUnderTest.run("/usr/bin/htpasswd", ["-nbB", "-C", "11", name, password])
        let line = output.trimmingPrefix { $0.isNewline }.prefix { !$0.isNewline } + ":\(ServiceUnderTest.project):member\n"
        let others = try ServiceUnderTest.read(file).split(separator: "\n").filter { !$0.hasPrefix(name + ":") }.joined(separator: "\n")
        try ServiceUnderTest.write(file, others + "\n" + line)
        let limit = Timestamp.monotonic() + 60
        while !service.log.contains("users read again"), Timestamp.monotonic() < limit { usleep(50_000) }
        #expect(service.log.contains("users read again"))
    }

    static func base64(_ text: String) -> String {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        let bytes = Array(text.utf8)
        var result = ""
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let piece = bytes[start..<min(start + 3, bytes.count)]
            let bits = piece.reduce(0) { $0 << 8 | Int($1) } << (8 * (3 - piece.count))
            for index in 0..<4 { result.append(index <= piece.count ? digits[bits >> (18 - 6 * index) & 63] : "=") }
        }
        return result
    }

    @Test("policies of a file count at once when it changes; a broken file is refused at the start and an error later")
    func policyFile() throws {
        let file = temporaryDirectory("policy") + "/policy.yaml"
        try ServiceUnderTest.write(file, "\"volume:create\": \"role:reader\"\n")
        let service = try keystone.service(sections: "[oslo_policy]\npolicy_file = \(file)")
        let rita = try keystone.token("rita", project: "alpha")
        #expect(try ask(service, "POST", "/volumes", token: rita, ["volume": ["size": 1]]).status == 202)
        try ServiceUnderTest.write(file, "\"volume:create\": \"role:admin\"\n")
        var limit = Timestamp.monotonic() + 60
        while try ask(service, "POST", "/volumes", token: rita, ["volume": ["size": 1]]).status != 403, Timestamp.monotonic() < limit {
            usleep(100_000)
        }
        #expect(
            try ask(service, "POST", "/volumes", token: rita, ["volume": ["size": 1]]).message
                == "Policy doesn't allow volume:create to be performed.")
        try ServiceUnderTest.write(file, "\"volume:create\": \"role:admin or\"\n")
        limit = Timestamp.monotonic() + 60
        while !service.log.contains("policies not read again"), Timestamp.monotonic() < limit { usleep(100_000) }
        #expect(service.log.contains("rule volume:create: it ends too early"))
        #expect(try ask(service, "POST", "/volumes", token: rita, ["volume": ["size": 1]]).status == 403)
        #expect(service.stop() == 0)
        try service.launch()
        #expect(service.waitForEnd() == 78)
    }
}

/// A server that shows a certificate nobody signed.
final class TLSServer {
    let port: UInt16
    private let pid: pid_t

    init() throws {
        let directory = temporaryDirectory("tls")
        port = try Loopback.freePort()
        let made = reap(
            try spawn(
                "/usr/bin/openssl",
                [
                    "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", directory + "/key", "-out", directory + "/cert", "-days",
                    "1", "-subj", "/CN=127.0.0.1",
                ],
                descriptors: []))
        #expect(made == 0)
        pid = try spawn(
            "/usr/bin/openssl",
            ["s_server", "-quiet", "-www", "-accept", "\(port)", "-key", directory + "/key", "-cert", directory + "/cert"], descriptors: [])
        usleep(300_000)
    }

    deinit {
        kill(pid, SIGKILL)
        reap(pid)
    }
}
