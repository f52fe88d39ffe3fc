import Glibc
import Primitives

/// A file outside of every storage, the target of references and names that lead out of the storage.
struct Canary {
    private struct Look: Equatable {
        let inode: UInt64
        let mode: UInt32
        let links: Int
        let size, seconds, nanoseconds: Int
        let beside: [String]

        init(_ path: String, _ directory: String) throws {
            var info = stat()
            guard lstat(path, &info) == 0 else { throw CheckBench.Failure(description: "it is gone") }
            inode = UInt64(info.st_ino)
            mode = info.st_mode
            links = Int(info.st_nlink)
            (size, seconds, nanoseconds) = (Int(info.st_size), info.st_mtim.tv_sec, info.st_mtim.tv_nsec)
            beside = Canary.entries(directory)
        }
    }

    private let directory: String
    let path: String
    private let before: Look

    /// Creates one in a new directory.
    init(in parent: String) throws {
        directory = "\(parent)/elsewhere-\(getpid())"
        path = directory + "/canary"
        mkdir(directory, 0o700)
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else {
            throw CheckBench.Failure(description: "\(SystemError.last("cannot make \(path)"))")
        }
        _ = "canary".withCString { write(file, $0, 6) }
        close(file)
        before = try Look(path, directory)
    }

    /// Absolute and relative paths to it.
    var names: [String] { [path, String(repeating: "../", count: 30) + path.dropFirst(), "../elsewhere-\(getpid())/canary"] }
    /// Unused paths next to it.
    var freeNames: [String] { [directory + "/new", String(repeating: "../", count: 30) + directory.dropFirst() + "/new"] }

    /// Requires that the file is unchanged and that nothing was created next to it.
    func verify(after what: String) throws {
        let now: Look
        do { now = try Look(path, directory) } catch let failure as CheckBench.Failure {
            throw CheckBench.Failure(description: "\(what): a file outside of the storage was moved or removed: \(path): \(failure)")
        }
        guard now.beside == before.beside else {
            throw CheckBench.Failure(
                description: "\(what): outside of the storage came \(now.beside.filter { $0 != "canary" }.joined(separator: ", "))")
        }
        guard now == before else { throw CheckBench.Failure(description: "\(what): a file outside of the storage was changed: \(path)") }
    }

    func remove() {
        for name in Self.entries(directory) { unlink(directory + "/" + name) }
        rmdir(directory)
    }

    private static func entries(_ directory: String) -> [String] {
        guard let listing = opendir(directory) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}
