import Glibc

/// What the kernel knows of this process, under the names that Prometheus' client libraries use.
public enum ProcessMetrics {
    public static func write(into text: inout MetricsText) {
        let fields = statFields()
        let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
        if fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]), let pages = Double(fields[21]) {
            text.family("process_cpu_seconds_total", .counter, "CPU time of the core.")
            text.sample("process_cpu_seconds_total", (user + system) / ticks)
            text.family("process_resident_memory_bytes", .gauge, "Resident memory of the core.")
            text.sample("process_resident_memory_bytes", pages * Double(sysconf(Int32(_SC_PAGESIZE))))
        }
        let heap = heap()
        text.family("clinker_heap_bytes", .gauge, "Memory of the core that is allocated, and that the allocator keeps for what comes.")
        text.sample("clinker_heap_bytes", heap.used, ["state": "used"])
        text.sample("clinker_heap_bytes", heap.unused, ["state": "unused"])
        text.family("process_open_fds", .gauge, "Open file descriptors of the core.")
        text.sample("process_open_fds", openDescriptors())
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            text.family("process_max_fds", .gauge, "Most file descriptors that the core may open.")
            text.sample("process_max_fds", Int(clamping: limit.rlim_cur))
        }
    }

    /// The fields of /proc/self/stat behind the name, which may hold anything.
    private static func statFields() -> [Substring] {
        guard let file = fopen("/proc/self/stat", "re") else { return [] }
        defer { fclose(file) }
        var buffer = [CChar](repeating: 0, count: 2048)
        guard fgets(&buffer, Int32(buffer.count), file) != nil else { return [] }
        let text = buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        guard let end = text.lastIndex(of: ")") else { return [] }
        return text[text.index(after: end)...].split(separator: " ")
    }

    private static func openDescriptors() -> Int {
        guard let directory = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(directory) }
        var count = -3  // two dots and the directory itself
        while readdir(directory) != nil { count += 1 }
        return count
    }
}
