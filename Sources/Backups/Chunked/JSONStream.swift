import JSON

/// Reads an object of the store as JSON while it arrives: files of hashes have gigabytes. Memory stays that of one buffer, and every
/// text has a limit. Nesting is limited in what is skipped.
final class JSONStream {
    private let store: any ObjectStore
    private let name: String
    private let buffer: UnsafeMutableRawBufferPointer
    /// The unread bytes of the buffer.
    private var position = 0
    private var end = 0
    /// The offset in the object of what comes after the buffer.
    private var offset: UInt64 = 0
    private var isAtEnd = false
    private static let depthLimit = 32

    init(_ store: any ObjectStore, _ name: String, bufferSize: Int = 1 << 18) {
        self.store = store
        self.name = name
        buffer = .allocate(byteCount: bufferSize, alignment: 16)
    }

    deinit { buffer.deallocate() }

    func fault(_ reason: String) -> ChunkedFailure {
        .damaged("\(name): \(reason) at byte \(offset - UInt64(end - position))")
    }

    /// Reads more if the buffer is empty; false at the end of the object.
    private func fill() throws -> Bool {
        if position < end { return true }
        guard !isAtEnd else { return false }
        let count = try store.get(name, at: offset, into: buffer)
        position = 0
        end = count
        offset += UInt64(count)
        isAtEnd = count < buffer.count
        return count > 0
    }

    private func byte() throws -> UInt8 {
        guard try fill() else { throw fault("the text ends early") }
        defer { position += 1 }
        return buffer[position]
    }

    /// The next byte that is not white space, not taken.
    private func peek() throws -> UInt8 {
        while try fill() {
            while position < end {
                let byte = buffer[position]
                guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return byte }
                position += 1
            }
        }
        throw fault("the text ends early")
    }

    private func expect(_ wanted: Unicode.Scalar) throws {
        guard try peek() == UInt8(ascii: wanted) else { throw fault("expected \(wanted)") }
        position += 1
    }

    /// Reads an object; `member` is called with every name and reads its value. A name given twice is refused by the caller, who knows
    /// which ones matter.
    func object(_ member: (String) throws -> Void) throws {
        try beginObject()
        if try peek() == UInt8(ascii: "}") {
            position += 1
            return
        }
        repeat { try member(try memberName()) } while try more(before: "}")
    }

    func beginObject() throws { try expect("{") }

    /// The name of a member and the colon after it.
    func memberName() throws -> String {
        let name = try string(atMost: 1024)
        try expect(":")
        return name
    }

    func array(_ element: () throws -> Void) throws {
        guard try beginArray() else { return }
        repeat { try element() } while try more(before: "]")
    }

    /// For arrays that are read element by element: whether there is a first one.
    func beginArray() throws -> Bool {
        try expect("[")
        guard try peek() == UInt8(ascii: "]") else { return true }
        position += 1
        return false
    }

    /// Takes the comma before another element, or the end.
    func more(before close: Unicode.Scalar) throws -> Bool {
        let separator = try peek()
        position += 1
        if separator == UInt8(ascii: close) { return false }
        guard separator == UInt8(ascii: ",") else {
            position -= 1
            throw fault("expected a comma or \(close)")
        }
        return true
    }

    /// - Parameter limit: of its UTF-8 bytes as they are written in the object.
    func string(atMost limit: Int) throws -> String {
        try expect("\"")
        var raw: [UInt8] = []
        var isPlain = true
        while true {
            guard try fill() else { throw fault("a text is not closed") }
            let start = position
            while position < end, buffer[position] != UInt8(ascii: "\""), buffer[position] != UInt8(ascii: "\\"), buffer[position] >= 0x20 {
                position += 1
            }
            raw.append(contentsOf: buffer[start..<position])
            guard raw.count <= limit else { throw fault("a text is longer than \(limit) bytes") }
            guard position < end else { continue }
            let byte = try byte()
            if byte == UInt8(ascii: "\"") { break }
            guard byte == UInt8(ascii: "\\") else { throw fault("a control character in a text") }
            isPlain = false
            raw.append(byte)
            raw.append(try self.byte())
        }
        if isPlain, let text = String(validating: raw, as: UTF8.self) { return text }
        // Escapes are undone by the reader of whole values.
        let quoted = [UInt8(ascii: "\"")] + raw + [UInt8(ascii: "\"")]
        guard let value = try? JSON(parsing: quoted, limits: JSONLimits(bytes: limit + 2)), let text = value.string else {
            throw fault("a text that is not valid")
        }
        return text
    }

    func stringOrNull(atMost limit: Int) throws -> String? {
        guard try peek() == UInt8(ascii: "n") else { return try string(atMost: limit) }
        try word("null")
        return nil
    }

    /// 64 hexadecimal digits in lower case.
    func digest() throws -> Digest {
        guard try peek() == UInt8(ascii: "\"") else { throw fault("expected a hash") }
        // Mostly it is whole in the buffer.
        if end - position >= 66, buffer[position + 65] == UInt8(ascii: "\"") {
            let text = UnsafeRawBufferPointer(rebasing: buffer[position + 1..<position + 65])
            if let digest = Digest(hexadecimal: text) {
                position += 66
                return digest
            }
        }
        guard let digest = Digest(hex: try string(atMost: 64)) else { throw fault("expected 64 hexadecimal digits in lower case") }
        return digest
    }

    /// A whole number that is not negative.
    func integer(_ what: String, atMost limit: UInt64) throws -> UInt64 {
        var value: UInt64 = 0
        var digits = 0
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(try peek()) else { throw fault("\(what) is not a whole number from 0") }
        while try fill(), case let byte = buffer[position], byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") {
            digits += 1
            guard digits <= 19 else { throw fault("\(what) is greater than \(limit)") }
            value = value &* 10 &+ UInt64(byte &- UInt8(ascii: "0"))
            position += 1
        }
        if try fill(), [UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E")].contains(buffer[position]) {
            throw fault("\(what) is not a whole number")
        }
        guard value <= limit else { throw fault("\(what) is greater than \(limit)") }
        return value
    }

    /// Reads a value of any kind and returns its text, without white space.
    func raw(atMost limit: Int) throws -> String {
        var text: [UInt8] = []
        try copy(depth: 0) { byte in
            guard text.count < limit else { throw self.fault("a value is longer than \(limit) bytes") }
            text.append(byte)
        }
        guard let result = String(validating: text, as: UTF8.self) else { throw fault("a text that is not valid UTF-8") }
        return result
    }

    func skip() throws { try copy(depth: 0) { _ in } }

    private func copy(depth: Int, _ write: (UInt8) throws -> Void) throws {
        guard depth < Self.depthLimit else { throw fault("nested deeper than \(Self.depthLimit)") }
        let first = try peek()
        switch first {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            let isObject = first == UInt8(ascii: "{")
            let close: Unicode.Scalar = isObject ? "}" : "]"
            position += 1
            try write(first)
            if try peek() == UInt8(ascii: close) {
                position += 1
            } else {
                while true {
                    if isObject {
                        guard try peek() == UInt8(ascii: "\"") else { throw fault("a member needs a name") }
                        try copyString(write)
                        try expect(":")
                        try write(UInt8(ascii: ":"))
                    }
                    try copy(depth: depth + 1, write)
                    guard try more(before: close) else { break }
                    try write(UInt8(ascii: ","))
                }
            }
            try write(UInt8(ascii: close))
        case UInt8(ascii: "\""): try copyString(write)
        default:
            var count = 0
            while try fill(), case let byte = buffer[position], isWord(byte) {
                count += 1
                guard count <= 400 else { throw fault("a number is too long") }
                try write(byte)
                position += 1
            }
            guard count > 0 else { throw fault("unexpected character") }
        }
    }

    private func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "E"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    private func copyString(_ write: (UInt8) throws -> Void) throws {
        try write(try byte())
        while true {
            let next = try byte()
            guard next >= 0x20 else { throw fault("a control character in a text") }
            try write(next)
            if next == UInt8(ascii: "\"") { return }
            if next == UInt8(ascii: "\\") { try write(try byte()) }
        }
    }

    private func word(_ text: StaticString) throws {
        for index in 0..<text.utf8CodeUnitCount where try byte() != text.utf8Start[index] { throw fault("expected \(text)") }
    }

    /// Only white space may follow.
    func finish() throws {
        while try fill() {
            guard [0x20, 0x0A, 0x0D, 0x09].contains(buffer[position]) else { throw fault("text after the value") }
            position += 1
        }
    }
}
