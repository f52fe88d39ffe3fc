import CZlib
import Glibc

/// zlib's format (RFC 1950), made of pieces that are compressed each for itself: what does not shrink is stored as it is, without a copy,
/// and zeroes are written from memory.
final class DeflateEncoder: StreamEncoder {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    private var checksum: UInt = 1

    init(level: Int32 = 2) {
        stream.initialize(to: z_stream())
        // A negative size of the window: deflate without zlib's header and checksum, which are written here.
        let status = deflateInit2_(
            stream, level, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard status == Z_OK else { fatalError("no memory for zlib") }
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    func begin(_ size: Int) { checksum = 1 }

    func encode(_ piece: UnsafeRawBufferPointer, isLast: Bool, into output: CompressedSlices) -> Bool {
        if output.count == 0 { output.append(copying: Self.header) }
        checksum = adler32(checksum, piece.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32(clamping: piece.count))
        var isStored = false
        if piece.count == Self.zeroPiece, isZero(piece) {
            output.append(copying: Self.canned)
        } else if looksRandom(piece) {
            store(piece, into: output)
            isStored = true
        } else {
            compress(piece, into: output)
        }
        if isLast {
            output.append(copying: Self.lastBlock)
            output.append(copying: (0..<4).map { UInt8(truncatingIfNeeded: checksum >> UInt(24 - $0 * 8)) })
        }
        return isStored
    }

    /// Deflate with a window of 32 KiB, the fastest algorithm.
    fileprivate static let header: [UInt8] = [0x78, 0x01]
    /// A stored block without content that ends the stream.
    fileprivate static let lastBlock: [UInt8] = [1, 0, 0, 0xFF, 0xFF]

    fileprivate func compress(_ piece: UnsafeRawBufferPointer, into output: CompressedSlices) {
        deflateReset(stream)
        stream.pointee.next_in = UnsafeMutablePointer(mutating: piece.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(clamping: piece.count)
        output.append(atMost: Int(deflateBound(stream, UInt(piece.count))) + 64) { room in
            stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_out = UInt32(clamping: room.count)
            // A full flush ends at a byte's boundary, and nothing later refers to what was before.
            let status = deflate(stream, Z_FULL_FLUSH)
            guard status == Z_OK, stream.pointee.avail_in == 0, stream.pointee.avail_out > 0 else { fatalError("zlib: \(status)") }
            return room.count - Int(stream.pointee.avail_out)
        }
    }

    private func store(_ piece: UnsafeRawBufferPointer, into output: CompressedSlices) {
        var start = 0
        while start < piece.count {
            let count = min(65535, piece.count - start)
            let (low, high) = (UInt8(truncatingIfNeeded: count), UInt8(truncatingIfNeeded: count >> 8))
            output.append(copying: [0, low, high, ~low, ~high])
            output.append(borrowing: UnsafeRawBufferPointer(rebasing: piece[start..<start + count]))
            start += count
        }
    }
}

/// Whether bytes are so evenly distributed that compressing them is not worth its time: encrypted or compressed already. Judged by
/// samples, 4 KiB of every 64.
func looksRandom(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count >= 4096 else { return false }
    return withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 256) { counts in
        for start in stride(from: 0, through: bytes.count - 4096, by: 65536) {
            counts.update(repeating: 0)
            for byte in bytes[start..<start + 4096] { counts[Int(byte)] &+= 1 }
            // The sum of squares of the counts of 4096 evenly distributed bytes is 69,616 on average, with a deviation of 360. Bytes that
            // compress by one percent have a greater one than this.
            var squares: UInt32 = 0
            for count in counts { squares &+= count &* count }
            if squares > 72_000 { return false }
        }
        return true
    }
}

extension DeflateEncoder {
    /// A zlib stream of that many zeroes, as slices of which most are the same memory.
    static func zeroes(_ count: Int) -> CompressedSlices {
        let output = CompressedSlices()
        output.append(copying: header)
        let whole = count / zeroPiece
        if whole > 0 {
            output.append(copying: canned)
            let piece = output.slices[1]
            for _ in 1..<max(1, whole) { output.append(borrowing: piece) }
        }
        if count % zeroPiece > 0 { output.append(copying: compressedZeroes(count % zeroPiece)) }
        output.append(copying: lastBlock)
        // Adler-32 of zeroes: its first sum stays 1, the second counts the bytes.
        let sum = UInt32(count % 65521) << 16 | 1
        output.append(copying: (0..<4).map { UInt8(truncatingIfNeeded: sum >> UInt32(24 - $0 * 8)) })
        return output
    }

    fileprivate static let zeroPiece = 1 << 20
    fileprivate static let canned = compressedZeroes(zeroPiece)

    private static func compressedZeroes(_ count: Int) -> [UInt8] {
        let encoder = DeflateEncoder(level: 9)
        let output = CompressedSlices()
        withUnsafeTemporaryAllocation(byteCount: count, alignment: 16) { zeroes in
            memset(zeroes.baseAddress!, 0, count)
            encoder.compress(UnsafeRawBufferPointer(zeroes), into: output)
        }
        return output.slices.flatMap { Array($0) }
    }
}
