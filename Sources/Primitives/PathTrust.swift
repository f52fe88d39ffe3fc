import Glibc

/// Whether others than root and the service's user can put another file in the place of one: who may write a directory on the way to it
/// can, whatever the file's own mode says.
public enum PathTrust {
    private static let mostLinks = 40

    /// What on the way to the file others may write, with the command that mends it; nil if nothing, or if there is no such file.
    /// `isOwned`: who owns it must be root or the service's user.
    public static func exposure(above path: String, isOwned: Bool = true) -> String? {
        // From the root to where the walk is, and whether everybody may write there but not take away what is another's, as in /tmp.
        var names: [String] = []
        var shared: [Bool] = []
        var pending = components(absolute(path)).reversed() as [String]
        var links = 0
        var info = stat()
        guard lstat("/", &info) == 0 else { return nil }
        if let problem = writers(of: "/", info, isOwned: isOwned) { return problem }
        while let name = pending.popLast() {
            if name == ".." {
                _ = (names.popLast(), shared.popLast())
                continue
            }
            let place = "/" + (names + [name]).joined(separator: "/")
            guard lstat(place, &info) == 0 else { return nil }
            if shared.last ?? false, isOwned, info.st_uid != 0, info.st_uid != geteuid() {
                return
                    "\(place) belongs to user \(info.st_uid), in a directory that everybody may write: chown -h \(geteuid()) \(place)"
            }
            switch info.st_mode & S_IFMT {
            case S_IFLNK:
                links += 1
                guard links <= mostLinks, let target = target(of: place) else { return nil }
                if target.utf8.first == UInt8(ascii: "/") {
                    (names, shared) = ([], [])
                }
                pending += components(target).reversed()
            case S_IFDIR:
                guard !pending.isEmpty else { return nil }
                if let problem = writers(of: place, info, isOwned: isOwned) { return problem }
                names.append(name)
                shared.append(isShared(info))
            default: return nil
            }
        }
        return nil
    }

    private static func isShared(_ info: stat) -> Bool { info.st_mode & 0o1000 != 0 }

    private static func writers(of place: String, _ info: stat, isOwned: Bool) -> String? {
        var info = info
        // What they write in such a directory is no harm; whose it is matters.
        if isShared(info) { info.st_mode &= ~0o022 }
        guard let problem = FileTrust(info).writers(place, isOwned: isOwned) else { return nil }
        var system = statvfs()
        let isReadOnly = statvfs(place, &system) == 0 && system.f_flag & UInt(ST_RDONLY) != 0
        return isReadOnly ? nil : problem
    }

    private static func absolute(_ path: String) -> String {
        guard path.utf8.first != UInt8(ascii: "/"), let raw = getcwd(nil, 0) else { return path }
        defer { free(raw) }
        return String(cString: raw) + "/" + path
    }

    private static func components(_ path: String) -> [String] {
        path.utf8.split(separator: UInt8(ascii: "/")).map { String(Substring($0)) }.filter { $0 != "." }
    }

    private static func target(of link: String) -> String? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlink(link, &buffer, buffer.count - 1)
        guard count > 0 else { return nil }
        return String(validating: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
