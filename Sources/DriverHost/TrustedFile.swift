import Glibc
import Primitives

/// Code that runs with our rights must come from nobody but root and ourselves: the file, its directory and every directory above,
/// and every symbolic link on the way belong to one of the two, and nobody else may write them. Each is looked at through a descriptor
/// that the next one is opened from, so that nothing can be put in another's place meanwhile.
final class TrustedFile: Sendable {
    /// Of the directory that holds it, which nobody else can put anything into.
    private let directory: Int32
    private let name: String

    /// Leads to the file, and to what lies beside it, whatever becomes of the names above, as long as this value lives.
    var path: String { "/proc/self/fd/\(directory)/\(name)" }

    private static let mostLinks = 40
    /// O_PATH, which Swift does not see.
    private static let pathOnly: Int32 = 0x20_0000

    init(_ path: String) throws(PluginError) {
        guard path.utf8.first == UInt8(ascii: "/") else { throw PluginError("the plugin's path must be absolute, not \(path)") }
        var walk = Walk()
        defer { walk.end() }
        try walk.begin()
        var pending: [String] = Self.components(path).reversed()
        var links = 0
        while let component = pending.popLast() {
            if component == ".." {
                walk.leave()
                continue
            }
            let place = walk.path + "/" + component
            let next = openat(walk.directory, component, Self.pathOnly | O_NOFOLLOW | O_CLOEXEC)
            guard next >= 0 else {
                let code = errno
                throw PluginError("\(place): \(String(cString: strerror(code)))")
            }
            var info = stat()
            guard fstat(next, &info) == 0 else {
                let code = errno
                close(next)
                throw PluginError("\(place): \(String(cString: strerror(code)))")
            }
            do throws(PluginError) {
                try Self.checkOwner(info, place)
                switch info.st_mode & S_IFMT {
                case S_IFLNK:
                    links += 1
                    guard links <= Self.mostLinks else {
                        throw PluginError("\(path) leads through more than \(Self.mostLinks) symbolic links")
                    }
                    let target = try Self.target(of: next, place)
                    close(next)
                    if target.utf8.first == UInt8(ascii: "/") { walk.restart() }
                    pending += Self.components(target).reversed()
                    continue
                case S_IFDIR:
                    guard !pending.isEmpty else { throw PluginError("\(place) is a directory") }
                    // The directory that holds the file, and those above it.
                    try Self.checkWriters(info, place, isAbove: pending.count > 1)
                    walk.enter(next, component)
                default:
                    guard pending.isEmpty else { throw PluginError("\(place): \(String(cString: strerror(ENOTDIR)))") }
                    guard info.st_mode & S_IFMT == S_IFREG else { throw PluginError("\(place) is no file") }
                    try Self.checkWriters(info, place, isAbove: false)
                    close(next)
                    directory = walk.take()
                    name = component
                    return
                }
            } catch {
                close(next)
                throw error
            }
        }
        throw PluginError("\(path) is a directory")
    }

    /// Keeps the way for the life of the process, as the library is kept: the loader knows it by this name, and the next one of that name
    /// would be taken for it.
    func keep() { Self.kept.withLock { $0.append(self) } }

    private static let kept = Guarded<[TrustedFile]>([])

    deinit { close(directory) }

    /// The directories from the root to where the walk is.
    private struct Walk {
        private var names: [String] = []
        private var descriptors: [Int32] = []

        var directory: Int32 { descriptors.last ?? -1 }
        var path: String { names.isEmpty ? "" : "/" + names.joined(separator: "/") }

        mutating func begin() throws(PluginError) {
            let root = open("/", TrustedFile.pathOnly | O_DIRECTORY | O_CLOEXEC)
            var info = stat()
            guard root >= 0, fstat(root, &info) == 0 else {
                let code = errno
                throw PluginError("/: \(String(cString: strerror(code)))")
            }
            descriptors = [root]
            try TrustedFile.checkOwner(info, "/")
            try TrustedFile.checkWriters(info, "/", isAbove: true)
        }

        mutating func enter(_ descriptor: Int32, _ name: String) {
            descriptors.append(descriptor)
            names.append(name)
        }

        mutating func leave() {
            guard let last = descriptors.last, names.popLast() != nil else { return }
            close(last)
            descriptors.removeLast()
        }

        mutating func restart() { while !names.isEmpty { leave() } }

        /// The descriptor of where the walk is, from now on the caller's.
        mutating func take() -> Int32 { descriptors.popLast() ?? -1 }

        mutating func end() {
            for descriptor in descriptors { close(descriptor) }
            descriptors = []
        }
    }

    private static func components(_ path: String) -> [String] {
        path.utf8.split(separator: UInt8(ascii: "/")).map { String(Substring($0)) }.filter { $0 != "." }
    }

    private static func target(of link: Int32, _ place: String) throws(PluginError) -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlinkat(link, "", &buffer, buffer.count - 1)
        guard count > 0 else {
            let code = errno
            throw PluginError("\(place): \(String(cString: strerror(code)))")
        }
        guard let text = String(validating: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) else {
            throw PluginError("\(place) leads to a name that is no text")
        }
        return text
    }

    private static func checkOwner(_ info: stat, _ place: String) throws(PluginError) {
        guard info.st_uid == 0 || info.st_uid == geteuid() else {
            throw PluginError(
                "\(place) belongs to user \(info.st_uid): plugins, and all that leads to them, must belong to root or to the service's user; chown it"
            )
        }
    }

    /// Above the file's own directory others may write where they cannot take away what is ours, as in /tmp, and our own group may.
    private static func checkWriters(_ info: stat, _ place: String, isAbove: Bool) throws(PluginError) {
        if isAbove {
            guard info.st_mode & 0o1000 == 0, FileTrust(info).writers(place) != nil else { return }
        } else {
            guard info.st_mode & 0o022 != 0 else { return }
        }
        throw PluginError(
            "\(place) can be written by others (mode \(String(info.st_mode & 0o7777, radix: 8))): remove that right (chmod go-w)")
    }
}
