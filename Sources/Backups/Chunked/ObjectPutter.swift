import Glibc
import Primitives

/// Makes objects of parts of the volume and puts them into the store. Every thread has its own.
final class ObjectPutter {
    private let backup: ChunkedBackup
    private let store: any ObjectStore
    private let options: ChunkedOptions
    private let encoder: (any StreamEncoder)?
    private let lanes: MD5Lanes
    private let zeroes: ZeroHashes
    /// One thread at a time may hold much output of which it is not clear that it will be smaller than the input, which it holds too.
    private let uncertainty: Primitives.Semaphore

    init(
        _ backup: ChunkedBackup, _ store: any ObjectStore, _ options: ChunkedOptions, _ zeroes: ZeroHashes,
        uncertainty: Primitives.Semaphore, lanes: MD5Lanes
    ) {
        self.lanes = lanes
        self.uncertainty = uncertainty
        self.backup = backup
        self.store = store
        self.options = options
        self.zeroes = zeroes
        encoder = options.compression.encoder()
    }

    /// An object, the bytes that it takes in the store, and whether it was there already.
    typealias Result = (object: ChunkedObject, stored: Int, isKept: Bool)

    /// Stores zeroes: an object of them is always compressed; where another algorithm was not asked for, by the one that every Cinder has.
    func putZeroes(_ number: Int, _ range: Range<UInt64>) throws -> Result {
        let isZstd = options.compression == .zstd
        let output = isZstd ? ZstdZeroes.frame(range.count) : DeflateEncoder.zeroes(range.count)
        let isKept = try put(number, output.slices, output.count)
        let object = ChunkedObject(
            number: number, offset: range.lowerBound, length: UInt64(range.count), compression: isZstd ? .zstd : .zlib,
            md5: zeroes.md5(range.count))
        return (object, output.count, isKept)
    }

    /// Stores what lies in a buffer; the buffer's content is undefined afterwards.
    ///
    /// - Parameter offset: of the first byte in the volume.
    func put(_ number: Int, offset: UInt64, _ part: Range<Int>, of buffer: WindowBuffer) throws -> Result {
        let pieces = stride(from: part.lowerBound, to: part.upperBound, by: options.pieceSize).map {
            $0..<min(part.upperBound, $0 + options.pieceSize)
        }
        var object = ChunkedObject(
            number: number, offset: offset, length: UInt64(part.count), compression: .none, md5: MD5.Value(high: 0, low: 0))
        // Computed when several threads need one, while others still compress or put.
        let md5 = lanes.submit(UnsafeRawBufferPointer(buffer[part]))
        defer { lanes.withdraw(md5) }
        if let encoder, !pieces.allSatisfy({ looksRandom(UnsafeRawBufferPointer(buffer[$0])) }) {
            let output = CompressedSlices()
            var done = 0
            var isWorthwhile = false
            var isAlone = false
            // Of the output, what is still part of the input.
            var borrowed = 0
            defer { if isAlone { uncertainty.post() } }
            // What is no longer needed, since the last piece that still is.
            var unused = part.lowerBound..<part.lowerBound
            encoder.begin(part.count)
            for piece in pieces {
                let bytes = UnsafeRawBufferPointer(buffer[piece])
                let isBorrowed = encoder.encode(bytes, isLast: piece.upperBound == part.upperBound, into: output)
                done += bytes.count
                if isBorrowed { borrowed += bytes.count }
                // No algorithm adds this much to what it cannot compress: the result will be smaller, and the plain bytes can go.
                isWorthwhile = isWorthwhile || done - output.count > part.count / 32
                if !isWorthwhile, !isAlone, output.count - borrowed > ChunkedOptions.uncertainOutput {
                    // Whoever has it needs nothing of others to finish its object.
                    uncertainty.wait()
                    isAlone = true
                }
                if isBorrowed { unused = piece.upperBound..<piece.upperBound }
                if isWorthwhile && !isBorrowed {
                    unused = unused.lowerBound..<piece.upperBound
                    if output.count - borrowed > ChunkedOptions.outputBesideInput {
                        object.md5 = lanes.value(of: md5)
                        buffer.drop(unused)
                    }
                }
            }
            if isWorthwhile || output.count < part.count {
                object.compression = options.compression
                let isKept = try put(number, output.slices, output.count)
                object.md5 = lanes.value(of: md5)
                return (object, output.count, isKept)
            }
        }
        let isKept = try put(number, [UnsafeRawBufferPointer(buffer[part])], part.count)
        object.md5 = lanes.value(of: md5)
        return (object, part.count, isKept)
    }

    /// - Returns: whether the object was there already.
    private func put(_ number: Int, _ slices: [UnsafeRawBufferPointer], _ count: Int) throws -> Bool {
        let name = backup.objectName(number)
        if options.isContinued, try isStored(name, slices, count) { return true }
        try store.put(name, slices, sha256: nil)
        return false
    }

    private func isStored(_ name: String, _ slices: [UnsafeRawBufferPointer], _ count: Int) throws -> Bool {
        guard try store.size(of: name) == UInt64(count) else { return false }
        return try withUnsafeTemporaryAllocation(byteCount: 1 << 18, alignment: 16) { room in
            var offset: UInt64 = 0
            for slice in slices {
                var start = 0
                while start < slice.count {
                    let part = min(room.count, slice.count - start)
                    let there = UnsafeMutableRawBufferPointer(rebasing: room[..<part])
                    guard try store.get(name, at: offset, into: there) == part,
                        memcmp(there.baseAddress!, slice.baseAddress! + start, part) == 0
                    else { return false }
                    start += part
                    offset += UInt64(part)
                }
            }
            return true
        }
    }
}
