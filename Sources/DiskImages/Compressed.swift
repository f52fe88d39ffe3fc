import CDriver
import CZlib
import DriverKit

// Compressed clusters (raw deflate). They are only read; writes allocate normal clusters.
extension Qcow2 {
    /// The position of the compressed bytes: at any byte, in at most two clusters.
    func compressedRange(_ entry: UInt64) -> (offset: UInt64, length: UInt64) {
        let bits = 62 - (UInt64(clusterBits) - 8)
        let offset = entry & ((1 << bits) - 1)
        let sectors = (entry & (Self.compressed - 1)) >> bits
        return (offset, (sectors + 1) * 512 - offset % 512)
    }

    func inflate(_ entry: UInt64) throws -> [UInt8] {
        if let inflated, inflated.entry == entry { return inflated.bytes }
        let (offset, length) = compressedRange(entry)
        guard try isInside(offset) else { throw damaged("a compressed cluster lies at \(offset)") }
        var packed = [UInt8](repeating: 0, count: Int(length))
        try packed.withUnsafeMutableBytes { try file.readPadded($0, at: offset) }
        var bytes = [UInt8](repeating: 0, count: Int(clusterSize))
        var stream = z_stream()
        // Without a header, with a window of 4 KiB.
        guard inflateInit2_(&stream, -12, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
            throw DriverError(CLINKER_RETRY, "zlib cannot begin")
        }
        defer { inflateEnd(&stream) }
        let left = packed.withUnsafeMutableBufferPointer { packed in
            bytes.withUnsafeMutableBufferPointer { bytes in
                stream.next_in = packed.baseAddress
                stream.avail_in = UInt32(packed.count)
                stream.next_out = bytes.baseAddress
                stream.avail_out = UInt32(bytes.count)
                let result = CZlib.inflate(&stream, Z_FINISH)
                return result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK ? stream.avail_out : .max
            }
        }
        guard left == 0 else { throw damaged("a compressed cluster at \(offset) cannot be read") }
        inflated = (entry, bytes)
        return bytes
    }
}
