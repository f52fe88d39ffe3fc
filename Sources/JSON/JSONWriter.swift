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

    /// Writes a member's name that was prepared.
    @inline(__always)
    public mutating func key(_ name: JSONKey) {
        let skipped = needsComma ? 0 : 1
        reserve(name.memory.count)
        // Whole chunks, which are shorter than a call: what is too much is written over.
        var source = name.memory.baseAddress! + skipped
        var target = UnsafeMutableRawPointer(base + count)
        let end = target + name.length
        repeat {
            target.storeBytes(of: source.loadUnaligned(as: Chunk.self), as: Chunk.self)
            source += MemoryLayout<Chunk>.size
            target += MemoryLayout<Chunk>.size
        } while target < end
        count += name.length - skipped
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

    public mutating func string(_ value: String) { Self.withBytes(of: value) { string($0) } }

    /// A string given as UTF-8 bytes.
    public mutating func string(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count + 4)
        comma()
        append(UInt8(ascii: "\""))
        if Self.copyPlain(bytes, to: base + count) { count += bytes.count } else { escaped(bytes) }
        put(UInt8(ascii: "\""))
        needsComma = true
    }

    /// What is copied at a time.
    private typealias Chunk = SIMD16<UInt8>

    /// Copies the text if no byte of it needs an escape, which is so of most text of an answer; else what was written is to be written over.
    @inline(__always)
    private static func copyPlain(_ bytes: UnsafeBufferPointer<UInt8>, to target: UnsafeMutablePointer<UInt8>) -> Bool {
        guard let start = bytes.baseAddress else { return true }
        let (source, target) = (UnsafeRawPointer(start), UnsafeMutableRawPointer(target))
        let count = bytes.count
        if count >= MemoryLayout<Chunk>.size {
            // The last chunk begins where it ends with the text, and may repeat a part of the one before.
            let last = count - MemoryLayout<Chunk>.size
            var found = copyChunk(source + last, to: target + last)
            var offset = 0
            while offset < last {
                found |= copyChunk(source + offset, to: target + offset)
                offset += MemoryLayout<Chunk>.size
            }
            return found == 0
        }
        if count >= 8 {
            let (first, last) = (source.loadUnaligned(as: UInt64.self), (source + (count - 8)).loadUnaligned(as: UInt64.self))
            target.storeBytes(of: first, as: UInt64.self)
            (target + (count - 8)).storeBytes(of: last, as: UInt64.self)
            return escaped(in: first) | escaped(in: last) == 0
        }
        for index in 0..<count {
            let byte = bytes[index]
            guard byte >= 0x20, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") else { return false }
            target.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
        }
        return true
    }

    /// Copies a chunk; 0 if none of its bytes is a control character, a quotation mark or a backslash.
    @inline(__always)
    private static func copyChunk(_ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer) -> UInt64 {
        let chunk = source.loadUnaligned(as: Chunk.self)
        target.storeBytes(of: chunk, as: Chunk.self)
        let found =
            (chunk .< Chunk(repeating: 0x20)) .| (chunk .== Chunk(repeating: UInt8(ascii: "\"")))
            .| (chunk .== Chunk(repeating: UInt8(ascii: "\\")))
        // To ask `any` of it takes twice as long.
        let halves = unsafeBitCast(found, to: SIMD2<UInt64>.self)
        return halves[0] | halves[1]
    }

    /// The highest bits of those of the eight bytes that are a control character, a quotation mark or a backslash, and of none if there is
    /// none. A subtraction carries into a byte's highest bit if the byte is smaller than what is subtracted; bytes that had the bit before
    /// are of no ASCII character.
    @inline(__always)
    private static func escaped(in word: UInt64) -> UInt64 {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let quotes = word ^ ones * UInt64(UInt8(ascii: "\""))
        let backslashes = word ^ ones * UInt64(UInt8(ascii: "\\"))
        return ((word &- ones * 0x20) & ~word | (quotes &- ones) & ~quotes | (backslashes &- ones) & ~backslashes) & (ones * 0x80)
    }

    /// Writes text some of whose bytes need an escape.
    private mutating func escaped(_ bytes: UnsafeBufferPointer<UInt8>) {
        var start = 0
        for index in bytes.indices {
            let byte = bytes[index]
            guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
            bulk(bytes, start, index)
            escape(byte)
            start = index + 1
        }
        bulk(bytes, start, bytes.count)
    }

    /// Text that is valid JSON.
    public mutating func raw(_ text: String) { Self.withBytes(of: text) { raw($0) } }

    public mutating func raw(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count + 2)
        comma()
        if let source = bytes.baseAddress { memcpy(base + count, source, bytes.count) }
        count += bytes.count
        needsComma = true
    }

    /// Goes on with text that is valid JSON together with what `raw` began.
    public mutating func more(_ text: String) { Self.withBytes(of: text) { more($0) } }

    public mutating func more(_ text: StaticString) { more(UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)) }

    public mutating func more(_ bytes: UnsafeBufferPointer<UInt8>) {
        reserve(bytes.count)
        if let source = bytes.baseAddress { memcpy(base + count, source, bytes.count) }
        count += bytes.count
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

    /// The text's UTF-8 where it lies: `withUTF8` would need a copy of the text, and references are counted for each.
    @inline(__always)
    private static func withBytes(of text: String, _ body: (UnsafeBufferPointer<UInt8>) -> Void) {
        if text.utf8.withContiguousStorageIfAvailable(body) != nil { return }
        var copy = text
        copy.withUTF8(body)
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

/// The name of a member as it is written, with its comma, quotation marks and colon: for names that are written again and again. Its memory
/// is never given back.
public struct JSONKey: @unchecked Sendable {
    fileprivate let length: Int
    /// So much that chunks which begin at the first or second byte and hold all of the text lie in it.
    fileprivate let memory: UnsafeRawBufferPointer

    /// `name` must need no escaping.
    public init(_ name: StaticString) {
        let text = Array(",\"\(name)\":".utf8)
        length = text.count
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: text.count + 32, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        memory.copyBytes(from: text)
        self.memory = UnsafeRawBufferPointer(memory)
    }
}
