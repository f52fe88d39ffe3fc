import Primitives

/// A value of a driver call: an argument or a result, possibly nested.
public enum DriverValue: Sendable, Equatable {
    case null
    case boolean(Bool)
    case integer(Int64)
    case real(Double)
    case string(String)
    /// A string that must not appear in logs.
    case secret(String)
    case list([DriverValue])
    case object([Member])

    public struct Member: Sendable, Equatable {
        public let name: String
        public var value: DriverValue
        public init(_ name: String, _ value: DriverValue) {
            self.name = name
            self.value = value
        }
    }

    public static func members(_ members: KeyValuePairs<String, DriverValue>) -> DriverValue {
        .object(members.map { Member($0.key, $0.value) })
    }
    /// An object with one more member; whatever is no object stays as it is, and so does one whose value is nil.
    public func adding(_ name: String, _ value: DriverValue?) -> DriverValue {
        guard case .object(let members) = self, let value else { return self }
        return .object(members + [Member(name, value)])
    }
    public static func optional(_ text: String?) -> DriverValue { text.map { .string($0) } ?? .null }

    /// The member of an object with the name.
    public subscript(name: String) -> DriverValue? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    /// A nested value by its path: names and indexes joined by dots. Members whose names contain dots are found too.
    public func find(_ path: String) -> DriverValue? { find(path[...]) }

    private func find(_ path: Substring) -> DriverValue? {
        if case .object(let members) = self, let direct = members.first(where: { $0.name == path }) { return direct.value }
        guard let dot = path.utf8.firstIndex(of: UInt8(ascii: ".")) else {
            if case .list(let items) = self, let index = Int(path), items.indices.contains(index) { return items[index] }
            return nil
        }
        return find(path[..<dot])?.find(path[path.utf8.index(after: dot)...])
    }

    public var string: String? {
        switch self {
        case .string(let value), .secret(let value): value
        case .integer(let value): String(value)
        case .boolean(let value): value ? "true" : "false"
        case .real(let value): String(value)
        default: nil
        }
    }
    public var integer: Int64? {
        switch self {
        case .integer(let value): value
        case .string(let text): Int64(text)
        default: nil
        }
    }
    public var real: Double? {
        switch self {
        case .real(let value): value
        case .integer(let value): Double(value)
        case .string(let text): Double(text)
        default: nil
        }
    }
    public var boolean: Bool? {
        switch self {
        case .boolean(let value): value
        case .string(let text): Bool(word: text)
        default: nil
        }
    }
    public var list: [DriverValue]? { if case .list(let items) = self { items } else { nil } }

    /// A description for logs, without secrets.
    public var loggable: String {
        switch self {
        case .null: "null"
        case .boolean(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .real(let value): "\(value)"
        case .string(let value): value
        case .secret: "***"
        case .list(let items): "[" + items.map(\.loggable).joined(separator: ", ") + "]"
        case .object(let members): "{" + members.map { "\($0.name): \($0.value.loggable)" }.joined(separator: ", ") + "}"
        }
    }
}

/// The bytes received over the wire cannot be decoded.
public struct WireError: Error, CustomStringConvertible, Sendable {
    public let description: String
    package init(_ description: String) { self.description = description }
}

extension DriverValue {
    private enum Tag: UInt8 { case null, false_, true_, integer, real, string, secret, list, object }
    static let depthLimit = 16

    /// Appends the encoded value: a tag, then fixed-width little-endian numbers; texts are preceded by their length.
    func encode(into bytes: inout [UInt8]) {
        switch self {
        case .null: bytes.append(Tag.null.rawValue)
        case .boolean(let value): bytes.append((value ? Tag.true_ : .false_).rawValue)
        case .integer(let value):
            bytes.append(Tag.integer.rawValue)
            Self.append(UInt64(bitPattern: value), to: &bytes)
        case .real(let value):
            bytes.append(Tag.real.rawValue)
            Self.append(value.bitPattern, to: &bytes)
        case .string(let value):
            bytes.append(Tag.string.rawValue)
            Self.append(value, to: &bytes)
        case .secret(let value):
            bytes.append(Tag.secret.rawValue)
            Self.append(value, to: &bytes)
        case .list(let items):
            bytes.append(Tag.list.rawValue)
            Self.append(UInt32(items.count), to: &bytes)
            for item in items { item.encode(into: &bytes) }
        case .object(let members):
            bytes.append(Tag.object.rawValue)
            Self.append(UInt32(members.count), to: &bytes)
            for member in members {
                Self.append(member.name, to: &bytes)
                member.value.encode(into: &bytes)
            }
        }
    }

    static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    static func append(_ text: String, to bytes: inout [UInt8]) {
        append(UInt32(text.utf8.count), to: &bytes)
        bytes.append(contentsOf: text.utf8)
    }

    init(decoding bytes: [UInt8]) throws {
        self = try bytes.withUnsafeBytes { try DriverValue(decoding: $0) }
    }

    init(decoding bytes: UnsafeRawBufferPointer) throws {
        var decoder = Decoder(bytes: bytes)
        self = try decoder.value(depth: 0)
        guard decoder.position == bytes.count else { throw WireError("bytes after the value") }
    }

    private struct Decoder {
        let bytes: UnsafeRawBufferPointer
        var position = 0

        init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

        mutating func value(depth: Int) throws -> DriverValue {
            guard depth <= DriverValue.depthLimit else { throw WireError("nested too deep") }
            guard position < bytes.count, let tag = Tag(rawValue: bytes[position]) else { throw WireError("unknown tag") }
            position += 1
            switch tag {
            case .null: return .null
            case .false_: return .boolean(false)
            case .true_: return .boolean(true)
            case .integer: return .integer(Int64(bitPattern: try number(UInt64.self)))
            case .real: return .real(Double(bitPattern: try number(UInt64.self)))
            case .string: return .string(try text())
            case .secret: return .secret(try text())
            case .list:
                let count = try count()
                var items: [DriverValue] = []
                for _ in 0..<count { items.append(try value(depth: depth + 1)) }
                return .list(items)
            case .object:
                let count = try count()
                var members: [Member] = []
                for _ in 0..<count { members.append(Member(try text(), try value(depth: depth + 1))) }
                return .object(members)
            }
        }

        mutating func number<T: FixedWidthInteger>(_ type: T.Type) throws -> T {
            let size = MemoryLayout<T>.size
            guard position + size <= bytes.count else { throw WireError("value ends early") }
            defer { position += size }
            return T(littleEndian: bytes.loadUnaligned(fromByteOffset: position, as: T.self))
        }

        /// Every item takes at least one byte, so a larger count is invalid and must not allocate memory.
        mutating func count() throws -> Int {
            let count = Int(try number(UInt32.self))
            guard count <= bytes.count - position else { throw WireError("a count beyond the frame") }
            return count
        }

        mutating func text() throws -> String {
            let length = try count()
            defer { position += length }
            guard let text = String(validating: bytes[position..<position + length], as: UTF8.self) else {
                throw WireError("text is not UTF-8")
            }
            return text
        }
    }
}
