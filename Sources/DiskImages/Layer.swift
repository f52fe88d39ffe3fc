import CDriver
import DriverKit

/// A file that contains an image, on any storage.
public protocol ImageFile: AnyObject {
    /// The name for messages.
    var name: String { get }
    /// The size in bytes.
    var size: UInt64 { get throws }
    /// Fills the buffer; throws if the file is too short.
    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws
    func truncate(to size: UInt64) throws
    func flush() throws
    func close()
}

/// One layer of a chain of images: a raw file, or a qcow2 file with its backing layer.
public protocol Layer: AnyObject {
    /// The virtual size in bytes.
    var size: UInt64 { get throws }
    /// Reads bytes; beyond the end they are zero.
    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws
    func zero(offset: UInt64, length: UInt64) throws
    func grow(to size: UInt64) throws
    func flush() throws
    /// Calls the closure with extents in order and without gaps, with CLINKER_EXTENT_ flags, until it returns false.
    func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool
    func close()
}

/// A raw file.
public final class RawLayer: Layer {
    private let file: any ImageFile
    private var known: UInt64?
    public init(_ file: any ImageFile) { self.file = file }

    public var size: UInt64 {
        get throws {
            if let known { return known }
            let size = try file.size
            known = size
            return size
        }
    }

    public func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let end = try size
        let there = Int(min(UInt64(buffer.count), end > offset ? end - offset : 0))
        if there > 0 { try file.read(UnsafeMutableRawBufferPointer(rebasing: buffer[..<there]), at: offset) }
        UnsafeMutableRawBufferPointer(rebasing: buffer[there...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    public func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws { try file.write(buffer, at: offset) }

    public func zero(offset: UInt64, length: UInt64) throws {
        let zeroes = [UInt8](repeating: 0, count: Int(min(length, 4 << 20)))
        var done: UInt64 = 0
        while done < length {
            let count = Int(min(UInt64(zeroes.count), length - done))
            try zeroes.withUnsafeBytes { try file.write(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: offset + done) }
            done += UInt64(count)
        }
    }

    public func grow(to size: UInt64) throws {
        if try self.size < size { try file.truncate(to: size) }
        known = nil
    }

    public func flush() throws { try file.flush() }

    /// Always data: NFS version 3 cannot report holes.
    public func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool {
        let end = try size
        let hole = UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)
        let there = min(length, end > offset ? end - offset : 0)
        if there > 0, !each(offset, there, UInt32(CLINKER_EXTENT_DATA)) { return false }
        return there == length || each(offset + there, length - there, hole)
    }

    public func close() { file.close() }
}
