import CLinux

/// Gives memory that is free back to the system, from every arena of the allocator.
public func releaseFreeMemory() { clinker_release_free_memory() }
