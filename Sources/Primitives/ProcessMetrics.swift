import Glibc

/// What the kernel knows of this process, under the names that Prometheus' client libraries use.
public enum ProcessMetrics {
    public static func write(into text: inout MetricsText) {
        if let stat = (try? ProcessTable.stat(getpid())) ?? nil {
            text.family("process_cpu_seconds_total", .counter, "CPU time of the core.")
            text.sample("process_cpu_seconds_total", Double(stat.processorTime) / Double(sysconf(Int32(_SC_CLK_TCK))))
            text.family("process_resident_memory_bytes", .gauge, "Resident memory of the core.")
            text.sample("process_resident_memory_bytes", Double(stat.residentPages) * Double(sysconf(Int32(_SC_PAGESIZE))))
        }
        let heap = heap()
        text.family("clinker_heap_bytes", .gauge, "Memory of the core that is allocated, and that the allocator keeps for what comes.")
        text.sample("clinker_heap_bytes", heap.used, ["state": "used"])
        text.sample("clinker_heap_bytes", heap.unused, ["state": "unused"])
        if let descriptors = try? ProcessTable.names(in: "/proc/self/fd") {
            text.family("process_open_fds", .gauge, "Open file descriptors of the core.")
            // The one by which they are listed left out.
            text.sample("process_open_fds", max(0, descriptors.count { Int($0) != nil } - 1))
        }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            text.family("process_max_fds", .gauge, "Most file descriptors that the core may open.")
            text.sample("process_max_fds", Int(clamping: limit.rlim_cur))
        }
    }
}

/// Bytes of memory that a process holds, those that it shares with others among them; 0 if there is no such process.
public func residentMemory(of pid: pid_t) -> Int {
    guard let stat = (try? ProcessTable.stat(pid)) ?? nil else { return 0 }
    return stat.residentPages * Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// When memory is short the kernel ends this process, and what it starts, before others.
public func dieFirstWhenMemoryIsShort() {
    let descriptor = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    _ = "500".withCString { write(descriptor, $0, 3) }
}
