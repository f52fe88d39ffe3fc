import Glibc
import Primitives

/// A driver runs for months: calls, handles and instances must release all resources.
enum LeakChecks {
    private static func count(in directory: String) -> Int {
        guard let listing = opendir(directory) else { return 0 }
        defer { closedir(listing) }
        var count = 0
        while readdir(listing) != nil { count += 1 }
        return count
    }

    /// Repeats the work: the numbers of descriptors and threads must not grow, and memory by at most `bytes` per repetition.
    static func steady(_ bench: some CheckAssertions, _ what: String, rounds: Int, bytes: Int, _ work: () throws -> Void) throws {
        func state() -> (descriptors: Int, threads: Int, memory: Int) {
            (count(in: "/proc/self/fd"), count(in: "/proc/self/task"), heapInUse())
        }
        // Caches fill up.
        for _ in 0..<rounds { try work() }
        var growth: [Int] = []
        let first = state()
        var last = first
        // A cache that is still filling, such as a library's last log lines, stops growing; a leak does not.
        while growth.count < 3 || (growth.count < 10 && !growth.contains { $0 < bytes }) {
            for _ in 0..<rounds { try work() }
            let now = state()
            growth.append((now.memory - last.memory) / rounds)
            last = now
        }
        let times = growth.count * rounds
        try bench.require(
            last.descriptors - first.descriptors < times / 2,
            "\(last.descriptors - first.descriptors) descriptors more after \(times) \(what)")
        try bench.require(last.threads - first.threads < times / 2, "\(last.threads - first.threads) threads more after \(times) \(what)")
        // Growth in every round; growth in one could be a cache.
        try bench.require(growth.contains { $0 < bytes }, "\(growth.min() ?? 0) bytes of memory more with each of \(times) \(what)")
    }

    static let cases: [ConformanceCase] = [
        ConformanceCase("leaks: calls give back what they take") { bench in
            let volume = try bench.volume()
            let (listing, first) = (bench.has(.listVolumes), try bench.names())
            try steady(bench, "calls", rounds: 8, bytes: 2_000) {
                _ = try bench.driver.call(.stats, .object([]))
                try bench.call(.createVolume, volume)
                if listing, first != nil { _ = try bench.driver.call(.listVolumes, .object([])) }
            }
        },
        ConformanceCase("leaks: handles give back what they take", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("here", to: volume)
            try steady(bench, "handles", rounds: 10, bytes: 600) {
                try bench.handle(volume) { _ = try CheckBench.read(max(4096, Int($0.alignment)), $0, at: 0) }
            }
        },
        ConformanceCase("leaks: instances give back what they take") { bench in
            try steady(bench, "instances", rounds: 4, bytes: 500_000) { _ = try bench.another().call(.capabilities, .object([])) }
        },
    ]
}
