import CDriver
import DriverKit
import Glibc

/// The objects of backups as files of one directory: a local one, or a share that is mounted (NFS, GlusterFS, CephFS).
final class PosixStore: BackupStore, @unchecked Sendable {
    private static let pathOption = DriverOption(
        "backup_posix_path", default: "",
        help: "Directory of the objects; the store's own below the state directory if empty.")
    private static let mountOption = DriverOption(
        "backup_posix_require_mount", default: false,
        help: "Do not open the store while backup_posix_path is no mount point: nothing gets to the disk below a share that is not mounted."
    )
    static let options =
        [pathOption.declaration, mountOption.declaration]
        + DriverOptionDeclaration.withoutEffect([
            "glusterfs_backup_share": "mount the share, and name its directory in backup_posix_path",
            "glusterfs_backup_mount_point": "mount the share, and name its directory in backup_posix_path",
        ])

    private let root: Root

    init(_ call: Call) throws {
        var path = try call[Self.pathOption]
        let isOwn = path.isEmpty
        if isOwn {
            guard let own = call.string("state_dir") else { throw DriverError(CLINKER_BAD_CONFIGURATION, "backup_posix_path is not set") }
            path = own + "/objects"
            if mkdir(path, 0o700) != 0, errno != EEXIST { throw DriverError.last(CLINKER_BAD_CONFIGURATION, "cannot make \(path)") }
        }
        guard path.hasPrefix("/") else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "backup_posix_path must be an absolute path, not \(path)")
        }
        root = try Root(path)
        if try call[Self.mountOption], !root.isMountPoint {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "\(path) is no mount point: mount the share, or unset backup_posix_require_mount")
        }
        root.removeOldPartials()
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "posix")
        // Clients of a network filesystem see for a while what a directory was.
        call.set("consistent_list", !root.isRemote)
        call.set("range_get", true)
        call.set("checks_sha256", false)
        call.set("object_lock", false)
    }

    func stats(_ call: Call) throws {
        let space = try root.space()
        call.set("total_capacity_gb", space.total)
        call.set("free_capacity_gb", space.free)
        if let problem = root.writeProblem {
            call.list("problems") { call.set(nil, problem) }
        }
    }

    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws {
        let file = try PartialFile(root, name)
        do {
            for slice in slices {
                if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
                try file.write(slice)
            }
        } catch {
            file.abandon()
            throw error
        }
        try file.commit()
    }

    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter { try PartialFile(root, name) }

    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        let file = try root.openObject(name)
        defer { close(file) }
        var done = 0
        while done < buffer.count {
            let count = pread(file, buffer.baseAddress.map { $0 + done }, buffer.count - done, off_t(offset) + off_t(done))
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("cannot read \(name)")
            }
            done += count
        }
        return done
    }

    func object(_ call: Call, _ name: String) throws -> StoredObject { try root.object(name) }

    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws {
        try Listing(prefix: prefix, after: after).walk(root, isCancelled: { call.isCancelled }, each)
    }

    func remove(_ call: Call, _ names: [String]) throws {
        var first: (any Error)?
        var folders: Set<String> = []
        for name in names {
            do {
                if try root.remove(name), let slash = name.lastIndex(of: "/") { folders.insert(String(name[..<slash])) }
            } catch { first = first ?? error }
        }
        for folder in folders { root.removeIfEmpty(folder) }
        if let first { throw first }
    }
}

/// The failure of the system call just made, with the code that its error number means for a store.
func failure(_ what: @autoclosure () -> String) -> DriverError {
    let number = errno
    let code: clinker_code =
        switch number {
        case ENOSPC, EDQUOT: CLINKER_NO_SPACE
        // Nothing but time, or an operator who need not be told which file it was, helps a server or a disk.
        case EAGAIN, ETIMEDOUT, ESTALE, EIO, ENOTCONN, EHOSTDOWN, EHOSTUNREACH, ENETDOWN, ENETUNREACH, ECONNRESET, ECONNABORTED, ENOLCK,
            ENFILE, EMFILE, ENOMEM:
            CLINKER_RETRY
        case EACCES, EPERM, EROFS: CLINKER_BAD_CONFIGURATION
        case ENAMETOOLONG, EILSEQ, EFBIG: CLINKER_INVALID
        default: CLINKER_ERROR
        }
    return DriverError(code, what(), errno: number)
}

nonisolated(unsafe) private let table = makeStoreTable(
    name: "posix", version: "1.0.0", vendor: "Clinker", offering: .writers, options: PosixStore.options
) {
    openStore($0, $1) { try PosixStore($0) }
}

/// The plugin's exported symbol.
@c(clinker_store_v1)
public func posixStore() -> UnsafePointer<clinker_store>? { table }
