import CLinux
import Glibc

/// Gives memory that is free back to the system, from every arena of the allocator.
public func releaseFreeMemory() { clinker_release_free_memory() }

/// Keeps what is freed for what comes: for a process that ends with its work. Libraries that allocate each piece anew would otherwise have
/// every page of it taken away, and given and cleared again.
public func keepFreedMemory() { clinker_keep_freed_memory() }

/// Lets threads share arenas of the allocator, one for each processor (but two at least), instead of having one each: what is free in
/// one arena is of no use to another, so that memory grows long after what is in use has ceased to. Before threads start.
public func shareArenas() { clinker_limit_arenas(Int32(clamping: max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN))))) }

/// Bytes that the program has allocated.
public func heapInUse() -> Int { heap().used }

/// Bytes that the program has allocated, and bytes that the allocator keeps besides.
func heap() -> (used: Int, unused: Int) {
    var (used, unused) = (0, 0)
    clinker_heap(&used, &unused)
    return (used, unused)
}
