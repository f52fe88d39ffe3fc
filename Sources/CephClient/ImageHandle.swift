import CDriver
import CRBD
import DriverKit
import Glibc

/// A block handle on an image.
package final class ImageHandle: BlockHandle {
    private let image: Image
    package init(_ image: Image) { self.image = image }

    package var size: UInt64 { get throws { try image.size } }
    /// The size of the image's objects, which is the preferred request size.
    package var blockSize: (minimum: UInt32, preferred: UInt32, maximum: UInt32) { (1, 4 << 20, 32 << 20) }
    package func close() { image.close() }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        let count = rbd_read(image.handle, offset, buffer.count, buffer.baseAddress)
        try check(count, "read")
        guard count == buffer.count else { throw DriverError(CLINKER_ERROR, "\(image.name): \(count) bytes read of \(buffer.count)") }
    }

    package func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        try check(rbd_write(image.handle, offset, buffer.count, buffer.baseAddress), "write")
    }

    package func zero(offset: UInt64, length: UInt64) throws {
        try inPieces(offset, length) { rbd_write_zeroes(image.handle, $0, Int($1), 0, 0) }
    }

    package func discard(offset: UInt64, length: UInt64) throws {
        try inPieces(offset, length) { Int(rbd_discard(image.handle, $0, $1)) }
    }

    package func flush() throws { try check(Int(rbd_flush(image.handle)), "flush") }

    package func extents(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        try map(since: nil, offset, length, absent: UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO), each)
    }

    package func changed(since call: Call, offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        try map(since: call.required("since.name"), offset, length, absent: nil, each)
    }

    /// Submits a request asynchronously; a thread of librbd reports its completion to the host.
    package func submit(_ request: UnsafeMutablePointer<clinker_request>) throws {
        guard let operation = Operation(rawValue: request.pointee.operation) else { throw DriverError.unsupported }
        let (offset, length) = (request.pointee.offset, request.pointee.length)
        if operation != .flush { try within(offset, length) }
        var created: rbd_completion_t?
        let result = rbd_aio_create_completion(
            request,
            { completion, opaque in
                guard let completion, let opaque else { return }
                let request = opaque.assumingMemoryBound(to: clinker_request.self)
                let result = rbd_aio_get_return_value(completion)
                rbd_aio_release(completion)
                let isShort =
                    request.pointee.operation == Operation.read.rawValue && result >= 0 && UInt64(result) != request.pointee.length
                request.pointee.complete?(
                    request, Int32(bitPattern: isShort ? CLINKER_ERROR.rawValue : Cluster.code(Int32(clamping: result)).rawValue))
            }, &created)
        try Cluster.check(result, "cannot prepare a request to \(image.name)")
        guard let completion = created else { throw DriverError(CLINKER_RETRY, "librbd gave no completion") }
        let buffer = request.pointee.buffer
        let submitted =
            switch operation {
            case .read: rbd_aio_read(image.handle, offset, Int(length), buffer, completion)
            case .write: rbd_aio_write(image.handle, offset, Int(length), buffer, completion)
            case .zero: rbd_aio_write_zeroes(image.handle, offset, Int(length), completion, 0, 0)
            case .discard: rbd_aio_discard(image.handle, offset, length, completion)
            case .flush: rbd_aio_flush(image.handle, completion)
            }
        if submitted < 0 {
            rbd_aio_release(completion)
            try Cluster.check(submitted, "cannot hand a request to \(image.name)")
        }
    }

    private enum Operation: UInt32 { case read, write, zero, discard, flush }

    // MARK: requests

    /// librbd truncates requests at the end of the image; the host expects an error.
    private func within(_ offset: UInt64, _ length: UInt64) throws {
        let size = try image.size
        guard offset <= size, length <= size - offset else {
            throw DriverError(CLINKER_INVALID, "\(image.name): \(length) bytes at \(offset) lie behind its end at \(size)")
        }
    }

    private func check(_ result: Int, _ what: String) throws {
        try Cluster.check(Int32(clamping: min(result, 0)), "cannot \(what) \(image.name)")
    }

    /// Divides a request into pieces that librbd accepts.
    private func inPieces(_ offset: UInt64, _ length: UInt64, _ body: (UInt64, UInt64) -> Int) throws {
        try within(offset, length)
        var position = offset
        while position < offset + length {
            let count = min(1 << 30, offset + length - position)
            try check(body(position, count), "zero")
            position += count
        }
    }

    private struct Piece {
        var offset, length: UInt64
        var isThere: Bool
    }

    /// The extents that exist, or that changed since a snapshot, in order. `absent` are the flags of the ranges between them; nil to leave
    /// them out.
    private func map(
        since snapshot: String?, _ offset: UInt64, _ length: UInt64, absent: UInt32?, _ each: (UInt64, UInt64, UInt32) -> Int32
    ) throws -> Int32 {
        final class Collector { var pieces: [Piece] = [] }
        let collector = Collector()
        let result = withExtendedLifetime(collector) {
            rbd_diff_iterate2(
                image.handle, snapshot, offset, length, 1, 0,
                { offset, length, exists, opaque in
                    guard let opaque else { return -EINVAL }
                    let collector = Unmanaged<Collector>.fromOpaque(opaque).takeUnretainedValue()
                    collector.pieces.append(Piece(offset: offset, length: UInt64(length), isThere: exists != 0))
                    return 0
                }, Unmanaged.passUnretained(collector).toOpaque())
        }
        try check(Int(result), "map")
        let zero = UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)
        var position = offset
        let end = offset + length
        for piece in collector.pieces.sorted(by: { $0.offset < $1.offset }) {
            let first = max(piece.offset, position)
            let last = min(piece.offset + piece.length, end)
            guard first < last else { continue }
            if let absent, first > position {
                let stopped = each(position, first - position, absent)
                if stopped != 0 { return stopped }
            }
            let stopped = each(first, last - first, piece.isThere ? UInt32(CLINKER_EXTENT_DATA) : zero)
            if stopped != 0 { return stopped }
            position = last
        }
        if let absent, position < end { return each(position, end - position, absent) }
        return 0
    }
}
