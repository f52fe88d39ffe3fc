import CDriver
import CNFS
import DriverKit
import Glibc

/// One connection to a share's server; files are named from the share's root.
package final class Session: @unchecked Sendable {
    package struct Entry {
        package let name: String
        /// Whether the name is UTF-8; of another one there is but what can be shown.
        package let isNameText: Bool
        package let size: UInt64
        package let isFile: Bool
        package let isFolder: Bool
        package let mode: UInt32
        /// The number of hard links.
        package let links: UInt64
        /// When the content was changed, in seconds since 1970.
        package let modified: Int64
    }

    package let context: OpaquePointer
    private let address: ShareAddress
    package private(set) var isUsable = true
    /// Why the server is considered unreachable: no reply, or a broken connection.
    package private(set) var failure: DriverError?
    /// What an error number means for whoever uses the connection.
    private let code: @Sendable (Int32) -> clinker_code
    /// The permissions of new files.
    package var mode: (Session) throws -> Int32 = { _ in 0o660 }

    /// Time-outs in seconds for requests that the server answers from memory, and for those that write or free storage.
    private let quick, patient: Int32

    package init(_ address: ShareAddress, code: @escaping @Sendable (Int32) -> clinker_code = Session.codeOfVolumes) throws {
        self.address = address
        self.code = code
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
    package func patiently(_ body: () -> Int32) -> Int32 {
        nfs_set_timeout(context, patient * 1000)
        defer { nfs_set_timeout(context, quick * 1000) }
        return body()
    }

    /// The most bytes that are written by one request.
    package var largestWrite: Int { Int(clamping: max(4096, nfs_get_writemax(context))) }

    // MARK: files

    package func open(_ name: String, writable: Bool) throws -> NFSFile {
        var file: OpaquePointer?
        try check(nfs_open(context, "/" + name, (writable ? O_RDWR : O_RDONLY), &file), "open", name)
        guard let file else { throw DriverError(CLINKER_ERROR, "libnfs gave no file for \(name)") }
        return NFSFile(self, file, name)
    }

    /// Creates an empty file; replaces an existing one.
    package func create(_ name: String, mode: Int32? = nil) throws -> NFSFile {
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
    package func size(of name: String) throws -> UInt64? {
        var info = nfs_stat_64()
        let result = nfs_lstat64(context, "/" + name, &info)
        if result == -ENOENT { return nil }
        try check(result, "look at", name)
        // The file type bits of a regular file.
        guard info.nfs_mode & 0o170000 == 0o100000 else { throw DriverError(CLINKER_EXISTS, "\(path(name)) is no file") }
        return info.nfs_size
    }

    /// The number of hard links of the file.
    package func links(of name: String) throws -> UInt64 {
        var info = nfs_stat_64()
        try check(nfs_lstat64(context, "/" + name, &info), "look at", name)
        return info.nfs_nlink
    }

    /// Removes a file; succeeds if it does not exist.
    package func remove(_ name: String) throws {
        let result = patiently { nfs_unlink(context, "/" + name) }
        if result != -ENOENT { try check(result, "remove", name) }
    }

    package func rename(_ old: String, to new: String) throws { try check(nfs_rename(context, "/" + old, "/" + new), "rename", old) }

    /// - Parameter folder: from the share's root; empty for the root itself.
    /// - Returns: nil if there is no such folder.
    package func entries(of folder: String) throws -> [Entry]? {
        var listing: OpaquePointer?
        var result = nfs_opendir(context, "/" + folder, &listing)
        // A server may briefly return one of these for the directory if a file was deleted while it was read.
        for _ in 0..<50 where [-ESTALE, -ENOENT, -EINVAL].contains(result) {
            if !folder.isEmpty, result != -EINVAL, try look(folder)?.isFolder != true { return nil }
            usleep(20_000)
            result = nfs_opendir(context, "/" + folder, &listing)
        }
        // A share whose root is no folder is not an empty one.
        if result == -ENOTDIR, !folder.isEmpty { return nil }
        try check(result, "list", folder)
        defer { nfs_closedir(context, listing) }
        var entries: [Entry] = []
        while let entry = nfs_readdir(context, listing) {
            entries.append(
                // 1: NF3REG, 2: NF3DIR
                Entry(
                    name: String(cString: entry.pointee.name), isNameText: String(validatingCString: entry.pointee.name) != nil,
                    size: entry.pointee.size, isFile: entry.pointee.type == 1, isFolder: entry.pointee.type == 2,
                    mode: entry.pointee.mode, links: UInt64(entry.pointee.nlink), modified: Int64(entry.pointee.mtime.tv_sec)))
        }
        return entries
    }

    /// Those of the share's root.
    package func entries() throws -> [Entry] { try entries(of: "") ?? [] }

    /// Bytes.
    package func capacity() throws -> (total: UInt64, free: UInt64) {
        var info = statvfs()
        try check(nfs_statvfs(context, "/", &info), "read the capacity of", "")
        return (UInt64(info.f_blocks) * UInt64(info.f_frsize), UInt64(info.f_bavail) * UInt64(info.f_frsize))
    }

    /// The content of a small file; nil if there is no such file.
    package func text(of name: String, atMost limit: Int = 1 << 20) throws -> [UInt8]? {
        guard let size = try size(of: name) else { return nil }
        guard size <= limit else { throw DriverError(CLINKER_ERROR, "\(path(name)) has \(size) bytes") }
        let file = try open(name, writable: false)
        defer { file.close() }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        if size > 0 { try bytes.withUnsafeMutableBytes { try file.read($0, at: 0) } }
        return bytes
    }

    /// Replaces the content of a small file.
    package func write(_ bytes: [UInt8], to name: String) throws {
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

    package func path(_ name: String) -> String { name.isEmpty ? address.text : "\(address.text)/\(name)" }

    private static func text(_ context: OpaquePointer, _ result: Int32) -> String {
        nfs_get_error(context).map { String(cString: $0) } ?? String(cString: strerror(-result))
    }

    /// libnfs says EFAULT of every read or write that the server refuses, and hands over the server's reply where a text is expected, so
    /// that of its own message the first byte of the reply is left: the status, as long as it is not 0. nil if that is not what it says.
    private var refusalOfTransfer: Int32? {
        guard let text = nfs_get_error(context), let quote = strchr(text, Int32(UInt8(ascii: "\""))), quote[1] > 0,
            quote[2] == CChar(UInt8(ascii: "\"")), quote[3] == 0
        else { return nil }
        // Those of NFS version 3 that are no error number of Linux: quota exceeded, stale handle.
        return [69: EDQUOT, 70: ESTALE][Int32(quote[1])] ?? Int32(quote[1])
    }

    /// The result of a read or write, with the server's reason if there is one.
    package func reason(_ result: Int32) -> Int32 { result == -EFAULT ? refusalOfTransfer.map { -$0 } ?? result : result }

    package func check(_ result: Int32, _ what: String, _ name: String) throws(DriverError) {
        guard result < 0 else { return }
        let code = self.code(-result)
        // What libnfs says then are two bytes that nobody can read.
        let isRefusedTransfer = refusalOfTransfer == -result
        let why = isRefusedTransfer ? String(cString: strerror(-result)) : Self.text(context, result)
        let error = DriverError(code, "cannot \(what) \(path(name)): \(why)")
        if code == CLINKER_RETRY { isUsable = false }
        // libnfs returns these for a missing reply (EINTR) or a lost connection; of a transfer that is refused the server says them.
        if !isRefusedTransfer,
            [EINTR, EIO, ETIMEDOUT, ECONNREFUSED, ECONNRESET, ENOTCONN, EPIPE, EHOSTUNREACH, ENETUNREACH].contains(-result)
        {
            failure = error
        }
        throw error
    }

    package static let codeOfVolumes: @Sendable (Int32) -> clinker_code = { number in
        switch number {
        case ENOENT: CLINKER_NOT_FOUND
        case EEXIST: CLINKER_EXISTS
        case ENOSPC, EDQUOT: CLINKER_NO_SPACE
        case EROFS, EACCES, EPERM, ENAMETOOLONG, EFBIG, ENOTDIR, EISDIR, ENOTEMPTY: CLINKER_ERROR
        case EINVAL: CLINKER_INVALID
        // The server is or was unreachable: file handles of this connection may be stale.
        default: CLINKER_RETRY
        }
    }

    /// Tells one connection from the next, which libnfs makes by itself when one breaks. A server that was started anew in between may have
    /// lost what was written and not yet flushed.
    package var connection: UInt64 {
        var info = Glibc.stat()
        return fstat(nfs_get_fd(context), &info) == 0 ? UInt64(info.st_ino) : 0
    }
}
