import CDriver
import CLinux
import DriverKit
import Glibc

/// An object that is being written: a file of a hidden folder, which gets its name when it is whole and on stable storage.
final class PartialFile: BackupObjectWriter {
    private let root: Root
    private let name: String
    private let hidden: String
    private var file: Int32
    private var written = 0
    /// Bytes whose write-back was begun.
    private var sent = 0
    private static let batch = 8 << 20

    init(_ root: Root, _ name: String) throws {
        self.root = root
        self.name = name
        (file, hidden) = try root.makePartial(for: name)
    }

    deinit { abandon() }

    /// Begins to write back what is written, so that the flush at the end is short.
    func write(_ bytes: UnsafeRawBufferPointer) throws {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress.map { $0 + done }, min(bytes.count - done, 64 << 20))
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("cannot write \(name)")
            }
            done += count
            written += count
            if written - sent >= Self.batch {
                _ = clinker_start_writeback(file, off_t(sent), off_t(written - sent))
                sent = written
            }
        }
    }

    func commit() throws {
        defer { abandon() }
        guard fsync(file) == 0 else { throw failure("cannot flush \(name)") }
        // Backups are read seldom: they do not drive from the cache what is.
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
        for _ in 0..<100 {
            let isNamed = try root.withFolder(of: name, isMade: true) { folder, last in
                if renameat(root.descriptor, hidden, folder, last) == 0 {
                    try root.flush(folder)
                    return true
                }
                let number = errno
                // An empty folder that a remover left when it died.
                if [EISDIR, ENOTEMPTY, EEXIST].contains(number), unlinkat(folder, last, AT_REMOVEDIR) == 0 { return false }
                errno = number
                // The folder was removed, since it was empty, before the file was in it.
                if errno == ENOENT { return false }
                guard ![EISDIR, ENOTEMPTY, EEXIST].contains(errno) else {
                    throw DriverError(CLINKER_EXISTS, "\(name): there are objects whose names begin with \(name)/")
                }
                throw failure("cannot name \(name)")
            }
            if isNamed {
                close(file)
                file = -1
                return
            }
            try root.checkPresence()
        }
        throw DriverError(CLINKER_RETRY, "the folder of \(name) is removed as often as it is made")
    }

    func abandon() {
        guard file >= 0 else { return }
        unlinkat(root.descriptor, hidden, 0)
        close(file)
        file = -1
    }
}

extension Root {
    /// Of the root. No object has such a name.
    private static let folder = ".clinker-partial"

    /// Makes a file without an object's name.
    fileprivate func makePartial(for name: String) throws -> (descriptor: Int32, path: String) {
        for _ in 0..<100 {
            let path = "\(Self.folder)/\(getpid())-\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
            let file = openat(descriptor, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            if file >= 0 {
                // Tells who removes old ones that this one is being written. Where there are no locks, its age does.
                flock(file, LOCK_EX | LOCK_NB)
                return (file, path)
            }
            switch errno {
            case EEXIST: continue
            case ENOENT:
                if mkdirat(descriptor, Self.folder, 0o700) != 0, errno != EEXIST {
                    let error = failure("cannot write \(name)")
                    try checkPresence()
                    throw error
                }
            default: throw failure("cannot write \(name)")
            }
        }
        throw DriverError(CLINKER_RETRY, "cannot write \(name): \(Self.folder) is removed as often as it is made")
    }

    /// Removes what writers that died left, after a day: a writer on another machine may live, and be slow.
    func removeOldPartials(olderThan seconds: Int = 86_400) {
        let folder = openat(descriptor, Self.folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard folder >= 0 else { return }
        guard let listing = fdopendir(folder) else {
            close(folder)
            return
        }
        defer { closedir(listing) }
        let limit = time(nil) - seconds
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            var info = stat()
            guard !name.hasPrefix("."), fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) == 0, info.st_mode & S_IFMT == S_IFREG,
                info.st_mtim.tv_sec < limit
            else { continue }
            let file = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            guard file >= 0 else { continue }
            defer { close(file) }
            if flock(file, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK { continue }
            unlinkat(folder, name, 0)
        }
    }
}
