import CDriver
import CNFS
import DiskImages
import DriverKit
import Glibc

/// One connection to a share's server; files are named from the share's root.
final class Session: @unchecked Sendable {
    struct Entry {
        let name: String
        let size: UInt64
        let isFile: Bool
        let mode: UInt32
        /// The number of hard links.
        let links: UInt64
    }

    let context: OpaquePointer
    private let address: ShareAddress
    private(set) var isUsable = true
    /// Why the server is considered unreachable: no reply, or a broken connection.
    private(set) var failure: DriverError?
    /// The permissions of new files.
    var mode: (Session) throws -> Int32 = { _ in 0o660 }

    /// Time-outs in seconds for requests that the server answers from memory, and for those that write or free storage.
    private let quick, patient: Int32

    init(_ address: ShareAddress) throws {
        self.address = address
        quick = Int32(address.patience ?? 15)
        patient = max(quick, Int32(address.patience ?? 60))
        try address.reach(within: min(quick, 5))
        guard let context = nfs_init_context() else { throw DriverError(CLINKER_RETRY, "libnfs gave no context") }
        self.context = context
        // libnfs accepts ports only in a URL.
        var query = "nfs://host/path?version=3"
        if let port = address.port { query += "&nfsport=\(port)" }
        if let port = address.mountPort { query += "&mountport=\(port)" }
        guard let url = nfs_parse_url_dir(context, query) else { throw DriverError(CLINKER_ERROR, "libnfs refuses \(query)") }
        nfs_destroy_url(url)
        nfs_set_timeout(context, min(quick, 5) * 1000)
        nfs_set_autoreconnect(context, 3)
        nfs_set_uid(context, Int32(bitPattern: geteuid()))
        nfs_set_gid(context, Int32(bitPattern: getegid()))
        let result = nfs_mount(context, address.host, address.path)
        guard result == 0 else {
            isUsable = false
            let code = [-EACCES, -EPERM, -ENOENT, -ENOTDIR].contains(result) ? CLINKER_BAD_CONFIGURATION : CLINKER_RETRY
            throw DriverError(code, "\(address.text) cannot be mounted: \(Self.text(context, result))")
        }
        nfs_set_timeout(context, quick * 1000)
    }

    deinit { nfs_destroy_context(context) }

    /// Runs requests with the longer time-out.
    func patiently(_ body: () -> Int32) -> Int32 {
        nfs_set_timeout(context, patient * 1000)
        defer { nfs_set_timeout(context, quick * 1000) }
        return body()
    }

    // MARK: files

    func open(_ name: String, writable: Bool) throws -> NFSFile {
        var file: OpaquePointer?
        try check(nfs_open(context, "/" + name, (writable ? O_RDWR : O_RDONLY), &file), "open", name)
        guard let file else { throw DriverError(CLINKER_ERROR, "libnfs gave no file for \(name)") }
        return NFSFile(self, file, name)
    }

    /// Creates an empty file; replaces an existing one.
    func create(_ name: String, mode: Int32? = nil) throws -> NFSFile {
        let mode = try mode ?? self.mode(self)
        try remove(name)
        var file: OpaquePointer?
        try check(nfs_create(context, "/" + name, O_RDWR | O_EXCL, mode, &file), "create", name)
        guard let file else { throw DriverError(CLINKER_ERROR, "libnfs gave no file for \(name)") }
        // The server's umask must not remove permissions that clients of the share need.
        try check(nfs_fchmod(context, file, mode), "chmod", name)
        return NFSFile(self, file, name)
    }

    /// The size of a regular file in bytes; nil if there is no such file.
    func size(of name: String) throws -> UInt64? {
        var info = nfs_stat_64()
        let result = nfs_lstat64(context, "/" + name, &info)
        if result == -ENOENT { return nil }
        try check(result, "look at", name)
        // The file type bits of a regular file.
        guard info.nfs_mode & 0o170000 == 0o100000 else { throw DriverError(CLINKER_EXISTS, "\(path(name)) is no file") }
        return info.nfs_size
    }

    /// The number of hard links of the file.
    func links(of name: String) throws -> UInt64 {
        var info = nfs_stat_64()
        try check(nfs_lstat64(context, "/" + name, &info), "look at", name)
        return info.nfs_nlink
    }

    /// Removes a file; succeeds if it does not exist.
    func remove(_ name: String) throws {
        let result = patiently { nfs_unlink(context, "/" + name) }
        if result != -ENOENT { try check(result, "remove", name) }
    }

    func rename(_ old: String, to new: String) throws { try check(nfs_rename(context, "/" + old, "/" + new), "rename", old) }

    func entries() throws -> [Entry] {
        var listing: OpaquePointer?
        var result = nfs_opendir(context, "/", &listing)
        // A server may briefly return one of these for the directory if a file was deleted while it was read.
        for _ in 0..<50 where result == -ESTALE || result == -ENOENT {
            usleep(20_000)
            result = nfs_opendir(context, "/", &listing)
        }
        try check(result, "list", "")
        defer { nfs_closedir(context, listing) }
        var entries: [Entry] = []
        while let entry = nfs_readdir(context, listing) {
            entries.append(
                // 1: NF3REG
                Entry(
                    name: String(cString: entry.pointee.name), size: entry.pointee.size, isFile: entry.pointee.type == 1,
                    mode: entry.pointee.mode, links: UInt64(entry.pointee.nlink)))
        }
        return entries
    }

    /// Bytes.
    func capacity() throws -> (total: UInt64, free: UInt64) {
        var info = statvfs()
        try check(nfs_statvfs(context, "/", &info), "read the capacity of", "")
        return (UInt64(info.f_blocks) * UInt64(info.f_frsize), UInt64(info.f_bavail) * UInt64(info.f_frsize))
    }

    /// The content of a small file; nil if there is no such file.
    func text(of name: String, atMost limit: Int = 1 << 20) throws -> [UInt8]? {
        guard let size = try size(of: name) else { return nil }
        guard size <= limit else { throw DriverError(CLINKER_ERROR, "\(path(name)) has \(size) bytes") }
        let file = try open(name, writable: false)
        defer { file.close() }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        if size > 0 { try bytes.withUnsafeMutableBytes { try file.read($0, at: 0) } }
        return bytes
    }

    /// Replaces the content of a small file.
    func write(_ bytes: [UInt8], to name: String) throws {
        let partial = name + ".partial"
        let file = try create(partial)
        do {
            defer { file.close() }
            try bytes.withUnsafeBytes { try file.write($0, at: 0) }
            try file.flush()
        }
        try rename(partial, to: name)
    }

    // MARK: errors

    func path(_ name: String) -> String { name.isEmpty ? address.text : "\(address.text)/\(name)" }

    private static func text(_ context: OpaquePointer, _ result: Int32) -> String {
        nfs_get_error(context).map { String(cString: $0) } ?? String(cString: strerror(-result))
    }

    func check(_ result: Int32, _ what: String, _ name: String) throws(DriverError) {
        guard result < 0 else { return }
        let code: clinker_code =
            switch -result {
            case ENOENT: CLINKER_NOT_FOUND
            case EEXIST: CLINKER_EXISTS
            case ENOSPC, EDQUOT: CLINKER_NO_SPACE
            case EROFS, EACCES, EPERM, ENAMETOOLONG, EFBIG, ENOTDIR, EISDIR, ENOTEMPTY: CLINKER_ERROR
            case EINVAL: CLINKER_INVALID
            // The server is or was unreachable: file handles of this connection may be stale.
            default: CLINKER_RETRY
            }
        let error = DriverError(code, "cannot \(what) \(path(name)): \(Self.text(context, result))")
        if code == CLINKER_RETRY { isUsable = false }
        // libnfs returns these for a missing reply (EINTR) or a lost connection.
        if [EINTR, EIO, ETIMEDOUT, ECONNREFUSED, ECONNRESET, ENOTCONN, EPIPE, EHOSTUNREACH, ENETUNREACH].contains(-result) {
            failure = error
        }
        throw error
    }
}

/// An open file of a share.
final class NFSFile: ImageFile {
    let session: Session
    let name: String
    private let file: OpaquePointer
    private var isOpen = true

    init(_ session: Session, _ file: OpaquePointer, _ name: String) {
        self.session = session
        self.file = file
        self.name = name
    }

    deinit { close() }

    func close() {
        if isOpen { nfs_close(session.context, file) }
        isOpen = false
    }

    var size: UInt64 {
        get throws {
            var info = nfs_stat_64()
            try session.check(nfs_fstat64(session.context, file, &info), "look at", name)
            return info.nfs_size
        }
    }

    func truncate(to size: UInt64) throws {
        try session.check(session.patiently { nfs_ftruncate(session.context, file, size) }, "size", name)
    }
    func flush() throws { try session.check(session.patiently { nfs_fsync(session.context, file) }, "flush", name) }

    /// Fills the buffer; a file that ends before that is an error.
    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, Self.most)
            let result = session.patiently {
                nfs_pread(session.context, file, offset + UInt64(done), UInt64(count), buffer.baseAddress! + done)
            }
            try session.check(result, "read", name)
            guard result > 0 else { throw DriverError(CLINKER_INVALID, "a read behind the end of \(session.path(name))") }
            done += Int(result)
        }
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < buffer.count {
            let count = min(buffer.count - done, Self.most)
            let bytes = UnsafeMutableRawPointer(mutating: buffer.baseAddress! + done)
            let result = session.patiently { nfs_pwrite(session.context, file, offset + UInt64(done), UInt64(count), bytes) }
            try session.check(result, "write", name)
            done += Int(result)
        }
    }

    /// The largest request in bytes; libnfs divides it into pieces of the server's size and sends them together.
    static let most = 8 << 20
}
