import JSON
import Testing

/// What a real Cinder 29 answered to wrong requests, and what we answer: same status, same fault, same words.
@Suite("Refusals as Cinder's")
struct CaptureTests {
    struct Capture: Sendable, CustomTestStringConvertible {
        let name: String
        let value: JSON
        var testDescription: String { name }
    }

    static let captures: [Capture] = {
        let text = (try? ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/refusals.jsonl")) ?? ""
        return text.split(separator: "\n").compactMap { line in
            (try? JSON(parsing: String(line))).map { Capture(name: $0["case"]?.string ?? "?", value: $0) }
        }
    }()

    /// Deliberate differences, each a row of api-ref/differences.md.
    static let differing: [String: @Sendable (ServiceUnderTest.Answer) -> Bool] = [
        // No Image service is known.
        "066_volume_create_err_image_missing": { $0.status == 400 && $0.text.contains("this service knows no Image service") },
        // A body is needed: Cinder fails with a 500.
        "084_volume_create_err_nobody": { $0.status == 400 },
        // Cinder forgets to fill its own text in.
        "086_volume_create_err_too_big_body": { $0.status == 413 && $0.text.contains("114688") },
        // The consumers by their names, not by Python's.
        "270_qos_create_bad_consumer": { $0.status == 400 && $0.text.contains("one of back-end, front-end, both, not x") },
        // Cinder fails with a 500.
        "187_encryption_key": { $0.status == 404 && $0.text.contains("no encryption metadata with key cipher") },
    ]

    @Test("every captured refusal")
    func refusals() throws {
        #expect(Self.captures.count > 100)
        let service = try ServiceUnderTest()
        let volume = try service.create(["size": 2])
        try service.wait(volume, "available")
        let type =
            try service.api("POST", "/types", ["volume_type": ["name": "t1", "extra_specs": ["a": "b"]]]).json["volume_type"]?["id"]?.string
            ?? ""
        _ = try service.api("POST", "/types", ["volume_type": ["name": "nfs"]])
        let standard = try service.api("GET", "/types/default").json["volume_type"]?["id"]?.string ?? ""
        let reserved = try service.create()
        try service.wait(reserved, "available")
        let attachment =
            try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(reserved)]]).json["attachment"]?["id"]?.string
            ?? ""
        #expect(!attachment.isEmpty && !type.isEmpty && !standard.isEmpty)
        let names = [
            "{volume}": volume, "{type}": type, "{default_type}": standard, "{attachment}": attachment,
            "{host}": "127.0.0.1:\(service.port)",
        ]
        func filled(_ text: String) -> String {
            names.reduce(text) { $0.split(separator: $1.key, omittingEmptySubsequences: false).joined(separator: $1.value) }
        }

        for capture in Self.captures {
            let value = capture.value
            var body = filled(value["body"]?.string ?? "")
            if body == "<big>" { body = "{\"volume\": {\"size\": 1, \"name\": \"\(String(repeating: "x", count: 120_000))\"}}" }
            let headers = value["headers"]?.object?.members.map { ($0.name, $0.value.string ?? "") } ?? []
            let answer = try service.request(
                value["method"]?.string ?? "", filled(value["path"]?.string ?? ""), version: nil, headers: headers,
                body: body.isEmpty ? nil : body)
            if let differs = Self.differing[capture.name] {
                #expect(differs(answer), "\(capture.name): \(answer.status) \(answer.text)")
                continue
            }
            let expected = (try? JSON(parsing: filled(value["response"]?.string ?? ""))) ?? .null
            #expect(answer.status == Int(value["status"]?.integer ?? 0), "\(capture.name): \(answer.text)")
            if answer.status >= 400 {
                #expect(
                    answer.json.object?.names.first == expected.object?.names.first || answer.json == expected,
                    "\(capture.name): \(answer.text)")
                #expect(answer.message == expected.object?.members.first?.value["message"]?.string, "\(capture.name)")
            }
            for header in value["response_headers"]?.object?.members ?? [] where header.name.lowercased() != "content-type" {
                #expect(answer.header(header.name) == filled(header.value.string ?? ""), "\(capture.name): \(header.name)")
            }
            #expect(answer.header("x-openstack-request-id")?.hasPrefix("req-") == true, "\(capture.name)")
        }
    }

    /// Names and kinds of an object's members, nested objects and the items of lists included. Where a capture has null,
    /// any kind is right, and the other way round.
    func differences(_ ours: JSON, _ theirs: JSON, at path: String, free: Set<String>) -> [String] {
        switch (ours, theirs) {
        case (.null, _), (_, .null), (.string, .string), (.bool, .bool), (.integer, .integer), (.real, .real), (.integer, .real),
            (.real, .integer):
            return []
        case (.object(let a), .object(let b)):
            if free.contains(path) { return [] }
            let missing = Set(b.names).subtracting(a.names).map { "\(path).\($0) is missing" }
            let more = Set(a.names).subtracting(b.names).map { "\(path).\($0) is too much" }
            return missing + more + b.members.flatMap { differences(a[$0.name] ?? .null, $0.value, at: path + "." + $0.name, free: free) }
        case (.array(let a), .array(let b)):
            guard let a = a.last, let b = b.last else { return [] }
            return differences(a, b, at: path + "[]", free: free)
        default: return ["\(path) is of another kind: \(ours.text) for \(theirs.text)"]
        }
    }

    @Test("answers have the members of Cinder's, at every microversion that changed them")
    func shapes() throws {
        let service = try ServiceUnderTest(options: "quota_volumes = 100")
        let attached = try service.create()
        try service.wait(attached, "available")
        let connector: JSON = ["host": "peer", "ip": "127.0.0.1", "initiator": "iqn.x", "mountpoint": "/dev/vdb"]
        let made = try service.api("POST", "/attachments", ["attachment": ["volume_uuid": .string(attached), "connector": connector]])
        let attachment = made.json["attachment"]?["id"]?.string ?? ""
        let volume = try service.create(["name": "v"])
        try service.wait(volume, "available")
        let type =
            try service.api("POST", "/types", ["volume_type": ["name": "typed", "extra_specs": ["a": "b"]]]).json["volume_type"]?["id"]?
            .string ?? ""
        let text = try ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/shapes.jsonl")
        var count = 0
        for line in text.split(separator: "\n") {
            let capture = try JSON(parsing: String(line))
            let name = capture["case"]?.string ?? "?"
            var path = capture["path"]?.string ?? ""
            var body: JSON?
            switch (capture["method"]?.string ?? "", path) {
            case ("POST", "/volumes"): body = ["volume": ["size": 1]]
            case ("POST", "/types"): body = ["volume_type": ["name": .string(name), "extra_specs": ["a": "b"]]]
            case ("PUT", let path) where path.hasPrefix("/types/"): body = ["volume_type": ["description": "d"]]
            case ("PUT", _): body = ["volume": ["name": "w"]]
            default: break
            }
            if path.hasPrefix("/volumes/") { path = "/volumes/\(volume)" }
            if path.hasPrefix("/types/"), path != "/types/default" { path = "/types/\(type)" }
            if path.hasPrefix("/attachments/"), !path.contains("detail") { path = "/attachments/\(attachment)" }
            let answer = try service.api(capture["method"]?.string ?? "", path, version: capture["version"]?.string ?? "3.0", body)
            #expect(answer.status < 300, "\(name): \(answer.text)")
            // What a driver, a user or the set of types decides.
            let free: Set<String> = [
                ".volume.metadata", ".attachment.connection_info", ".attachments[].connection_info", ".volume_type.extra_specs",
                ".volume_types[].extra_specs", ".pools[].capabilities", ".quota_set",
            ]
            let found = differences(answer.json, capture["response"] ?? .null, at: "", free: free)
            #expect(found.isEmpty, "\(name): \(found)")
            count += 1
        }
        #expect(count > 25)
    }

    /// Ids and keys in Cinder's answer, each with ours at the same place.
    func learn(_ theirs: JSON, _ ours: JSON, _ name: String, into known: inout [(theirs: String, ours: String)]) {
        switch (theirs, ours) {
        case (.string(let a), .string(let b)):
            if name == "auth_key" || (name == "id" && a.utf8.count == 36), !known.contains(where: { $0.theirs == a }) {
                known.append((a, b))
            }
        case (.object(let a), .object(let b)):
            for member in a.members { learn(member.value, b[member.name] ?? .null, member.name, into: &known) }
        default: break
        }
    }

    @Test("what was made is shown, changed and removed as in captured sequences: image metadata, encryption of types, QoS specs, transfers")
    func sequences() throws {
        let service = try ServiceUnderTest()
        var known: [(theirs: String, ours: String)] = []
        for captured in [
            "dabed16f-73c6-48d2-95f0-d00edc725768", "723ff967-e9b1-4877-a256-a5b62ca93ffb", "2383d38a-167b-45ef-ad3b-4914524e6319",
        ] {
            let volume = try service.create()
            try service.wait(volume, "available")
            known.append((captured, volume))
        }
        for (captured, name) in [("02f4cebc-7555-4e1c-8345-3ec3727af53f", "t1b"), ("76fd162f-85ac-4d9c-95f9-dbcb5f3b8265", "other")] {
            let type = try service.api("POST", "/types", ["volume_type": ["name": .string(name)]]).json["volume_type"]?["id"]?.string
            known.append((captured, try #require(type)))
        }
        let text = try ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/sequences.jsonl")
        for line in text.split(separator: "\n") {
            let capture = try JSON(parsing: String(line))
            let name = capture["case"]?.string ?? "?"
            func filled(_ text: String?) -> String { known.reduce(text ?? "") { $0.replacing($1.theirs, with: $1.ours) } }
            let body = filled(capture["body"]?.string)
            let answer = try service.request(
                capture["method"]?.string ?? "", filled(capture["path"]?.string), version: capture["version"]?.string,
                headers: [("Content-Type", "application/json")], body: body.isEmpty ? nil : body)
            if let differs = Self.differing[name] {
                #expect(differs(answer), "\(name): \(answer.status) \(answer.text)")
                continue
            }
            let expected = capture["response"] ?? .null
            #expect(answer.status == Int(capture["status"]?.integer ?? 0), "\(name): \(answer.text)")
            if answer.status < 400 {
                let found = differences(answer.json, expected, at: "", free: [".volume.metadata"])
                #expect(found.isEmpty, "\(name): \(found)")
                learn(expected, answer.json, "", into: &known)
            } else {
                #expect(answer.message == filled(expected.object?.members.first?.value["message"]?.string), "\(name)")
            }
        }
        #expect(known.count > 8)
    }
}
