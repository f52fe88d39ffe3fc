import HTTPServer
import JSON

/// `/doctor`: beside Cinder's API, for `clinker doctor`.
enum DoctorOperations {
    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "clinker-doctor", name: "Doctor",
            description: "Compares the database, the operation log and the backends, and repairs what is safe.",
            updated: "2026-11-21T00:00:00+00:00",
            operations: [
                APIOperation(
                    "doctor:examine", "POST", "/doctor", policies: ["clinker:doctor"],
                    body: .object([("doctor", .object([("repair", .boolean)]))], required: ["doctor"]),
                    summary: "Compare database, operation log and backends"
                ) { request in
                    let repair = request.body["doctor"]?["repair"].flatMap { $0.bool ?? $0.string.flatMap(PythonText.bool) } ?? false
                    let report = try await request.service.examine(repair)
                    return .json { $0.value(report) }
                }
            ])
    ]
}
