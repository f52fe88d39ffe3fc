import Backups
import Glibc
import Primitives
import TestSupport

/// A volume in memory that knows, or claims to know, what changed.
final class MemorySource: BlockSource {
    let bytes: [UInt8]
    /// What it says has changed; nil if it does not know.
    let changed: [Range<UInt64>]?
    /// What it says has data; nil for everything.
    let extents: [Range<UInt64>]?
    private let reads = Guarded([Range<UInt64>]())
    /// Called before every read.
    let beforeRead: @Sendable (UInt64) throws -> Void

    init(
        _ bytes: [UInt8], changed: [Range<UInt64>]? = nil, extents: [Range<UInt64>]? = nil,
        beforeRead: @escaping @Sendable (UInt64) throws -> Void = { _ in }
    ) {
        self.bytes = bytes
        self.changed = changed
        self.extents = extents
        self.beforeRead = beforeRead
    }

    var size: UInt64 { UInt64(bytes.count) }
    var readBytes: UInt64 { reads.withLock { $0.reduce(0) { $0 + UInt64($1.count) } } }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        try beforeRead(offset)
        reads.withLock { $0.append(offset..<offset + UInt64(buffer.count)) }
        bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[Int(offset)..<Int(offset) + buffer.count])) }
    }

    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        (extents ?? [0..<size]).map { $0.clamped(to: range) }.filter { !$0.isEmpty }
    }

    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? {
        changed.map { $0.map { $0.clamped(to: range) }.filter { !$0.isEmpty } }
    }
}

/// A sparse volume of any size of which only a few places hold something.
struct SparseSource: BlockSource {
    let size: UInt64
    let contents: [UInt64: [UInt8]]
    var isParentKnown = false

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        for (start, bytes) in contents where start >= offset && start + UInt64(bytes.count) <= offset + UInt64(buffer.count) {
            UnsafeMutableRawBufferPointer(rebasing: buffer[Int(start - offset)...]).copyBytes(from: bytes)
        }
    }

    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        contents.keys.sorted().map { ($0..<$0 + UInt64(contents[$0]!.count)).clamped(to: range) }.filter { !$0.isEmpty }
    }

    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { isParentKnown ? [] : nil }
}

/// A volume in memory that is written to; it counts what becomes a hole.
final class MemoryTarget: BlockTarget {
    private struct State {
        var bytes: [UInt8]
        var written: UInt64 = 0
        var zeroed: UInt64 = 0
        var flushes = 0
    }
    private let state: Guarded<State>
    let size: UInt64
    let isZero: Bool

    /// - Parameter filledWith: what it holds at first.
    init(_ size: Int, filledWith byte: UInt8 = 0) {
        self.size = UInt64(size)
        isZero = byte == 0
        state = Guarded(State(bytes: [UInt8](repeating: byte, count: size)))
    }

    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var written: UInt64 { state.withLock { $0.written } }
    var zeroed: UInt64 { state.withLock { $0.zeroed } }
    var flushes: Int { state.withLock { $0.flushes } }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        state.withLock { state in
            state.bytes.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[Int(offset)...]).copyMemory(from: bytes) }
            state.written += UInt64(bytes.count)
        }
    }

    func zero(_ range: Range<UInt64>) throws {
        state.withLock { state in
            state.bytes.withUnsafeMutableBytes {
                _ = memset($0.baseAddress! + Int(range.lowerBound), 0, range.count)
            }
            state.zeroed += UInt64(range.count)
        }
    }

    func flush() throws { state.withLock { $0.flushes += 1 } }
}

/// An image of chunks that are zeroes, text or random bytes, and sometimes the same twice.
func mixedImage(chunks: Int, chunkSize: Int, tail: Int = 0, seed: UInt64) -> [UInt8] {
    var random = Seeded(seed)
    var image: [UInt8] = []
    image.reserveCapacity(chunks * chunkSize + tail)
    for _ in 0..<chunks { image += mixedChunk(chunkSize, &random) }
    return image + mixedChunk(tail, &random)
}

func mixedChunk(_ size: Int, _ random: inout Seeded) -> [UInt8] {
    switch random.next() % 8 {
    case 0, 1: return [UInt8](repeating: 0, count: size)
    case 2: return [UInt8](repeating: UInt8(truncatingIfNeeded: random.next() % 3), count: size)
    case 3, 4:
        let words = ["volume ", "snapshot ", "backup ", "restore ", "\n"]
        var block: [UInt8] = []
        while block.count < 500 { block += words[Int(random.next() % 5)].utf8 }
        var text: [UInt8] = []
        while text.count < size { text += block }
        return Array(text.prefix(size))
    default:
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for index in 0..<size / 8 { raw.storeBytes(of: random.next(), toByteOffset: index * 8, as: UInt64.self) }
            for index in size / 8 * 8..<size { buffer[index] = UInt8(truncatingIfNeeded: random.next()) }
            count = size
        }
    }
}
