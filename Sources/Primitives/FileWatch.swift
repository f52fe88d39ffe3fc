import Glibc

/// A file that is read again when it changes.
public struct FileWatch: Sendable {
    /// What changes when a file does; empty if there is none.
    private let stamp: [Int]
    private let path: String

    /// Remembers the file as it is: to be made before it is read.
    public init(_ path: String) {
        self.path = path
        stamp = Self.stamp(path)
    }

    /// Calls the closure on a thread of its own after every change, from the state remembered on.
    public func start(_ name: String, onChange: @escaping @Sendable () -> Void) {
        startThread(name) { [path, stamp] in
            var last = stamp
            while true {
                sleep(1)
                let now = Self.stamp(path)
                guard now != last else { continue }
                last = now
                onChange()
            }
        }
    }

    private static func stamp(_ path: String) -> [Int] {
        var info = stat()
        guard stat(path, &info) == 0 else { return [] }
        return [Int(info.st_ino), Int(info.st_size), info.st_mtim.tv_sec, info.st_mtim.tv_nsec]
    }
}
