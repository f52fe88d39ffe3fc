import CDriver
import CLinux
import DriverKit
import Glibc

/// Volumes as sparse raw files in one directory. Every file is created under a temporary name and renamed when it is complete and on stable
/// storage, so a crash leaves either the complete file or a `.partial` one.
final class FileDriver: VolumeDriver {
    private static let directoryOption = DriverOption(
        "file_directory", default: "", help: "Directory of the volumes; the backend's own below the state directory if empty.")
    static let options = [directoryOption.declaration]

    private let directory: String
    /// Makes added, renamed and removed files durable.
    private let names: DirectoryFlush

    init(_ call: Call) throws {
        var path = try call[Self.directoryOption]
        if path.isEmpty {
            guard let own = call.string("state_dir") else { throw DriverError(CLINKER_BAD_CONFIGURATION, "file_directory is not set") }
            path = own
        }
        guard path.hasPrefix("/") else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "file_directory must be an absolute path, not \(path)")
        }
        directory = path
        names = DirectoryFlush(path)
        try File.makeDirectories(path)
        guard access(path, R_OK | W_OK | X_OK) == 0 else {
            throw DriverError.last(CLINKER_BAD_CONFIGURATION, "the directory \(path) cannot be used")
        }
        var info = stat()
        // Who can write the directory can replace a volume by another file.
        if stat(path, &info) == 0, info.st_mode & 0o002 != 0 || (info.st_mode & 0o020 != 0 && info.st_gid != 0 && info.st_gid != getegid())
        {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "the directory \(path) can be written by others (mode \(String(info.st_mode & 0o7777, radix: 8))): chmod go-w \(path)")
        }
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", "file")
        call.set("thin_provisioning_support", true)
        call.set("thick_provisioning_support", false)
        call.set("multiattach", true)
        call.set("online_extend_support", true)
        call.set("sparse_copy_volume", true)
        call.set("shared_targets", false)
    }

    func stats(_ call: Call) throws {
        var info = statvfs()
        guard statvfs(directory, &info) == 0 else { throw DriverError.last("cannot read the capacity of \(directory)") }
        let block = Double(info.f_frsize)
        call.list("pools") {
            call.object(nil) {
                call.set("name", "files")
                call.set("total_capacity_gb", Double(info.f_blocks) * block / 1_073_741_824)
                call.set("free_capacity_gb", Double(info.f_bavail) * block / 1_073_741_824)
            }
        }
    }

    func createVolume(_ call: Call) throws {
        try make(path(call, "volume.name"), size: call.gibibytes("volume.size"), from: nil, call)
    }

    func deleteVolume(_ call: Call) throws { try remove(path(call, "volume.name")) }

    func extendVolume(_ call: Call) throws {
        let file = try File(path(call, "volume.name"), writable: true)
        defer { file.close() }
        let wanted = try call.gibibytes("new_size")
        if try file.size < wanted { try file.truncate(to: wanted) }
        try file.flush()
    }

    func cloneVolume(_ call: Call) throws {
        try make(path(call, "volume.name"), size: call.gibibytes("volume.size"), from: path(call, "source.name"), call)
    }

    func createSnapshot(_ call: Call) throws {
        let source = try path(call, "volume.name")
        try make(path(call, "snapshot.name"), size: nil, from: source, call)
    }

    func deleteSnapshot(_ call: Call) throws { try remove(path(call, "snapshot.name")) }

    func createVolumeFromSnapshot(_ call: Call) throws {
        try make(path(call, "volume.name"), size: call.gibibytes("volume.size"), from: path(call, "snapshot.name"), call)
    }

    /// Replaces the volume's file by a clone of the snapshot, by rename: a crash leaves one or the other.
    func revertToSnapshot(_ call: Call) throws {
        try make(path(call, "volume.name"), size: nil, from: path(call, "snapshot.name"), call, replacing: true)
    }

    func connectVolume(_ call: Call) throws {
        let path = try path(call, "volume.name")
        guard access(path, F_OK) == 0 else { throw DriverError(CLINKER_NOT_FOUND, "\(path) does not exist") }
        call.set("driver_volume_type", "local")
        call.object("data") {
            call.set("device_path", path)
            call.set("format", "raw")
        }
    }

    func disconnectVolume(_ call: Call) throws {}
    func exportVolume(_ call: Call) throws {}
    func ensureExport(_ call: Call) throws {}
    func unexportVolume(_ call: Call) throws {}

    func listVolumes(_ call: Call) throws {
        guard let listing = opendir(directory) else { throw DriverError.last("cannot read \(directory)") }
        defer { closedir(listing) }
        call.list("volumes") {
            while let entry = readdir(listing) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
                }
                var info = stat()
                guard !name.hasPrefix("."), !name.hasSuffix(".partial"), lstat(directory + "/" + name, &info) == 0,
                    info.st_mode & S_IFMT == S_IFREG
                else { continue }
                call.object(nil) {
                    call.set("name", name)
                    call.set("bytes", Int64(info.st_size))
                    call.set("size", (Int64(info.st_size) + 1_073_741_823) / 1_073_741_824)
                    if info.st_nlink > 1 { call.set("unsafe", Self.shared) }
                }
            }
        }
    }

    func manageVolume(_ call: Call) throws { try takeOver(path(call, "volume.name"), call) }
    func renameVolume(_ call: Call) throws { try move(path(call, "source.name"), to: path(call, "volume.name")) }
    func manageSnapshot(_ call: Call) throws { try takeOver(path(call, "snapshot.name"), call) }

    // An unmanaged object stays as it is.
    func unmanageVolume(_ call: Call) throws {}
    func unmanageSnapshot(_ call: Call) throws {}

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let name = call.string("snapshot.name") != nil ? "snapshot.name" : "volume.name"
        guard !writable || name == "volume.name" else { throw DriverError(CLINKER_INVALID, "a snapshot is not written") }
        return try FileHandle(File(path(call, name), writable: writable))
    }

    // MARK: implementation

    /// The path of an object. The name must not lead out of the directory.
    private func path(_ call: Call, _ argument: String) throws -> String {
        let name = try call.required(argument)
        guard !name.isEmpty, !name.utf8.contains(UInt8(ascii: "/")), !name.hasPrefix("."), name.utf8.count <= 200 else {
            throw DriverError(CLINKER_INVALID, "'\(name)' cannot be the name of a file")
        }
        return directory + "/" + name
    }

    private func make(_ path: String, size: UInt64?, from source: String?, _ call: Call, replacing: Bool = false) throws {
        if !replacing, let existing = try? File(path, writable: true) {
            defer { existing.close() }
            // Created before a crash, and complete, since it has its final name.
            if let size, try existing.size < size { try existing.truncate(to: size) }
            try existing.flush()
            return
        }
        let partial = path + ".partial"
        let file = try File(creating: partial)
        defer { file.close() }
        do {
            if let source {
                let original = try File(source, writable: false)
                defer { original.close() }
                try file.copy(original, call)
            }
            if let size { try file.truncate(to: size) }
            try file.flush()
            guard rename(partial, path) == 0 else { throw DriverError.last("cannot rename \(partial)") }
            try names.flush()
        } catch {
            unlink(partial)
            throw error
        }
    }

    private static let shared = "it has another name: who has that writes to the same bytes"

    /// Renames a file of the directory to its managed name.
    private func takeOver(_ path: String, _ call: Call) throws {
        let reference = try self.path(call, call.referenceArgument)
        guard !reference.hasSuffix(".partial") else { throw DriverError(CLINKER_INVALID, "\(reference) is not whole") }
        if reference != path, let file = try? File(reference, writable: false) {
            defer { file.close() }
            guard try file.links == 1 else { throw DriverError(CLINKER_INVALID, "\(reference): \(Self.shared)") }
        }
        try move(reference, to: path)
        // Volumes are whole GiB; the added bytes read as zeroes.
        let file = try File(path, writable: true)
        defer { file.close() }
        let size = max(1, (try file.size + 1_073_741_823) >> 30)
        if try file.size < size << 30 { try file.truncate(to: size << 30) }
        try file.flush()
        call.set("size", Int64(size))
    }

    /// Renames a file; does nothing if it has the name already.
    private func move(_ old: String, to path: String) throws {
        guard old != path else { return }
        guard let file = try? File(old, writable: false) else {
            guard access(path, F_OK) == 0 else { throw DriverError(CLINKER_NOT_FOUND, "\(old) does not exist") }
            return
        }
        file.close()
        guard access(path, F_OK) != 0 else { throw DriverError(CLINKER_EXISTS, "\(path) exists already") }
        guard rename(old, path) == 0 else { throw DriverError.last("cannot rename \(old)") }
        try names.flush()
    }

    private func remove(_ path: String) throws {
        unlink(path + ".partial")
        if unlink(path) != 0, errno != ENOENT { throw DriverError.last("cannot remove \(path)") }
        try names.flush()
    }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "file", version: "1.0.0", vendor: "Clinker", threads: .parallel, offering: .all.subtracting(.fence),
    options: FileDriver.options
) {
    openDriver($0, $1) { try FileDriver($0) }
}

/// The plugin's exported symbol.
@c(clinker_driver_v1)
public func fileDriver() -> UnsafePointer<clinker_driver>? { table }
