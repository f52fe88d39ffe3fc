import CDriver
import CLinux
import DriverKit
import Glibc

/// A block device, opened with O_DIRECT.
final class BlockDevice: BlockHandle {
    let path: String
    private let descriptor: Int32
    private let isWritable: Bool
    private let unit: Int

    init(_ path: String, writable: Bool) throws {
        self.path = path
        isWritable = writable
        descriptor = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | Int32(CLINKER_O_DIRECT))
        if descriptor < 0 { throw DriverError.last("cannot open \(path)") }
        var block: Int32 = 512
        unit = clinker_device_block(descriptor, &block) == 0 ? max(512, Int(block)) : 4096
    }

    func close() { _ = Glibc.close(descriptor) }

    var size: UInt64 {
        get throws {
            var size: UInt64 = 0
            guard clinker_device_size(descriptor, &size) == 0 else { throw DriverError.last("cannot read the size of \(path)") }
            return size
        }
    }

    var blockSize: (minimum: UInt32, preferred: UInt32, maximum: UInt32) { (UInt32(unit), 4 << 20, 32 << 20) }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        guard isAligned(buffer.baseAddress) else {
            return try bouncing(buffer.count) { aligned, done, count in
                try transfer(aligned.baseAddress!, count, at: offset + UInt64(done), reading: true)
                memcpy(buffer.baseAddress! + done, aligned.baseAddress!, count)
            }
        }
        try transfer(buffer.baseAddress!, buffer.count, at: offset, reading: true)
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try within(offset, UInt64(buffer.count))
        guard isWritable else { throw DriverError(CLINKER_INVALID, "\(path) is open for reading") }
        guard isAligned(buffer.baseAddress) else {
            return try bouncing(buffer.count) { aligned, done, count in
                memcpy(aligned.baseAddress!, buffer.baseAddress! + done, count)
                try transfer(aligned.baseAddress!, count, at: offset + UInt64(done), reading: false)
            }
        }
        try transfer(UnsafeMutableRawPointer(mutating: buffer.baseAddress!), buffer.count, at: offset, reading: false)
    }

    func zero(offset: UInt64, length: UInt64) throws {
        try within(offset, length)
        guard isWritable else { throw DriverError(CLINKER_INVALID, "\(path) is open for reading") }
        guard clinker_device_zero(descriptor, offset, length) == 0 else { throw DriverError.last("cannot write zeroes to \(path)") }
    }

    func discard(offset: UInt64, length: UInt64) throws { _ = clinker_device_discard(descriptor, offset, length) }

    func flush() throws { if isWritable, fsync(descriptor) != 0 { throw DriverError.last("cannot flush \(path)") } }

    /// Overwrites a range with zeroes.
    ///
    /// - Parameters:
    ///   - start: the first byte.
    ///   - bytes: the length; 0 for everything.
    ///   - bytesPerSecond: 0 for no limit.
    func wipe(from start: UInt64, bytes: UInt64, bytesPerSecond: UInt64, _ call: Call) throws {
        let size = try size
        let end = bytes == 0 ? size : min(start + bytes, size)
        let started = Self.now()
        var position = start
        while position < end {
            if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            let count = min(32 << 20, end - position)
            try zero(offset: position, length: count)
            position += count
            call.progress(done: position, total: end)
            if bytesPerSecond > 0 {
                let ahead = Double(position - start) / Double(bytesPerSecond) - (Self.now() - started)
                if ahead > 0 { usleep(UInt32(min(ahead, 30) * 1e6)) }
            }
        }
        try flush()
    }

    // MARK: implementation

    private static func now() -> Double {
        var now = timespec()
        clock_gettime(CLOCK_MONOTONIC, &now)
        return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
    }

    private func isAligned(_ pointer: UnsafeRawPointer?) -> Bool { UInt(bitPattern: pointer) % UInt(unit) == 0 }
    private func isAligned(_ pointer: UnsafeMutableRawPointer?) -> Bool { UInt(bitPattern: pointer) % UInt(unit) == 0 }

    private func bouncing(_ count: Int, _ body: (UnsafeMutableRawBufferPointer, Int, Int) throws -> Void) throws {
        let aligned = UnsafeMutableRawBufferPointer.allocate(byteCount: min(count, 4 << 20), alignment: 4096)
        defer { aligned.deallocate() }
        var done = 0
        while done < count {
            let piece = min(aligned.count, count - done)
            try body(aligned, done, piece)
            done += piece
        }
    }

    private func transfer(_ pointer: UnsafeMutableRawPointer, _ count: Int, at offset: UInt64, reading: Bool) throws {
        var done = 0
        while done < count {
            let position = off_t(offset) + off_t(done)
            let result =
                reading
                ? pread(descriptor, pointer + done, count - done, position) : pwrite(descriptor, pointer + done, count - done, position)
            if result > 0 {
                done += result
            } else if result == 0 {
                throw DriverError(CLINKER_INVALID, "\(path) ends at \(position)")
            } else if errno != EINTR {
                throw DriverError.last("cannot \(reading ? "read" : "write") \(path)")
            }
        }
    }

    private func within(_ offset: UInt64, _ length: UInt64) throws {
        let size = try size
        guard offset <= size, length <= size - offset else {
            throw DriverError(CLINKER_INVALID, "\(path): \(length) bytes at \(offset) lie behind its end at \(size)")
        }
    }
}
