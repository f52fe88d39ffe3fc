import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The same request from twenty clients at once: where the database keeps something unique, one of them gets it, and the others get the
/// answer that is declared for it.
@Suite("Identical requests", .serialized)
struct IdenticalRequestTests {
    private static let clients = 20

    /// Sends the requests at the same time; the statuses of their answers, each with how often it came.
    private func atOnce(_ service: ServiceUnderTest, _ requests: [Request]) -> [Int: Int] {
        let counts = Guarded<[Int: Int]>([:])
        let (ready, finished) = (Semaphore(), Semaphore())
        for request in requests {
            startThread("client") {
                ready.wait()
                do {
                    let answer = try service.api(request.method, request.path, request.body)
                    counts.withLock { $0[answer.status, default: 0] += 1 }
                    if answer.status >= 400 { #expect(answer.message?.isEmpty == false, "\(request.path): \(answer.text)") }
                } catch { Issue.record("\(request.path): \(error)") }
                finished.post()
            }
        }
        for _ in requests { ready.post() }
        for _ in requests { finished.wait() }
        return counts.withLock { $0 }
    }

    private struct Request: Sendable {
        let method, path: String
        let body: JSON?
        init(_ method: String, _ path: String, _ body: JSON? = nil) {
            self.method = method
            self.path = path
            self.body = body
        }
    }

    /// What one of them is answered, and what the others are.
    private struct Row {
        let request: Request
        let first, others: Int
    }

    @Test("each is answered as declared, never 500")
    func table() throws {
        let service = try ServiceUnderTest(options: "quota_volumes = -1\nquota_snapshots = -1\nquota_gigabytes = -1")
        func type(_ name: String, isPublic: Bool = true) throws -> String {
            try service.api("POST", "/types", ["volume_type": ["name": .string(name), "os-volume-type-access:is_public": .bool(isPublic)]])
                .json["volume_type"]?["id"]?.string ?? ""
        }
        let (secret, doomed) = (try type("secret", isPublic: false), try type("doomed"))
        let volume = try service.create()
        try service.wait(volume, "available")
        let (project, metadata) = (ServiceUnderTest.project, "/volumes/\(volume)/metadata")
        let snapshot = try SnapshotTests.snapshot(service, of: volume)
        try SnapshotTests.wait(service, snapshot, "available")
        let spec: JSON = ["extra_specs": ["key": "value"]]
        let backend: JSON = ["host": "node@file", "binary": "cinder-volume"]
        let host: JSON = ["host": "node@file"]
        let access: JSON = ["project": "someone"]
        let rows = [
            Row(request: Request("POST", "/types", ["volume_type": ["name": "one"]]), first: 200, others: 409),
            Row(request: Request("PUT", "/types/\(secret)", ["volume_type": ["name": "hidden"]]), first: 200, others: 200),
            Row(request: Request("POST", "/types/\(secret)/action", ["addProjectAccess": access]), first: 202, others: 409),
            Row(request: Request("POST", "/types/\(secret)/action", ["removeProjectAccess": access]), first: 202, others: 404),
            Row(request: Request("POST", "/types/\(secret)/extra_specs", spec), first: 200, others: 200),
            Row(request: Request("PUT", "/types/\(secret)/extra_specs/key", ["key": "other"]), first: 200, others: 200),
            Row(request: Request("DELETE", "/types/\(secret)/extra_specs/key"), first: 202, others: 404),
            Row(
                request: Request("PUT", "/default-types/\(project)", ["default_type": ["volume_type": "__DEFAULT__"]]), first: 200,
                others: 200),
            Row(request: Request("DELETE", "/default-types/\(project)"), first: 204, others: 204),
            Row(
                request: Request("PUT", "/os-quota-sets/\(project)", ["quota_set": ["volumes": 99, "volumes_doomed": 5]]), first: 200,
                others: 200),
            Row(request: Request("DELETE", "/os-quota-sets/\(project)"), first: 200, others: 200),
            Row(
                request: Request("PUT", "/os-quota-class-sets/default", ["quota_class_set": ["volumes_doomed": 5]]), first: 200,
                others: 200),
            Row(request: Request("DELETE", "/types/\(doomed)"), first: 202, others: 404),
            Row(request: Request("POST", metadata, ["metadata": ["a": "b"]]), first: 200, others: 200),
            Row(request: Request("PUT", metadata + "/a", ["meta": ["a": "c"]]), first: 200, others: 200),
            Row(request: Request("DELETE", metadata + "/a"), first: 200, others: 404),
            Row(request: Request("POST", "/snapshots/\(snapshot)/metadata", ["metadata": ["a": "b"]]), first: 200, others: 200),
            Row(request: Request("DELETE", "/snapshots/\(snapshot)/metadata/a"), first: 200, others: 404),
            Row(request: Request("PUT", "/os-services/disable", backend), first: 200, others: 200),
            Row(request: Request("PUT", "/os-services/enable", backend), first: 200, others: 200),
            Row(request: Request("PUT", "/os-services/freeze", host), first: 200, others: 400),
            Row(request: Request("PUT", "/os-services/thaw", host), first: 200, others: 400),
            Row(
                request: Request("POST", "/attachments", ["attachment": ["volume_uuid": .string(volume)]]), first: 200, others: 400),
        ]
        for row in rows {
            let counts = atOnce(service, Array(repeating: row.request, count: Self.clients))
            let expected =
                row.first == row.others ? [row.first: Self.clients] : [row.first: 1, row.others: Self.clients - 1]
            #expect(counts == expected, "\(row.request.method) \(row.request.path)")
        }
        #expect(!service.log.contains("request failed"), "\(service.story)")
    }

    @Test("twenty types that take one name: one has it; a name that is free again is anybody's, with what was set for it")
    func renaming() throws {
        let service = try ServiceUnderTest()
        let types = try (0..<Self.clients).map {
            try service.api("POST", "/types", ["volume_type": ["name": .string("type-\($0)")]]).json["volume_type"]?["id"]?.string ?? ""
        }
        let counts = atOnce(service, types.map { Request("PUT", "/types/\($0)", ["volume_type": ["name": "same"]]) })
        #expect(counts == [200: 1, 409: Self.clients - 1])
        // One sets limits for the name while another takes the type away.
        for round in 0..<5 {
            let name = "round-\(round)"
            let id = try service.api("POST", "/types", ["volume_type": ["name": .string(name)]]).json["volume_type"]?["id"]?.string ?? ""
            let limits: JSON = ["quota_class_set": .object(JSONObject([(name: "volumes_\(name)", value: 5)]))]
            let answers = atOnce(
                service,
                Array(repeating: Request("PUT", "/os-quota-class-sets/default", limits), count: 10) + [Request("DELETE", "/types/\(id)")])
            #expect(Set(answers.keys).isSubset(of: [200, 202, 400]) && answers[202] == 1, "\(answers)")
            #expect(try service.api("PUT", "/types/\(types[round])", ["volume_type": ["name": .string(name)]]).status == 200)
        }
        #expect(!service.log.contains("request failed"), "\(service.story)")
    }
}
