public import Glibc

/// The resident memory of a process in bytes, shared pages included; 0 if there is no such process.
public func residentMemory(of pid: pid_t) -> Int {
    guard let stat = (try? ProcessTable.stat(pid)) ?? nil else { return 0 }
    return stat.residentPages * Int(sysconf(Int32(_SC_PAGESIZE)))
}

/// Makes the kernel's out-of-memory killer prefer this process and its children (`oom_score_adj`).
public func preferForOutOfMemoryKill() {
    let descriptor = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    _ = "500".withCString { write(descriptor, $0, 3) }
}
