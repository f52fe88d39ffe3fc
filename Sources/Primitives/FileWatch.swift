import Glibc

/// Watches files by polling once a second, and reports when one of them changes.
public struct FileWatch: Sendable {
    /// Inode, size and modification time of each file.
    private let stamp: [Int]
    private let paths: @Sendable () -> [String]

    /// Takes the file's present state as the starting point. Create the watch before the file is read, so that no change is missed.
    public init(_ path: String) { self.init { [path] } }

    /// The same for several files; `paths` is called at each poll.
    public init(_ paths: @escaping @Sendable () -> [String]) {
        self.paths = paths
        stamp = Self.stamp(paths())
    }

    /// Starts a thread that calls the closure after every change since the watch was created.
    public func start(_ name: String, onChange: @escaping @Sendable () -> Void) {
        startThread(name) { [paths, stamp] in
            var last = stamp
            while true {
                sleep(1)
                let now = Self.stamp(paths())
                guard now != last else { continue }
                last = now
                onChange()
            }
        }
    }

    private static func stamp(_ paths: [String]) -> [Int] {
        paths.flatMap { path in
            var info = stat()
            guard stat(path, &info) == 0 else { return [0] }
            return [Int(info.st_ino), Int(info.st_size), info.st_mtim.tv_sec, info.st_mtim.tv_nsec]
        }
    }
}
