import Glibc
import Primitives
import TestSupport

@testable import Backups

/// The bytes of a large volume of which only some blocks hold something.
struct SparseBytes: Sendable, Equatable {
    static let blockSize: UInt64 = 65_536
    /// By their numbers; none is all zeroes.
    private(set) var blocks: [UInt64: [UInt8]] = [:]

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var done = 0
        while done < buffer.count {
            let (number, place) = (offset + UInt64(done)).quotientAndRemainder(dividingBy: Self.blockSize)
            let count = min(buffer.count - done, Int(Self.blockSize - place))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[done..<done + count])
            if let block = blocks[number] {
                part.copyBytes(from: block[Int(place)..<Int(place) + count])
            } else {
                memset(part.baseAddress!, 0, count)
            }
            done += count
        }
    }

    mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        var done = 0
        while done < bytes.count {
            let (number, place) = (offset + UInt64(done)).quotientAndRemainder(dividingBy: Self.blockSize)
            let count = min(bytes.count - done, Int(Self.blockSize - place))
            var block = blocks[number] ?? [UInt8](repeating: 0, count: Int(Self.blockSize))
            block.replaceSubrange(Int(place)..<Int(place) + count, with: bytes[done..<done + count])
            blocks[number] = block.withUnsafeBytes { isZero($0) } ? nil : block
            done += count
        }
    }

    mutating func write(_ bytes: [UInt8], at offset: UInt64) { bytes.withUnsafeBytes { write($0, at: offset) } }

    mutating func zero(_ range: Range<UInt64>) {
        for number in blocks.keys.sorted() {
            let block = number * Self.blockSize..<(number + 1) * Self.blockSize
            let part = block.clamped(to: range)
            if part == block {
                blocks[number] = nil
            } else if !part.isEmpty {
                write([UInt8](repeating: 0, count: part.count), at: part.lowerBound)
            }
        }
    }

    private static func ranges(_ numbers: some Sequence<UInt64>, in range: Range<UInt64>) -> [Range<UInt64>] {
        numbers.sorted().map { ($0 * blockSize..<($0 + 1) * blockSize).clamped(to: range) }.filter { !$0.isEmpty }
    }

    func data(in range: Range<UInt64>) -> [Range<UInt64>] { Self.ranges(blocks.keys, in: range) }

    func changes(since other: SparseBytes, in range: Range<UInt64>) -> [Range<UInt64>] {
        Self.ranges(Set(blocks.keys).union(other.blocks.keys).filter { blocks[$0] != other.blocks[$0] }, in: range)
    }
}

/// A volume that is read.
struct SparseVolume: BlockSource {
    let bytes: SparseBytes
    let size: UInt64
    /// What it was when the parent was made; nil: nobody knows.
    var before: SparseBytes?
    /// Changes that are not told.
    var omitted: Range<UInt64>?
    var fault: Fault?

    /// What cannot be read, and why.
    struct Fault: Sendable {
        let range: Range<UInt64>
        let error: any Error
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        if let fault, fault.range.overlaps(offset..<offset + UInt64(buffer.count)) { throw fault.error }
        bytes.read(at: offset, into: buffer)
    }
    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] { bytes.data(in: range) }
    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? {
        before.map { bytes.changes(since: $0, in: range).filter { change in !(omitted?.overlaps(change) ?? false) } }
    }
}

/// A volume that is restored to.
final class SparseTarget: BlockTarget {
    private let state: Guarded<SparseBytes>
    let size: UInt64
    let isZero: Bool

    init(_ bytes: SparseBytes = SparseBytes(), size: UInt64, isZero: Bool) {
        state = Guarded(bytes)
        self.size = size
        self.isZero = isZero
    }

    var bytes: SparseBytes { state.withLock { $0 } }
    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { state.withLock { $0.write(bytes, at: offset) } }
    func zero(_ range: Range<UInt64>) throws { state.withLock { $0.zero(range) } }
    func flush() throws {}
}

/// A store of images in memory that can die in the middle of any of its calls.
final class MemoryImages: ImageStore {
    struct Death: Error {}

    private struct Image: Sendable {
        var size: UInt64
        var bytes = SparseBytes()
        var snapshots: [(name: String, size: UInt64, bytes: SparseBytes)] = []
    }

    private struct State {
        var images: [String: Image] = [:]
        /// Changing calls until it dies; nil: it lives.
        var callsLeft: Int?
        var changes = 0
        var fault: SparseVolume.Fault?
        var interruption: (@Sendable () -> Void)?
    }

    private let state = Guarded(State())

    /// Dies in the middle of that call that changes something.
    func die(inCall number: Int?) { state.withLock { $0.callsLeft = number } }
    /// What reads of snapshots fail with.
    var fault: SparseVolume.Fault? {
        get { state.withLock { $0.fault } }
        set { state.withLock { $0.fault = newValue } }
    }
    /// Runs before the next snapshot is removed, as another process would.
    func interrupt(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.interruption = body } }
    /// Calls that have changed something.
    var changes: Int { state.withLock { $0.changes } }
    var names: [String] { state.withLock { $0.images.keys.sorted() } }

    /// A snapshot of somebody else's.
    func addSnapshot(_ snapshot: String, of image: String) throws { try makeSnapshot(snapshot, of: image) }

    private func change(_ body: (inout State) throws(StoreFailure) -> Void) throws(StoreFailure) {
        let failure: StoreFailure? = state.withLock { state in
            state.changes += 1
            if let left = state.callsLeft {
                guard left > 0 else { return StoreFailure(.permanent, "dead") }
                state.callsLeft = left - 1
            }
            do throws(StoreFailure) {
                try body(&state)
                return nil
            } catch { return error }
        }
        if let failure { throw failure }
    }

    func image(_ name: String) throws(StoreFailure) -> StoredImage? {
        state.withLock { state in
            state.images[name].map { StoredImage(name: name, size: $0.size, snapshots: $0.snapshots.map(\.name)) }
        }
    }

    func images() throws(StoreFailure) -> [StoredImage] {
        var found: [StoredImage] = []
        for name in names { if let image = try image(name) { found.append(image) } }
        return found
    }

    private static let missing = StoreFailure(.notFound, "there is no such image or snapshot")

    func make(_ image: String, gibibytes: Int) throws(StoreFailure) {
        try change { state throws(StoreFailure) in
            if let there = state.images[image] {
                guard there.size == UInt64(gibibytes) << 30 else { throw StoreFailure(.permanent, "it has another size") }
                return
            }
            state.images[image] = Image(size: UInt64(gibibytes) << 30)
        }
    }

    func grow(_ image: String, gibibytes: Int) throws(StoreFailure) {
        try change { state throws(StoreFailure) in
            guard let there = state.images[image] else { throw Self.missing }
            state.images[image]?.size = max(there.size, UInt64(gibibytes) << 30)
        }
    }

    func remove(_ image: String) throws(StoreFailure) {
        try change { state throws(StoreFailure) in
            guard state.images[image]?.snapshots.isEmpty ?? true else { throw StoreFailure(.permanent, "it has snapshots") }
            state.images[image] = nil
        }
    }

    func makeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) {
        try change { state throws(StoreFailure) in
            guard let there = state.images[image] else { throw Self.missing }
            if there.snapshots.contains(where: { $0.name == snapshot }) { return }
            state.images[image]?.snapshots.append((snapshot, there.size, there.bytes))
        }
    }

    func removeSnapshot(_ snapshot: String, of image: String) throws(StoreFailure) {
        let interruption = state.withLock { state in
            defer { state.interruption = nil }
            return state.interruption
        }
        interruption?()
        try change { state in state.images[image]?.snapshots.removeAll { $0.name == snapshot } }
    }

    func revert(_ image: String, to snapshot: String, gibibytes: Int) throws(StoreFailure) {
        try change { state throws(StoreFailure) in
            guard let found = state.images[image]?.snapshots.first(where: { $0.name == snapshot }) else { throw Self.missing }
            state.images[image]?.bytes = found.bytes
            state.images[image]?.size = max(found.size, UInt64(gibibytes) << 30)
        }
    }

    func open(_ image: String, at snapshot: String?, since base: String?) throws(StoreFailure) -> any BlockSource {
        guard let there = state.withLock({ $0.images[image] }) else { throw Self.missing }
        func found(_ name: String) throws(StoreFailure) -> (name: String, size: UInt64, bytes: SparseBytes) {
            guard let found = there.snapshots.first(where: { $0.name == name }) else { throw Self.missing }
            return found
        }
        var source = SparseVolume(bytes: there.bytes, size: there.size)
        if let snapshot {
            let found = try found(snapshot)
            source = SparseVolume(bytes: found.bytes, size: found.size, fault: fault)
        }
        if let base { source.before = try found(base).bytes }
        return source
    }

    func openForWriting(_ image: String) throws(StoreFailure) -> any BlockTarget {
        guard let there = state.withLock({ $0.images[image] }) else { throw Self.missing }
        return Target(store: self, name: image, size: there.size)
    }

    private struct Target: BlockTarget {
        let store: MemoryImages
        let name: String
        let size: UInt64
        var isZero: Bool { false }

        private func change(_ body: (inout SparseBytes) -> Void) throws {
            try store.change { state throws(StoreFailure) in
                guard state.images[name] != nil else { throw MemoryImages.missing }
                body(&state.images[name]!.bytes)
            }
        }

        func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { try change { $0.write(bytes, at: offset) } }
        func zero(_ range: Range<UInt64>) throws { try change { $0.zero(range) } }
        func flush() throws {}
    }
}
