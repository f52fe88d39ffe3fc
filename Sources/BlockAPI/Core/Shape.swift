import JSON

/// What a value in an answer may be: the part of JSON Schema that answers need. An object of the API holds exactly its members, so
/// that a member nobody declared is a fault that tests find.
indirect enum Shape: Sendable {
    case any
    case text
    /// A text in the one form of `Timestamp`.
    case time
    case integer, number, boolean, null
    /// One of the texts.
    case choice([String])
    case nullable(Shape)
    case list(Shape)
    /// An object whose names are the user's or a driver's.
    case map(Shape)
    case object([Member])
    case either([Shape])
    /// What the API's description has under a name.
    case named(String, Shape)

    struct Member: Sendable {
        let name: String
        let shape: Shape
        /// Left out for some callers or some values.
        var isOptional = false

        init(_ name: String, _ shape: Shape, isOptional: Bool = false) {
            self.name = name
            self.shape = shape
            self.isOptional = isOptional
        }
    }

    /// An object of one member.
    static func of(_ name: String, _ shape: Shape) -> Shape { .object([Member(name, shape)]) }

    static let links = Shape.list(.object([Member("rel", .text), Member("href", .text)]))

    /// As JSON Schema, draft 2020-12, which OpenAPI 3.1 has.
    var schema: JSON {
        switch self {
        case .any: return [:]
        case .text: return ["type": "string"]
        case .time: return ["type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?$"]
        case .integer: return ["type": "integer"]
        case .number: return ["type": "number"]
        case .boolean: return ["type": "boolean"]
        case .null: return ["type": "null"]
        case .choice(let texts): return ["type": "string", "enum": .array(texts.map { .string($0) })]
        case .nullable(let shape):
            guard var schema = shape.schema.object, let type = schema["type"], schema["enum"] == nil else {
                return ["anyOf": [shape.schema, ["type": "null"]]]
            }
            schema["type"] = [type, "null"]
            return .object(schema)
        case .list(let item): return ["type": "array", "items": item.schema]
        case .map(let value): return ["type": "object", "additionalProperties": value.schema]
        case .object(let members):
            return [
                "type": "object", "properties": .object(JSONObject(members.map { (name: $0.name, value: $0.shape.schema) })),
                "required": .array(members.filter { !$0.isOptional }.map { .string($0.name) }), "additionalProperties": false,
            ]
        case .either(let shapes): return ["anyOf": .array(shapes.map(\.schema))]
        case .named(let name, _): return ["$ref": .string("#/components/schemas/\(name)")]
        }
    }

    /// The shapes with names in it.
    var named: [(name: String, shape: Shape)] {
        switch self {
        case .nullable(let shape), .list(let shape), .map(let shape): shape.named
        case .object(let members): members.flatMap(\.shape.named)
        case .either(let shapes): shapes.flatMap(\.named)
        case .named(let name, let shape): [(name, shape)] + shape.named
        default: []
        }
    }
}
