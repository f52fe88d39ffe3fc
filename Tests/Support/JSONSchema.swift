public import JSON

/// Checks values against JSON Schema as the API's description uses it: type, properties, required, additionalProperties, items, enum, anyOf,
/// pattern and references into the document.
public struct JSONSchemaCheck {
    /// Where references lead.
    private let document: JSON

    public init(in document: JSON) { self.document = document }

    /// What of the value the schema does not allow, a line each.
    public func violations(_ value: JSON, _ schema: JSON, at path: String = "") -> [String] {
        if let reference = schema["$ref"]?.string {
            guard let target = resolve(reference) else { return ["\(path): \(reference) leads nowhere"] }
            return violations(value, target, at: path)
        }
        if let choices = schema["anyOf"]?.array, schema["type"] == nil {
            let found = choices.map { violations(value, $0, at: path) }
            if found.contains(where: \.isEmpty) { return [] }
            return found.min { $0.count < $1.count } ?? []
        }
        if let type = schema["type"] {
            let types = type.array?.compactMap(\.string) ?? [type.string ?? ""]
            guard types.contains(where: { Self.holds($0, value) }) else {
                return ["\(path) is no \(types.joined(separator: " or ")): \(value.text.prefix(200))"]
            }
        }
        if let choices = schema["enum"]?.array, !choices.contains(value) {
            return ["\(path) is none of \(choices.map(\.text)): \(value.text)"]
        }
        if let pattern = schema["pattern"]?.string, let text = value.string, let regex = try? Regex(pattern),
            (try? regex.firstMatch(in: text)) == nil
        {
            return ["\(path) does not match \(pattern): \(text)"]
        }
        switch value {
        case .object(let object): return members(object, schema, at: path)
        case .array(let items):
            guard let item = schema["items"] else { return [] }
            return items.enumerated().flatMap { violations($1, item, at: "\(path)[\($0)]") }
        default: return []
        }
    }

    private func members(_ object: JSONObject, _ schema: JSON, at path: String) -> [String] {
        var found: [String] = []
        for name in schema["required"]?.array?.compactMap(\.string) ?? [] where object[name] == nil {
            found.append("\(path).\(name) is missing")
        }
        for (name, value) in object.members {
            if let known = schema["properties"]?[name] {
                found += violations(value, known, at: "\(path).\(name)")
            } else if schema["additionalProperties"] == .bool(false) {
                found.append("\(path).\(name) is not declared")
            } else if let others = schema["additionalProperties"], others.object != nil {
                found += violations(value, others, at: "\(path).\(name)")
            }
        }
        return found
    }

    private func resolve(_ reference: String) -> JSON? {
        reference.split(separator: "/").dropFirst().reduce(document) { $0?[String($1)] }
    }

    private static func holds(_ type: String, _ value: JSON) -> Bool {
        switch (type, value) {
        case ("null", .null), ("string", .string), ("boolean", .bool), ("integer", .integer), ("number", .integer), ("number", .real),
            ("array", .array), ("object", .object):
            true
        default: false
        }
    }
}

/// Checks answers against an OpenAPI document of the API.
public struct OpenAPICheck {
    private let document: JSON
    private let templates: [(segments: [Substring], item: JSON)]

    public init(_ document: JSON) {
        self.document = document
        templates = (document["paths"]?.object?.members ?? []).map { ($0.name.split(separator: "/"), $0.value) }
            .sorted { a, b in a.segments.count { $0.first == "{" } < b.segments.count { $0.first == "{" } }
    }

    /// What of the answer the document does not say. `path`: below `/v3` or `/v3/{project_id}`, without the query.
    public func violations(_ method: String, _ path: String, status: Int, contentType: String?, body: String) -> [String] {
        let segments = path.split(separator: "/")
        let found = templates.first { template, item in
            template.count == segments.count && item[method.lowercased()] != nil
                && zip(template, segments).allSatisfy { $0.first == "{" || $0 == $1 }
        }
        guard let operation = found?.item[method.lowercased()] else {
            return status < 400 ? ["\(method) \(path): \(status) to what the document does not have"] : []
        }
        guard var response = operation["responses"]?["\(status)"] ?? (status >= 400 ? operation["responses"]?["default"] : nil) else {
            return ["\(method) \(path): \(status) is not declared"]
        }
        let check = JSONSchemaCheck(in: document)
        if let reference = response["$ref"]?.string {
            response = reference.split(separator: "/").dropFirst().reduce(document) { $0[String($1)] ?? .null }
        }
        guard !body.isEmpty else { return [] }
        let type = String((contentType ?? "").prefix { $0 != ";" })
        guard let content = response["content"]?.object else { return ["\(method) \(path): \(status) has a body: \(body.prefix(200))"] }
        // A few answers of Cinder's say that they are HTML and hold JSON.
        guard let schema = (content[type] ?? content["application/json"])?["schema"] else {
            return ["\(method) \(path): \(type) is not declared"]
        }
        guard content["application/json"] != nil else { return [] }
        guard let value = try? JSON(parsing: body) else { return ["\(method) \(path): no JSON: \(body.prefix(200))"] }
        return check.violations(value, schema).map { "\(method) \(path) \(status): \($0)" }
    }
}
