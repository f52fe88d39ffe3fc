import CLinux
import Glibc

/// Returns the allocator's free pages to the system, from every arena (`malloc_trim`).
public func releaseFreeMemory() { clinker_release_free_memory() }

/// Keeps freed memory in the process instead of returning it to the system: for short-lived processes that allocate large buffers again
/// and again, which would otherwise be unmapped, mapped and cleared each time.
public func keepFreedMemory() { clinker_keep_freed_memory() }

/// Limits malloc arenas to one per CPU (at least two) to reduce fragmentation: memory that is free in one arena cannot be used by
/// another. Call it before other threads start.
public func limitMallocArenas() { clinker_limit_arenas(Int32(clamping: max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }

/// Bytes that the program has allocated.
public func heapInUse() -> Int { heap().used }

/// Bytes in use by the program, and free bytes that the allocator keeps.
package func heap() -> (used: Int, unused: Int) {
    var (used, unused) = (0, 0)
    clinker_heap(&used, &unused)
    return (used, unused)
}
