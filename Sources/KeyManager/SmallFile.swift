import Glibc
import Primitives

/// Files of a few hundred bytes that only the service may read, each written whole or not at all.
enum SmallFile {
    private static let largest = 4096

    /// The content; nil if there is no such file. Refused are links, what is no file, what others can read or write, and what is larger than
    /// any that was written here.
    static func read(_ path: String) throws(KeyFailure) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw KeyFailure(errno == ELOOP ? .damaged : .unavailable, "\(SystemError.last("cannot open \(path)"))")
        }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw KeyFailure(.unavailable, "\(SystemError.last("cannot read \(path)"))") }
        guard info.st_mode & S_IFMT == S_IFREG else { throw KeyFailure(.damaged, "\(path) is no file") }
        guard info.st_size <= largest else { throw KeyFailure(.damaged, "\(path) is larger than \(largest) bytes: it is no key") }
        guard info.st_uid == geteuid() || info.st_uid == 0, info.st_mode & 0o077 == 0 else {
            throw KeyFailure(
                .damaged, "\(path) holds a key and others can read or write it, or it is another's: chown \(geteuid()) and chmod 600")
        }
        var bytes = [UInt8](repeating: 0, count: largest)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw KeyFailure(.unavailable, "\(SystemError.last("cannot read \(path)"))") }
            guard got > 0 else { break }
            count += got
        }
        return Array(bytes.prefix(count))
    }

    /// Writes a new file, on stable storage when this returns; false if there is one by the name already.
    static func create(_ name: String, in directory: String, _ bytes: [UInt8]) throws(KeyFailure) -> Bool {
        // It gets its name when it is whole; a draft that a death left behind is nobody's.
        let draft = directory + "/." + name + ".\(getpid()).draft"
        unlink(draft)
        let descriptor = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw KeyFailure(.unavailable, "\(SystemError.last("cannot make \(draft)"))") }
        defer {
            close(descriptor)
            unlink(draft)
        }
        guard fchmod(descriptor, 0o600) == 0, write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else {
            throw KeyFailure(.unavailable, "\(SystemError.last("cannot write \(draft)"))")
        }
        guard link(draft, directory + "/" + name) == 0 else {
            if errno == EEXIST { return false }
            throw KeyFailure(.unavailable, "\(SystemError.last("cannot name \(directory)/\(name)"))")
        }
        try sync(directory)
        return true
    }

    /// Removes a file for ever; that there is none is no failure.
    static func remove(_ name: String, in directory: String) throws(KeyFailure) {
        guard unlink(directory + "/" + name) == 0 || errno == ENOENT else {
            throw KeyFailure(.unavailable, "\(SystemError.last("cannot remove \(directory)/\(name)"))")
        }
        try sync(directory)
    }

    static func sync(_ directory: String) throws(KeyFailure) {
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw KeyFailure(.unavailable, "\(SystemError.last("cannot open \(directory)"))") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw KeyFailure(.unavailable, "\(SystemError.last("cannot write \(directory)"))") }
    }

    /// Names in the directory; empty if there is none.
    static func names(in directory: String) throws(KeyFailure) -> [String] {
        guard let listing = opendir(directory) else {
            if errno == ENOENT { return [] }
            throw KeyFailure(.unavailable, "\(SystemError.last("cannot list \(directory)"))")
        }
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
