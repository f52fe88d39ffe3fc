import CZstd

/// Compresses with zstd. One thread at a time: every thread has its own.
final class ZstdCompressor {
    private let context: OpaquePointer
    private let level: Int32

    /// - Parameter level: 1 (fast) to 19 (small).
    init(level: Int = 3) {
        guard let made = ZSTD_createCCtx() else { fatalError("no memory for a compressor") }
        context = made
        self.level = Int32(clamping: level)
    }

    deinit { ZSTD_freeCCtx(context) }

    /// The room that compressed bytes may need.
    static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

    /// Compresses into a buffer of at least `bound` bytes.
    ///
    /// - Returns: the size of the result; nil if it does not fit.
    func compress(_ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Int? {
        let count = ZSTD_compressCCtx(context, target.baseAddress, target.count, bytes.baseAddress, bytes.count, level)
        return ZSTD_isError(count) == 0 ? count : nil
    }

    /// The compressed bytes.
    func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.bound(bytes.count)) { buffer, count in
            guard let size = compress(bytes, into: UnsafeMutableRawBufferPointer(buffer)) else { fatalError("zstd failed") }
            count = size
        }
    }
}

/// Decompresses what may have been written by anybody. One thread at a time.
final class ZstdDecompressor {
    private let context: OpaquePointer

    init() {
        guard let made = ZSTD_createDCtx() else { fatalError("no memory for a decompressor") }
        context = made
    }

    deinit { ZSTD_freeDCtx(context) }

    /// Decompresses into a buffer of the expected size; false if the bytes are damaged or give another size.
    func decompress(_ bytes: UnsafeRawBufferPointer, exactly target: UnsafeMutableRawBufferPointer) -> Bool {
        ZSTD_decompressDCtx(context, target.baseAddress, target.count, bytes.baseAddress, bytes.count) == target.count
    }

    /// Decompresses bytes of unknown size; nil if they are damaged or would give more than `limit` bytes. Memory grows with what was
    /// really decompressed, not with what a header promises.
    func decompress(_ bytes: UnsafeRawBufferPointer, atMost limit: Int) -> [UInt8]? {
        // The constants are macros that Swift does not see: unknown is -1, an error is -2.
        let promised = ZSTD_getFrameContentSize(bytes.baseAddress, bytes.count)
        if promised < UInt64.max - 1 {
            guard promised <= UInt64(limit) else { return nil }
            // No frame expands more than this; a header that promises more lies.
            guard promised <= UInt64(bytes.count) * 65536 else { return nil }
            var isWhole = false
            let result = [UInt8](unsafeUninitializedCapacity: Int(promised)) { buffer, count in
                isWhole = decompress(bytes, exactly: UnsafeMutableRawBufferPointer(buffer))
                count = isWhole ? Int(promised) : 0
            }
            return isWhole ? result : nil
        }
        return promised == UInt64.max ? stream(bytes, atMost: limit) : nil
    }

    private func stream(_ bytes: UnsafeRawBufferPointer, atMost limit: Int) -> [UInt8]? {
        ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
        var result: [UInt8] = []
        var input = ZSTD_inBuffer(src: bytes.baseAddress, size: bytes.count, pos: 0)
        return withUnsafeTemporaryAllocation(byteCount: 1 << 17, alignment: 16) { piece in
            while true {
                var output = ZSTD_outBuffer(dst: piece.baseAddress, size: piece.count, pos: 0)
                let rest = ZSTD_decompressStream(context, &output, &input)
                guard ZSTD_isError(rest) == 0, result.count + output.pos <= limit else { return nil }
                result.append(contentsOf: piece[..<output.pos])
                if rest == 0, input.pos == input.size { return result }
                if output.pos == 0, input.pos == input.size { return nil }
            }
        }
    }
}
