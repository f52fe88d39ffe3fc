import Glibc

/// What a store reports about itself, and that instances have nothing in common but their objects.
enum StoreInstanceChecks {
    static let cases: [StoreCase] =
        [
            StoreCase(Conformance.first) { _ in },
            StoreCase("instance: two are open at the same time") { bench in
                let other = try bench.another()
                _ = try other.stats()
                _ = try bench.store.stats()
            },
            StoreCase("instance: what one puts the other finds, and what one removes the other does not") { bench in
                let (name, other) = (bench.name("object"), try bench.another())
                try bench.put(name, "here")
                try bench.expect("here", as: name, "in the other instance", in: other)
                try bench.put(name, "replaced", to: other)
                try bench.expect("replaced", as: name, "replaced by the other instance")
                try other.remove([name])
                try bench.expectNone(name, "removed by the other instance")
            },
            StoreCase("instance: it is opened and closed thirty times") { bench in
                for _ in 0..<30 { _ = try bench.another().capabilities() }
            },
            StoreCase("instance: one that is closed takes nothing from another") { bench in
                let name = bench.name("object")
                try bench.put(name, "kept")
                for _ in 0..<2 { _ = try bench.another().stats() }
                try bench.expect("kept", as: name, "the object")
            },
            StoreCase("instance: a driver host opens it too") { bench in
                let stats = try CheckHost.lend(
                    bench.path, .store, options: bench.options, in: CheckHost.directory(bench.options)
                ) { try await $0.call(.stats, .object([])) }
                try bench.require(stats["total_capacity_gb"]?.real != nil || stats["total_capacity_gb"] == nil, "\(stats.loggable)")
            },
            StoreCase("capabilities: storage_protocol is a name") { bench in
                let found = try bench.store.capabilities()["storage_protocol"]
                try bench.require(found?.string?.isEmpty == false, "it is \(found?.loggable ?? "missing")")
            },
            StoreCase("capabilities: the same every time") { bench in
                let first = try bench.store.capabilities()
                try bench.put(bench.name("object"), "1")
                for again in [try bench.another().capabilities(), try bench.store.capabilities(), try bench.store.capabilities()] {
                    try bench.require(again == first, "first \(first.loggable), then \(again.loggable)")
                }
            },
            StoreCase("capabilities: object_lock comes with protect") { bench in
                guard try bench.store.capabilities()["object_lock"]?.boolean == true else { return }
                try bench.require(bench.store.plugin.nativeCalls.contains("protect"), "object_lock is true, and there is no protect")
            },
            StoreCase("capabilities: the preferred size is no larger than the largest") { bench in
                let found = try bench.store.capabilities()
                guard let wanted = found["preferred_object_size"]?.integer, let most = found["maximum_object_size"]?.integer else { return }
                try bench.require(wanted <= most, "\(wanted) is preferred, \(most) the largest")
            },
            StoreCase("stats: what is free is no more than there is") { bench in
                let stats = try bench.store.stats()
                guard let total = stats["total_capacity_gb"]?.real, let free = stats["free_capacity_gb"]?.real, total >= 0, free >= 0
                else { return }
                try bench.require(free <= total, "\(free) free of \(total)")
            },
            StoreCase("stats: problems, where they are given, are texts") { bench in
                guard let problems = try bench.store.stats()["problems"], problems != .null else { return }
                guard let items = problems.list else { throw CheckBench.Failure(description: "they are \(problems.loggable)") }
                for item in items {
                    guard case .string(let text) = item, !text.isEmpty else {
                        throw CheckBench.Failure(description: "one is \(item.loggable)")
                    }
                }
            },
        ]
        + ["consistent_list", "range_get", "checks_sha256", "object_lock"].map { name in
            StoreCase("capabilities: \(name), where it is given, is a boolean") { bench in
                let value = try bench.store.capabilities()[name]
                if case .boolean? = value { return }
                try bench.require(value == nil || value == .null, "it is \(value?.loggable ?? "")")
            }
        }
        + ["preferred_object_size", "maximum_object_size"].map { name in
            StoreCase("capabilities: \(name), where it is given, is a number of bytes") { bench in
                let value = try bench.store.capabilities()[name]
                if case .integer(let bytes)? = value, bytes > 0 { return }
                try bench.require(value == nil || value == .null, "it is \(value?.loggable ?? "")")
            }
        }
        + ["total_capacity_gb", "free_capacity_gb"].map { name in
            StoreCase("stats: \(name), where it is given, is a number") { bench in
                guard let value = try bench.store.stats()[name], value != .null else { return }
                switch value {
                case .real(let number) where number.isFinite: return
                case .integer: return
                default: throw CheckBench.Failure(description: "it is \(value.loggable)")
                }
            }
        }
}

/// A store is open for as long as a backup runs, and the host of one for months.
enum StoreLeakChecks {
    static let cases: [StoreCase] = [
        StoreCase("leaks: calls give back what they take") { bench in
            try LeakChecks.steady(bench, "calls", rounds: 8, bytes: 2_000) {
                try bench.put(bench.name("object"), "bytes")
                _ = try bench.get(bench.name("object"), count: 100)
                _ = try bench.store.object(bench.name("none"))
                _ = try? bench.get(bench.name("none"), count: 100)
                _ = try bench.names()
                try bench.store.remove([bench.name("object"), bench.name("none")])
                _ = try bench.store.stats()
            }
        },
        StoreCase("leaks: writers give back what they take, committed or not") { bench in
            try LeakChecks.steady(bench, "writers", rounds: 8, bytes: 2_000) {
                for isKept in [true, false] {
                    let writer = try bench.store.write(bench.name("object"))
                    try Array("bytes".utf8).withUnsafeBytes { try writer.append($0) }
                    if isKept { try writer.commit() } else { writer.abandon() }
                }
            }
        },
        StoreCase("leaks: instances give back what they take") { bench in
            try LeakChecks.steady(bench, "instances", rounds: 4, bytes: 500_000) { _ = try bench.another().capabilities() }
        },
    ]
}
