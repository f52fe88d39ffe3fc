import Backups
import CDriver
import DriverHost
import Primitives

/// A block handle, as what a backup is read from. A handle is used by one thread at a time: there are several, and each request takes one.
final class HandleSource: BlockSource, @unchecked Sendable {
    private let handles: [Driver.OpenHandle]
    private let free = BlockingQueue<Int>()
    private let changeList: ChangeList?
    let size: UInt64
    private let alignment: UInt64

    /// `changes`: what changed since the parent's snapshot; nil: nothing is known of that.
    init(_ handles: [Driver.OpenHandle], changes: ChangeList? = nil) throws {
        self.handles = handles
        changeList = changes
        size = try Repetition.run { try handles[0].handle.size }
        alignment = handles[0].handle.alignment
        for index in handles.indices { free.append(index) }
    }

    private func withHandle<T>(_ body: (Driver.Handle) throws -> T) throws -> T {
        guard let index = free.next() else { throw DriverFailure(.cancelled, "the volume is closed") }
        defer { free.append(index) }
        return try Repetition.run { try body(handles[index].handle) }
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        let first = offset / alignment * alignment
        let last = min(size, (offset + UInt64(buffer.count) + alignment - 1) / alignment * alignment)
        guard first != offset || last != offset + UInt64(buffer.count) else {
            return try withHandle { try $0.read(into: buffer, at: offset) }
        }
        // Whole blocks, of which a part is asked for.
        let whole = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(last - first), alignment: 4096)
        defer { whole.deallocate() }
        try withHandle { try $0.read(into: whole, at: first) }
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: whole[Int(offset - first)...][..<(Int(offset - first) + buffer.count)]))
    }

    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        let extents = try withHandle { try $0.extents(offset: range.lowerBound, length: UInt64(range.count)) }
        return joinedRanges(of: extents.filter { $0.flags & UInt32(CLINKER_EXTENT_ZERO) == 0 }, within: range)
    }

    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { changeList?.parts(of: range) }
}

/// The ranges of a driver's extents within a range, ascending; those with less than `gap` bytes between them are one.
func joinedRanges(of extents: [Driver.Handle.Extent], within range: Range<UInt64>, gap: UInt64 = 0) -> [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    for extent in extents {
        let (end, overflows) = extent.offset.addingReportingOverflow(extent.length)
        let part = (extent.offset..<(overflows ? .max : end)).clamped(to: range)
        guard !part.isEmpty else { continue }
        if let last = result.last, part.lowerBound <= last.upperBound || part.lowerBound - last.upperBound < gap {
            result[result.count - 1] = min(last.lowerBound, part.lowerBound)..<max(last.upperBound, part.upperBound)
        } else {
            result.append(part)
        }
    }
    return result
}

/// A block handle, as what a backup is restored to. Only one may write to a volume: requests come one after the other.
final class HandleTarget: BlockTarget, @unchecked Sendable {
    private let handle: Guarded<Driver.OpenHandle>
    let size: UInt64
    let isZero: Bool

    /// `isZero`: the volume reads as zeroes wherever it was not written.
    init(_ handle: Driver.OpenHandle, isZero: Bool) throws {
        size = try Repetition.run { try handle.handle.size }
        self.isZero = isZero
        self.handle = Guarded(handle)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws { try change { try $0.write(bytes, at: offset) } }
    func zero(_ range: Range<UInt64>) throws { try change { try $0.zero(offset: range.lowerBound, length: UInt64(range.count)) } }
    func flush() throws { try change { try $0.flush() } }

    /// A volume whose restoration was refused is as it was before. That a driver refuses a part says nothing of those before it: of these
    /// calls it is an error.
    private func change(_ body: (Driver.Handle) throws -> Void) throws {
        do { try handle.withLock { open in try Repetition.run { try body(open.handle) } } } catch let failure as DriverFailure {
            let isRefusal = failure.code == .busy || failure.code == .unsupported
            throw isRefusal ? DriverFailure(.error, failure.message) : failure
        }
    }
}
