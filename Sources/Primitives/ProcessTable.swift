import Glibc

/// What the kernel says of processes without touching their memory, which one that hangs may have locked (proc(5)).
enum ProcessTable {
    struct Stat {
        let name: String
        let state: Character
        let group, session: pid_t
        /// In clock ticks, as is when it started, from the boot on.
        let processorTime, startedAt: UInt64
        let threads, residentPages: Int

        /// Not a dead one that nobody has reaped yet. The state is that of the first thread: another one may hang in the kernel still.
        var isAlive: Bool { (state != "Z" && state != "X") || threads > 1 }
    }

    /// nil if there is no such process.
    static func stat(_ pid: pid_t) -> Stat? {
        let text = text(of: "/proc/\(pid)/stat")
        // The name may hold anything.
        guard let start = text.firstIndex(of: "("), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 21 else { return nil }
        return Stat(
            name: String(text[text.index(after: start)..<end]), state: fields[0].first ?? "?", group: pid_t(fields[2]) ?? 0,
            session: pid_t(fields[3]) ?? 0, processorTime: (UInt64(fields[11]) ?? 0) + (UInt64(fields[12]) ?? 0),
            startedAt: UInt64(fields[19]) ?? 0, threads: Int(fields[17]) ?? 0, residentPages: Int(fields[21]) ?? 0)
    }

    static func pids() -> [pid_t] { names(in: "/proc").compactMap { pid_t($0) } }

    /// What a directory holds; nothing if it cannot be read.
    static func names(in directory: String) -> [String] {
        guard let listing = opendir(directory) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            names.append(withUnsafePointer(to: &entry.pointee.d_name.0) { String(cString: $0) })
        }
        return names
    }

    /// The first 2 KiB of a file; empty if it cannot be read.
    static func text(of file: String) -> String {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }
}
