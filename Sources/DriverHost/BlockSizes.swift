import CDriver

/// The request sizes of a handle: every offset and length is a multiple of `minimum`, and no request is longer than `maximum` bytes.
struct BlockSizes {
    var minimum: UInt64 = 1
    var preferred: UInt64 = 1 << 20
    var maximum: UInt64 = 32 << 20

    /// For a driver without `block_size`.
    init() {}

    /// Checks the driver's sizes and rounds them to whole blocks; throws if they contradict each other.
    init(of handle: UnsafeMutableRawPointer, _ table: clinker_driver) throws {
        var said = (minimum: UInt32(1), preferred: UInt32(1 << 20), maximum: UInt32(32 << 20))
        if let ask = table.block_size, ask(handle, &said.minimum, &said.preferred, &said.maximum) != 0 {
            said = (1, 1 << 20, 32 << 20)
        }
        try self.init(minimum: said.minimum, preferred: said.preferred, maximum: said.maximum)
    }

    init(minimum: UInt32, preferred: UInt32, maximum: UInt32) throws {
        guard minimum.nonzeroBitCount == 1, minimum <= 1 << 20 else {
            throw DriverFailure(.error, "block_size: the minimum must be a power of two of at most 1 MiB, not \(minimum)")
        }
        guard maximum >= minimum else {
            throw DriverFailure(.error, "block_size: the maximum of \(maximum) bytes is less than the minimum of \(minimum)")
        }
        self.minimum = UInt64(minimum)
        // The largest buffer that the host uses.
        self.maximum = min(UInt64(maximum), 32 << 20) / self.minimum * self.minimum
        let wanted = max(self.minimum, UInt64(preferred), 4096)
        self.preferred = min(self.maximum, (wanted + self.minimum - 1) / self.minimum * self.minimum)
    }
}
