import CDriver
import Glibc

/// What an instance reports about itself.
enum InstanceChecks {
    static let cases: [ConformanceCase] =
        [
            ConformanceCase(Conformance.first) { _ in },
            ConformanceCase("instance: two are open at the same time") { bench in
                let other = try bench.another()
                _ = try other.call(.stats, .object([]))
                _ = try bench.driver.call(.stats, .object([]))
            },
            ConformanceCase("instance: what one makes the other finds") { bench in
                let volume = try bench.volume()
                _ = try bench.another().call(.deleteVolume, bench.arguments(volume))
                if let names = try bench.names() { try bench.require(!names.contains(volume.name), "\(volume.name) is still listed") }
            },
            ConformanceCase("instance: it is opened and closed thirty times") { bench in
                for _ in 0..<30 { _ = try bench.another().call(.capabilities, .object([])) }
            },
            ConformanceCase("instance: one that is closed takes nothing from another", handles: true) { bench in
                let volume = try bench.volume()
                try bench.write("kept", to: volume)
                for _ in 0..<2 { _ = try bench.another().call(.stats, .object([])) }
                try bench.expect("kept", in: volume, "the volume")
                _ = try bench.volume()
            },
            ConformanceCase("instance: another process opens it too") { bench in
                let stats = try bench.withHost { try await $0.call(.stats, .object([])) }
                try bench.require(stats["pools"]?.list?.isEmpty == false, "no pools")
            },
            ConformanceCase("capabilities: storage_protocol is a name") { bench in
                let found = try bench.driver.call(.capabilities, .object([]))["storage_protocol"]
                try bench.require(found?.string?.isEmpty == false || found?.list?.isEmpty == false, "it is \(found?.loggable ?? "missing")")
            },
            ConformanceCase("capabilities: volumes are thin, thick, or either") { bench in
                let found = try bench.driver.call(.capabilities, .object([]))
                let kinds = ["thin_provisioning_support", "thick_provisioning_support"].compactMap { found[$0]?.boolean }
                try bench.require(kinds.contains(true), "neither thin_ nor thick_provisioning_support is true")
            },
            ConformanceCase("capabilities: the same every time") { bench in
                let first = try bench.driver.call(.capabilities, .object([]))
                _ = try bench.volume()
                _ = try bench.another().call(.capabilities, .object([]))
                for _ in 0..<2 {
                    let again = try bench.driver.call(.capabilities, .object([]))
                    try bench.require(again == first, "first \(first.loggable), then \(again.loggable)")
                }
            },
            ConformanceCase("stats: they follow what is made", handles: true) { bench in
                func numbers() throws -> [Double] {
                    try pools(bench).flatMap { pool in
                        ["free_capacity_gb", "provisioned_capacity_gb"].compactMap { pool[$0]?.real }.filter { $0 >= 0 }
                    }
                }
                let before = try numbers()
                guard !before.isEmpty else { throw CheckBench.Skip(reason: "the driver does not know its capacity") }
                let volume = try bench.volume()
                try bench.handle(volume, writable: true) { handle in
                    try CheckBench.write([UInt8](repeating: 7, count: 16 << 20), handle, at: 0)
                    try handle.flush()
                }
                // Storage may update its usage only now and then.
                for _ in 0..<150 where try numbers() == before { usleep(100_000) }
                try bench.require(try numbers() != before, "they stay \(before), though a volume was made and filled")
            },
            ConformanceCase("stats: there is a pool, and each has a name of its own") { bench in
                let names = try pools(bench).compactMap { $0["name"]?.string }
                let count = try pools(bench).count
                try bench.require(count > 0 && names.count == count && Set(names).count == count, "pools: \(names)")
                try bench.require(names.allSatisfy { !$0.isEmpty && !$0.contains("#") && !$0.contains("@") }, "names: \(names)")
            },
            ConformanceCase("stats: the same pools every time") { bench in
                let first = try pools(bench).compactMap { $0["name"]?.string }
                for _ in 0..<5 { try bench.require(try pools(bench).compactMap { $0["name"]?.string } == first, "other pools") }
            },
            ConformanceCase("stats: what is free is no more than there is") { bench in
                for pool in try pools(bench) {
                    guard let total = pool["total_capacity_gb"]?.real, let free = pool["free_capacity_gb"]?.real, total >= 0, free >= 0
                    else {
                        continue
                    }
                    try bench.require(free <= total, "\(free) free of \(total)")
                }
            },
        ]
        + ["total_capacity_gb", "free_capacity_gb"].map { name in
            ConformanceCase("stats: \(name) is a number, negative where it is not known") { bench in
                for pool in try pools(bench) {
                    try bench.require(pool[name]?.real?.isFinite == true, "it is \(pool[name]?.loggable ?? "missing")")
                }
            }
        }
        + [
            ("provisioned_capacity_gb", 0.0, Double.infinity), ("max_over_subscription_ratio", 1.0, Double.infinity),
            ("reserved_percentage", 0.0, 100.0),
        ].map { name, low, high in
            ConformanceCase("stats: \(name), where it is given, lies between \(low) and \(high)") { bench in
                for pool in try pools(bench) {
                    guard let value = pool[name], value != .null, value.string != "auto" else { continue }
                    try bench.require(value.real.map { $0 >= low && $0 <= high } ?? false, "it is \(value.loggable)")
                }
            }
        }
        + [
            "thin_provisioning_support", "thick_provisioning_support", "multiattach", "online_extend_support", "sparse_copy_volume",
            "shared_targets",
        ].map { name in
            ConformanceCase("capabilities: \(name), where it is given, is a boolean") { bench in
                let value = try bench.driver.call(.capabilities, .object([]))[name]
                try bench.require(value == nil || value == .null || value?.boolean != nil, "it is \(value?.loggable ?? "")")
            }
        }

    private static func pools(_ bench: CheckBench) throws -> [DriverValue] {
        try bench.driver.call(.stats, .object([]))["pools"]?.list ?? []
    }
}
