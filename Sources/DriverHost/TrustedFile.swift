import Glibc
import Primitives

/// A file that only root and the service's user can have written: the file, its directory, every directory above and every symbolic link
/// on the path belong to one of them, and nobody else can write them. Each component is checked through a descriptor from which the
/// next one is opened, so that none can be replaced in between.
final class TrustedFile: Sendable {
    /// The directory of the file, into which nobody else can put anything.
    private let directory: Int32
    private let name: String

    /// A path through `/proc/self/fd` that leads to the file and its neighbours while this value lives, whatever becomes of the names above.
    var path: String { "/proc/self/fd/\(directory)/\(name)" }

    private static let mostLinks = 40
    /// O_PATH, which the importer does not provide.
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
                throw PluginError("\(SystemError.last("\(place)"))")
            }
            var info = stat()
            guard fstat(next, &info) == 0 else {
                let failure = SystemError.last(place)
                close(next)
                throw PluginError("\(failure)")
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
                    // The directory of the file, and those above it.
                    try Self.checkWriters(info, place, isAbove: pending.count > 1)
                    walk.enter(next, component)
                default:
                    guard pending.isEmpty else { throw PluginError("\(SystemError(ENOTDIR, place))") }
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

    /// Keeps the descriptor open for the life of the process, like the library: the loader identifies libraries by path, and a reused
    /// descriptor number would be taken for the same library.
    func keep() { Self.kept.withLock { $0.append(self) } }

    private static let kept = Guarded<[TrustedFile]>([])

    deinit { close(directory) }

    /// The directories from the root to the current one.
    private struct Walk {
        private var names: [String] = []
        private var descriptors: [Int32] = []

        var directory: Int32 { descriptors.last ?? -1 }
        var path: String { names.isEmpty ? "" : "/" + names.joined(separator: "/") }

        mutating func begin() throws(PluginError) {
            let root = open("/", TrustedFile.pathOnly | O_DIRECTORY | O_CLOEXEC)
            var info = stat()
            guard root >= 0, fstat(root, &info) == 0 else {
                throw PluginError("\(SystemError.last("/"))")
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

        /// The descriptor of the current directory; the caller owns it from now on.
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
            throw PluginError("\(SystemError.last("\(place)"))")
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

    /// Above the file's own directory a sticky directory (as /tmp) is allowed, since others cannot rename our files there, and so is write
    /// access of our own group.
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
