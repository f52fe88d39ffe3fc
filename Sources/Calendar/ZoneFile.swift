import Glibc

/// A file of the system's database of time zones.
enum ZoneFile {
    /// No zone needs so much.
    private static let longest = 1 << 20

    /// nil: there is none, or it is no ordinary file of a usual length.
    static func read(_ path: String) -> [UInt8]? {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= longest else { return nil }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        var length = 0
        while length < bytes.count {
            let count = bytes.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress?.advanced(by: length), $0.count - length) }
            guard count > 0 else { return nil }
            length += count
        }
        return bytes
    }
}
