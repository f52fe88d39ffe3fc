import Glibc
import Primitives

/// A store over a local directory, without a plugin: for tests and for tools that are handed a repository's directory.
public struct DirectoryStore: ObjectStore {
    let directory: String
    public let traits = ObjectStoreTraits()

    /// - Parameter directory: an existing directory.
    public init(_ directory: String) { self.directory = directory }

    private func path(_ name: String) -> String { directory + "/" + name }

    public func put(_ name: String, _ slices: [UnsafeRawBufferPointer], sha256: [UInt8]?) throws(StoreFailure) {
        let writer = try write(name)
        do throws(StoreFailure) {
            for slice in slices { try writer.append(slice) }
            try writer.commit()
        } catch {
            writer.abandon()
            throw error
        }
    }

    public func write(_ name: String) throws(StoreFailure) -> any ObjectWriter { try FileWriter(path(name), below: directory) }

    public func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreFailure) -> Int {
        let file = open(path(name), O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw .last("cannot open \(name)") }
        defer { close(file) }
        var done = 0
        while done < buffer.count {
            let count = pread(file, buffer.baseAddress! + done, buffer.count - done, off_t(clamping: offset) + off_t(done))
            if count < 0 {
                if errno == EINTR { continue }
                throw .last("cannot read \(name)")
            }
            if count == 0 { break }
            done += count
        }
        return done
    }

    public func size(of name: String) throws(StoreFailure) -> UInt64? {
        var info = stat()
        if stat(path(name), &info) == 0 { return UInt64(info.st_size) }
        if errno == ENOENT || errno == ENOTDIR { return nil }
        throw .last("cannot look at \(name)")
    }

    public func list(_ prefix: String, after: String, _ each: (String, UInt64) -> Bool) throws(StoreFailure) {
        var found: [(name: String, size: UInt64)] = []
        try collect("", prefix: Array(prefix.utf8), into: &found)
        let last = Array(after.utf8)
        let sorted = found.map { (bytes: Array($0.name.utf8), entry: $0) }.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
        for (bytes, entry) in sorted where last.lexicographicallyPrecedes(bytes) {
            guard each(entry.name, entry.size) else { return }
        }
    }

    private func collect(_ folder: String, prefix: [UInt8], into found: inout [(name: String, size: UInt64)]) throws(StoreFailure) {
        guard let listing = opendir(path(folder)) else {
            if errno == ENOENT { return }
            throw .last("cannot list \(folder)")
        }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            // An object that is being written begins with a dot, and so do the directory's own entries.
            if name.utf8.first == UInt8(ascii: ".") { continue }
            let whole = folder.isEmpty ? name : folder + "/" + name
            let bytes = Array(whole.utf8)
            guard zip(bytes, prefix).allSatisfy({ $0 == $1 }) else { continue }
            var info = stat()
            guard lstat(path(whole), &info) == 0 else { continue }
            if info.st_mode & S_IFMT == S_IFDIR {
                try collect(whole, prefix: prefix, into: &found)
            } else if bytes.starts(with: prefix) {
                found.append((whole, UInt64(info.st_size)))
            }
        }
    }

    public func remove(_ names: [String]) throws(StoreFailure) {
        for name in names where unlink(path(name)) != 0 && errno != ENOENT { throw .last("cannot remove \(name)") }
    }
}

/// A file that gets its name when it is complete.
private final class FileWriter: ObjectWriter {
    private let path, hidden: String
    private var file: Int32

    init(_ path: String, below root: String) throws(StoreFailure) {
        self.path = path
        let slash = path.utf8.lastIndex(of: UInt8(ascii: "/"))!
        hidden = path[..<slash] + "/." + path[path.utf8.index(after: slash)...] + ".\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        try makeFolders(of: path, below: root)
        file = open(hidden, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw .last("cannot make \(hidden)") }
    }

    deinit { abandon() }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreFailure) {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(file, bytes.baseAddress! + done, bytes.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw .last("cannot write \(path)")
            }
            done += count
        }
    }

    func commit() throws(StoreFailure) {
        guard fsync(file) == 0 else { throw .last("cannot write \(path)") }
        guard rename(hidden, path) == 0 else { throw .last("cannot name \(path)") }
        close(file)
        file = -1
        // The name is as durable as the bytes.
        let folder = open(String(path[..<path.utf8.lastIndex(of: UInt8(ascii: "/"))!]), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw .last("cannot open the directory of \(path)") }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw .last("cannot write the directory of \(path)") }
    }

    func abandon() {
        guard file >= 0 else { return }
        close(file)
        unlink(hidden)
        file = -1
    }
}

private func makeFolders(of path: String, below root: String) throws(StoreFailure) {
    var end = root.utf8.count
    let bytes = Array(path.utf8)
    while let slash = bytes[(end + 1)...].firstIndex(of: UInt8(ascii: "/")) {
        let folder = String(decoding: bytes[..<slash], as: UTF8.self)
        if mkdir(folder, 0o700) != 0, errno != EEXIST { throw .last("cannot make \(folder)") }
        end = slash
    }
}

extension StoreFailure {
    /// The failure that `errno` says.
    static func last(_ what: String) -> StoreFailure {
        let code = errno
        let kind: Kind =
            switch code {
            case ENOENT, ENOTDIR: .notFound
            case ENOSPC, EDQUOT: .noSpace
            case EACCES, EPERM, EROFS: .forbidden
            case EAGAIN, EINTR, ETIMEDOUT, ESTALE, EIO: .temporary
            default: .permanent
            }
        return StoreFailure(kind, "\(what): \(SystemError.text(code))")
    }
}
