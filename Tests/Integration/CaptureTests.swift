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
        // A body is needed: Cinder fails with a 500.
        "084_volume_create_err_nobody": { $0.status == 400 },
        // Cinder forgets to fill its own text in.
        "086_volume_create_err_too_big_body": { $0.status == 413 && $0.text.contains("114688") },
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
}
