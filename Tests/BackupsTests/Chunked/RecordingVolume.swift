import Backups
import Glibc
import Primitives
import TestSupport

private let zeroes = [UInt8](repeating: 0, count: 65536)

/// A volume in memory, which counts what is read and says what changed as storage does.
final class RecordingVolume: BlockSource, BlockTarget, Sendable {
    struct State {
        var bytes: [UInt8]
        var read = 0
        var written = 0
        /// Since the last `markUnchanged`; nil: unknown.
        var changes: [Range<UInt64>]?
        var failsAfter: Int?
    }
    let state: Guarded<State>
    let isZero: Bool
    struct Broken: Error {}

    init(_ bytes: [UInt8], isZero: Bool = false) {
        state = Guarded(State(bytes: bytes))
        self.isZero = isZero
    }

    convenience init(zeroes count: Int) { self.init([UInt8](repeating: 0, count: count), isZero: true) }

    var size: UInt64 { state.withLock { UInt64($0.bytes.count) } }
    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var readBytes: Int { state.withLock { $0.read } }
    var writtenBytes: Int { state.withLock { $0.written } }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        try state.withLock { state in
            state.read += buffer.count
            if let limit = state.failsAfter, state.read > limit { throw Broken() }
            state.bytes.withUnsafeBytes { _ = memcpy(buffer.baseAddress!, $0.baseAddress! + Int(offset), buffer.count) }
        }
    }

    /// Holes of 64 KiB, where all is zero.
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        state.withLock { state in
            var parts: [Range<UInt64>] = []
            var start = range.lowerBound
            while start < range.upperBound {
                let end = min(range.upperBound, (start / 65536 + 1) * 65536)
                let isZero = state.bytes.withUnsafeBytes { memcmp($0.baseAddress! + Int(start), zeroes, Int(end - start)) == 0 }
                if !isZero {
                    if let last = parts.last, last.upperBound == start {
                        parts[parts.count - 1] = last.lowerBound..<end
                    } else {
                        parts.append(start..<end)
                    }
                }
                start = end
            }
            return parts
        }
    }

    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? {
        state.withLock { $0.changes?.map { $0.clamped(to: range) }.filter { !$0.isEmpty } }
    }

    /// What is changed from now on is known.
    func markUnchanged() {
        state.withLock {
            $0.changes = []
            $0.read = 0
        }
    }

    func change(_ offset: Int, _ bytes: [UInt8]) {
        state.withLock { state in
            state.bytes.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            state.changes?.append(UInt64(offset)..<UInt64(offset + bytes.count))
            state.changes?.sort { $0.lowerBound < $1.lowerBound }
        }
    }

    func grow(by bytes: [UInt8]) { state.withLock { $0.bytes += bytes } }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        state.withLock { state in
            state.written += bytes.count
            state.bytes.withUnsafeMutableBytes { _ = memcpy($0.baseAddress! + Int(offset), bytes.baseAddress!, bytes.count) }
        }
    }

    func zero(_ range: Range<UInt64>) throws {
        state.withLock { state in
            state.bytes.withUnsafeMutableBytes { _ = memset($0.baseAddress! + Int(range.lowerBound), 0, range.count) }
        }
    }

    func flush() throws {}
}

/// A quarter of a mebibyte: large enough for several blocks and pieces, small enough for a test.
let unit = 256 << 10

/// Bytes of three kinds in turn, a unit of each: random, text and zeroes.
func mixedBytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = Seeded(seed)
    // Pieces are made once and put together at random places: that is quick in a debug build, too.
    var noise: [UInt8] = []
    for _ in 0..<8192 { withUnsafeBytes(of: random.next()) { noise.append(contentsOf: $0) } }
    var text: [UInt8] = []
    while text.count < 65536 { text.append(contentsOf: "line \(random.next() % 1000) of text\n".utf8) }
    var bytes = [UInt8](repeating: 0, count: count)
    for start in stride(from: 0, to: count, by: 4096) where start / unit % 3 < 2 {
        let source = start / unit % 3 == 0 ? noise : text
        let from = Int(random.next() % 60_000)
        let part = min(4096, count - start)
        bytes.withUnsafeMutableBytes { _ = memcpy($0.baseAddress! + start, [UInt8](source[from..<from + part]), part) }
    }
    return bytes
}

/// A volume of which something changes right after a place was read for the first time.
final class ChangingSource: BlockSource {
    private let volume: RecordingVolume
    private let place: UInt64
    private let change: @Sendable () -> Void
    private let isDone = Guarded(false)

    init(_ volume: RecordingVolume, after place: UInt64, _ change: @escaping @Sendable () -> Void) {
        self.volume = volume
        self.place = place
        self.change = change
    }

    var size: UInt64 { volume.size }
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] { try volume.data(in: range) }
    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { try volume.changes(in: range) }
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        try volume.read(at: offset, into: buffer)
        guard (offset..<offset + UInt64(buffer.count)).contains(place), !isDone.withLock({ $0 }) else { return }
        isDone.withLock { $0 = true }
        change()
    }
}
