/// Frames of zstd (RFC 8878) that hold nothing but zeroes, written without compressing anything: four bytes for 128 KiB.
enum ZstdZeroes {
    private static let magic: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD]
    /// The content's size in eight bytes, no checksum.
    private static let descriptor: UInt8 = 0xC0
    /// A window, and so the largest block, of 2^(10 + 7) bytes.
    private static let window: UInt8 = 7 << 3
    private static let block = 1 << 17
    private static let repeated: UInt32 = 1

    static func frame(_ count: Int) -> CompressedSlices {
        var bytes = magic + [descriptor, window]
        bytes.reserveCapacity(count / block * 4 + 32)
        for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: UInt64(count) >> UInt64(shift))) }
        var rest = count
        repeat {
            let size = min(rest, block)
            rest -= size
            let header = UInt32(size) << 3 | repeated << 1 | (rest == 0 ? 1 : 0)
            for shift in stride(from: 0, to: 24, by: 8) { bytes.append(UInt8(truncatingIfNeeded: header >> UInt32(shift))) }
            bytes.append(0)
        } while rest > 0
        let output = CompressedSlices()
        output.append(copying: bytes)
        return output
    }
}
