import CDriver
import DiskImages
import DriverKit
import Glibc

/// A qcow2 file of a stranger is refused, or read and written; one that was found whole stays whole and keeps what is written.
enum ImageFuzz {
    static func run(_ bytes: UnsafeRawBufferPointer) {
        let file = MemoryFile(Array(bytes))
        guard let image = try? Qcow2(file, over: nil) else { return }
        let isWhole = (try? image.examine { false }) != nil
        let size = image.virtualSize
        var sum: UInt64 = 0
        _ = try? image.map(offset: 0, length: min(size, 1 << 30)) { _, length, _ in
            sum += length
            return true
        }
        for offset in [0, 4096, 70_000, size / 2, size > 512 ? size - 512 : 0] where offset < size {
            let count = Int(min(10_000, size - offset))
            let before = read(image, offset, count)
            let pattern = pattern[..<count]
            let written = (try? pattern.withUnsafeBytes { try image.write($0, at: offset) }) != nil
            guard isWhole, before != nil, written else { continue }
            if read(image, offset, count)?[...] != pattern { violated("what was written is not read") }
            let isZero = (try? image.zero(offset: offset, length: UInt64(count))) != nil
            if isZero, read(image, offset, count)?[...] != zeroes[..<count] { violated("zeroes are not read") }
        }
        let isGrown = (try? image.grow(to: size + 1 << 30)) != nil
        guard isWhole else { return }
        guard let again = try? Qcow2(file, over: nil) else { violated("a file that was whole cannot be opened any more") }
        if isGrown, again.virtualSize != size + 1 << 30 { violated("a file that grew has not its size") }
        do { try again.examine { false } } catch { violated("a file that was whole is so no more: \(error)") }
    }

    private static let pattern = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }
    private static let zeroes = [UInt8](repeating: 0, count: 10_000)

    private static func read(_ image: Qcow2, _ offset: UInt64, _ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 1, count: count)
        return (try? bytes.withUnsafeMutableBytes { try image.read($0, at: offset) }) == nil ? nil : bytes
    }
}

private final class MemoryFile: ImageFile {
    private static let most = 8 << 20
    private var bytes: [UInt8]
    let name = "file"
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var size: UInt64 { UInt64(bytes.count) }

    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        guard offset <= bytes.count, buffer.count <= bytes.count - Int(offset) else { throw DriverError(CLINKER_INVALID, "behind the end") }
        bytes.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[Int(offset)..<(Int(offset) + buffer.count)])) }
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard offset <= Self.most, buffer.count <= Self.most - Int(offset) else { throw DriverError(CLINKER_NO_SPACE, "too long") }
        if bytes.count < Int(offset) + buffer.count { try truncate(to: offset + UInt64(buffer.count)) }
        bytes.replaceSubrange(Int(offset)..<(Int(offset) + buffer.count), with: buffer)
    }

    func truncate(to size: UInt64) throws {
        guard size <= Self.most else { throw DriverError(CLINKER_NO_SPACE, "too long") }
        bytes.removeLast(max(0, bytes.count - Int(size)))
        bytes += [UInt8](repeating: 0, count: Int(size) - bytes.count)
    }

    func flush() {}
    func close() {}
}
