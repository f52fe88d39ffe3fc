/// Reads JSON of any size from a buffer without building values: for indexes and trees, which have millions of members. It is as strict
/// as their use needs: every syntax error is found in what is read, and nesting is limited in what is skipped.
struct JSONScanner {
    struct Fault: Error, CustomStringConvertible {
        let description: String
    }

    private let bytes: UnsafeRawBufferPointer
    private(set) var position = 0
    private static let depthLimit = 64

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    func fault(_ reason: String) -> Fault { Fault(description: "\(reason) at byte \(position)") }

    @inline(__always)
    private mutating func next() throws -> UInt8 {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
            position &+= 1
        }
        throw fault("the text ends early")
    }

    private mutating func expect(_ byte: Unicode.Scalar) throws {
        guard try next() == UInt8(ascii: byte) else { throw fault("expected \(byte)") }
        position &+= 1
    }

    /// Whether a value is `null`, which is read then.
    mutating func null() throws -> Bool {
        guard try next() == UInt8(ascii: "n") else { return false }
        try word("null")
        return true
    }

    private mutating func word(_ text: StaticString) throws {
        let count = text.utf8CodeUnitCount
        guard position + count <= bytes.count else { throw fault("the text ends early") }
        for index in 0..<count where bytes[position + index] != text.utf8Start[index] { throw fault("expected \(text)") }
        position += count
    }

    /// Reads an object. `member` gets every name, without undoing escapes, and reads its value.
    mutating func object(_ member: (inout JSONScanner, UnsafeRawBufferPointer) throws -> Void) throws {
        try expect("{")
        if try next() == UInt8(ascii: "}") {
            position &+= 1
            return
        }
        while true {
            let name = try rawString()
            try expect(":")
            try member(&self, name)
            let separator = try next()
            position &+= 1
            if separator == UInt8(ascii: "}") { return }
            guard separator == UInt8(ascii: ",") else { throw fault("an object is not closed") }
        }
    }

    /// Reads an array. `element` reads every element.
    mutating func array(_ element: (inout JSONScanner) throws -> Void) throws {
        try expect("[")
        if try next() == UInt8(ascii: "]") {
            position &+= 1
            return
        }
        while true {
            try element(&self)
            let separator = try next()
            position &+= 1
            if separator == UInt8(ascii: "]") { return }
            guard separator == UInt8(ascii: ",") else { throw fault("an array is not closed") }
        }
    }

    /// The same for an array that may be `null`, as Go writes empty ones.
    mutating func arrayOrNull(_ element: (inout JSONScanner) throws -> Void) throws {
        if try null() { return }
        try array(element)
    }

    /// The bytes between the quotes, without undoing escapes.
    mutating func rawString() throws -> UnsafeRawBufferPointer {
        try expect("\"")
        let start = position
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: "\""):
                let text = UnsafeRawBufferPointer(rebasing: bytes[start..<position])
                position &+= 1
                return text
            case UInt8(ascii: "\\"): position &+= 2
            case 0..<0x20: throw fault("a control character in a string")
            default: position &+= 1
            }
        }
        throw fault("a string is not closed")
    }

    /// A string without escapes, as our own objects have; nil if it has escapes.
    mutating func plainString() throws -> String? {
        let raw = try rawString()
        return raw.contains(UInt8(ascii: "\\")) ? nil : String(decoding: raw, as: UTF8.self)
    }

    mutating func digest() throws -> Digest {
        guard let digest = Digest(hexadecimal: try rawString()) else { throw fault("expected 64 hexadecimal digits") }
        return digest
    }

    mutating func unsigned(atMost limit: UInt64) throws -> UInt64 {
        var value: UInt64 = 0
        let first = try next()
        let start = position
        guard first >= UInt8(ascii: "0"), first <= UInt8(ascii: "9") else { throw fault("expected a number without a sign") }
        while position < bytes.count, bytes[position] >= UInt8(ascii: "0"), bytes[position] <= UInt8(ascii: "9") {
            guard position - start < 19 else { throw fault("a number is too long") }
            value = value &* 10 &+ UInt64(bytes[position] &- UInt8(ascii: "0"))
            position &+= 1
        }
        guard value <= limit else { throw fault("a number is greater than \(limit)") }
        if position < bytes.count, [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains(bytes[position]) {
            throw fault("expected a whole number")
        }
        return value
    }

    /// Reads a value of any kind.
    mutating func skip(depth: Int = 0) throws {
        guard depth < Self.depthLimit else { throw fault("nested deeper than \(Self.depthLimit)") }
        switch try next() {
        case UInt8(ascii: "{"): try object { scanner, _ in try scanner.skip(depth: depth + 1) }
        case UInt8(ascii: "["): try array { scanner in try scanner.skip(depth: depth + 1) }
        case UInt8(ascii: "\""): _ = try rawString()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        default:
            let start = position
            while position < bytes.count, isNumeric(bytes[position]) { position &+= 1 }
            guard position > start else { throw fault("unexpected character") }
        }
    }

    private func isNumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "e"),
            UInt8(ascii: "E"):
            true
        default: false
        }
    }

    /// Only white space may follow.
    mutating func end() throws {
        while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) { position &+= 1 }
        guard position >= bytes.count else { throw fault("text after the value") }
    }
}

extension UnsafeRawBufferPointer {
    /// Whether the bytes are those of an ASCII text.
    @inline(__always)
    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        for index in 0..<count where self[index] != text.utf8Start[index] { return false }
        return true
    }
}
