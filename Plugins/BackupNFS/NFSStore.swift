import CDriver
import DriverKit
import Glibc
import NFSClient

/// The objects of backups as files of an NFS share, over libnfs: nothing is mounted.
final class NFSStore: BackupStore, @unchecked Sendable {
    private static let share = DriverOption("backup_share", default: "", help: "The share, host:/path.")
    private static let mountOptions = DriverOption(
        "backup_mount_options", default: "",
        help: "Mount options, separated by commas: port, mountport and timeo are used, and vers must be 3.")
    private static let attempts = DriverOption(
        "backup_mount_attempts", default: 3, in: 1...100, help: "How often the share is tried when the store is opened.")
    static let options =
        [share.declaration, mountOptions.declaration, attempts.declaration]
        + DriverOptionDeclaration.withoutEffect(["backup_mount_point_base": "the share is not mounted"])

    private let connections: Connections
    private let leftovers = Leftovers()

    init(_ call: Call) throws {
        let share = try call[Self.share]
        guard !share.isEmpty else { throw DriverError(CLINKER_BAD_CONFIGURATION, "backup_share is not set") }
        let options = try call[Self.mountOptions]
        let address = try ShareAddress(share, options: options.isEmpty ? nil : options, named: "backup_mount_options")
        connections = Connections(address) {
            let session = try Session($0, code: Self.code)
            session.asksForEveryList()
            return session
        }
        try reach(call, attempts: try call[Self.attempts])
    }

    /// A share that did not answer in time is not tried again.
    private func reach(_ call: Call, attempts: Int) throws {
        for attempt in 1... {
            let begun = Connections.now()
            do {
                _ = try connections.with(isOpening: true) { try $0.capacity() }
                return
            } catch let error as DriverError {
                guard error.code == CLINKER_RETRY, attempt < attempts, Connections.now() - begun < 1 else { throw error }
                call.log(CLINKER_WARNING, "attempt \(attempt) of \(attempts): \(error.message)")
                sleep(1)
            }
        }
    }

    /// What an error number means for a store.
    private static let code: @Sendable (Int32) -> clinker_code = { number in
        switch number {
        case ENOSPC, EDQUOT: CLINKER_NO_SPACE
        case EROFS, EACCES, EPERM: CLINKER_BAD_CONFIGURATION
        case ENAMETOOLONG, EILSEQ, EFBIG: CLINKER_INVALID
        case ENOTDIR, EISDIR, ENOTEMPTY, EEXIST, EINVAL, ELOOP: CLINKER_ERROR
        // No answer, a broken connection, a handle of what is gone: ENOENT too, since whoever looks for an object asks for that first.
        default: CLINKER_RETRY
        }
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "nfs")
        // Every list is asked of the server.
        call.set("consistent_list", true)
        call.set("range_get", true)
        call.set("checks_sha256", false)
        call.set("object_lock", false)
    }

    func stats(_ call: Call) throws {
        let (space, isWritable) = try connections.with { (try $0.capacity(), $0.isWritable) }
        call.set("total_capacity_gb", Double(space.total) / 1_073_741_824)
        call.set("free_capacity_gb", Double(space.free) / 1_073_741_824)
        if !isWritable {
            call.list("problems") { call.set(nil, "\(connections.address.text): objects are read, and none is written: no permission") }
        }
    }

    func put(_ call: Call, _ name: String, _ slices: [UnsafeRawBufferPointer], sha256: UnsafeRawBufferPointer?) throws {
        let file = try PartialFile(connections, leftovers, name)
        do {
            for slice in slices { try file.write(slice) { call.isCancelled } }
        } catch {
            file.abandon()
            throw error
        }
        try file.commit()
    }

    func openWriter(_ call: Call, _ name: String) throws -> any BackupObjectWriter { try PartialFile(connections, leftovers, name) }

    func get(_ call: Call, _ name: String, into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        try connections.with { session in
            for _ in 0..<100 {
                guard offset < (try ShareFolder(session).found(name).size), !buffer.isEmpty else { return 0 }
                guard let file = try session.openIfThere(name) else { continue }
                defer { file.close() }
                if let count = try file.readUpToEnd(buffer, at: offset) { return count }
                // It was removed or replaced meanwhile: what is there now is read from its beginning.
            }
            throw DriverError(CLINKER_RETRY, "\(session.path(name)) is replaced faster than it is read")
        }
    }

    func object(_ call: Call, _ name: String) throws -> StoredObject {
        try connections.with { session in
            let found = try ShareFolder(session).found(name)
            return StoredObject(name: name, size: found.size, modified: found.modified)
        }
    }

    func list(_ call: Call, prefix: String, after: String, _ each: (StoredObject) -> Bool) throws {
        try Listing(connections, prefix: prefix, after: after).walk(isCancelled: { call.isCancelled }, each)
    }

    func remove(_ call: Call, _ names: [String]) throws {
        try connections.with { session in
            let root = ShareFolder(session)
            var first: (any Error)?
            var folders: Set<String> = []
            for name in names {
                do {
                    if try root.remove(name), let slash = name.lastIndex(of: "/") { folders.insert(String(name[..<slash])) }
                } catch {
                    // A server that does not answer is not waited for a thousand times.
                    if session.failure != nil { throw error }
                    first = first ?? error
                }
            }
            for folder in folders { root.removeIfEmpty(folder) }
            if let first { throw first }
        }
    }
}

nonisolated(unsafe) private let table = makeStoreTable(
    name: "nfs", version: "1.0.0", vendor: "Clinker", offering: .writers, options: NFSStore.options
) {
    openStore($0, $1) { try NFSStore($0) }
}

/// The plugin's exported symbol.
@c(clinker_store_v1)
public func nfsStore() -> UnsafePointer<clinker_store>? { table }
