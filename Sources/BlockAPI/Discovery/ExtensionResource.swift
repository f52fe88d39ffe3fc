import HTTPServer
import JSON

/// `/extensions`
struct ExtensionResource: Resource {
    let loaded: [APIExtension]

    private static let view = View<APIExtension>(
        "extension", "extensions",
        [
            .text("name") { $0.name },
            .text("alias") { $0.alias },
            .text("description") { $0.description },
            .text("updated") { $0.updated },
            .written("links", Shape.links) { _, _, writer in
                writer.beginArray()
                writer.endArray()
            },
        ])

    var operations: [APIOperation] {
        [
            APIOperation("extensions:list", "GET", "/extensions", answers: .all(Self.view), summary: "List the loaded extensions") { _ in
                loaded
            },
            APIOperation("extensions:show", "GET", "/extensions/{alias}", answers: .one(Self.view), summary: "Show an extension") {
                request in
                guard let found = loaded.first(where: { $0.alias == request.parameters[0] }) else {
                    throw HTTPError.notFound("The resource could not be found.")
                }
                return found
            },
        ]
    }
}
