import DriverHost
import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The stores of S3 and Swift on real servers, behind a proxy that does what networks and servers do.
@Suite("Stores behind HTTP when things fail", .serialized)
struct ObjectServerFaultTests {
    enum Kind: String, CaseIterable, Sendable { case s3, swift }

    private static func plugin(_ kind: Kind) -> String {
        ServiceUnderTest.binary.dropLast("clinker".count) + (kind == .s3 ? "libClinkerBackupS3.so" : "libClinkerBackupSwift.so")
    }

    /// A store that reaches its server through a proxy of its own.
    private final class Bench: Sendable {
        let proxy: HTTPFaultProxy
        let store: Store
        let home = "fault-" + UUID.random() + "/"
        let log = Guarded<[String]>([])

        init(_ kind: Kind, _ more: [String: String] = [:]) throws {
            let server = try kind == .s3 ? StorageUnderTest.moto.get() : StorageUnderTest.swift.get()
            proxy = try HTTPFaultProxy(to: UInt16(server.port))
            let section =
                try kind == .s3
                ? StorageUnderTest.s3Section(port: Int(proxy.port)) : StorageUnderTest.swiftSection(port: server.port)
            var options: [String: String] = ["state_dir": temporaryDirectory("fault")]
            for line in section.split(separator: "\n") {
                let parts = line.split(separator: "=", maxSplits: 1).map { $0.filter { $0 != " " } }
                options[parts[0]] = parts[1]
            }
            if kind == .swift { options["backup_swift_auth_url"] = "http://127.0.0.1:\(proxy.port)/auth/v1.0" }
            options["backup_swift_retry_backoff"] = "0"
            for (name, value) in more { options[name] = value }
            let log = log
            store = try Store(
                StorePlugin(path: ObjectServerFaultTests.plugin(kind)),
                options: .object(options.map { DriverValue.Member($0.key, .string($0.value)) })
            ) { _, line in log.withLock { $0.append(line) } }
        }

        func put(_ name: String, _ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try store.put(home + name, [$0]) } }

        func get(_ name: String, at offset: UInt64 = 0, count: Int) throws -> [UInt8] {
            var bytes = [UInt8](repeating: 0xA5, count: count)
            let found = try bytes.withUnsafeMutableBytes { try store.get(home + name, at: offset, into: $0) }
            return Array(bytes[..<found])
        }

        func names() throws -> [String] {
            var names: [String] = []
            try store.list(home, after: "") { object in
                names.append(String(object.name.dropFirst(home.count)))
                return true
            }
            return names
        }
    }

    private func bytes(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
        var random = Seeded(seed)
        var bytes: [UInt8] = []
        while bytes.count < count { withUnsafeBytes(of: random.next()) { bytes += $0 } }
        return Array(bytes.prefix(count))
    }

    private static let passing: [(words: String, fault: HTTPFaultProxy.Fault)] = [
        ("429", .answer(status: 429, headers: ["Retry-After: 0"], body: "")), ("500", .answer(status: 500, headers: [], body: "")),
        ("503", .answer(status: 503, headers: [], body: "<Error><Code>SlowDown</Code></Error>")), ("a reset", .reset),
        ("a lost answer", .loseAnswer), ("a cut answer", .cut), ("a hang", .hang(4)),
    ]

    @Test("trouble that passes is repeated, and what comes back is what was put", arguments: Kind.allCases)
    func passing(kind: Kind) throws {
        // Swift's proxy names the servers itself: what the token's answer gives leads past ours. Its URL is passed on as it is.
        let bench = try Bench(kind, ["backup_s3_timeout": "1", "backup_swift_timeout": "1"])
        let data = bytes(300_000)
        for (words, fault) in Self.passing {
            var methods = ["PUT", "GET", "HEAD", "DELETE"]
            if case .hang = fault { methods.removeLast(2) }
            for method in methods {
                try bench.put("object", data)
                bench.proxy.set(.init(method, "fault-", fault))
                switch method {
                case "PUT": try bench.put("object", data)
                case "GET":
                    #expect(try bench.get("object", at: 1000, count: 200_000) == Array(data[1000..<201_000]), "\(words) of \(method)")
                case "HEAD": #expect(try bench.store.object(bench.home + "object")?.size == 300_000, "\(words) of \(method)")
                default: try bench.store.remove([bench.home + "object"])
                }
                #expect(bench.proxy.hits == 1, "\(words) of \(method) was not met")
                bench.proxy.set()
                if method == "DELETE" {
                    #expect(try bench.store.object(bench.home + "object") == nil, "\(words) of \(method)")
                } else {
                    #expect(try bench.get("object", count: 400_000) == data, "\(words) of \(method)")
                }
            }
            try bench.put("a", data)
            try bench.put("b", data)
            bench.proxy.set(.init("GET", "prefix=fault-", fault))
            #expect(try bench.names().filter { $0 != "object" } == ["a", "b"], "\(words) of a list")
            #expect(bench.proxy.hits == 1, "\(words) of a list was not met")
            bench.proxy.set()
            try bench.store.remove(["a", "b", "object"].map { bench.home + $0 })
        }
    }

    @Test("trouble that does not pass is RETRY and names what was asked for", arguments: Kind.allCases)
    func lasting(kind: Kind) throws {
        let bench = try Bench(kind, ["backup_s3_retry_max_attempts": "1", "backup_swift_retry_attempts": "1"])
        try bench.put("object", [1])
        bench.proxy.set(.init("GET", "fault-", .answer(status: 503, headers: [], body: ""), times: 2))
        #expect { _ = try bench.get("object", count: 10) } throws: {
            ($0 as? DriverFailure)?.code == .retry && "\($0)".contains("/object: the server answers 503")
        }
        #expect(bench.proxy.hits == 2)
        #expect(bench.log.withLock { $0.contains { $0.contains("attempt 2 of 2") } })
    }

    @Test("a server that refuses is BAD_CONFIGURATION, is asked no more, and no secret is told", arguments: Kind.allCases)
    func refused(kind: Kind) throws {
        let bench = try Bench(kind)
        bench.proxy.set(
            .init(
                "PUT", "",
                .answer(
                    status: 403, headers: [], body: "<Error><Code>AccessDenied</Code><Message>key testing of test:tester</Message></Error>"),
                times: 9))
        #expect { try bench.put("object", [1]) } throws: {
            ($0 as? DriverFailure)?.code == .badConfiguration && "\($0)".contains("403") && !"\($0)".contains("testing")
        }
        #expect(bench.proxy.hits == 1)
        #expect(!bench.log.withLock { $0.contains { $0.contains("testing") } })
    }

    @Test("a put that was acknowledged and lost is found missing, never taken for there", arguments: Kind.allCases)
    func lostPut(kind: Kind) throws {
        let bench = try Bench(kind, ["backup_s3_retry_max_attempts": "0", "backup_swift_retry_attempts": "0"])
        bench.proxy.set(.init("PUT", "fault-", .lose))
        // Swift's tag of what was stored is missing: it is told at once. S3's may be.
        if kind == .swift {
            #expect { try bench.put("object", [1, 2, 3]) } throws: { "\($0)".contains("the server has other bytes than were sent") }
        } else {
            try bench.put("object", [1, 2, 3])
        }
        bench.proxy.set()
        #expect { _ = try bench.get("object", count: 10) } throws: { ($0 as? DriverFailure)?.code == .notFound }
        #expect(try bench.store.object(bench.home + "object") == nil)
    }

    @Test("an object of many parts whose answers are lost is whole; one that is given up leaves no part", arguments: Kind.allCases)
    func parts(kind: Kind) throws {
        let bench = try Bench(kind)
        let data = bytes(40 << 20, seed: 2)
        func write(_ name: String, commit: Bool) throws {
            let writer = try bench.store.write(bench.home + name)
            for start in stride(from: 0, to: data.count, by: 3 << 20) {
                try data[start..<min(start + 3 << 20, data.count)].withUnsafeBytes { try writer.append($0) }
            }
            if commit { try writer.commit() } else { writer.abandon() }
        }
        for (method, target) in kind == .s3
            ? [("POST", "uploads"), ("PUT", "partNumber=2"), ("POST", "uploadId")] : [("PUT", "segments"), ("PUT", "manifest")]
        {
            bench.proxy.set(.init(method, target, .loseAnswer))
            try write("large", commit: true)
            #expect(bench.proxy.hits == 1, "\(target)")
            bench.proxy.set()
            #expect(try bench.get("large", count: data.count + 1) == data, "\(target)")
            #expect(try bench.get("large", at: (16 << 20) - 5, count: 10) == Array(data[(16 << 20) - 5..<(16 << 20) + 5]))
            #expect(try bench.names() == ["large"])
            try bench.store.remove([bench.home + "large"])
        }
        bench.proxy.set()
        try write("other", commit: false)
        #expect(try bench.names() == [] && bench.store.object(bench.home + "other") == nil)
        let heads = bench.proxy.heads.map { $0.prefix { $0 != "\r\n" } }
        // A token that has ended meanwhile has one sent again.
        let sent = Set(heads.filter { $0.hasPrefix("PUT") }).count
        #expect(heads.filter { $0.hasPrefix("DELETE") }.count == (kind == .s3 ? 1 : sent), "\(heads)")
    }

    @Test("an object that is replaced while it is read is read whole, all of one", arguments: Kind.allCases)
    func replaced(kind: Kind) throws {
        let bench = try Bench(kind)
        let (old, new) = (bytes(400_000, seed: 3), bytes(400_000, seed: 4))
        try bench.put("object", old)
        // The first half of the old one comes; behind the proxy's back it is replaced.
        bench.proxy.set(.init("GET", "fault-", .cut), .init("GET", "fault-", .answer(status: 503, headers: ["Retry-After: 1"], body: "")))
        let done = Guarded(false)
        let ended = Semaphore()
        startThread("replacer") {
            while bench.proxy.hits == 0 { usleep(1000) }
            try? bench.put("object", new)
            done.withLock { $0 = true }
            ended.post()
        }
        let found = try bench.get("object", count: 400_000)
        ended.wait()
        #expect(done.withLock { $0 } && (found == new || found == old))
    }

    @Test("a bucket or container that is gone is not an object that is not there", arguments: Kind.allCases)
    func gone(kind: Kind) throws {
        let bench = try Bench(kind, ["backup_s3_store_bucket": "short-lived", "backup_swift_container": "short-lived"])
        // The proxy lets the store's own credentials remove it.
        bench.proxy.set(
            .init("GET", "", .answer(status: 404, headers: [], body: "<Error><Code>NoSuchBucket</Code></Error>"), times: 9),
            .init("HEAD", "", .answer(status: 404, headers: [], body: ""), times: 9))
        func code(_ body: () throws -> Void) -> DriverFailure.Code? {
            do { try body() } catch { return (error as? DriverFailure)?.code }
            return nil
        }
        #expect(code { _ = try bench.get("object", count: 10) } == .badConfiguration)
        #expect(code { _ = try bench.store.object(bench.home + "object") } == .badConfiguration)
        #expect(code { _ = try bench.names() } == .badConfiguration)
        #expect(code { _ = try bench.store.stats() } == .badConfiguration)
    }
}

extension ObjectServerFaultTests {
    @Test("parts that a dead writer left are removed a day later; another program's upload to the same bucket stays")
    func leftUploads() async throws {
        let state = temporaryDirectory("uploads")
        let bench = try Bench(.s3, ["state_dir": state])
        // It dies: nobody ends it.
        let writer = Unmanaged.passRetained(try bench.store.write(bench.home + "left"))
        try bytes(10 << 20).withUnsafeBytes { try writer.takeUnretainedValue().append($0) }
        let url = "http://127.0.0.1:\(try StorageUnderTest.moto.get().port)/backups"
        func uploads() async throws -> [String] {
            let said = try await ServiceUnderTest.run("/usr/bin/curl", ["-s", "-m", "10", "-H", Self.anybody, url + "?uploads"]).output
            return said.split(separator: "<Key>").dropFirst().map { String($0.prefix { $0 != "<" }) }
        }
        let begun = try await ServiceUnderTest.run(
            "/usr/bin/curl", ["-s", "-m", "10", "-X", "POST", "-H", Self.anybody, "\(url)/\(bench.home)strange?uploads"])
        #expect(begun.output.contains("UploadId"), "\(begun.output)")
        #expect(try await uploads().filter { $0.hasPrefix(bench.home) } == ["left", "strange"].map { bench.home + $0 })
        _ = try Bench(.s3, ["state_dir": state])
        #expect(try await uploads().contains(bench.home + "left"))
        for note in ServiceUnderTest.entries(state + "/uploads") {
            let old = [timespec(tv_sec: time(nil) - 90_000, tv_nsec: 0), timespec(tv_sec: time(nil) - 90_000, tv_nsec: 0)]
            #expect(utimensat(AT_FDCWD, state + "/uploads/" + note, old, 0) == 0)
        }
        _ = try Bench(.s3, ["state_dir": state])
        #expect(try await uploads().filter { $0.hasPrefix(bench.home) } == [bench.home + "strange"])
        #expect(ServiceUnderTest.entries(state + "/uploads").isEmpty)
    }

    /// moto verifies no signature.
    private static let anybody =
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20261130/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"

    @Test("a clock that is an hour off is set by the server's, once")
    func skew() throws {
        let bench = try Bench(.s3)
        let ahead = time(nil) + 3600
        var parts = tm()
        var moment = ahead
        gmtime_r(&moment, &parts)
        var text = [CChar](repeating: 0, count: 64)
        strftime(&text, 64, "%a, %d %b %Y %H:%M:%S GMT", &parts)
        let date = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        bench.proxy.set(
            .init(
                "PUT", "", .answer(status: 403, headers: ["Date: \(date)"], body: "<Error><Code>RequestTimeTooSkewed</Code></Error>")))
        try bench.put("object", [1, 2, 3])
        let signed = bench.proxy.heads.compactMap { head in
            head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("x-amz-date:") }.map { String($0.suffix(16)) }
        }
        #expect(signed.count == 2 && signed[0] < signed[1])
        strftime(&text, 64, "%Y%m%dT%H", &parts)
        #expect(signed.last?.hasPrefix(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)) == true)
    }

    @Test("a server that does not answer costs a removal of many objects no more than one of them")
    func silence() throws {
        let bench = try Bench(.swift, ["backup_swift_retry_attempts": "2"])
        let names = (0..<20).map { bench.home + "object-\($0)" }
        for name in names { try [UInt8](repeating: 1, count: 3).withUnsafeBytes { try bench.store.put(name, [$0]) } }
        bench.proxy.set(.init("DELETE", "fault-", .reset, times: 1000), .init("HEAD", "fault-", .reset, times: 1000))
        #expect { try bench.store.remove(names) } throws: { ($0 as? DriverFailure)?.code == .retry }
        // libcurl itself asks once more where a connection that was used before breaks.
        #expect((3...4).contains(bench.proxy.hits))
        // One that answers that it cannot is asked for each.
        bench.proxy.set(.init("DELETE", "fault-", .answer(status: 503, headers: [], body: ""), times: 1000))
        #expect { try bench.store.remove(names) } throws: { ($0 as? DriverFailure)?.code == .retry }
        #expect(bench.proxy.hits == 3 + names.count - 1)
        bench.proxy.set()
        try bench.store.remove(names)
        #expect(try bench.names() == [])
    }

    @Test("a copy of a large object that somebody makes in Swift is removed without what the object is made of")
    func copies() async throws {
        let bench = try Bench(.swift)
        let data = bytes(20 << 20, seed: 9)
        let writer = try bench.store.write(bench.home + "large")
        try data.withUnsafeBytes { try writer.append($0) }
        try writer.commit()
        let port = try StorageUnderTest.swift.get().port
        func curl(_ arguments: [String]) async throws -> String {
            try await ServiceUnderTest.run("/usr/bin/curl", ["-s", "-i", "-m", "60"] + arguments).output
        }
        func header(_ name: String, in answer: String) throws -> String {
            let line = answer.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name + ":") }
            return try #require(line).dropFirst(name.utf8.count + 1).filter { $0 != " " }
        }
        // A token does not live long here.
        func ask(_ path: String, _ arguments: [String] = []) async throws -> String {
            let keys = ["-H", "X-Auth-User: test:tester", "-H", "X-Auth-Key: testing"]
            let access = try await curl(keys + ["http://127.0.0.1:\(port)/auth/v1.0"])
            let url = try header("x-storage-url", in: access)
            return try await curl(arguments + ["-H", "X-Auth-Token: \(header("x-auth-token", in: access))", "\(url)/backups\(path)"])
        }
        let head = try await ask("/\(bench.home)large", ["-I"])
        let segments = ".clinker-segments/" + (try header("x-object-meta-clinker-segments", in: head)) + "/"
        func left() async throws -> Bool {
            try await ask("?prefix=\(segments)").contains("\n" + segments)
        }
        #expect(try await left())
        // Its bytes, with its headers; and another manifest of the same segments.
        for (name, query) in [("bytes", ""), ("manifest", "?multipart-manifest=get")] {
            let made = try await ask("/\(bench.home)large\(query)", ["-X", "COPY", "-H", "Destination: backups/\(bench.home)\(name)"])
            #expect(made.contains(" 201 "), "\(made)")
            #expect(try bench.get(name, count: data.count + 1) == data, "\(name)")
            try bench.store.remove([bench.home + name])
            #expect(try bench.get("large", count: data.count + 1) == data, "\(name)")
        }
        try bench.store.remove([bench.home + "large"])
        #expect(try await !left())
    }

    @Test("a token that ends in the middle is asked for again, once")
    func token() throws {
        let bench = try Bench(.swift)
        try bench.put("object", [1])
        bench.proxy.set(.init("PUT", "fault-", .answer(status: 401, headers: [], body: "")))
        try bench.put("object", [2, 3])
        #expect(bench.proxy.heads.filter { $0.hasPrefix("GET /auth/v1.0") }.count == 1)
        #expect(try bench.get("object", count: 10) == [2, 3])
        bench.proxy.set(.init("PUT", "fault-", .answer(status: 401, headers: [], body: ""), times: 9))
        #expect { try bench.put("object", [4]) } throws: { ($0 as? DriverFailure)?.code == .badConfiguration }
    }

    @Test(
        "options that cannot be honoured are refused by their names",
        arguments: [
            (Kind.s3, ["backup_s3_endpoint_url": ""], "backup_s3_endpoint_url is not set"),
            (.s3, ["backup_s3_store_secret_key": ""], "backup_s3_store_secret_key is not set"),
            (.s3, ["backup_s3_sse_customer_algorithm": "AES256"], "must be set together"),
            (.s3, ["backup_s3_object_size": "100000"], "must be a multiple of backup_s3_block_size"),
            (.s3, ["backup_s3_ca_cert_file": "/none"], "backup_s3_ca_cert_file: /none cannot be read"),
            (.s3, ["backup_s3_store_bucket": "not-there", "backup_create_containers": "false"], "there is no bucket not-there"),
            (.s3, ["backup_s3_addressing_style": "virtual"], "needs an endpoint with a name"),
            (.swift, ["backup_swift_auth": "per_user"], "needs the token of the user who asks"),
            (.swift, ["backup_swift_key": "wrong"], "the authentication answers 401 to user test:tester"),
            (.swift, ["backup_swift_auth_version": "3"], "backup_swift_project is not set"),
            (.swift, ["backup_swift_container": "a/b"], "must be a name without slashes"),
        ] as [(Kind, [String: String], String)])
    func refusals(kind: Kind, options: [String: String], words: String) {
        #expect { _ = try Bench(kind, options) } throws: {
            ($0 as? DriverFailure)?.code == .badConfiguration && "\($0)".contains(words)
        }
    }
}
