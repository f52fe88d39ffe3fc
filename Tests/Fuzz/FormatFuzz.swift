import ImageFormats

/// The header of a stranger's image is refused, or found to be one that fits; looking at it reads little.
enum FormatFuzz {
    private static let volume: UInt64 = 1 << 40

    static func run(_ bytes: UnsafeRawBufferPointer) {
        guard let first = bytes.first else { return }
        let formats = ImageFormat.allCases
        let declared = formats[Int(first) % formats.count]
        let file = CountedFile(Array(bytes.dropFirst()))
        let found = try? ImageInspection(
            of: file, declared: declared, rules: .init(volumeSize: volume, vmdkTypes: ["monolithicSparse", "streamOptimized"]))
        if file.read > 2 << 20 { violated("an inspection reads \(file.read) bytes") }
        guard let found else { return }
        if found.virtualSize > volume { violated("a disk of \(found.virtualSize) bytes fits") }
        if found.format.driver == nil, !found.format.isPlain { violated("\(found.format) is taken") }
        if !declared.isPlain, found.format != declared { violated("\(found.format) is taken as \(declared)") }
        let head = Array(file.bytes.prefix(ImageFormat.headBytes))
        if found.format == .raw, !ImageFormat.found(head: head).isEmpty { violated("a raw image bears a mark") }
    }

    private final class CountedFile: ImageFile {
        let bytes: [UInt8]
        var read = 0
        init(_ bytes: [UInt8]) { self.bytes = bytes }
        var size: UInt64 { UInt64(bytes.count) }

        func read(_ count: Int, at offset: UInt64) throws -> [UInt8] {
            guard count >= 0, offset <= UInt64(Int.max) else { violated("it reads \(count) bytes at \(offset)") }
            read += count
            return Array(bytes.dropFirst(Int(offset)).prefix(count))
        }
    }
}
