import CZlib
import Glibc

/// An open file that is closed with its last user.
final class OwnedFile: Sendable {
    let descriptor: Int32

    init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    /// A file without a name.
    static func temporary(in directory: String) throws -> OwnedFile {
        // O_TMPFILE is a macro that Swift does not see.
        let file = open(directory, 0o20000000 | O_DIRECTORY | O_RDWR | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw StoreFailure.last("cannot make a temporary file in \(directory)") }
        return OwnedFile(file)
    }

    /// Appends bytes.
    func append(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            let count = write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw StoreFailure.last("cannot write the file of the index")
            }
            done += count
        }
    }

    /// Fills the buffer; false if the file ends before or cannot be read.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        var done = 0
        while done < buffer.count {
            let count = pread(descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(clamping: offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            done += count
        }
        return true
    }

    var size: UInt64 {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? UInt64(info.st_size) : 0
    }
}

/// Sorted records in a file, in pages that each bear a checksum: what the file system has lost is not taken for an answer. Any thread.
struct IndexPages: Sendable {
    static let pageSize = 4096
    static let recordsPerPage = 85
    private static let recordBytes = recordsPerPage * IndexRecord.size

    let file: OwnedFile
    /// Where the first page begins.
    let start: UInt64
    let count: Int

    static func byteCount(_ records: Int) -> UInt64 { UInt64((records + recordsPerPage - 1) / recordsPerPage) * UInt64(pageSize) }

    /// Reads one page.
    ///
    /// - Throws: a temporary failure if the page is not what was written; a cached file is removed then, and made anew by another attempt.
    func load(_ page: Int, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard file.read(at: start + UInt64(page) * UInt64(Self.pageSize), into: buffer), Self.checksum(buffer) == Self.stored(buffer)
        else { throw DamagedPage() }
    }

    struct DamagedPage: Error {}

    fileprivate static func checksum(_ page: UnsafeMutableRawBufferPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: crc32(1, page.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32(recordBytes)))
    }

    /// The checksum that the page bears; nil if what follows it are not zeroes.
    private static func stored(_ page: UnsafeMutableRawBufferPointer) -> UInt32? {
        let end = UnsafeRawBufferPointer(rebasing: page[(recordBytes + 4)...])
        return isZero(end) ? page.load(fromByteOffset: recordBytes, as: UInt32.self) : nil
    }

    /// Writes records page by page at the end of a file.
    final class Writer {
        private let file: OwnedFile
        private let start: UInt64
        private let room = UnsafeMutableRawBufferPointer.allocate(byteCount: pageSize * pages, alignment: pageSize)
        private var inRoom = 0
        private(set) var count = 0
        private static let pages = 16

        init(_ file: OwnedFile, at start: UInt64) {
            self.file = file
            self.start = start
            _ = memset(room.baseAddress!, 0, room.count)
        }

        deinit { room.deallocate() }

        func append(_ record: IndexRecord) throws {
            let offset = inRoom / recordsPerPage * pageSize + inRoom % recordsPerPage * IndexRecord.size
            room.storeBytes(of: record, toByteOffset: offset, as: IndexRecord.self)
            inRoom += 1
            count += 1
            if inRoom == Self.pages * recordsPerPage { try flush() }
        }

        private func flush() throws {
            let used = (inRoom + recordsPerPage - 1) / recordsPerPage
            for page in 0..<used {
                let bytes = UnsafeMutableRawBufferPointer(rebasing: room[page * pageSize..<(page + 1) * pageSize])
                bytes.storeBytes(of: IndexPages.checksum(bytes), toByteOffset: recordBytes, as: UInt32.self)
            }
            try file.append(UnsafeRawBufferPointer(rebasing: room[..<(used * pageSize)]))
            _ = memset(room.baseAddress!, 0, room.count)
            inRoom = 0
        }

        func finish() throws -> IndexPages {
            try flush()
            return IndexPages(file: file, start: start, count: count)
        }
    }

    /// Reads all records in order.
    struct Reader {
        private let pages: IndexPages
        private var position = 0
        private var buffer: [IndexRecord] = []

        init(_ pages: IndexPages) { self.pages = pages }

        mutating func next() throws -> IndexRecord? {
            guard position < pages.count else { return nil }
            let place = position % recordsPerPage
            if place == 0 {
                buffer = try withUnsafeTemporaryAllocation(byteCount: pageSize, alignment: 16) { page in
                    try pages.load(position / recordsPerPage, into: page)
                    let used = min(recordsPerPage, pages.count - position)
                    return Array(page.bindMemory(to: IndexRecord.self)[..<used])
                }
            }
            position += 1
            return buffer[place]
        }
    }
}
