import DriverHost
import Glibc
import Primitives

/// Writes the pieces of an image into a volume. Zeroes are not written where the volume is zero already.
struct ImageWriter {
    let handle: Driver.Handle
    let targetIsZero: Bool
    let pipe: ImagePipe

    /// What is zero as a whole is a hole.
    private static let grain = 64 << 10

    /// Requests that the driver has not completed.
    private final class UnderWay: Sendable {
        let count = Guarded(0)
        let ended = Semaphore()
    }
    private let underWay = UnderWay()

    init(_ handle: Driver.Handle, targetIsZero: Bool, from pipe: ImagePipe) {
        self.handle = handle
        self.targetIsZero = targetIsZero
        self.pipe = pipe
    }

    /// Returns when everything is written, and the rest of a volume that was not zero is zeroed.
    func run() throws {
        let room = try handle.size
        var end: UInt64 = 0
        do {
            while let piece = pipe.pieces.next() {
                end = try write(piece, room)
                pipe.release(piece.slot)
            }
        } catch { pipe.stop(error) }
        // Buffers are the driver's until it has completed them.
        while underWay.count.withLock({ $0 > 0 }) { underWay.ended.wait() }
        try pipe.check()
        if !targetIsZero, end < room { try handle.zero(offset: end, length: room - end) }
        try handle.flush()
    }

    /// The end of what was written: the last piece is padded with zeroes to a whole block.
    private func write(_ piece: ImagePipe.Piece, _ room: UInt64) throws -> UInt64 {
        let alignment = Int(handle.alignment)
        let count = (piece.count + alignment - 1) / alignment * alignment
        let end = piece.offset + UInt64(count)
        guard end <= room else { throw DriverFailure(.invalid, "the image is longer than the volume, which has \(room) bytes") }
        let bytes = UnsafeMutableRawBufferPointer(rebasing: pipe.room(piece)[..<count])
        if count > piece.count { memset(bytes.baseAddress! + piece.count, 0, count - piece.count) }
        let grain = max(Self.grain, alignment)
        var position = 0
        while position < count {
            let isZero = Self.isZero(bytes, position, min(grain, count - position))
            var next = min(position + grain, count)
            while next < count, Self.isZero(bytes, next, min(grain, count - next)) == isZero { next = min(next + grain, count) }
            if !isZero {
                try write(UnsafeMutableRawBufferPointer(rebasing: bytes[position..<next]), piece, position)
            } else if !targetIsZero {
                try handle.zero(offset: piece.offset + UInt64(position), length: UInt64(next - position))
            }
            position = next
        }
        return end
    }

    private func write(_ bytes: UnsafeMutableRawBufferPointer, _ piece: ImagePipe.Piece, _ place: Int) throws {
        var position = 0
        while position < bytes.count {
            let part = UnsafeMutableRawBufferPointer(rebasing: bytes[position..<min(bytes.count, position + handle.maximumSize)])
            let offset = piece.offset + UInt64(place + position)
            try pipe.check()
            pipe.retain(piece.slot)
            underWay.count.withLock { $0 += 1 }
            let isTaken = handle.submit(.write, part, at: offset) { [pipe, underWay] problem in
                if let problem { pipe.stop(problem) }
                pipe.release(piece.slot)
                underWay.count.withLock { $0 -= 1 }
                underWay.ended.post()
            }
            if !isTaken {
                underWay.count.withLock { $0 -= 1 }
                // The caller's own use is left.
                pipe.release(piece.slot)
                try handle.write(UnsafeRawBufferPointer(part), at: offset)
            }
            position += part.count
        }
    }

    private static func isZero(_ bytes: UnsafeMutableRawBufferPointer, _ offset: Int, _ count: Int) -> Bool {
        guard let base = bytes.baseAddress, count > 0 else { return true }
        return bytes[offset] == 0 && memcmp(base + offset, base + offset + 1, count - 1) == 0
    }
}
