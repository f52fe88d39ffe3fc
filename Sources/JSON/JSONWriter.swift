#if canImport(Glibc)
    import Glibc
#endif

/// Writes compact JSON into one growing buffer. Commas and colons are inserted automatically:
///
///     var writer = JSONWriter()
///     writer.beginObject()
///     writer.member("id", id)
///     writer.key("links"); writer.beginArray(); ...; writer.endArray()
///     writer.endObject()
///     let body = writer.take()
///
/// The buffer is allocated by `malloc`, so that a C server can take it over without a copy.
public struct JSONWriter: ~Copyable {
    private var base: UnsafeMutablePointer<UInt8>
    public private(set) var count = 0
    private var capacity: Int
    private var needsComma = false

    public init(capacity: Int = 1024) {
        self.capacity = max(capacity, 64)
        base = Self.allocate(self.capacity)
    }

    deinit { free(base) }

    /// A buffer from `malloc` that its owner frees.
    public struct Buffer: @unchecked Sendable {
        public let base: UnsafeMutableRawPointer
        public let count: Int
    }

    /// Ends the writing and gives the buffer to the caller.
    public consuming func take() -> Buffer {
        let buffer = Buffer(base: base, count: count)
        discard self
        return buffer
    }

    /// Ends the writing and returns what was written.
    public consuming func takeString() -> String {
        String(decoding: UnsafeBufferPointer(start: base, count: count), as: UTF8.self)
    }

    // MARK: structure

    @inline(__always) public mutating func beginObject() { open(UInt8(ascii: "{")) }
    @inline(__always) public mutating func endObject() { close(UInt8(ascii: "}")) }
    @inline(__always) public mutating func beginArray() { open(UInt8(ascii: "[")) }
    @inline(__always) public mutating func endArray() { close(UInt8(ascii: "]")) }

    /// Writes a member's name, which must need no escaping.
    @inline(__always)
    public mutating func key(_ name: StaticString) {
        let length = name.utf8CodeUnitCount
        reserve(length + 4)
        comma()
        base[count] = UInt8(ascii: "\"")
        (base + count + 1).update(from: name.utf8Start, count: length)
        base[count + length + 1] = UInt8(ascii: "\"")
        base[count + length + 2] = UInt8(ascii: ":")
        count += length + 3
        needsComma = false
    }

    public mutating func key(_ name: String) {
        string(name)
        put(UInt8(ascii: ":"))
        needsComma = false
    }

    // MARK: values

    @inline(__always) public mutating func null() { word("null") }
    @inline(__always) public mutating func bool(_ value: Bool) { value ? word("true") : word("false") }

    public mutating func integer(_ value: Int64) {
        reserve(22)
        comma()
        var magnitude = value.magnitude
        if value < 0 { append(UInt8(ascii: "-")) }
        var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
        withUnsafeMutableBytes(of: &digits) { scratch in
            var index = 20
            repeat {
                index -= 1
                scratch[index] = UInt8(ascii: "0") + UInt8(truncatingIfNeeded: magnitude % 10)
                magnitude /= 10
            } while magnitude != 0
            memcpy(base + count, scratch.baseAddress! + index, 20 - index)
            count += 20 - index
        }
        needsComma = true
    }

    /// A floating-point number. JSON has no infinities; they become the strings that Cinder's clients know.
    public mutating func real(_ value: Double) {
        guard value.isFinite else {
            string(value.isNaN ? "NaN" : value < 0 ? "-infinite" : "infinite")
            return
        }
        raw(value.description)
    }

    public mutating func string(_ value: String) {
        var value = value
        value.withUTF8 { string($0) }
    }

    /// A string given as UTF-8 bytes.
    public mutating func string(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count + 4)
        comma()
        append(UInt8(ascii: "\""))
        var start = 0
        for index in 0..<bytes.count {
            let byte = bytes[index]
            if byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") { continue }
            bulk(bytes, start, index)
            start = index + 1
            escape(byte)
        }
        bulk(bytes, start, bytes.count)
        put(UInt8(ascii: "\""))
        needsComma = true
    }

    /// Text that is valid JSON.
    public mutating func raw(_ text: String) {
        var text = text
        text.withUTF8 { raw($0) }
    }

    public mutating func raw(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count + 2)
        comma()
        if let source = bytes.baseAddress { memcpy(base + count, source, bytes.count) }
        count += bytes.count
        needsComma = true
    }

    /// Pieces of text that together are valid JSON.
    public mutating func raw(_ first: String, _ second: String, _ third: String) {
        reserve(first.utf8.count + second.utf8.count + third.utf8.count + 2)
        comma()
        appendUnescaped(first)
        appendUnescaped(second)
        appendUnescaped(third)
        needsComma = true
    }

    /// A string of pieces that need no escaping (links).
    public mutating func plain(_ first: String, _ second: String = "", _ third: UnsafeBufferPointer<UInt8>) {
        reserve(first.utf8.count + second.utf8.count + third.count + 4)
        comma()
        append(UInt8(ascii: "\""))
        appendUnescaped(first)
        if !second.isEmpty { appendUnescaped(second) }
        if let source = third.baseAddress { memcpy(base + count, source, third.count) }
        count += third.count
        append(UInt8(ascii: "\""))
        needsComma = true
    }

    public mutating func value(_ value: JSON) {
        switch value {
        case .null: null()
        case .bool(let value): bool(value)
        case .integer(let value): integer(value)
        case .real(let value): real(value)
        case .string(let value): string(value)
        case .array(let items):
            beginArray()
            for item in items { self.value(item) }
            endArray()
        case .object(let object):
            beginObject()
            for member in object.members {
                key(member.name)
                self.value(member.value)
            }
            endObject()
        }
    }

    // MARK: members

    @inline(__always) public mutating func member(_ name: StaticString, _ value: String?) {
        key(name)
        if let value { string(value) } else { null() }
    }
    @inline(__always) public mutating func member(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>?) {
        key(name)
        if let value { string(value) } else { null() }
    }
    @inline(__always) public mutating func member(_ name: StaticString, _ value: Bool) {
        key(name)
        bool(value)
    }
    @inline(__always) public mutating func member(_ name: StaticString, _ value: Int64) {
        key(name)
        integer(value)
    }
    @inline(__always) public mutating func member(_ name: StaticString, _ value: Int) {
        key(name)
        integer(Int64(value))
    }
    @inline(__always) public mutating func member(_ name: StaticString, _ value: JSON) {
        key(name)
        self.value(value)
    }
    @inline(__always) public mutating func memberNull(_ name: StaticString) {
        key(name)
        null()
    }

    // MARK: bytes

    private static func allocate(_ capacity: Int) -> UnsafeMutablePointer<UInt8> {
        guard let memory = malloc(capacity) else { preconditionFailure("out of memory") }
        return memory.assumingMemoryBound(to: UInt8.self)
    }

    @inline(__always)
    private mutating func reserve(_ more: Int) {
        if count + more + 8 > capacity { grow(more + 8) }
    }

    private mutating func grow(_ more: Int) {
        capacity = max(capacity * 2, count + more)
        guard let memory = realloc(base, capacity) else { preconditionFailure("out of memory") }
        base = memory.assumingMemoryBound(to: UInt8.self)
    }

    /// Appends without a bounds check; the caller has reserved the space.
    @inline(__always)
    private mutating func append(_ byte: UInt8) {
        base[count] = byte
        count += 1
    }

    @inline(__always)
    private mutating func put(_ byte: UInt8) {
        reserve(1)
        append(byte)
    }

    @inline(__always)
    private mutating func comma() {
        if needsComma { append(UInt8(ascii: ",")) }
    }

    @inline(__always)
    private mutating func open(_ byte: UInt8) {
        reserve(2)
        comma()
        append(byte)
        needsComma = false
    }

    @inline(__always)
    private mutating func close(_ byte: UInt8) {
        put(byte)
        needsComma = true
    }

    @inline(__always)
    private mutating func word(_ word: StaticString) {
        reserve(8)
        comma()
        (base + count).update(from: word.utf8Start, count: word.utf8CodeUnitCount)
        count += word.utf8CodeUnitCount
        needsComma = true
    }

    private mutating func appendUnescaped(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            if let source = bytes.baseAddress { memcpy(base + count, source, bytes.count) }
            count += bytes.count
        }
    }

    private mutating func bulk(_ bytes: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int) {
        guard end > start, let source = bytes.baseAddress else { return }
        reserve(end - start)
        memcpy(base + count, source + start, end - start)
        count += end - start
    }

    private mutating func escape(_ byte: UInt8) {
        reserve(6)
        append(UInt8(ascii: "\\"))
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): append(byte)
        case 0x0A: append(UInt8(ascii: "n"))
        case 0x0D: append(UInt8(ascii: "r"))
        case 0x09: append(UInt8(ascii: "t"))
        default:
            let digits: StaticString = "0123456789abcdef"
            append(UInt8(ascii: "u"))
            append(UInt8(ascii: "0"))
            append(UInt8(ascii: "0"))
            append(digits.utf8Start[Int(byte >> 4)])
            append(digits.utf8Start[Int(byte & 15)])
        }
    }
}
