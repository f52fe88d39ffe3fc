import CDriver
import CLinux
import DriverKit
import Glibc

/// An open regular file. Errors have the system's text and the code for the host.
final class File {
    let descriptor: Int32
    private let path: String

    init(_ path: String, writable: Bool) throws {
        self.path = path
        descriptor = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW)
        if descriptor < 0 { throw DriverError.last("cannot open \(path)") }
    }

    /// Creates an empty file; an existing file of the name is replaced.
    init(creating path: String) throws {
        self.path = path
        unlink(path)
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if descriptor < 0 { throw DriverError.last("cannot create \(path)") }
    }

    private init(_ path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    /// Opens the file again with O_DIRECT; nil if its filesystem does not support it.
    func pastCache() -> File? {
        let access = fcntl(descriptor, F_GETFL) & O_ACCMODE
        let opened = open("/proc/self/fd/\(descriptor)", access | O_CLOEXEC | Int32(CLINKER_O_DIRECT))
        return opened < 0 ? nil : File(path, descriptor: opened)
    }

    /// Whether most of the range is in the page cache. The range must begin at a page boundary.
    func isCached(_ offset: UInt64, _ count: Int) -> Bool {
        guard let map = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor, off_t(offset)), map != MAP_FAILED else { return true }
        defer { munmap(map, count) }
        let pages = (count + Int(getpagesize()) - 1) / Int(getpagesize())
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: pages) { resident in
            guard mincore(map, count, resident.baseAddress) == 0 else { return true }
            return resident.count { $0 & 1 != 0 } * 2 > pages
        }
    }

    func close() { _ = Glibc.close(descriptor) }

    var size: UInt64 {
        get throws {
            var info = stat()
            guard fstat(descriptor, &info) == 0 else { throw DriverError.last("cannot read the size of \(path)") }
            return UInt64(info.st_size)
        }
    }

    /// The number of hard links.
    var links: Int {
        get throws {
            var info = stat()
            guard fstat(descriptor, &info) == 0 else { throw DriverError.last("cannot read \(path)") }
            return Int(info.st_nlink)
        }
    }

    func truncate(to size: UInt64) throws {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw DriverError.last("cannot size \(path)") }
    }

    func flush() throws {
        guard fsync(descriptor) == 0 else { throw DriverError.last("cannot flush \(path)") }
    }

    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count > 0 {
                done += count
            } else if count == 0 {
                throw DriverError(CLINKER_INVALID, "a read beyond the end of \(path)")
            } else if errno != EINTR {
                throw DriverError.last("cannot read \(path)")
            }
        }
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = pwrite(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            if count >= 0 { done += count } else if errno != EINTR { throw DriverError.last("cannot write \(path)") }
        }
    }

    /// Data extents of the range, ascending, by SEEK_DATA and SEEK_HOLE; stops when the closure returns false.
    func dataExtents(from start: UInt64, to end: UInt64, _ each: (UInt64, UInt64) throws -> Bool) throws {
        var position = start
        while position < end {
            let data = lseek(descriptor, off_t(position), Int32(CLINKER_SEEK_DATA))
            if data < 0 {
                if errno == ENXIO { return }
                throw DriverError.last("cannot map \(path)")
            }
            guard UInt64(data) < end else { return }
            let hole = lseek(descriptor, data, Int32(CLINKER_SEEK_HOLE))
            guard hole >= 0 else { throw DriverError.last("cannot map \(path)") }
            let stop = min(UInt64(hole), end)
            guard try each(UInt64(data), stop - UInt64(data)) else { return }
            position = stop
        }
    }

    /// Clones another file: shares its blocks if the filesystem can (FICLONE), else copies its data extents.
    func copy(_ source: File, _ call: Call) throws {
        if clinker_clone_file(descriptor, source.descriptor) == 0 { return }
        let size = try source.size
        try truncate(to: size)
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { chunk.deallocate() }
        try source.dataExtents(from: 0, to: size) { offset, length in
            var position = offset
            while position < offset + length {
                if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
                let piece = UnsafeMutableRawBufferPointer(rebasing: chunk[..<Int(min(UInt64(chunk.count), offset + length - position))])
                try source.read(piece, at: position)
                try write(UnsafeRawBufferPointer(piece), at: position)
                position += UInt64(piece.count)
                call.progress(done: position, total: size)
            }
            return true
        }
    }

    // MARK: directories

    static func makeDirectories(_ path: String) throws {
        var partial = ""
        for component in path.split(separator: "/") {
            partial += "/" + component
            if mkdir(partial, 0o700) != 0, errno != EEXIST { throw DriverError.last("cannot create the directory \(partial)") }
        }
    }

    /// Flushes a directory, so that added and removed names are durable.
    static func flushDirectory(_ path: String) throws {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DriverError.last("cannot open \(path)") }
        defer { _ = Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw DriverError.last("cannot flush \(path)") }
    }
}

/// A block handle on a file.
final class FileHandle: BlockHandle {
    private let file: File
    /// The file opened with O_DIRECT; nil before the first large request, and if the filesystem does not support it.
    private var direct: File?
    private var mayBeDirect = true
    /// Written bytes whose write-back has not been started yet.
    private var unsent: Range<UInt64> = 0..<0
    private static let batch: UInt64 = 8 << 20
    /// A multiple of all block sizes of devices.
    private static let directUnit: UInt64 = 4096
    private static let directSize = 1 << 20
    /// The last known size; the volume may have grown since.
    private var end: UInt64 = 0
    init(_ file: File) { self.file = file }

    var size: UInt64 { get throws { try file.size } }

    /// Refuses requests beyond the end: a file would grow, a volume must not.
    private func checkRange(_ offset: UInt64, _ length: UInt64) throws {
        let (last, isTooFar) = offset.addingReportingOverflow(length)
        if !isTooFar, last <= end { return }
        end = try file.size
        guard !isTooFar, last <= end else { throw DriverError(CLINKER_INVALID, "the volume ends at \(end)") }
    }

    func flush() throws { try file.flush() }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        if isForDirect(UnsafeRawBufferPointer(buffer), at: offset), !file.isCached(offset, buffer.count),
            directly({ try $0.read(buffer, at: offset) })
        {
            return
        }
        try file.read(buffer, at: offset)
    }

    /// Starts write-back of sequentially written bytes, so that a later flush is short.
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try checkRange(offset, UInt64(buffer.count))
        if isForDirect(buffer, at: offset), directly({ try $0.write(buffer, at: offset) }) { return }
        try file.write(buffer, at: offset)
        let end = offset + UInt64(buffer.count)
        unsent = (unsent.upperBound == offset ? unsent.lowerBound : offset)..<end
        guard end - unsent.lowerBound >= Self.batch else { return }
        _ = clinker_start_writeback(file.descriptor, off_t(unsent.lowerBound), off_t(end - unsent.lowerBound))
        unsent = end..<end
    }

    private func isForDirect(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) -> Bool {
        let place = UInt64(UInt(bitPattern: buffer.baseAddress))
        return mayBeDirect && buffer.count >= Self.directSize && (place | offset | UInt64(buffer.count)) % Self.directUnit == 0
    }

    /// Uses O_DIRECT for large requests, so that a copy does not evict other pages from the cache. If that fails, the normal path is used and
    /// reports the error.
    private func directly(_ body: (File) throws -> Void) -> Bool {
        if direct == nil { direct = file.pastCache() }
        mayBeDirect = (try? direct.map(body)) != nil
        return mayBeDirect
    }

    func close() {
        direct?.close()
        file.close()
    }

    func zero(offset: UInt64, length: UInt64) throws {
        try checkRange(offset, length)
        if clinker_punch_hole(file.descriptor, off_t(offset), off_t(length)) == 0 { return }
        guard clinker_zero_range(file.descriptor, off_t(offset), off_t(length)) == 0 else { throw DriverError.unsupported }
    }

    func discard(offset: UInt64, length: UInt64) throws {
        try checkRange(offset, length)
        _ = clinker_punch_hole(file.descriptor, off_t(offset), off_t(length))
    }

    func extents(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Int32) throws -> Int32 {
        let hole = UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)
        var position = offset
        var stopped: Int32 = 0
        try file.dataExtents(from: offset, to: offset + length) { data, count in
            if data > position {
                stopped = each(position, data - position, hole)
                if stopped != 0 { return false }
            }
            stopped = each(data, count, UInt32(CLINKER_EXTENT_DATA))
            position = data + count
            return stopped == 0
        }
        if stopped == 0, position < offset + length { stopped = each(position, offset + length - position, hole) }
        return stopped
    }
}
