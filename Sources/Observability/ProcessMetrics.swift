import Glibc
import Primitives
import Processes

/// CPU, memory and descriptors of this process, under the names that Prometheus' client libraries use.
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
            // Without the descriptor that lists the directory.
            text.sample("process_open_fds", max(0, descriptors.count { Int($0) != nil } - 1))
        }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            text.family("process_max_fds", .gauge, "Most file descriptors that the core may open.")
            text.sample("process_max_fds", Int(clamping: limit.rlim_cur))
        }
    }
}
