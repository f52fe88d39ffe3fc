import CDriver
import CLinux
import DriverKit
import Glibc
import Synchronization

/// The directory of a store. Everything is reached from its descriptor and through no symbolic link: neither a name nor what somebody
/// puts into the directory leads out of it, and an unmounted share is not taken for an empty one.
final class Root: Sendable {
    let path: String
    let descriptor: Int32
    /// Folders whose own entry is known to be on stable storage.
    private let durable = Mutex<Set<String>>([])

    init(_ path: String) throws {
        self.path = path
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else {
            let isGone = errno == ENOENT
            throw DriverError.last(
                CLINKER_BAD_CONFIGURATION, "the directory \(path) cannot be used" + (isGone ? " (make it, or mount the share)" : ""))
        }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw DriverError.last(CLINKER_BAD_CONFIGURATION, "\(path) cannot be used") }
        // Who can write the directory can replace a backup by another.
        if info.st_mode & 0o002 != 0 || (info.st_mode & 0o020 != 0 && info.st_gid != 0 && info.st_gid != getegid()) {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "the directory \(path) can be written by others (mode \(String(info.st_mode & 0o7777, radix: 8))): chmod go-w \(path)")
        }
        guard faccessat(descriptor, ".", R_OK | X_OK, 0) == 0 else {
            throw DriverError.last(CLINKER_BAD_CONFIGURATION, "the directory \(path) cannot be used")
        }
    }

    deinit { close(descriptor) }

    // MARK: the filesystem

    var isMountPoint: Bool {
        var (own, above) = (stat(), stat())
        guard fstat(descriptor, &own) == 0, stat(path + "/..", &above) == 0 else { return false }
        return own.st_dev != above.st_dev
    }

    /// Whether other machines see the files, too, each in its own time.
    var isRemote: Bool {
        // Not known, NFS, FUSE (GlusterFS), CephFS, SMB, SMB 2 and later, AFS, Lustre.
        [-1, 0x6969, 0x6573_5546, 0x00C3_6400, 0x517B, 0xFE53_4D42, 0x6B41_4653, 0x0BD0_0BD0].contains(clinker_filesystem_type(descriptor))
    }

    /// GiB.
    func space() throws -> (total: Double, free: Double) {
        try checkPresence()
        var info = statvfs()
        guard fstatvfs(descriptor, &info) == 0 else { throw failure("cannot read the capacity of \(path)") }
        let block = Double(info.f_frsize) / 1_073_741_824
        return (Double(info.f_blocks) * block, Double(info.f_bavail) * block)
    }

    /// Why no object can be put; nil if one can.
    var writeProblem: String? {
        guard faccessat(descriptor, ".", W_OK, 0) != 0 else { return nil }
        return failure("\(path): objects are read, and none is written").message
    }

    /// - Throws: BAD_CONFIGURATION if somebody removed the directory. What is looked for in it then is not merely not found.
    func checkPresence() throws {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw failure("\(path) does not answer") }
        guard info.st_nlink > 0 else { throw DriverError(CLINKER_BAD_CONFIGURATION, "the directory \(path) was removed") }
    }

    // MARK: folders

    private static func notFound(_ name: String) -> DriverError { DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }

    /// Lends the folder that an object lies in, with the name of its file.
    ///
    /// - Parameter isMade: whether folders that are not there are made; otherwise there is no such object.
    func withFolder<T>(of name: String, isMade: Bool, _ body: (_ folder: Int32, _ file: String) throws -> T) throws -> T {
        for _ in 0..<100 {
            do { return try withFolderOnce(of: name, isMade: isMade, body) } catch is FolderRemoved { try checkPresence() }
        }
        throw DriverError(CLINKER_RETRY, "the folder of \(name) is removed as often as it is made")
    }

    /// Somebody removed a folder, since it was empty, before there was another one in it.
    private struct FolderRemoved: Error {}

    private func withFolderOnce<T>(of name: String, isMade: Bool, _ body: (_ folder: Int32, _ file: String) throws -> T) throws -> T {
        var folder = descriptor
        defer { if folder != descriptor { close(folder) } }
        var words = name.split(separator: "/")
        guard let file = words.popLast() else { throw DriverError(CLINKER_INVALID, "no name of an object") }
        var place = ""
        for word in words {
            place += "/" + word
            let next = try self.folder(String(word), in: folder, place, of: name, isMade: isMade)
            if folder != descriptor { close(folder) }
            folder = next
        }
        return try body(folder, String(file))
    }

    private func folder(_ word: String, in parent: Int32, _ place: String, of name: String, isMade: Bool) throws -> Int32 {
        for _ in 0..<100 {
            let found = openat(parent, word, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            if found >= 0 {
                guard isMade, !durable.withLock({ $0.contains(place) }) else { return found }
                do { try flush(parent) } catch {
                    close(found)
                    throw error
                }
                durable.withLock { known in
                    if known.count >= 100_000 { known.removeAll() }
                    known.insert(place)
                }
                return found
            }
            switch errno {
            case ENOENT where isMade:
                if mkdirat(parent, word, 0o700) != 0, errno != EEXIST {
                    guard errno == ENOENT else { throw failure("cannot make the folder \(place)") }
                    throw FolderRemoved()
                }
            case ENOTDIR where isMade, ELOOP where isMade:
                throw DriverError(CLINKER_EXISTS, "\(name): \(place) is no folder")
            case ENOENT, ENOTDIR, ELOOP:
                try checkPresence()
                throw Self.notFound(name)
            default: throw failure("cannot open the folder \(place)")
            }
        }
        throw FolderRemoved()
    }

    /// What was put into a folder, or taken from it, is on stable storage on return.
    func flush(_ folder: Int32) throws {
        // A filesystem that has no such call for directories answers EINVAL.
        if fsync(folder) != 0, errno != EINVAL, errno != EOPNOTSUPP { throw failure("cannot flush a folder of \(path)") }
    }

    // MARK: objects

    /// The descriptor of an object's file, for reading.
    func openObject(_ name: String) throws -> Int32 {
        try withFolder(of: name, isMade: false) { folder, file in
            let found = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
            guard found >= 0 else {
                guard errno == ENOENT || errno == ELOOP || errno == ENXIO else { throw failure("cannot open \(name)") }
                try checkPresence()
                throw Self.notFound(name)
            }
            var info = stat()
            guard fstat(found, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
                close(found)
                throw Self.notFound(name)
            }
            return found
        }
    }

    func object(_ name: String) throws -> StoredObject {
        try withFolder(of: name, isMade: false) { folder, file in
            guard let found = try Self.look(folder, file, as: name) else {
                try checkPresence()
                throw Self.notFound(name)
            }
            return found
        }
    }

    /// The object that is a file of a folder; nil if there is none, or it is something else than a file.
    static func look(_ folder: Int32, _ file: String, as name: String) throws -> StoredObject? {
        var info = stat()
        guard fstatat(folder, file, &info, AT_SYMLINK_NOFOLLOW) == 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw failure("cannot look at \(name)")
        }
        guard info.st_mode & S_IFMT == S_IFREG else { return nil }
        return StoredObject(name: name, size: UInt64(info.st_size), modified: Int64(info.st_mtim.tv_sec))
    }

    /// Removes an object; returns whether it was there.
    func remove(_ name: String) throws -> Bool {
        do {
            return try withFolder(of: name, isMade: false) { folder, file in
                guard try Self.look(folder, file, as: name) != nil else {
                    try checkPresence()
                    return false
                }
                if unlinkat(folder, file, 0) != 0, errno != ENOENT { throw failure("cannot remove \(name)") }
                try flush(folder)
                return true
            }
        } catch let error as DriverError where error.code == CLINKER_NOT_FOUND { return false }
    }

    /// Removes a folder and those above it as far as they are empty.
    func removeIfEmpty(_ folder: String) {
        var rest = folder[...]
        while !rest.isEmpty {
            // Put before: who makes it again flushes the folder above.
            durable.withLock { _ = $0.remove("/" + rest) }
            let isGone = (try? withFolder(of: String(rest), isMade: false) { parent, word in unlinkat(parent, word, AT_REMOVEDIR) == 0 })
            guard isGone == true, let slash = rest.lastIndex(of: "/") else { return }
            rest = rest[..<slash]
        }
    }
}
