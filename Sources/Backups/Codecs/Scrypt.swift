import CCrypto

/// The key derivation of a password.
struct Scrypt: Sendable, Equatable {
    /// Cost in memory and time, a power of two.
    var cost: Int
    var blockSize: Int
    var parallelism: Int

    static let standard = Scrypt(cost: 1 << 15, blockSize: 8, parallelism: 1)
    /// The most memory in bytes that a derivation may take, whoever wrote its parameters.
    static let memoryLimit = 128 << 20

    /// Why these parameters, which a stranger may have written, are refused; nil if they are fine.
    var fault: String? {
        guard cost >= 2, cost <= 1 << 20, cost & (cost - 1) == 0 else { return "N is not a power of two up to 2^20" }
        guard (1...64).contains(blockSize), (1...16).contains(parallelism) else { return "r or p is out of range" }
        guard 128 * cost * blockSize <= Self.memoryLimit else { return "the derivation would take more than \(Self.memoryLimit >> 20) MiB" }
        return nil
    }

    /// Derives a key; nil if the parameters have a fault.
    func derive(_ password: String, salt: [UInt8], count: Int) -> [UInt8]? {
        guard fault == nil else { return nil }
        var result = [UInt8](repeating: 0, count: count)
        let status = password.utf8CString.withUnsafeBufferPointer { text in
            EVP_PBE_scrypt(
                text.baseAddress, text.count - 1, salt, salt.count, UInt64(cost), UInt64(blockSize), UInt64(parallelism),
                UInt64(Self.memoryLimit) * 2, &result, count)
        }
        return status == 1 ? result : nil
    }
}
