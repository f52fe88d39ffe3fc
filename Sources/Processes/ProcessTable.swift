import Glibc
package import Primitives

/// Reads `/proc` (proc(5)), only those files that do not touch a process's memory: its memory map may be locked while it hangs.
package enum ProcessTable {
    package struct Stat {
        package let name: String
        package let state: Character
        package let parent, group, session: pid_t
        /// CPU time, and start time since the boot, both in clock ticks.
        package let processorTime, startedAt: UInt64
        package let threads, residentPages: Int

        /// Whether the process is not a zombie. `state` is that of its first thread; other threads may still hang in the kernel.
        package var isAlive: Bool { (state != "Z" && state != "X") || threads > 1 }
    }

    /// The process's entry; nil if there is no such process or it is not visible to us.
    package static func stat(_ pid: pid_t) throws(SystemError) -> Stat? {
        let text: String
        do throws(SystemError) { text = try self.text(of: "/proc/\(pid)/stat") } catch {
            if [ENOENT, ESRCH, EACCES, EPERM].contains(error.code) { return nil }
            throw error
        }
        // The name is in parentheses and may contain anything, parentheses included.
        guard let start = text.firstIndex(of: "("), let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 21 else { return nil }
        return Stat(
            name: String(text[text.index(after: start)..<end]), state: fields[0].first ?? "?", parent: pid_t(fields[1]) ?? 0,
            group: pid_t(fields[2]) ?? 0,
            session: pid_t(fields[3]) ?? 0, processorTime: (UInt64(fields[11]) ?? 0) + (UInt64(fields[12]) ?? 0),
            startedAt: UInt64(fields[19]) ?? 0, threads: Int(fields[17]) ?? 0, residentPages: Int(fields[21]) ?? 0)
    }

    /// All visible processes.
    static func pids() throws(SystemError) -> [pid_t] {
        let pids = try names(in: "/proc").compactMap { pid_t($0) }
        guard pids.contains(getpid()) else { throw SystemError(ENOENT, "/proc shows no processes") }
        return pids
    }

    package static func names(in directory: String) throws(SystemError) -> [String] {
        guard let listing = opendir(directory) else { throw SystemError.last("cannot read \(directory)") }
        defer { closedir(listing) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(listing) else { break }
            names.append(withUnsafePointer(to: &entry.pointee.d_name.0) { String(cString: $0) })
        }
        let end = SystemError.last("cannot read \(directory)")
        guard end.code == 0 else { throw end }
        return names
    }

    /// The first 2 KiB of a file.
    static func text(of file: String) throws(SystemError) -> String {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemError.last("cannot read \(file)") }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
        guard count >= 0 else { throw SystemError.last("cannot read \(file)") }
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
