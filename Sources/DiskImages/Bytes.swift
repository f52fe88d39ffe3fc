// Big-endian numbers, as in qcow2. Offsets are computed by this module, never taken from a file.
extension [UInt8] {
    func big16(_ offset: Int) -> UInt16 { self[offset..<(offset + 2)].reduce(0) { $0 << 8 | UInt16($1) } }
    func big32(_ offset: Int) -> UInt32 { self[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) } }
    func big64(_ offset: Int) -> UInt64 { self[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
    mutating func setBig16(_ value: UInt16, at offset: Int) {
        for index in 0..<2 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt16(1 - index))) }
    }
    mutating func setBig32(_ value: UInt32, at offset: Int) {
        for index in 0..<4 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(3 - index))) }
    }
    mutating func setBig64(_ value: UInt64, at offset: Int) {
        for index in 0..<8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(7 - index))) }
    }
}

extension ImageFile {
    func big64s(count: Int, at offset: UInt64) throws -> [UInt64] {
        var bytes = [UInt8](repeating: 0, count: count * 8)
        try bytes.withUnsafeMutableBytes { try readPadded($0, at: offset) }
        return (0..<count).map { bytes.big64($0 * 8) }
    }

    func write(big64 values: [UInt64], at offset: UInt64) throws {
        var bytes = [UInt8](repeating: 0, count: values.count * 8)
        for (index, value) in values.enumerated() { bytes.setBig64(value, at: index * 8) }
        try bytes.withUnsafeBytes { try write($0, at: offset) }
    }

    /// Reads bytes. A last cluster or table may be truncated by the end of the file; the rest is zero.
    func readPadded(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let size = try size
        let there = Int(min(UInt64(buffer.count), size > offset ? size - offset : 0))
        if there > 0 { try read(UnsafeMutableRawBufferPointer(rebasing: buffer[..<there]), at: offset) }
        UnsafeMutableRawBufferPointer(rebasing: buffer[there...]).initializeMemory(as: UInt8.self, repeating: 0)
    }
}
