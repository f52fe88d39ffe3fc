/// The memory that a range of an object is read into, by one response or, where one is cut off, by several.
public final class ObjectSink {
    private let buffer: UnsafeMutableRawBufferPointer
    /// Where the range begins in the object.
    private let offset: UInt64
    /// The bytes that have come.
    public private(set) var count = 0
    /// What the server calls the object that they are of; an object that replaces it has another tag.
    public private(set) var tag: String?
    /// The size of the object, as far as the server told it.
    private var total: UInt64?
    /// Whether more has come than there is room for.
    private(set) var hasSurplus = false
    /// Bytes of the response that lie before what is missing, where the server sends the whole object.
    private var skipped: UInt64 = 0

    public init(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) { (self.buffer, self.offset) = (buffer, offset) }

    private var isFull: Bool { count == buffer.count }
    private var position: UInt64 { offset + UInt64(count) }

    /// Whether all that there is of the range has come.
    public var isComplete: Bool { isFull || total.map { position >= $0 } == true }

    /// The headers by which what is missing is asked for: all of it, where nothing tells whether the rest would be of the same object.
    public func headersOfNextRequest() -> [(name: String, value: String)] {
        if tag == nil { reset() }
        return [("Range", "bytes=\(position)-\(offset + UInt64(buffer.count) - 1)")] + (tag.map { [("If-Match", $0)] } ?? [])
    }

    /// Forgets what has come: the object was replaced.
    public func reset() { (count, tag, total) = (0, nil, nil) }

    /// Takes note of a successful response before its body; what is wrong with it, if anything.
    func begin(_ status: Int, _ headers: [(name: String, value: String)]) -> String? {
        func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }
        let found = header("etag")
        guard tag == nil || found == tag else {
            reset()
            return "the object was replaced while it was read"
        }
        tag = found
        guard status == 206 else {
            skipped = position
            total = header("content-length").flatMap { UInt64($0) }
            return nil
        }
        skipped = 0
        guard let range = header("content-range").flatMap(Self.range) else { return "a part of the object comes without its range" }
        guard range.begin == position, range.end < offset + UInt64(buffer.count) else {
            return "bytes \(range.begin) to \(range.end) come, not \(position) to \(offset + UInt64(buffer.count) - 1)"
        }
        total = range.total
        return nil
    }

    /// Of `bytes 5-9/20`, or `*` for the last.
    private static func range(_ text: String) -> (begin: UInt64, end: UInt64, total: UInt64?)? {
        guard text.lowercased().hasPrefix("bytes ") else { return nil }
        let words = text.dropFirst(6).split { $0 == "-" || $0 == "/" }
        guard words.count == 3, let begin = UInt64(words[0]), let end = UInt64(words[1]), begin <= end else { return nil }
        let total = UInt64(words[2])
        guard total.map({ end < $0 }) ?? (words[2] == "*") else { return nil }
        return (begin, end, total)
    }

    /// Takes the bytes that have room; whether more are wanted.
    func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var rest = bytes[...]
        let before = Int(min(skipped, UInt64(rest.count)))
        skipped -= UInt64(before)
        rest = rest.dropFirst(before)
        let taken = rest.prefix(buffer.count - count)
        if !taken.isEmpty {
            UnsafeMutableRawBufferPointer(rebasing: buffer[count..<count + taken.count])
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: taken))
            count += taken.count
        }
        hasSurplus = rest.count > taken.count
        return !isFull
    }
}
