import CDriver
import CNFS
import DriverKit
import Glibc

/// An open file of a share.
package final class NFSFile {
    package let session: Session
    package let name: String
    private let file: OpaquePointer
    private var isOpen = true

    package init(_ session: Session, _ file: OpaquePointer, _ name: String) {
        self.session = session
        self.file = file
        self.name = name
    }

    deinit { close() }

    package func close() {
        if isOpen { nfs_close(session.context, file) }
        isOpen = false
    }

    package var size: UInt64 {
        get throws {
            var info = nfs_stat_64()
            try session.check(nfs_fstat64(session.context, file, &info), "look at", name)
            return info.nfs_size
        }
    }

    /// The server's number of the file, and when it was changed by the server's clock, in seconds since 1970.
    package var identity: (number: UInt64, modified: Int64) {
        get throws {
            var info = nfs_stat_64()
            try session.check(nfs_fstat64(session.context, file, &info), "look at", name)
            return (info.nfs_ino, Int64(clamping: info.nfs_mtime))
        }
    }

    package func truncate(to size: UInt64) throws {
        try session.check(session.patiently { nfs_ftruncate(session.context, file, size) }, "size", name)
    }
    package func flush() throws { try session.check(session.patiently { nfs_fsync(session.context, file) }, "flush", name) }

    /// Fills the buffer; a file that ends before that is an error.
    package func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, Self.most)
            let result = piece(buffer, done, count, at: offset)
            try session.check(result, "read", name)
            guard result > 0 else { throw DriverError(CLINKER_INVALID, "a read behind the end of \(session.path(name))") }
            done += Int(result)
        }
    }

    /// Reads until the buffer is full or the file ends; returns the number of bytes, or nil if the file was removed meanwhile.
    package func readUpToEnd(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int? {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, Self.most)
            let result = piece(buffer, done, count, at: offset)
            if result == -ESTALE { return nil }
            try session.check(result, "read", name)
            if result == 0 { break }
            done += Int(result)
        }
        return done
    }

    private func piece(_ buffer: UnsafeMutableRawBufferPointer, _ done: Int, _ count: Int, at offset: UInt64) -> Int32 {
        session.reason(
            session.patiently { nfs_pread(session.context, file, offset + UInt64(done), UInt64(count), buffer.baseAddress! + done) })
    }

    package func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var (done, most) = (0, Self.most)
        while done < buffer.count {
            let count = min(buffer.count - done, most)
            let bytes = UnsafeMutableRawPointer(mutating: buffer.baseAddress! + done)
            let result = session.reason(
                session.patiently { nfs_pwrite(session.context, file, offset + UInt64(done), UInt64(count), bytes) })
            // Of several requests sent together one was refused, and another one's reply was the last: each by itself tells why.
            if result == -EFAULT, count > session.largestWrite {
                most = session.largestWrite
                continue
            }
            try session.check(result, "write", name)
            done += Int(result)
        }
    }

    /// The largest request in bytes; libnfs divides it into pieces of the server's size and sends them together.
    package static let most = 8 << 20
}
