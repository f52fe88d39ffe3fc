import HTTPServer
import JSON
import Policy

/// The API at one microversion as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.1.html).
struct OpenAPIDocument {
    private let operations: [APIOperation]
    private let version: Int

    init(_ operations: [APIOperation], version: Int) {
        self.operations = operations.filter { $0.versions.contains(version) }
        self.version = version
    }

    var json: JSON {
        [
            "openapi": "3.1.1",
            "info": [
                "title": "Clinker: OpenStack Block Storage API v3", "version": .string("3.\(version)"),
                "description": .string(
                    "Operations, bodies and answers at microversion 3.\(version). "
                        + "Every change that takes time is answered 202 and carried on by an operation: see /operations."),
                "license": ["name": "Apache-2.0", "identifier": "Apache-2.0"],
            ],
            "servers": [
                ["url": "/v3", "description": "The project is the token's."],
                [
                    "url": "/v3/{project_id}", "description": "With the project in the path.",
                    "variables": ["project_id": ["default": "project", "description": "The id of the token's project."]],
                ],
            ],
            "security": [["token": []], ["basic": []]], "tags": tags, "paths": paths, "components": components,
        ]
    }

    // MARK: paths

    private static func tag(_ operation: APIOperation) -> String { String(operation.path.split(separator: "/")[0]) }

    private var tags: JSON {
        var names: [String] = []
        for operation in operations where !names.contains(Self.tag(operation)) { names.append(Self.tag(operation)) }
        return .array(names.sorted().map { ["name": .string($0)] })
    }

    private var paths: JSON {
        var paths: [String: [String: [APIOperation]]] = [:]
        for operation in operations { paths[operation.path, default: [:]][operation.method.lowercased(), default: []].append(operation) }
        return .object(
            JSONObject(
                paths.sorted { $0.key < $1.key }.map { path, methods in
                    var item = JSONObject()
                    for (method, operations) in methods.sorted(by: { $0.key < $1.key }) { item[method] = described(operations) }
                    return (name: path, value: .object(item))
                }))
    }

    /// What stands behind one path and method: an operation, or the actions of a resource.
    private func described(_ operations: [APIOperation]) -> JSON {
        let first = operations[0]
        var result: JSONObject = [:]
        if first.action == nil {
            result["operationId"] = .string(first.name)
            result["summary"] = .string(first.summary)
            result["x-policies"] = Self.policies(first)
        } else {
            result["operationId"] = .string("\(Self.tag(first)):action")
            result["summary"] = "One of the actions of the resource: the body's one member says which"
            result["x-actions"] = .object(
                JSONObject(
                    operations.map { operation in
                        (
                            name: operation.action ?? operation.name,
                            value: [
                                "summary": .string(operation.summary), "x-policies": Self.policies(operation),
                                "status": JSON(operation.success.status),
                            ]
                        )
                    }))
        }
        result["tags"] = [.string(Self.tag(first))]
        result["parameters"] = parameters(first)
        let bodies = operations.compactMap { $0.schema(version)?.openAPI }
        if !bodies.isEmpty {
            let schema: JSON = bodies.count == 1 ? bodies[0] : ["oneOf": .array(bodies)]
            result["requestBody"] = ["required": true, "content": ["application/json": ["schema": schema]]]
        }
        result["responses"] = responses(operations)
        return .object(result)
    }

    private func parameters(_ operation: APIOperation) -> JSON {
        var result: [JSON] = operation.path.split(separator: "/").filter { $0.first == "{" }.map { segment in
            [
                "name": .string(String(segment.dropFirst().dropLast())), "in": "path", "required": true,
                "schema": ["type": "string", "minLength": 1],
            ]
        }
        result += operation.query.filter { $0.versions.contains(version) }.map { parameter in
            [
                "name": .string(parameter.name), "in": "query", "description": .string(parameter.text), "schema": parameter.shape.schema,
            ]
        }
        return .array(result + [["$ref": "#/components/parameters/Microversion"]])
    }

    /// Who may, unless the operator's policy file says otherwise: rules with what they come to.
    private static func policies(_ operation: APIOperation) -> JSON {
        .array(operation.policies.map { ["rule": .string($0.name), "default": .string(meaning(of: $0.name))] })
    }

    private static let rules = Dictionary(PolicyTable.all.map { ($0.name, $0.standard) }, uniquingKeysWith: { first, _ in first })

    /// A rule's expression with those that it refers to in their places.
    private static func meaning(of rule: String) -> String {
        (rules[rule] ?? "").split(separator: " ").map { word in
            let bare = word.drop { $0 == "(" }
            let name = String(bare.prefix { $0 != ")" })
            guard name.hasPrefix("rule:") else { return String(word) }
            let (before, after) = (word.prefix(word.count - bare.count), bare.dropFirst(name.count))
            return before + "(\(meaning(of: String(name.dropFirst(5)))))" + after
        }.joined(separator: " ")
    }

    // MARK: responses

    private func responses(_ operations: [APIOperation]) -> JSON {
        var result = JSONObject()
        for status in Set(operations.flatMap { [$0.success.status] + $0.success.alternatives.map(\.status) }).sorted() {
            result["\(status)"] = success(status, operations)
        }
        let first = operations[0]
        var errors: [(status: String, name: String)] = [("400", "BadRequest"), ("401", "Unauthorized")]
        if operations.contains(where: { !$0.policies.isEmpty }) { errors.append(("403", "Forbidden")) }
        if first.path.contains("{") { errors.append(("404", "NotFound")) }
        errors.append(("406", "NotAcceptable"))
        if first.method != "GET" { errors.append(("409", "Conflict")) }
        if operations.contains(where: { !$0.bodies.isEmpty }) { errors += [("413", "OverLimit"), ("415", "UnsupportedMediaType")] }
        errors += [("503", "Unavailable"), ("default", "Fault")]
        for (status, name) in errors { result[status] = ["$ref": .string("#/components/responses/\(name)")] }
        return .object(result)
    }

    private func success(_ status: Int, _ operations: [APIOperation]) -> JSON {
        let meant = operations.filter { $0.success.status == status }
        let texts = operations.flatMap { $0.success.alternatives.filter { $0.status == status }.map(\.text) }
        var headers: JSONObject = [
            "OpenStack-API-Version": ["$ref": "#/components/headers/Microversion"],
            "x-openstack-request-id": ["$ref": "#/components/headers/RequestID"],
        ]
        for header in meant.flatMap(\.success.headers) {
            headers[header.name] = ["description": .string(header.text), "schema": ["type": "string"]]
        }
        let what = status == 202 ? "Accepted: the work goes on." : "Done."
        var response: JSONObject = ["description": .string(texts.first ?? what), "headers": .object(headers)]
        let shapes = meant.compactMap { $0.success.shape?(version).schema }
        if !shapes.isEmpty {
            let schema: JSON = shapes.count == 1 ? shapes[0] : ["anyOf": .array(shapes)]
            response["content"] = [HTTPResponse.json: ["schema": schema]]
        } else if let type = meant.first?.success.contentType, type == "text/event-stream" {
            response["content"] = [type: ["schema": ["type": "string"]]]
        }
        return .object(response)
    }

    // MARK: components

    private var components: JSON {
        var schemas = JSONObject()
        for (name, shape) in named.sorted(by: { $0.name < $1.name }) where schemas[name] == nil { schemas[name] = shape.schema }
        schemas["Boolean"] = Schema.boolean.plainOpenAPI
        schemas["Fault"] = Self.fault
        var components = Self.shared
        components["schemas"] = .object(schemas)
        return .object(components)
    }

    /// The shapes with names in all answers.
    var named: [(name: String, shape: Shape)] { operations.compactMap { $0.success.shape?(version) }.flatMap(\.named) }

    /// What every microversion has.
    private static let shared: JSONObject = {
        func response(_ text: String) -> JSON {
            [
                "description": .string(text),
                "content": ["application/json": ["schema": ["$ref": "#/components/schemas/Fault"]]],
            ]
        }
        return [
            "securitySchemes": [
                "token": ["type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "A token of Keystone's."],
                "basic": ["type": "http", "scheme": "basic", "description": "Where auth_strategy is http_basic."],
            ],
            "parameters": [
                "Microversion": [
                    "name": "OpenStack-API-Version", "in": "header",
                    "description": "`volume 3.N`, or `volume latest`; without it 3.0 is meant.",
                    "schema": ["type": "string"], "example": .string("volume 3.\(APIVersion.latest)"),
                ]
            ],
            "headers": [
                "Microversion": ["description": "The microversion of the answer.", "schema": ["type": "string"]],
                "RequestID": ["description": "The request's id, as logs name it.", "schema": ["type": "string"]],
            ],
            "responses": [
                "BadRequest": response("The request is malformed, or a value is not allowed: the message names it."),
                "Unauthorized": response("Who asks is not known."), "Forbidden": response("The caller may not."),
                "NotFound": response("There is no such thing, or the caller may not see it."),
                "NotAcceptable": response("The microversion is not served."),
                "Conflict": response("The thing's state, or another operation on it, does not allow it."),
                "OverLimit": response("A quota does not allow it, or the body is too large."),
                "UnsupportedMediaType": response("The body is no JSON."),
                "Unavailable": response("Not now: Retry-After says when."), "Fault": response("Any other error."),
            ],
        ]
    }()

    /// `{"badRequest": {"code": 400, "message": "..."}}`, or the router's own for a path that nothing serves.
    private static let fault: JSON = {
        let detail: JSON = [
            "type": "object", "required": ["code", "message"],
            "properties": [
                "code": ["type": "integer"], "message": ["type": "string"], "retryAfter": ["type": "string"], "title": ["type": "string"],
            ],
        ]
        return [
            "anyOf": [
                ["type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": detail],
                [
                    "type": "object", "required": ["code", "title", "message"],
                    "properties": ["code": ["type": "string"], "title": ["type": "string"], "message": ["type": "string"]],
                ],
            ]
        ]
    }()
}
