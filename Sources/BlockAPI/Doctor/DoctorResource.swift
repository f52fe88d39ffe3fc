import BlockStorage
import HTTPServer
import JSON

/// `/doctor`: beside Cinder's API, for `clinker doctor`.
struct DoctorResource: Resource {
    let examination: any StorageExamination

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-doctor", name: "Doctor",
                description: "Compares the database, the operation log and the backends, and repairs what is safe.",
                updated: "2026-11-21T00:00:00+00:00",
                operations: [
                    APIOperation(
                        "doctor:examine", "POST", "/doctor", policies: ["clinker:doctor"],
                        body: .object([("doctor", .object([("repair", .boolean)]))], required: ["doctor"]),
                        answers: .json(.map(.any)), summary: "Compare database, operation log and backends"
                    ) { request in try await examination.examine(repair: request.body["doctor"]?["repair"]?.lenientBool ?? false) }
                ])
        ]
    }
}
