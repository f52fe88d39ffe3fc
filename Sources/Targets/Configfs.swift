import CDriver
import DriverKit
import Glibc

/// The kernel's configfs, in which targets are created as directories, links and values. Creating what exists and removing what is gone
/// are not errors.
enum Configfs {
    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Creates a directory; returns false if it existed.
    @discardableResult
    static func make(_ path: String) throws -> Bool {
        if mkdir(path, 0o755) == 0 { return true }
        guard errno == EEXIST else { throw failure("make", path) }
        return false
    }

    static func remove(_ path: String) throws {
        if rmdir(path) != 0, errno != ENOENT { throw failure("remove", path) }
    }

    static func link(_ path: String, to target: String) throws {
        if symlink(target, path) != 0, errno != EEXIST { throw failure("link", path) }
    }

    static func unlink(_ path: String) throws {
        if Glibc.unlink(path) != 0, errno != ENOENT { throw failure("remove", path) }
    }

    static func put(_ value: String, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        guard value.withCString({ write(descriptor, $0, strlen($0)) }) >= 0 else { throw failure("write to", path) }
    }

    /// Reads the first line of a file.
    static func text(_ path: String) throws -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).filter { !$0.isNewline }
    }

    /// The names of the directories and links in a directory.
    static func entries(_ path: String) -> [String] { names(in: path, of: [DT_DIR, DT_LNK]) }

    static func links(_ path: String) -> [String] { names(in: path, of: [DT_LNK]) }

    private static func names(in path: String, of kinds: [Int]) -> [String] {
        guard let listing = opendir(path) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            guard kinds.contains(Int(entry.pointee.d_type)) else { continue }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private static func failure(_ what: String, _ path: String) -> DriverError {
        let number = errno
        return DriverError(number == EBUSY ? CLINKER_BUSY : CLINKER_ERROR, "cannot \(what) \(path)", errno: number)
    }
}
