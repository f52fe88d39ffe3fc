import Glibc

/// What the kernel says of processes without touching their memory, which one that hangs may have locked (proc(5)).
enum ProcessTable {
    struct Stat {
        let name: String
        let state: Character
        let parent, group, session: pid_t
        /// In clock ticks, as is when it started, from the boot on.
        let processorTime, startedAt: UInt64
        let threads, residentPages: Int

        /// Not a dead one that nobody has reaped yet. The state is that of the first thread: another one may hang in the kernel still.
        var isAlive: Bool { (state != "Z" && state != "X") || threads > 1 }
    }

    /// nil if there is no such process, or it is none of those that may be looked at.
    static func stat(_ pid: pid_t) throws(SystemError) -> Stat? {
        let text: String
        do throws(SystemError) { text = try self.text(of: "/proc/\(pid)/stat") } catch {
            if [ENOENT, ESRCH, EACCES, EPERM].contains(error.code) { return nil }
            throw error
        }
        // The name may hold anything.
        guard let start = text.firstIndex(of: "("), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 21 else { return nil }
        return Stat(
            name: String(text[text.index(after: start)..<end]), state: fields[0].first ?? "?", parent: pid_t(fields[1]) ?? 0,
            group: pid_t(fields[2]) ?? 0,
            session: pid_t(fields[3]) ?? 0, processorTime: (UInt64(fields[11]) ?? 0) + (UInt64(fields[12]) ?? 0),
            startedAt: UInt64(fields[19]) ?? 0, threads: Int(fields[17]) ?? 0, residentPages: Int(fields[21]) ?? 0)
    }

    /// All that there are, or may be seen.
    static func pids() throws(SystemError) -> [pid_t] {
        let pids = try names(in: "/proc").compactMap { pid_t($0) }
        guard pids.contains(getpid()) else { throw SystemError(ENOENT, "/proc shows no processes") }
        return pids
    }

    static func names(in directory: String) throws(SystemError) -> [String] {
        guard let listing = opendir(directory) else { throw SystemError(errno, "cannot read \(directory)") }
        defer { closedir(listing) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(listing) else { break }
            names.append(withUnsafePointer(to: &entry.pointee.d_name.0) { String(cString: $0) })
        }
        let code = errno
        guard code == 0 else { throw SystemError(code, "cannot read \(directory)") }
        return names
    }

    /// The first 2 KiB of a file.
    static func text(of file: String) throws(SystemError) -> String {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError(errno, "cannot read \(file)") }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        guard count >= 0 else { throw SystemError(errno, "cannot read \(file)") }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
