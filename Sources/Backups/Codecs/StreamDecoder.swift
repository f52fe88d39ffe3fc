import CBZip2
import CZlib
import CZstd

/// What a decoder cannot go on with.
struct DecodingFailure: Error, CustomStringConvertible {
    let description: String
}

/// Decompresses a stream that may have been written by anybody, piece by piece: a piece never yields more than the room it is given, so
/// the caller bounds what a small object expands to. One thread at a time.
protocol StreamDecoder: AnyObject {
    /// Decompresses from the front of `input`, which it shortens, into the front of `output`.
    ///
    /// - Returns: bytes written, and whether the stream has ended. Nothing written and not ended: more input is needed.
    func decode(_ input: inout UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(DecodingFailure) -> (
        count: Int, ended: Bool
    )
}

extension UnsafeRawBufferPointer {
    /// Takes bytes away from the front.
    mutating func removeFront(_ count: Int) { self = UnsafeRawBufferPointer(rebasing: self[count...]) }
}

/// zlib's format (RFC 1950).
final class InflateDecoder: StreamDecoder {
    private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)

    init() {
        stream.initialize(to: z_stream())
        guard inflateInit_(stream, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { fatalError("no memory for zlib") }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    func decode(_ input: inout UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(DecodingFailure) -> (
        count: Int, ended: Bool
    ) {
        stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
        stream.pointee.avail_in = UInt32(clamping: input.count)
        stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
        stream.pointee.avail_out = UInt32(clamping: output.count)
        let (givenIn, givenOut) = (stream.pointee.avail_in, stream.pointee.avail_out)
        let status = inflate(stream, Z_NO_FLUSH)
        input.removeFront(Int(givenIn - stream.pointee.avail_in))
        let count = Int(givenOut - stream.pointee.avail_out)
        switch status {
        case Z_STREAM_END: return (count, true)
        case Z_OK, Z_BUF_ERROR: return (count, false)
        default: throw DecodingFailure(description: "not a zlib stream (error \(status))")
        }
    }
}

/// bzip2's format.
final class BZip2Decoder: StreamDecoder {
    private let stream = UnsafeMutablePointer<bz_stream>.allocate(capacity: 1)

    init() {
        stream.initialize(to: bz_stream())
        guard BZ2_bzDecompressInit(stream, 0, 0) == BZ_OK else { fatalError("no memory for bzip2") }
    }

    deinit {
        BZ2_bzDecompressEnd(stream)
        stream.deallocate()
    }

    func decode(_ input: inout UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(DecodingFailure) -> (
        count: Int, ended: Bool
    ) {
        stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.assumingMemoryBound(to: CChar.self))
        stream.pointee.avail_in = UInt32(clamping: input.count)
        stream.pointee.next_out = output.baseAddress?.assumingMemoryBound(to: CChar.self)
        stream.pointee.avail_out = UInt32(clamping: output.count)
        let (givenIn, givenOut) = (stream.pointee.avail_in, stream.pointee.avail_out)
        let status = BZ2_bzDecompress(stream)
        input.removeFront(Int(givenIn - stream.pointee.avail_in))
        let count = Int(givenOut - stream.pointee.avail_out)
        switch status {
        case BZ_STREAM_END: return (count, true)
        case BZ_OK: return (count, false)
        default: throw DecodingFailure(description: "not a bzip2 stream (error \(status))")
        }
    }
}

/// One frame of zstd.
final class ZstdStreamDecoder: StreamDecoder {
    /// Frames that need a larger window are refused: a header of a few bytes could ask for gigabytes.
    static let windowLimitLog: Int32 = 25
    private let context: OpaquePointer

    init() {
        guard let made = ZSTD_createDCtx() else { fatalError("no memory for zstd") }
        context = made
        ZSTD_DCtx_setParameter(made, ZSTD_d_windowLogMax, Self.windowLimitLog)
    }

    deinit { ZSTD_freeDCtx(context) }

    func decode(_ input: inout UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(DecodingFailure) -> (
        count: Int, ended: Bool
    ) {
        var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
        var target = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
        let rest = ZSTD_decompressStream(context, &target, &source)
        guard ZSTD_isError(rest) == 0 else {
            throw DecodingFailure(description: "not a zstd frame (\(String(cString: ZSTD_getErrorName(rest))))")
        }
        input.removeFront(source.pos)
        return (target.pos, rest == 0)
    }
}
