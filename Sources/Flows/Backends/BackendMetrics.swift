public import BlockStorage
public import Observability

extension Backends {
    /// Writes which backends are up, what they do, and what their pools hold with what is allocated of them.
    public func write(into text: inout MetricsText, _ allocations: [String: Pools.Allocation]) {
        text.family("clinker_backend_up", .gauge, "1 while the backend's driver answers.")
        for entry in entries { text.sample("clinker_backend_up", entry.backend.description == nil ? 0 : 1, ["backend": entry.host]) }
        text.family("clinker_backend_restarts_total", .counter, "Starts of the backend's driver host after the first.")
        for entry in entries { text.sample("clinker_backend_restarts_total", entry.backend.restarts, ["backend": entry.host]) }
        text.family("clinker_backend_problems", .gauge, "Parts of the backend's storage that do not answer.")
        for entry in entries { text.sample("clinker_backend_problems", entry.problems.count, ["backend": entry.host]) }
        text.family("clinker_backend_memory_bytes", .gauge, "Resident memory of the backend's driver host.")
        for entry in entries { text.sample("clinker_backend_memory_bytes", entry.backend.memory, ["backend": entry.host]) }
        text.family("clinker_backend_calls", .gauge, "Driver calls under way.")
        for entry in entries { text.sample("clinker_backend_calls", entry.backend.callCount, ["backend": entry.host]) }
        text.family("clinker_backend_report_age_seconds", .gauge, "Age of what is known of the backend's capacity.")
        for entry in entries {
            guard let age = entry.reportAge else { continue }
            text.sample("clinker_backend_report_age_seconds", age, ["backend": entry.host])
        }
        let pools = entries.flatMap { $0.pools(allocations) }
        text.family("clinker_pool_total_gigabytes", .gauge, "Capacity of a pool in GiB.")
        for pool in pools { if let total = pool.totalGB { text.sample("clinker_pool_total_gigabytes", total, ["pool": pool.host]) } }
        text.family("clinker_pool_free_gigabytes", .gauge, "Free capacity of a pool in GiB.")
        for pool in pools { if let free = pool.freeGB { text.sample("clinker_pool_free_gigabytes", free, ["pool": pool.host]) } }
        text.family("clinker_pool_allocated_gigabytes", .gauge, "GiB promised to volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_allocated_gigabytes", pool.allocatedGB, ["pool": pool.host]) }
        text.family("clinker_pool_volumes", .gauge, "Volumes of a pool.")
        for pool in pools { text.sample("clinker_pool_volumes", pool.volumes, ["pool": pool.host]) }
    }
}
