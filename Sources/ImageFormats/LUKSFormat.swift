/// How content is encrypted by LUKS of version 1, which hypervisors and `cryptsetup` open: all of it that is no secret.
public struct LUKSFormat: Sendable, Equatable {
    /// The cipher, its mode, and how its initial vectors are made, under qemu's names.
    public let cipher, mode, vector: String
    /// Bytes of the header before the content.
    public let headerBytes: Int

    /// - Parameters:
    ///   - cipher: as types say it, `aes-xts-plain64`, the usual one.
    ///   - keySize: bits, as types say it; they count for one of the two keys of XTS.
    /// - Returns: nil where no hypervisor knows the cipher.
    public init?(cipher: String?, keySize: Int?) {
        let parts = (cipher ?? "aes-xts-plain64").split(separator: "-", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 3, parts[0] == "aes", Self.modes.contains(parts[1]), let vector = Self.vectors[parts[2]],
            let size = Self.sizes[keySize ?? 256]
        else { return nil }
        self.cipher = "aes-\(size)"
        mode = parts[1]
        self.vector = vector
        // A sector page, and eight slots, each with the master key in 4,000 stripes, in whole pages (LUKS On-Disk Format Specification 1.2.3).
        let keyBytes = size / 8 * (mode == "xts" ? 2 : 1)
        headerBytes = Self.page + 8 * ((keyBytes * 4000 + Self.page - 1) / Self.page * Self.page)
    }

    private static let page = 4096
    private static let modes: Set = ["xts", "cbc"]
    private static let vectors = ["plain64": "plain64", "plain": "plain", "essiv:sha256": "essiv,ivgen-hash-alg=sha256"]
    /// 512 is said by who counts both keys of XTS.
    private static let sizes = [128: 128, 192: 192, 256: 256, 512: 256]
}
