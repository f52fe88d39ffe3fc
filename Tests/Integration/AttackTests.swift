import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// What hostile, broken and half-dead clients send. The answer is right or the connection is closed, never a 5xx, never
/// silence, and the next client is served at once.
@Suite("HTTP under attack", .serialized)
struct AttackTests {
    private static let project = ServiceUnderTest.project

    /// Bytes on a connection of their own, and what may come back.
    struct Attack: Sendable {
        enum Outcome: Sendable {
            /// One of these statuses.
            case status(Set<Int>)
            /// A 4xx, or the end of the connection without an answer.
            case refused
            /// As many answers of 2xx to 4xx.
            case answers(Int)
            /// As many, of which the last ends the connection though the client would go on.
            case pipelined(Int)
            /// Served or refused.
            case either
        }
        let name: String
        let bytes: [UInt8]
        let outcome: Outcome

        init(_ name: String, _ text: String, _ outcome: Outcome) {
            self.init(name, Array(text.utf8), outcome)
        }
        init(_ name: String, _ bytes: [UInt8], _ outcome: Outcome) {
            self.name = name
            self.bytes = bytes
            self.outcome = outcome
        }
    }

    /// Statuses of the answers on a connection, and whether it ended within five seconds of silence.
    private static func send(_ service: ServiceUnderTest, _ bytes: [UInt8], halfClosing: Bool) throws
        -> (statuses: [Int], text: String, isClosed: Bool)
    {
        let descriptor = try Loopback.connect(UInt16(service.port))
        defer { close(descriptor) }
        Loopback.send(descriptor, bytes)
        // Nothing more will come: a server that waits for more must give up now.
        if halfClosing { shutdown(descriptor, Int32(SHUT_WR)) }
        let (answer, isClosed) = Loopback.receive(descriptor, silence: 5_000)
        let text = String(decoding: answer, as: UTF8.self)
        let statuses = text.ranges(of: "HTTP/1.1 ").compactMap { Int(text[$0.upperBound...].prefix(3)) }.filter { $0 != 100 }
        return (statuses, text, isClosed)
    }

    private static func check(_ service: ServiceUnderTest, _ attack: Attack) throws {
        var halfClosing = true
        if case .pipelined = attack.outcome { halfClosing = false }
        let (statuses, text, isClosed) = try send(service, attack.bytes, halfClosing: halfClosing)
        let told = "\(attack.name): \(statuses) \(text.prefix(300))"
        #expect(isClosed, "the connection hangs: \(told)")
        #expect(!statuses.contains { $0 >= 500 && $0 != 505 }, "\(told)")
        switch attack.outcome {
        case .status(let expected): #expect(statuses.count == 1 && expected.contains(statuses.first ?? 0), "\(told)")
        case .refused: #expect(statuses.isEmpty || statuses.allSatisfy { (400..<500).contains($0) }, "\(told)")
        case .either: #expect(statuses.allSatisfy { (200..<500).contains($0) }, "\(told)")
        case .answers(let count), .pipelined(let count): #expect(statuses.count == count, "\(told)")
        }
        #expect(try service.request("GET", "/").status == 300, "after \(attack.name)")
    }

    // MARK: framing

    private static let end = "Host: localhost\r\nConnection: close\r\n\r\n"
    private static func get(_ target: String, _ headers: String = "") -> String { "GET \(target) HTTP/1.1\r\n\(headers)\(end)" }
    private static func post(_ headers: String, _ body: String) -> String {
        "POST /v3/\(project)/volumes HTTP/1.1\r\nContent-Type: application/json\r\n\(headers)\(end)\(body)"
    }
    private static let body = #"{"volume": {"size": 0}}"#
    private static var chunked: String { "Transfer-Encoding: chunked\r\n" }

    static let framing: [Attack] = [
        // The line.
        Attack("nothing at all", "", .refused),
        Attack("one newline", "\r\n", .refused),
        Attack("a thousand newlines", String(repeating: "\r\n", count: 1000), .refused),
        Attack("newlines before a request", "\r\n\r\n" + get("/"), .answers(1)),
        Attack("only a method", "GET", .refused),
        Attack("a method without a target", "GET \r\n\r\n", .refused),
        Attack("no version", "GET /\r\n\r\n", .refused),
        Attack("version 0.9", "GET / HTTP/0.9\r\n\(end)", .status([505])),
        Attack("version 2.0", "GET / HTTP/2.0\r\n\(end)", .status([505])),
        Attack("version 1.2", "GET / HTTP/1.2\r\n\(end)", .answers(1)),
        Attack("version of letters", "GET / HTTP/x.y\r\n\(end)", .refused),
        Attack("lower-case version", "GET / http/1.1\r\n\(end)", .refused),
        Attack("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .status([505])),
        Attack(
            "TLS hello", [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03] + [UInt8](repeating: 7, count: 500), .refused),
        Attack("random bytes", (0..<2000).map { UInt8(truncatingIfNeeded: $0 &* 197 &+ 31) }, .refused),
        Attack("zero bytes", [UInt8](repeating: 0, count: 5000), .refused),
        Attack("lower-case method", "get / HTTP/1.1\r\n\(end)", .status([400, 404, 405])),
        Attack("unknown method", "BREW /v3/\(project)/volumes HTTP/1.1\r\n\(end)", .status([404, 405])),
        Attack("method of symbols", "!#$% / HTTP/1.1\r\n\(end)", .refused),
        Attack("method of 10,000 letters", String(repeating: "A", count: 10_000) + " / HTTP/1.1\r\n\(end)", .refused),
        Attack("CONNECT", "CONNECT h:80 HTTP/1.1\r\n\(end)", .refused),
        Attack("TRACE", "TRACE / HTTP/1.1\r\n\(end)", .status([404, 405])),
        Attack("absolute target", get("http://localhost/"), .status([300])),
        Attack("absolute target of another host", get("http://h/"), .status([400])),
        Attack("target without a slash", get("v3"), .refused),
        Attack("asterisk", "OPTIONS * HTTP/1.1\r\n\(end)", .status([200, 400, 404])),
        Attack("target of 8,000 bytes", get("/" + String(repeating: "a", count: 8_000)), .status([404, 414])),
        Attack("target of 100,000 bytes", get("/" + String(repeating: "a", count: 100_000)), .refused),
        Attack("query of 100,000 bytes", get("/v3/?" + String(repeating: "a=b&", count: 25_000)), .refused),
        Attack("spaces around the target", "GET   /   HTTP/1.1\r\n\(end)", .refused),
        Attack("tabs in the line", "GET\t/\tHTTP/1.1\r\n\(end)", .refused),
        Attack("bare newlines", "GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n", .status([400])),
        Attack("bare carriage returns", "GET / HTTP/1.1\rHost: h\r\r", .refused),
        Attack("NUL in the target", Array("GET /v3/".utf8) + [0] + Array("x HTTP/1.1\r\n\(end)".utf8), .status([400])),
        Attack("invalid UTF-8 in the target", Array("GET /v3/".utf8) + [0xC3, 0x28, 0xFF] + Array(" HTTP/1.1\r\n\(end)".utf8), .refused),
        // Headers.
        Attack("no Host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", .status([400])),
        Attack("two Hosts", get("/", "Host: localhost\r\n"), .status([400])),
        Attack("Host with a script", "GET / HTTP/1.1\r\nHost: <script>\r\nConnection: close\r\n\r\n", .status([400])),
        Attack("Host of another name", "GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n", .status([421])),
        Attack("header without a colon", get("/", "nonsense\r\n"), .refused),
        Attack("header without a name", get("/", ": value\r\n"), .refused),
        Attack("space before the colon", get("/", "Content-Length : 5\r\n"), .refused),
        Attack("folded header", get("/", "X-A: 1\r\n 2\r\n"), .status([400])),
        Attack("NUL in a header", Array("GET / HTTP/1.1\r\nX-A: ".utf8) + [0] + Array("b\r\n\(end)".utf8), .status([400])),
        Attack(
            "invalid UTF-8 in a header", Array("GET / HTTP/1.1\r\nX-A: ".utf8) + [0xFF, 0xFE] + Array("\r\n\(end)".utf8), .status([400])),
        Attack("a header of 100,000 bytes", get("/", "X-A: \(String(repeating: "a", count: 100_000))\r\n"), .refused),
        Attack("a header name of 30,000 bytes", get("/", "\(String(repeating: "a", count: 30_000)): 1\r\n"), .refused),
        Attack("200 headers", get("/", (0..<200).map { "X-\($0): 1\r\n" }.joined()), .answers(1)),
        Attack("10,000 headers", get("/", (0..<10_000).map { "X-\($0): 1\r\n" }.joined()), .refused),
        Attack("the same header 500 times", get("/", String(repeating: "X-A: 1\r\n", count: 500)), .answers(1)),
        Attack(
            "token of 20,000 bytes", get("/v3/\(project)/volumes", "X-Auth-Token: \(String(repeating: "t", count: 20_000))\r\n"), .refused),
        Attack(
            "token of 1,000 bytes", get("/v3/\(project)/volumes", "X-Auth-Token: \(String(repeating: "t", count: 1_000))\r\n"),
            .status([401])),
        Attack("version header of nonsense", get("/v3/\(project)/volumes", "OpenStack-API-Version: \u{1F600}\r\n"), .answers(1)),
        Attack(
            "version header of digits", get("/v3/\(project)/volumes", "OpenStack-API-Version: volume 3.99999999999999999999\r\n"),
            .status([400, 406])),
        Attack("Expect of another kind", get("/", "Expect: a miracle\r\n"), .answers(1)),
        Attack("Upgrade", get("/", "Upgrade: websocket\r\nConnection: Upgrade\r\n"), .answers(1)),
        Attack("Range of nonsense", get("/", "Range: bytes=9-1,,,-\r\n"), .answers(1)),
        Attack("request id of nonsense", get("/", "X-OpenStack-Request-ID: req-\(String(repeating: "a", count: 2_000))\r\n"), .answers(1)),
        Attack("cookies", get("/", "Cookie: a=b; =; ;;; \"x\r\n"), .answers(1)),
        Attack("half a head", "GET / HTTP/1.1\r\nHost: localhost\r\nX-", .refused),
        // Lengths and chunks.
        Attack("valid chunked body", post(chunked, "17\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("chunks of one byte", post(chunked, body.map { "1\r\n\($0)\r\n" }.joined() + "0\r\n\r\n"), .status([400])),
        Attack("chunk extensions", post(chunked, "17;a=b;c=\"d\"\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("trailers", post(chunked, "17\r\n\(body)\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"), .status([400])),
        Attack("upper-case chunked", post("Transfer-Encoding: CHUNKED\r\n", "17\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("chunk size in upper case", post(chunked, "0017\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("chunk size of letters", post(chunked, "zz\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("negative chunk size", post(chunked, "-17\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("hexadecimal prefix", post(chunked, "0x17\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("enormous chunk size", post(chunked, "fffffffffffffffff\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("chunk size of 2^63", post(chunked, "8000000000000000\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("empty chunk size", post(chunked, "\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("chunk longer than said", post(chunked, "5\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("chunk shorter than said", post(chunked, "ff\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("no last chunk", post(chunked, "17\r\n\(body)\r\n"), .refused),
        Attack(
            "chunk line of 15,000 bytes", post(chunked, "17;\(String(repeating: "a", count: 15_000))\r\n\(body)\r\n0\r\n\r\n"),
            .status([400])),
        Attack(
            "chunk line of 40,000 bytes", post(chunked, "17;\(String(repeating: "a", count: 40_000))\r\n\(body)\r\n0\r\n\r\n"), .refused),
        Attack("chunk line without an end", post(chunked, String(repeating: "1", count: 5_000)), .refused),
        Attack("identity encoding", post("Transfer-Encoding: identity\r\nContent-Length: 23\r\n", body), .status([400])),
        Attack("gzip encoding", post("Transfer-Encoding: gzip\r\n", body), .status([400])),
        Attack("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "17\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("length and chunked", post("Content-Length: 23\r\n" + chunked, "17\r\n\(body)\r\n0\r\n\r\n"), .status([400])),
        Attack("two lengths", post("Content-Length: 23\r\nContent-Length: 23\r\n", body), .status([400])),
        Attack("a list of lengths", post("Content-Length: 23, 23\r\n", body), .status([400])),
        Attack("length with a sign", post("Content-Length: +23\r\n", body), .status([400])),
        Attack("length in hexadecimal", post("Content-Length: 0x17\r\n", body), .status([400])),
        Attack("length of 2^64", post("Content-Length: 18446744073709551616\r\n", body), .status([400])),
        Attack("length of 2^63", post("Content-Length: 9223372036854775808\r\n", body), .refused),
        Attack("length of 1 TB", post("Content-Length: 1099511627776\r\n", body), .status([413])),
        Attack("empty length", post("Content-Length: \r\n", body), .status([400])),
        Attack("length beyond the body", post("Content-Length: 500\r\n", body), .refused),
        Attack("a body after the length", post("Content-Length: 23\r\n", body + "GET /smuggled HTTP/1.1\r\n\r\n"), .status([400])),
        Attack("a GET with a body", "GET /v3/ HTTP/1.1\r\nContent-Length: 5\r\n\(end)hello", .status([200])),
        Attack("a body of 1 MiB", post("Content-Length: 1048576\r\n", String(repeating: " ", count: 1 << 20)), .status([413])),
        Attack(
            "1 MiB in chunks",
            post(chunked, String(repeating: "1000\r\n\(String(repeating: " ", count: 4096))\r\n", count: 256) + "0\r\n\r\n"),
            .status([413])),
        Attack("a missing body", post("", ""), .status([400])),
        Attack("an empty body", post("Content-Length: 0\r\n", ""), .status([400])),
        Attack("100-continue that never continues", post("Expect: 100-continue\r\nContent-Length: 23\r\n", ""), .refused),
        // Pipelines.
        Attack(
            "100 requests in one breath", String(repeating: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", count: 99) + get("/"),
            .pipelined(100)),
        Attack("a good request before a bad one", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n", .pipelined(1)),
        Attack("requests after a close", get("/") + get("/"), .pipelined(1)),
    ]

    @Test("framing: every malformed request is answered or ended, every valid one is served")
    func framing() throws {
        let service = try ServiceUnderTest(options: "http_request_timeout = 1")
        for attack in Self.framing { try Self.check(service, attack) }
    }

    @Test(
        "curl and Python are told that their body is too large, and see no reset",
        arguments: [
            [], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect:", "-0"], ["-H", "Expect: 100-continue"],
        ])
    func largeBodies(options: [String]) async throws {
        let service = try ServiceUnderTest()
        let file = service.directory + "/body"
        #expect(try await ServiceUnderTest.run("/usr/bin/truncate", ["-s", "1200000", file]).status == 0)
        let url = "http://127.0.0.1:\(service.port)/v3/\(Self.project)/volumes"
        let curl = try await ServiceUnderTest.run(
            "/usr/bin/curl",
            ["-s", "-w", " %{http_code} %{exitcode}", "-H", "Content-Type: application/json"] + options
                + ["--data-binary", "@" + file, url])
        #expect(curl.status == 0 && curl.output.hasSuffix(" 413 0") && curl.output.contains("Request is too large"), "\(curl)")
        let script = """
            import http.client, sys
            c = http.client.HTTPConnection("127.0.0.1", \(service.port), timeout=20)
            c.request("POST", "/v3/\(Self.project)/volumes", b" " * 1200000, {"Content-Type": "application/json"})
            r = c.getresponse()
            print(r.status, r.getheader("Connection"), len(r.read()))
            """
        let python = try await ServiceUnderTest.run("/usr/bin/env", ["python3", "-c", script])
        #expect(python.status == 0 && python.output.hasPrefix("413 close 1"), "\(python)")
    }

    // MARK: paths

    static let pieces = [
        "%2F", "%2f", "%5C", "%00", "a%00b", "%C0%80", "%C0%AF", "%E0%80%AF", "%FF%FE", "%ED%A0%80", "%", "%%", "%G1", "%1", "%u0041",
        "..", ".", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "....//", ";", ";x=1", "a;b", "~", "*", "'", "%27%20OR%201=1", "\"",
        "<script>",
        "{id}", "$(id)", "`id`", "|", "\\", "^", "[", "]", "%0D%0ASet-Cookie:a=b", "%0a", "%09", "%20", "+", "@", ":", "&", "=", "null",
        "undefined", "NaN", "-1", "0", "9999999999999999999999", "1e309", "true", "\u{E9}", "\u{1F600}", "%F0%9F%98%80", "\u{202E}",
        String(repeating: "a", count: 4000), String(repeating: "%41", count: 2000), String(repeating: "a/", count: 1000),
        "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000.json", ".json", "a.json.json",
    ]

    @Test("paths: encoded slashes, NULs, broken escapes and every other oddity are not found or refused")
    func paths() throws {
        let service = try ServiceUnderTest()
        for piece in Self.pieces {
            for target in [
                "/\(piece)", "/v3/\(piece)/volumes", "/v3/\(Self.project)/volumes/\(piece)",
                "/v3/\(Self.project)/types/x/extra_specs/\(piece)",
            ] {
                try Self.check(service, Attack("GET \(target.prefix(120))", Self.get(target), .answers(1)))
            }
        }
    }

    @Test("queries: whatever stands in them, the answer is a page or a 400")
    func queries() throws {
        let service = try ServiceUnderTest()
        let values = [
            "", "%00", "%FF", "%", "-1", "0", "1.5", "1e9", "99999999999999999999", "%27", "a:b:c", ":", "%7B%7D", "[]", "null", "true",
            "%C0%80", "\u{E9}", String(repeating: "9", count: 1000), "id:asc,id:desc", "%7B%27a%27:%27b%27%7D", "%7B'a':", "gt:x", "in:",
            "lt:2020",
        ]
        let names = [
            "limit", "offset", "marker", "sort", "sort_key", "sort_dir", "all_tenants", "name", "status", "metadata", "created_at",
            "updated_at",
            "with_count", "bootable", "size", "nonsense",
        ]
        for name in names {
            for value in values {
                let answer = try service.request("GET", "/v3/\(Self.project)/volumes/detail?\(name)=\(value)")
                #expect([200, 400, 404].contains(answer.status), "\(name)=\(value): \(answer.status) \(answer.text.prefix(200))")
            }
        }
        for path in ["attachments", "messages", "types", "os-services", "scheduler-stats/get_pools", "volumes/summary"] {
            for value in values {
                let answer = try service.request(
                    "GET", "/v3/\(Self.project)/\(path)?limit=\(value)&marker=\(value)&sort=\(value)&all_tenants=\(value)")
                #expect([200, 400, 404].contains(answer.status), "\(path) \(value): \(answer.status) \(answer.text.prefix(200))")
            }
        }
    }

    // MARK: bodies

    /// Operations that read a body, each with one that it accepts; VOLUME and TYPE stand for resources that exist.
    static let bodies: [(method: String, path: String, body: String)] = [
        ("POST", "/snapshots", #"{"snapshot": {"volume_id": "VOLUME", "name": "n", "description": "d", "metadata": {"a": "b"}}}"#),
        ("PUT", "/snapshots/SNAPSHOT", #"{"snapshot": {"name": "n", "description": "d"}}"#),
        ("POST", "/snapshots/SNAPSHOT/metadata", #"{"metadata": {"a": "b"}}"#),
        ("PUT", "/snapshots/SNAPSHOT/metadata/a", #"{"meta": {"a": "b"}}"#),
        ("POST", "/snapshots/SNAPSHOT/action", #"{"os-reset_status": {"status": "available"}}"#),
        ("POST", "/snapshots/SNAPSHOT/action", #"{"os-update_snapshot_status": {"status": "available", "progress": "5%"}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"revert": {"snapshot_id": "SNAPSHOT"}}"#),
        (
            "POST", "/volumes",
            #"{"volume": {"size": 1, "name": "n", "description": "d", "metadata": {"a": "b"}, "volume_type": "__DEFAULT__"}}"#
        ),
        ("PUT", "/volumes/VOLUME", #"{"volume": {"name": "n", "description": "d", "metadata": {"a": "b"}}}"#),
        ("POST", "/volumes/VOLUME/metadata", #"{"metadata": {"a": "b"}}"#),
        ("PUT", "/volumes/VOLUME/metadata", #"{"metadata": {"a": "b"}}"#),
        ("PUT", "/volumes/VOLUME/metadata/a", #"{"meta": {"a": "b"}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-extend": {"new_size": 2}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-set_bootable": {"bootable": true}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-update_readonly_flag": {"readonly": false}}"#),
        (
            "POST", "/volumes/VOLUME/action",
            #"{"os-attach": {"instance_uuid": "00000000-0000-0000-0000-000000000001", "mountpoint": "/dev/vdb", "mode": "rw"}}"#
        ),
        ("POST", "/volumes/VOLUME/action", #"{"os-detach": {"attachment_id": "00000000-0000-0000-0000-000000000001"}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-initialize_connection": {"connector": {"host": "h", "initiator": "i"}}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-terminate_connection": {"connector": {"host": "h"}}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-reset_status": {"status": "available"}}"#),
        (
            "POST", "/attachments",
            #"{"attachment": {"volume_uuid": "VOLUME", "instance_uuid": "00000000-0000-0000-0000-000000000001", "connector": {"host": "h"}, "mode": "rw"}}"#
        ),
        (
            "POST", "/types",
            #"{"volume_type": {"name": "t", "description": "d", "extra_specs": {"a": "b"}, "os-volume-type-access:is_public": true}}"#
        ),
        ("PUT", "/types/TYPE", #"{"volume_type": {"name": "__DEFAULT__", "description": "d", "is_public": true}}"#),
        ("POST", "/types/TYPE/extra_specs", #"{"extra_specs": {"a": "b"}}"#),
        ("PUT", "/types/TYPE/extra_specs/a", #"{"a": "b"}"#),
        ("PUT", "/os-quota-sets/\(project)", #"{"quota_set": {"volumes": 100, "gigabytes": 1000}}"#),
        ("PUT", "/os-quota-class-sets/gold", #"{"quota_class_set": {"volumes": 100, "gigabytes": 1000}}"#),
        ("PUT", "/default-types/\(project)", #"{"default_type": {"volume_type": "__DEFAULT__"}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-retype": {"new_type": "nope", "migration_policy": "never"}}"#),
        ("POST", "/volumes/VOLUME/action", #"{"os-migrate_volume": {"host": "nowhere", "force_host_copy": true, "lock_volume": false}}"#),
        (
            "POST", "/manageable_volumes",
            #"{"volume": {"host": "nowhere", "ref": {"source-name": "x"}, "name": "n", "bootable": true, "metadata": {"a": "b"}, "volume_type": "__DEFAULT__"}}"#
        ),
        (
            "POST", "/manageable_snapshots",
            #"{"snapshot": {"volume_id": "VOLUME", "ref": {"source-name": "x"}, "name": "n", "metadata": {"a": "b"}}}"#
        ),
        ("PUT", "/os-services/set-log", #"{"binary": "*", "server": "nowhere", "prefix": "x", "level": "INFO"}"#),
        ("PUT", "/os-services/remove", #"{"binary": "cinder-volume", "host": "nowhere"}"#),
        ("PUT", "/os-hosts/nowhere", #"{"status": "enable"}"#),
        (
            "POST", "/operations/explain",
            #"{"volume": {"size": 1, "volume_type": "__DEFAULT__", "availability_zone": "nova", "metadata": {"a": "b"}}, "OS-SCH-HNT:scheduler_hints": {"query": "[]", "same_host": []}}"#
        ),
    ]

    /// Bodies that no operation accepts.
    static let malformed: [(name: String, bytes: [UInt8])] = {
        func text(_ text: String) -> [UInt8] { Array(text.utf8) }
        return [
            ("nothing but a space", text(" ")), ("null", text("null")), ("a number", text("1")), ("a string", text("\"x\"")),
            ("an array", text("[]")), ("an empty object", text("{}")), ("an unclosed object", text("{")), ("a closing brace", text("}")),
            ("a trailing comma", text("{\"volume\": {},}")), ("single quotes", text("{'volume': {}}")), ("a comment", text("{} // x")),
            ("text after the value", text("{} {}")), ("a byte-order mark", [0xEF, 0xBB, 0xBF] + text("{}")),
            ("UTF-16", [0xFF, 0xFE, 0x7B, 0, 0x7D, 0]),
            ("invalid UTF-8", text("{\"volume\": \"") + [0xC3, 0x28] + text("\"}")),
            ("overlong UTF-8", text("{\"volume\": \"") + [0xC0, 0x80] + text("\"}")),
            ("an encoded surrogate", text("{\"volume\": \"") + [0xED, 0xA0, 0x80] + text("\"}")),
            ("a lone surrogate", text("{\"volume\": \"\\ud800\"}")),
            ("surrogates in the wrong order", text("{\"volume\": \"\\udc00\\ud800\"}")),
            ("a NUL", text("{\"volume\": \"") + [0] + text("\"}")),
            ("a control character", text("{\"volume\": \"\u{1}\"}")), ("a bad escape", text("{\"volume\": \"\\x\"}")),
            ("NaN", text("{\"volume\": NaN}")),
            ("Infinity", text("{\"volume\": -Infinity}")), ("a leading zero", text("{\"volume\": 012}")),
            ("a plus", text("{\"volume\": +1}")),
            ("hexadecimal", text("{\"volume\": 0x10}")), ("a huge exponent", text("{\"volume\": 1e999999}")),
            ("a number of 50,000 digits", text("{\"volume\": \(String(repeating: "9", count: 50_000))}")),
            ("duplicate keys", text("{\"volume\": {}, \"volume\": {}}")),
            ("10,000 arrays deep", text(String(repeating: "[", count: 10_000))),
            ("10,000 objects deep", text(String(repeating: "{\"a\":", count: 10_000))),
            ("a key of 100,000 bytes", text("{\"\(String(repeating: "k", count: 100_000))\": 1}")),
            ("20,000 keys", text("{" + (0..<10_000).map { "\"\($0)\":1" }.joined(separator: ",") + "}")),
            ("an empty key", text("{\"\": {}}")),
            ("only null inside", text("{\"volume\": null}")),
        ]
    }()

    private func send(_ service: ServiceUnderTest, _ method: String, _ path: String, _ body: [UInt8], type: String = "application/json")
        throws
        -> ServiceUnderTest.Answer
    {
        let head =
            "\(method) /v3/\(Self.project)\(path) HTTP/1.1\r\nOpenStack-API-Version: volume 3.71\r\nContent-Type: \(type)\r\nContent-Length: \(body.count)\r\n\(Self.end)"
        return try ServiceUnderTest.parse(try Loopback.exchange(UInt16(service.port), Array(head.utf8) + body))
    }

    private func prepared() throws -> (service: ServiceUnderTest, fill: (String) -> String) {
        let service = try ServiceUnderTest(options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1")
        let volume = try service.create()
        try service.wait(volume, "available")
        let snapshot = try SnapshotTests.snapshot(service, of: volume)
        try SnapshotTests.wait(service, snapshot, "available")
        let type = try service.api("GET", "/types/default").json["volume_type"]?["id"]?.string ?? ""
        return (
            service,
            { $0.replacing("VOLUME", with: volume).replacing("SNAPSHOT", with: snapshot).replacing("TYPE", with: type) }
        )
    }

    @Test("malformed bodies are refused by every operation that reads one, and change nothing")
    func malformedBodies() throws {
        let (service, fill) = try prepared()
        let before = try service.api("GET", "/volumes/detail").text
        for (method, path, _) in Self.bodies {
            for (name, bytes) in Self.malformed {
                let answer = try send(service, method, fill(path), bytes)
                #expect([400, 413].contains(answer.status), "\(method) \(path), \(name): \(answer.status) \(answer.text.prefix(200))")
            }
            for type in [
                "text/plain", "application/xml", "", "application/json; charset=latin-1; \u{1F600}", "multipart/form-data; boundary=x",
            ] {
                let answer = try send(service, method, fill(path), Array("{".utf8), type: type)
                #expect([400, 415].contains(answer.status), "\(method) \(path), type \(type): \(answer.status) \(answer.text.prefix(200))")
            }
        }
        #expect(try service.api("GET", "/volumes/detail").text == before)
        #expect(try service.request("GET", "/").status == 300)
    }

    /// What stands in the place of each value of a valid body.
    static let values = [
        "null", "true", "0", "-1", "1.5", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e400", "1e-400", "\"\"",
        "\" \"",
        "\"\\u0000\"", "\"\\ud83d\\ude00\"", "\"\(String(repeating: "x", count: 300))\"",
        "\"\(String(repeating: "\u{E9}", count: 20_000))\"",
        "\"'; DROP TABLE volumes; --\"", "\"%s%n%d\"", "\"../../etc/passwd\"", "[]", "{}", "[[[[[[[[]]]]]]]]",
        "{\"a\": {\"b\": {\"c\": null}}}",
    ]

    /// Positions of the values in a JSON text: scalars behind a colon.
    private static func leaves(_ text: String) -> [Range<String.Index>] {
        var found: [Range<String.Index>] = []
        var position = text.startIndex
        while let colon = text[position...].firstRange(of: ": ") {
            position = colon.upperBound
            if text[position] == "{" { continue }
            var end = position
            if text[position] == "\"" {
                end = text[text.index(after: position)...].firstIndex(of: "\"").map { text.index(after: $0) } ?? text.endIndex
            } else {
                end = text[position...].firstIndex { $0 == "," || $0 == "}" } ?? text.endIndex
            }
            found.append(position..<end)
        }
        return found
    }

    @Test("whatever stands in the place of a value, the answer is no 5xx, and a refusal names what is wrong")
    func hostileValues() throws {
        let (service, fill) = try prepared()
        for (method, path, body) in Self.bodies {
            for leaf in Self.leaves(body) {
                for value in Self.values {
                    let mutated = body.replacingCharacters(in: leaf, with: value)
                    let answer = try send(service, method, fill(path), Array(fill(mutated).utf8))
                    #expect(answer.status < 500, "\(method) \(path) \(mutated.prefix(200)): \(answer.status) \(answer.text.prefix(300))")
                    if answer.status == 400 {
                        #expect((answer.message?.count ?? 0) > 5, "\(method) \(path) \(mutated.prefix(200)): \(answer.text.prefix(300))")
                    }
                }
            }
        }
        #expect(try service.request("GET", "/").status == 300)
    }

    // MARK: pages of a browser

    @Test("noauth: a page that gave its name this address, or that belongs to another origin, changes nothing")
    func pages() throws {
        let service = try ServiceUnderTest(
            options: "public_endpoint = https://block.example/volume",
            sections: "[file]\nvolume_driver = file\n[cors]\nallowed_origin = https://ui.example\n")
        func ask(_ method: String, _ host: String, _ headers: String = "", at path: String = "/volumes") throws -> ServiceUnderTest.Answer {
            let path = "/v3/\(Self.project)\(path)"
            let body = method == "POST" ? #"{"volume": {"size": 1}}"# : ""
            return try ServiceUnderTest.parse(
                try Loopback.exchange(
                    UInt16(service.port),
                    Array(
                        "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\(headers)Connection: close\r\n\r\n\(body)"
                            .utf8)))
        }
        for host in [
            "127.0.0.1:\(service.port)", "[::1]:8776", "10.1.2.3", "localhost:1", "LOCALHOST", "localhost.", "localhost.:8776",
            "block.example:443",
        ] {
            #expect(try ask("GET", host).status == 200, "\(host)")
        }
        for host in [
            "rebound.example", "127.0.0.1.rebound.example:8776", "localhost.rebound.example", "127.1", "block.example.org", "localhost..",
        ] {
            #expect(try ask("GET", host).status == 421, "\(host)")
            #expect(try ask("POST", host).status == 421, "\(host)")
        }
        for host in [
            "[::1]evil", "[::1]evil:80", "[::1", "::1", "[::1]:x", "[127.0.0.1]", "localhost:80:80", "localhost]", ":80",
            "localhost:123456",
        ] {
            #expect(try ask("GET", host).status == 400, "\(host)")
            #expect(try ask("POST", host).status == 400, "\(host)")
        }
        let own = "127.0.0.1:\(service.port)"
        for headers in [
            "Origin: http://rebound.example\r\n", "Origin: null\r\n", "Origin: http://127.0.0.1:1\r\n", "Sec-Fetch-Site: cross-site\r\n",
            "Origin: https://ui.example.evil\r\nSec-Fetch-Site: same-origin\r\n",
        ] {
            #expect(try ask("POST", own, headers).status == 403, "\(headers)")
            #expect(try ask("GET", own, headers, at: "/qos-specs/1/disassociate_all").status == 403, "\(headers)")
            #expect(try ask("GET", own, headers, at: "/qos-specs/1/associations").status == 404, "\(headers)")
        }
        #expect(try ask("GET", own).json["volumes"]?.array?.isEmpty == true)
        for headers in [
            "Origin: http://\(own)\r\n", "Origin: https://ui.example\r\nSec-Fetch-Site: cross-site\r\n",
            "Origin: https://block.example\r\n",
        ] {
            #expect(try ask("POST", own, headers).status == 202, "\(headers)")
        }
    }

    @Test("what a proxy says of its client is believed in every link where it is configured, and nowhere else")
    func proxies() throws {
        let headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "pub.example"), ("X-Forwarded-Prefix", "/volume")]
        func links(_ service: ServiceUnderTest, _ headers: [(String, String)]) throws -> [String] {
            let page = try service.request("GET", "/v3/\(Self.project)/volumes?limit=1", headers: headers).json
            let root = try service.request("GET", "/", headers: headers).json
            return [
                page["volumes_links"]?.array?.first?["href"]?.string,
                page["volumes"]?.array?.first?["links"]?.array?.first?["href"]?.string,
                root["versions"]?.array?.first?["links"]?.array?.last?["href"]?.string,
                try service.request("GET", "/v3", headers: headers).header("Location"),
            ].map { $0 ?? "" }
        }
        let plain = try ServiceUnderTest()
        let behind = try ServiceUnderTest(
            sections: "[file]\nvolume_driver = file\n[oslo_middleware]\nenable_proxy_headers_parsing = true\n")
        for service in [plain, behind] { for _ in 0..<2 { try service.wait(try service.create(), "available") } }
        for link in try links(plain, headers) { #expect(link.hasPrefix("http://127.0.0.1:\(plain.port)/v3/"), "\(link)") }
        for link in try links(behind, headers) { #expect(link.hasPrefix("https://pub.example/volume/v3/"), "\(link)") }
        for link in try links(behind, [headers[0]]) { #expect(link.hasPrefix("https://127.0.0.1:\(behind.port)/v3/"), "\(link)") }
        for link in try links(behind, [("Forwarded", "for=192.0.2.7;proto=https;host=\"a.example:8443\", for=10.0.0.1")]) {
            #expect(link.hasPrefix("https://a.example:8443/v3/"), "\(link)")
        }
        for link in try links(behind, [("X-Forwarded-Host", "a\"b/c")]) {
            #expect(link.hasPrefix("http://localhost/v3/") || link.hasPrefix("http://127.0.0.1:"), "\(link)")
        }
        _ = try service(behind, address: "198.51.100.9")
        _ = try service(plain, address: "198.51.100.9")
        behind.stop()
        plain.stop()
        #expect(behind.log.contains(" ACCESS 198.51.100.9 ") && !plain.log.contains("198.51.100.9"))
    }

    private func service(_ service: ServiceUnderTest, address: String) throws -> Int {
        try service.request("GET", "/", headers: [("X-Forwarded-For", "evil, \(address)")]).status
    }

    // MARK: crowds

    @Test("thousands of slow bodies and idle connections at once: the next request is served")
    func crowd() throws {
        let service = try ServiceUnderTest(options: "http_request_timeout = 4")
        let head = Array(
            "POST /v3/\(Self.project)/volumes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
                .utf8)
        var held: [Int32] = []
        defer { for descriptor in held { close(descriptor) } }
        for index in 0..<4_000 {
            held.append(try Loopback.connect(UInt16(service.port)))
            if index % 2 == 0 { Loopback.send(held[index], head) }
        }
        let id = try service.create()
        try service.wait(id, "available")
        for descriptor in held where descriptor % 7 == 0 { Loopback.send(descriptor, [UInt8(ascii: " ")]) }
        #expect(try service.request("GET", "/").status == 300)
        // Those that never finished their request are gone after a while; the service's descriptors are free again.
        let limit = Timestamp.monotonic() + 20
        var open: [String] = []
        repeat {
            usleep(100_000)
            open = service.processes("core").first.map(openFiles(of:)) ?? []
        } while open.count > 50 && Timestamp.monotonic() < limit
        #expect(open.count <= 50 && !open.isEmpty, "\(open.count) descriptors: \(open.sorted())")
    }

    @Test("clients that hang up in the middle of anything leave no trace")
    func earlyClose() throws {
        let service = try ServiceUnderTest()
        let whole = Array(Self.post("Content-Length: 23\r\n", Self.body).utf8)
        for length in stride(from: 0, through: whole.count, by: 3) {
            let descriptor = try Loopback.connect(UInt16(service.port))
            Loopback.send(descriptor, Array(whole[..<length]))
            var reset = linger(l_onoff: 1, l_linger: 0)
            if length % 2 == 0 { setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size)) }
            close(descriptor)
        }
        #expect(try service.request("GET", "/").status == 300)
        #expect(try service.api("GET", "/volumes").json["volumes"]?.array?.isEmpty == true)
        #expect(!service.log.contains("core ended"))
    }
}

extension String {
    fileprivate func replacingCharacters(in range: Range<Index>, with text: String) -> String {
        self[..<range.lowerBound] + text + self[range.upperBound...]
    }
}
