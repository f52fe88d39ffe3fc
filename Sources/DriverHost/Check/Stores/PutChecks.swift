import Glibc
import Primitives

/// An object is what was put, all of it, and nothing else.
enum PutChecks {
    /// SHA-256 of "abc".
    private static let hashOfABC: [UInt8] = [
        0xBA, 0x78, 0x16, 0xBF, 0x8F, 0x01, 0xCF, 0xEA, 0x41, 0x41, 0x40, 0xDE, 0x5D, 0xAE, 0x22, 0x23, 0xB0, 0x03, 0x61, 0xA3, 0x96, 0x17,
        0x7A, 0x9C, 0xB4, 0x10, 0xFF, 0x61, 0xF2, 0x00, 0x15, 0xAD,
    ]

    static let cases: [StoreCase] = [
        StoreCase("put: bytes are read as they were put, whatever their number") { bench in
            let sizes = [1, 2, 511, 512, 513, 4_095, 4_096, 4_097, 65_535, 65_537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_003]
            for size in sizes {
                let bytes = CheckBench.pattern(size, seed: size)
                try bench.put(bench.name("size-\(size)"), bytes)
                try bench.expect(bytes, as: bench.name("size-\(size)"), "\(size) bytes")
            }
        },
        StoreCase("put: every value of a byte") { bench in
            let bytes = (0..<4).flatMap { _ in (0...255).map { UInt8($0) } }
            try bench.put(bench.name("object"), bytes)
            try bench.expect(bytes, as: bench.name("object"), "all values")
        },
        StoreCase("put: an object of 0 bytes is one") { bench in
            try bench.put(bench.name("empty"), [UInt8]())
            try bench.expect([], as: bench.name("empty"), "an empty slice")
            try bench.store.put(bench.name("none"), [])
            try bench.expect([], as: bench.name("none"), "no slice")
        },
        StoreCase("put: slices follow each other, empty ones among them") { bench in
            let pieces = (0..<2_000).map { index in
                index % 7 == 3 ? [] : [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: index % 50 + 1)
            }
            let whole = pieces.flatMap { $0 }
            try whole.withUnsafeBytes { whole in
                var offset = 0
                let slices = pieces.map { piece in
                    defer { offset += piece.count }
                    return UnsafeRawBufferPointer(rebasing: whole[offset..<offset + piece.count])
                }
                try bench.store.put(bench.name("object"), slices)
            }
            try bench.expect(whole, as: bench.name("object"), "2,000 slices")
        },
        StoreCase("put: again, by the same bytes, is the same object") { bench in
            for _ in 0..<3 { try bench.put(bench.name("object"), "the same") }
            try bench.expect("the same", as: bench.name("object"), "put three times")
            let names = try bench.names()
            try bench.require(names == [bench.name("object")], "listed are \(names)")
        },
        StoreCase("put: replaces a longer object and a shorter one, and nothing of it remains") { bench in
            let name = bench.name("object")
            for size in [100_000, 10, 200_000, 0, 5] {
                let bytes = CheckBench.pattern(size, seed: size)
                try bench.put(name, bytes)
                try bench.expect(bytes, as: name, "\(size) bytes")
            }
        },
        StoreCase("put: a reader gets all of the old object or all of the new") { bench in
            let name = bench.name("object")
            @Sendable func version(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(number), count: 1 << 20) }
            try bench.put(name, version(1))
            let isOver = Guarded(false)
            try bench.together(4) { thread in
                if thread == 0 {
                    defer { isOver.withLock { $0 = true } }
                    for round in 0..<60 { try bench.put(name, version(round % 2 + 1)) }
                } else {
                    while !isOver.withLock({ $0 }) {
                        let found = try bench.get(name, count: (1 << 20) + 1)
                        try bench.require(found.count == 1 << 20, "\(found.count) bytes of \(1 << 20) are read while it is replaced")
                        try bench.require(CheckBench.are(found, found[0]), "a part is old and a part is new")
                    }
                }
            }
        },
        StoreCase("put: with the hash of its bytes") { bench in
            try Array("abc".utf8).withUnsafeBytes { try bench.store.put(bench.name("object"), [$0], sha256: hashOfABC) }
            try bench.expect("abc", as: bench.name("object"), "put with its hash")
            try "abc".utf8.map { $0 }.withUnsafeBytes { bytes in
                let pieces = (0..<3).map { UnsafeRawBufferPointer(rebasing: bytes[$0..<$0 + 1]) }
                try bench.store.put(bench.name("pieces"), pieces, sha256: hashOfABC)
            }
            try bench.expect("abc", as: bench.name("pieces"), "put in pieces with its hash")
        },
        StoreCase("put: bytes that do not have the hash are refused, and the name is as it was") { bench in
            guard try bench.store.capabilities()["checks_sha256"]?.boolean == true else {
                throw CheckBench.Skip(reason: "the store does not check hashes")
            }
            let name = bench.name("object")
            for old in [nil, "old"] {
                if let old { try bench.put(name, old) }
                for wrong in ["abd", "", "abcd"] {
                    try bench.refused([.invalid], "'\(wrong)' with the hash of 'abc'") {
                        try Array(wrong.utf8).withUnsafeBytes { try bench.store.put(name, [$0], sha256: hashOfABC) }
                    }
                }
                if let old { try bench.expect(old, as: name, "after a refusal") } else { try bench.expectNone(name, "after a refusal") }
            }
        },
        StoreCase("put: when an object was put, where it is told, is now") { bench in
            try bench.put(bench.name("object"), "1")
            guard let modified = try bench.store.object(bench.name("object"))?.modified else {
                throw CheckBench.Skip(reason: "the store does not know")
            }
            let now = Int64(time(nil))
            // The server has a clock of its own.
            try bench.require(abs(now - modified) < 86_400, "it is \(modified), now is \(now)")
        },
        StoreCase("put: larger than 4 GiB") { bench in
            guard getenv("CLINKER_CHECK_LARGE") != nil else {
                throw CheckBench.Skip(reason: "writes 4.3 GB: set CLINKER_CHECK_LARGE=yes for it")
            }
            let name = bench.name("large")
            let piece = CheckBench.pattern(64 << 20, seed: 4)
            let size = UInt64(piece.count) * 65
            if let most = try bench.store.capabilities()["maximum_object_size"]?.integer, UInt64(most) < size {
                throw CheckBench.Skip(reason: "the largest object has \(most) bytes")
            }
            try piece.withUnsafeBytes { piece in try bench.store.put(name, (0..<65).map { _ in piece }) }
            try bench.require(try bench.store.object(name)?.size == size, "its size is not \(size)")
            let last = try bench.get(name, at: size - 4096, count: 8192)
            try bench.require(CheckBench.same(last, Array(piece.suffix(4096))), "its last 4,096 bytes are others")
            let first = try bench.get(name, at: 1 << 32, count: 4096)
            try bench.require(CheckBench.same(first, Array(piece.prefix(4096))), "its bytes behind 4 GiB are others")
        },
    ]
}
