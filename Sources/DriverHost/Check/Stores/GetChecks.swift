import Glibc

/// A read gives exactly the bytes of its range.
enum GetChecks {
    static let cases: [StoreCase] = [
        StoreCase("get: exactly the range, at every edge") { bench in
            let bytes = CheckBench.pattern(70_000, seed: 9)
            let name = bench.name("object")
            try bench.put(name, bytes)
            for offset in [0, 1, 511, 512, 4_095, 4_096, 65_535, 65_536, 69_999] {
                for count in [1, 2, 511, 512, 4_096, 65_536, 69_999, 70_000] {
                    let end = min(bytes.count, offset + count)
                    let found = try bench.get(name, at: UInt64(offset), count: count)
                    try bench.require(found.count == end - offset, "\(found.count) bytes of \(count) at \(offset) of 70,000")
                    try bench.require(CheckBench.same(found, Array(bytes[offset..<end])), "other bytes in \(count) at \(offset)")
                }
            }
        },
        StoreCase("get: at the end and behind it there is nothing") { bench in
            let name = bench.name("object")
            try bench.put(name, "12345")
            for offset: UInt64 in [5, 6, 4_096, 1 << 31, 1 << 32, 1 << 40, 1 << 62] {
                let found = try bench.get(name, at: offset, count: 100)
                try bench.require(found.isEmpty, "\(found.count) bytes at \(offset) of 5")
            }
            try bench.require(try bench.get(name, at: 4, count: 100) == Array("5".utf8), "not the last byte at 4 of 5")
        },
        StoreCase("get: of no bytes gives none") { bench in
            try bench.put(bench.name("object"), "12345")
            for offset: UInt64 in [0, 3, 5, 9] {
                try bench.require(try bench.get(bench.name("object"), at: offset, count: 0).isEmpty, "bytes at \(offset)")
            }
        },
        StoreCase("get: random ranges against a copy in memory") { bench in
            let bytes = CheckBench.pattern(3_000_000, seed: 5)
            let name = bench.name("object")
            try bench.put(name, bytes)
            var numbers = Numbers(state: 42)
            for _ in 0..<300 {
                let offset = numbers.next(below: bytes.count + 10)
                let count = numbers.next(below: 200_000) + 1
                let wanted = offset < bytes.count ? Array(bytes[offset..<min(bytes.count, offset + count)]) : []
                let found = try bench.get(name, at: UInt64(offset), count: count)
                try bench.require(CheckBench.same(found, wanted), "\(count) bytes at \(offset): \(found.count) bytes, or others")
            }
        },
        StoreCase("get: what is not there is NOT_FOUND, and so is the beginning of a name") { bench in
            try bench.put(bench.name("folder/inside/object"), "1")
            for name in ["none", "folder", "folder/inside", "folder/inside/objec", "folder/inside/object/x", "folder/other/object"] {
                try bench.expectNone(bench.name(name), name)
            }
        },
        StoreCase("stat_object: sizes, and NOT_FOUND for what is not there") { bench in
            for size in [0, 1, 4_096, 1_000_001] {
                try bench.put(bench.name("o\(size)"), CheckBench.pattern(size, seed: 1))
                let found = try bench.store.object(bench.name("o\(size)"))
                try bench.require(found?.size == UInt64(size), "\(size) bytes: \(found.map { String($0.size) } ?? "NOT_FOUND")")
            }
            try bench.require(try bench.store.object(bench.name("none")) == nil, "it knows what was never put")
        },
    ]
}
