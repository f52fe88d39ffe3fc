import CBZip2
import CZlib
import CZstd
import Glibc

/// Compressed bytes, as the slices that are put into a store.
final class CompressedSlices {
    private(set) var slices: [UnsafeRawBufferPointer] = []
    private(set) var count = 0
    private var owned: [UnsafeMutableRawBufferPointer] = []

    deinit { for buffer in owned { free(buffer.baseAddress) } }

    /// Appends bytes that stay where they are until the slices were put.
    func append(borrowing bytes: UnsafeRawBufferPointer) {
        guard bytes.count > 0 else { return }
        slices.append(bytes)
        count += bytes.count
    }

    /// Appends what `body` writes into a buffer with room for `bound` bytes; the memory shrinks to what was written.
    func append(atMost bound: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Int) rethrows {
        guard let room = malloc(max(1, bound)) else { fatalError("out of memory") }
        var written = 0
        do { written = try body(UnsafeMutableRawBufferPointer(start: room, count: bound)) } catch {
            free(room)
            throw error
        }
        guard written > 0 else {
            free(room)
            return
        }
        let kept = realloc(room, written) ?? room
        owned.append(UnsafeMutableRawBufferPointer(start: kept, count: written))
        append(borrowing: UnsafeRawBufferPointer(start: kept, count: written))
    }

    func append(copying bytes: [UInt8]) {
        append(atMost: bytes.count) { room in
            bytes.withUnsafeBytes { room.copyMemory(from: $0) }
            return bytes.count
        }
    }
}

/// Compresses one object, whose size is known, from pieces. One thread at a time.
protocol StreamEncoder: AnyObject {
    func begin(_ size: Int)
    /// - Returns: whether the output refers to the piece, which then must stay in memory until the slices were put.
    func encode(_ piece: UnsafeRawBufferPointer, isLast: Bool, into output: CompressedSlices) -> Bool
}

/// One frame of zstd that says its size, as Cinder's library needs it.
final class ZstdStreamEncoder: StreamEncoder {
    private let context: OpaquePointer

    init(level: Int32 = 1) {
        guard let made = ZSTD_createCCtx() else { fatalError("no memory for zstd") }
        context = made
        ZSTD_CCtx_setParameter(made, ZSTD_c_compressionLevel, level)
    }

    deinit { ZSTD_freeCCtx(context) }

    func begin(_ size: Int) {
        ZSTD_CCtx_reset(context, ZSTD_reset_session_only)
        ZSTD_CCtx_setPledgedSrcSize(context, UInt64(size))
    }

    func encode(_ piece: UnsafeRawBufferPointer, isLast: Bool, into output: CompressedSlices) -> Bool {
        var source = ZSTD_inBuffer(src: piece.baseAddress, size: piece.count, pos: 0)
        // Some of the piece before is still inside.
        let bound = ZSTD_compressBound(piece.count) + ZSTD_CStreamOutSize()
        var isDone = false
        while !isDone {
            output.append(atMost: bound) { room in
                var target = ZSTD_outBuffer(dst: room.baseAddress, size: room.count, pos: 0)
                let rest = ZSTD_compressStream2(context, &target, &source, isLast ? ZSTD_e_end : ZSTD_e_continue)
                guard ZSTD_isError(rest) == 0 else { fatalError("zstd: \(String(cString: ZSTD_getErrorName(rest)))") }
                isDone = isLast ? rest == 0 : source.pos == source.size
                return target.pos
            }
        }
        return false
    }
}

/// bzip2 with blocks of 900 kB, as Python's library writes it.
final class BZip2StreamEncoder: StreamEncoder {
    private let stream = UnsafeMutablePointer<bz_stream>.allocate(capacity: 1)
    private var isOpen = false

    init() { stream.initialize(to: bz_stream()) }

    deinit {
        if isOpen { BZ2_bzCompressEnd(stream) }
        stream.deallocate()
    }

    func begin(_ size: Int) {
        if isOpen { BZ2_bzCompressEnd(stream) }
        stream.pointee = bz_stream()
        guard BZ2_bzCompressInit(stream, 9, 0, 0) == BZ_OK else { fatalError("no memory for bzip2") }
        isOpen = true
    }

    func encode(_ piece: UnsafeRawBufferPointer, isLast: Bool, into output: CompressedSlices) -> Bool {
        stream.pointee.next_in = UnsafeMutablePointer(mutating: piece.baseAddress?.assumingMemoryBound(to: CChar.self))
        stream.pointee.avail_in = UInt32(clamping: piece.count)
        // One block may come out for what went in before.
        let bound = piece.count + piece.count / 64 + (1 << 20)
        var isDone = false
        while !isDone {
            output.append(atMost: bound) { room in
                stream.pointee.next_out = room.baseAddress?.assumingMemoryBound(to: CChar.self)
                stream.pointee.avail_out = UInt32(clamping: room.count)
                let status = BZ2_bzCompress(stream, isLast ? BZ_FINISH : BZ_RUN)
                guard status == BZ_RUN_OK || status == BZ_FINISH_OK || status == BZ_STREAM_END else { fatalError("bzip2: \(status)") }
                isDone = isLast ? status == BZ_STREAM_END : stream.pointee.avail_in == 0
                return room.count - Int(stream.pointee.avail_out)
            }
        }
        return false
    }
}
