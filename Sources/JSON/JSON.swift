/// A JSON value. Objects keep the order of their members; numbers that fit `Int64` are kept as integers.
public enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case real(Double)
    case string(String)
    case array([JSON])
    case object(JSONObject)

    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }
    public var isNull: Bool { self == .null }

    /// The member of an object; nil if it is missing or the value is not an object.
    public subscript(name: String) -> JSON? { object?[name] }

    /// Compact JSON text.
    public var text: String {
        var writer = JSONWriter(capacity: 256)
        writer.value(self)
        return writer.takeString()
    }
}

/// The members of a JSON object in the order they were read or added.
public struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    public private(set) var members: [(name: String, value: JSON)]

    public init(_ members: [(name: String, value: JSON)] = []) { self.members = members }
    public init(dictionaryLiteral elements: (String, JSON)...) { members = elements.map { (name: $0.0, value: $0.1) } }

    public var isEmpty: Bool { members.isEmpty }
    public var count: Int { members.count }
    public var names: [String] { members.map(\.name) }

    /// Reads, replaces, appends or (with nil) removes a member.
    public subscript(name: String) -> JSON? {
        get { members.first { $0.name == name }?.value }
        set {
            if let index = members.firstIndex(where: { $0.name == name }) {
                if let newValue { members[index].value = newValue } else { members.remove(at: index) }
            } else if let newValue {
                members.append((name: name, value: newValue))
            }
        }
    }

    mutating func append(_ name: String, _ value: JSON) { members.append((name: name, value: value)) }

    /// Equal when both hold the same members, in any order.
    public static func == (a: JSONObject, b: JSONObject) -> Bool {
        a.count == b.count && a.members.allSatisfy { b[$0.name] == $0.value }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
    ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(JSONObject(elements.map { (name: $0.0, value: $0.1) }))
    }
    public init(nilLiteral: ()) { self = .null }

    /// A string, or null for nil.
    public init(_ value: String?) { self = value.map(JSON.string) ?? .null }
    /// An integer.
    public init(_ value: Int) { self = .integer(Int64(value)) }
}
