import Glibc

/// Whether all bytes are zero.
func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return true }
    guard bytes[0] == 0 else { return false }
    // Every byte is equal to the one before it.
    return memcmp(base, base + 1, bytes.count - 1) == 0
}
