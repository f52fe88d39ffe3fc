import Glibc

/// Files that are read again when one of them changes.
public struct FileWatch: Sendable {
    /// What changes when a file does.
    private let stamp: [Int]
    private let paths: @Sendable () -> [String]

    /// Remembers the file as it is: to be made before it is read.
    public init(_ path: String) { self.init { [path] } }

    /// The same for several, which are found anew at each look.
    public init(_ paths: @escaping @Sendable () -> [String]) {
        self.paths = paths
        stamp = Self.stamp(paths())
    }

    /// Calls the closure on a thread of its own after every change, from the state remembered on.
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
