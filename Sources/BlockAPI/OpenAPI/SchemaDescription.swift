import JSON

extension Schema {
    /// As OpenAPI 3.1 has it, which takes JSON Schema, draft 2020-12.
    var openAPI: JSON {
        // Long, and in many bodies.
        if let choices, choices == Schema.boolean.choices { return ["$ref": "#/components/schemas/Boolean"] }
        return plainOpenAPI
    }

    var plainOpenAPI: JSON {
        if let alternatives { return ["anyOf": .array(alternatives.map(\.openAPI))] }
        var result = JSONObject()
        if kinds.count == 1 { result["type"] = .string(kinds[0].rawValue) }
        if kinds.count > 1 { result["type"] = .array(kinds.map { .string($0.rawValue) }) }
        if let choices {
            result["enum"] = .array(choices + (kinds.contains(.null) && !choices.contains(.null) ? [.null] : []))
        }
        if let minimumLength, minimumLength > 0 { result["minLength"] = JSON(minimumLength) }
        result["maxLength"] = maximumLength.map { JSON($0) }
        result["minimum"] = minimum.map { .integer($0) }
        result["maximum"] = maximum.map { .integer($0) }
        result["pattern"] = pattern.map { .string($0.text) }
        if let format { describe(format, &result) }
        if !properties.isEmpty {
            result["properties"] = .object(JSONObject(properties.map { (name: $0.name, value: $0.schema.openAPI) }))
        }
        if !patternProperties.isEmpty {
            result["patternProperties"] = .object(
                JSONObject(patternProperties.map { (name: $0.pattern.text, value: $0.schema.openAPI) }))
        }
        if !required.isEmpty { result["required"] = .array(required.map { .string($0) }) }
        if !allowsOthers { result["additionalProperties"] = false }
        result["items"] = elements.first?.openAPI
        if areUnique { result["uniqueItems"] = true }
        result["minProperties"] = minimumMembers.map { JSON($0) }
        result["maxProperties"] = maximumMembers.map { JSON($0) }
        if let anyRequired { result["anyOf"] = .array(anyRequired.map { ["required": [.string($0)]] }) }
        return .object(result)
    }

    private func describe(_ format: Format, _ result: inout JSONObject) {
        switch format {
        case .uuid: result["format"] = "uuid"
        case .name, .description: result["description"] = "At most 255 characters without the blanks around it."
        case .mandatoryName: result["description"] = "Not blank."
        case .trimmedName: result["description"] = "Not blank, and at most 255 characters without the blanks around it."
        case .integer: result["description"] = "A whole number."
        case .longText: result["description"] = "At most 65535 bytes."
        case .printable: result["description"] = "Only characters that can be printed."
        case .state(_, let known, _, let isNeeded):
            result["description"] = .string(
                "In any case of letters one of \(known.joined(separator: ", "))" + (isNeeded ? "." : "; empty for none."))
        case .base64: result["contentEncoding"] = "base64"
        case .progress: result["pattern"] = "^([0-9]{1,2}%|100%)?$"
        }
    }
}
