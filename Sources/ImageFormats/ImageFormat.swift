/// A format of disk images, under the name that the image service has for it.
public enum ImageFormat: String, Sendable, CaseIterable {
    case raw, qcow2, vmdk, vhd, vhdx, vdi, ploop, luks, iso
    /// Parts of Amazon's images: bytes as they are.
    case ami, ari, aki
    /// Known only to be refused.
    case qcow, qed, bochs

    /// Whether the file's bytes are the disk's: nothing is converted.
    public var isPlain: Bool {
        switch self {
        case .raw, .luks, .iso, .ami, .ari, .aki: true
        default: false
        }
    }

    /// What qemu-img calls it; nil for what is never converted.
    public var driver: String? {
        switch self {
        case .qcow2, .vmdk, .vdi, .vhdx: rawValue
        case .vhd: "vpc"
        case .ploop: "parallels"
        default: nil
        }
    }

    /// Bytes at the beginning of a file that `found` looks at.
    public static let headBytes = 36_864
    /// Bytes at its end.
    public static let tailBytes = 512

    /// The formats whose marks a file bears; none for one that is plain bytes. A file may be made to bear several.
    ///
    /// - Parameters:
    ///   - head: the first `headBytes`, or the whole file.
    ///   - tail: the last `tailBytes`, where they are known already.
    public static func found(head: [UInt8], tail: [UInt8] = []) -> [ImageFormat] {
        var found: [ImageFormat] = []
        func bears(_ mark: [UInt8], at offset: Int = 0) -> Bool {
            head.count >= offset + mark.count && head[offset..<(offset + mark.count)].elementsEqual(mark)
        }
        func bears(_ mark: String, at offset: Int = 0) -> Bool { bears(Array(mark.utf8), at: offset) }
        if bears([0x51, 0x46, 0x49, 0xFB]) { found.append(bears([0, 0, 0, 1], at: 4) ? .qcow : .qcow2) }
        if bears("KDMV") || bears("COWD") || bears("# Disk Descriptor") { found.append(.vmdk) }
        if bears("conectix") || tail.starts(with: "conectix".utf8) { found.append(.vhd) }
        if bears("vhdxfile") { found.append(.vhdx) }
        if bears([0x7F, 0x10, 0xDA, 0xBE], at: 64) { found.append(.vdi) }
        if bears("WithoutFreeSpace") || bears("WithouFreSpacExt") { found.append(.ploop) }
        if bears("LUKS\u{BA}".unicodeScalars.map { UInt8($0.value) } + [0xBE]) { found.append(.luks) }
        if bears("QED\0") { found.append(.qed) }
        if bears("Bochs Virtual HD Image") { found.append(.bochs) }
        if bears("CD001", at: 32_769) { found.append(.iso) }
        return found
    }

    /// Checks what a file bears against the format that is declared.
    ///
    /// - Returns: what it is: of plain bytes that bear the mark of an ISO filesystem or of LUKS, that.
    public func check(_ found: [ImageFormat]) throws(ImageRefusal) -> ImageFormat {
        if let only = found.first, found.count == 1, only == self { return self }
        let others = found.filter { $0 != self }
        if isPlain {
            // What is read by nobody but the guest, whatever it is called.
            if self != .luks, self != .iso, others.allSatisfy({ $0 == .iso || $0 == .luks }) { return found.first ?? self }
            if self == .iso, found.contains(.iso), others.allSatisfy({ $0 == .luks }) { return self }
        }
        if found.count > 1 {
            throw ImageRefusal(
                "disk format declared \(rawValue), found the marks of \(found.map(\.rawValue).joined(separator: " and "))")
        }
        throw ImageRefusal("disk format declared \(rawValue), found \(found.first?.rawValue ?? "raw")")
    }
}

/// Why an image cannot become a volume, for its user.
public struct ImageRefusal: Error, CustomStringConvertible, Sendable, Equatable {
    public let description: String
    init(_ description: String) { self.description = description }
}
