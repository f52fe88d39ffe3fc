/// A value with one JSON form.
public protocol JSONValue: Sendable {
    /// What the form is, for lists of stored members: `integer`, `text`.
    static var jsonKind: String { get }
    /// nil if `json` is no such value.
    init?(json: JSON)
    /// nil: there is nothing to write, the member is left out.
    var json: JSON? { get }
}

/// A structure with a JSON object as its form. Its members are declared once, each by its stored name and its property:
///
///     struct Extension: JSONConvertible {
///         static let members = [JSONMember("new_size", \Self.newSize)]
///         var newSize = 0
///     }
///
/// A member that is missing keeps the value of `init()`; a member that is not declared is ignored: another release wrote it.
public protocol JSONConvertible: JSONValue {
    init()
    static var members: [JSONMember<Self>] { get }
}

/// One stored member of a structure.
public struct JSONMember<Root: Sendable>: Sendable {
    public let name: String
    /// The form of its value.
    public let kind: String
    fileprivate let read: @Sendable (JSON, inout Root) -> Bool
    fileprivate let write: @Sendable (Root) -> JSON?

    public init<Property: JSONValue>(_ name: String, _ path: WritableKeyPath<Root, Property> & Sendable) {
        self.name = name
        kind = Property.jsonKind
        read = { json, root in
            guard let value = Property(json: json) else { return false }
            root[keyPath: path] = value
            return true
        }
        write = { $0[keyPath: path].json }
    }
}

/// A member that does not hold what its structure declares.
public struct JSONMemberError: Error, CustomStringConvertible {
    public let description: String
}

extension JSONConvertible {
    public static var jsonKind: String { "object" }

    /// Throws `JSONError` or `JSONMemberError`.
    public init(parsing text: String) throws {
        try self.init(reading: JSON(parsing: text))
    }

    public init?(json: JSON) { try? self.init(reading: json) }

    private init(reading json: JSON) throws {
        self.init()
        guard let object = json.object else {
            throw JSONMemberError(description: "\(Self.self) is stored as an object, not as \(json.text)")
        }
        for member in Self.members {
            guard let value = object[member.name] else { continue }
            guard member.read(value, &self) else {
                throw JSONMemberError(description: "the member \(member.name) of \(Self.self) must be \(member.kind)")
            }
        }
    }

    public var json: JSON? {
        .object(JSONObject(Self.members.compactMap { member in member.write(self).map { (name: member.name, value: $0) } }))
    }

    /// Compact JSON.
    public var text: String { (json ?? .null).text }
}

extension Int: JSONValue {
    public static var jsonKind: String { "integer" }
    public init?(json: JSON) {
        guard let value = json.integer else { return nil }
        self.init(exactly: value)
    }
    public var json: JSON? { .integer(Int64(self)) }
}

extension Bool: JSONValue {
    public static var jsonKind: String { "boolean" }
    public init?(json: JSON) {
        guard let value = json.bool else { return nil }
        self = value
    }
    public var json: JSON? { .bool(self) }
}

extension String: JSONValue {
    public static var jsonKind: String { "text" }
    public init?(json: JSON) {
        guard let value = json.string else { return nil }
        self = value
    }
    public var json: JSON? { .string(self) }
}

extension JSON: JSONValue {
    public static var jsonKind: String { "any" }
    public init?(json: JSON) { self = json }
    public var json: JSON? { self }
}

extension JSONObject: JSONValue {
    public static var jsonKind: String { "object" }
    public init?(json: JSON) {
        guard let value = json.object else { return nil }
        self = value
    }
    public var json: JSON? { .object(self) }
}

extension Optional: JSONValue where Wrapped: JSONValue {
    public static var jsonKind: String { "optional \(Wrapped.jsonKind)" }
    public init?(json: JSON) {
        if json.isNull {
            self = .none
        } else {
            guard let value = Wrapped(json: json) else { return nil }
            self = .some(value)
        }
    }
    // Not `\.json`: the key path of a generic type is made anew by each call.
    public var json: JSON? { flatMap { $0.json } }
}

extension Array: JSONValue where Element: JSONValue {
    public static var jsonKind: String { "list of \(Element.jsonKind)" }
    public init?(json: JSON) {
        guard let values = json.array else { return nil }
        var result: [Element] = []
        for value in values {
            guard let element = Element(json: value) else { return nil }
            result.append(element)
        }
        self = result
    }
    public var json: JSON? { .array(map { $0.json ?? .null }) }
}
