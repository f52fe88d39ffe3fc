import Glibc
import Primitives

/// An object that is written piece by piece is seen when it is whole. A store without writers is asked by the host's.
enum WriterChecks {
    private static func write(_ bench: StoreBench, _ name: String, _ pieces: [[UInt8]]) throws -> Store.Writer {
        let writer = try bench.store.write(name)
        for piece in pieces { try piece.withUnsafeBytes { try writer.append($0) } }
        return writer
    }

    static let cases: [StoreCase] = [
        StoreCase("writer: its pieces are read as one object") { bench in
            let pieces = [1, 4_096, 0, 70_000, 3, 1 << 20, 12].map { CheckBench.pattern($0, seed: $0) }
            try write(bench, bench.name("object"), pieces).commit()
            try bench.expect(pieces.flatMap { $0 }, as: bench.name("object"), "seven pieces")
        },
        StoreCase("writer: nothing is seen before it is committed") { bench in
            let name = bench.name("a/object")
            let writer = try write(bench, name, [CheckBench.pattern(300_000, seed: 1)])
            try bench.expectNone(name, "before commit")
            try bench.require(try bench.names().isEmpty, "before commit are listed \(try bench.names())")
            try writer.commit()
            try bench.expect(CheckBench.pattern(300_000, seed: 1), as: name, "after commit")
        },
        StoreCase("writer: one that is given up leaves nothing") { bench in
            for round in 0..<20 {
                let writer = try write(bench, bench.name("object-\(round)"), [CheckBench.pattern(10_000, seed: round)])
                writer.abandon()
                try bench.expectNone(bench.name("object-\(round)"), "given up")
            }
            try bench.require(try bench.names().isEmpty, "left are \(try bench.names())")
        },
        StoreCase("writer: of no bytes makes an object of 0 bytes") { bench in
            try bench.store.write(bench.name("object")).commit()
            try bench.expect([], as: bench.name("object"), "nothing written")
        },
        StoreCase("writer: replaces an object when it is committed, and not before") { bench in
            let name = bench.name("object")
            try bench.put(name, "the old one, which is longer")
            let writer = try write(bench, name, [Array("new".utf8)])
            try bench.expect("the old one, which is longer", as: name, "before commit")
            try writer.commit()
            try bench.expect("new", as: name, "after commit")
            try write(bench, name, [Array("given up".utf8)]).abandon()
            try bench.expect("new", as: name, "after one was given up")
        },
        StoreCase("writer: of two of one name the later commit wins, whole") { bench in
            let name = bench.name("object")
            let first = try write(bench, name, [CheckBench.pattern(50_000, seed: 1)])
            let second = try write(bench, name, [CheckBench.pattern(20_000, seed: 2)])
            try second.commit()
            try bench.expect(CheckBench.pattern(20_000, seed: 2), as: name, "after the second's commit")
            try first.commit()
            try bench.expect(CheckBench.pattern(50_000, seed: 1), as: name, "after the first's commit")
        },
        StoreCase("writer: fifty are open at the same time, their pieces interleaved") { bench in
            let writers = try (0..<50).map { try bench.store.write(bench.name("w\($0)")) }
            for round in 0..<4 {
                for (index, writer) in writers.enumerated() {
                    try CheckBench.pattern(1_000, seed: index * 10 + round).withUnsafeBytes { try writer.append($0) }
                }
            }
            for (index, writer) in writers.enumerated() { if index % 2 == 0 { try writer.commit() } else { writer.abandon() } }
            for index in 0..<50 {
                let bytes = (0..<4).flatMap { CheckBench.pattern(1_000, seed: index * 10 + $0) }
                if index % 2 == 0 {
                    try bench.expect(bytes, as: bench.name("w\(index)"), "writer \(index)")
                } else {
                    try bench.expectNone(bench.name("w\(index)"), "writer \(index), given up")
                }
            }
        },
        StoreCase("writer: 200 MiB") { bench in
            let piece = CheckBench.pattern(4 << 20, seed: 8)
            let writer = try bench.store.write(bench.name("object"))
            try piece.withUnsafeBytes { piece in for _ in 0..<50 { try writer.append(piece) } }
            try writer.commit()
            try bench.require(try bench.store.object(bench.name("object"))?.size == 200 << 20, "its size is not 200 MiB")
            let last = try bench.get(bench.name("object"), at: (200 << 20) - 4096, count: 5000)
            try bench.require(CheckBench.same(last, Array(piece.suffix(4096))), "its end has other bytes")
        },
    ]
}

/// What is protected stays until its time.
enum ProtectChecks {
    private static func needed(_ bench: StoreBench) throws {
        guard bench.store.plugin.nativeCalls.contains("protect") else { throw CheckBench.Skip(reason: "the store has no protect") }
    }

    static let cases: [StoreCase] = [
        StoreCase("protect: what is protected is neither removed nor replaced before its time") { bench in
            try needed(bench)
            let name = bench.name("object")
            try bench.put(name, "kept")
            let until = Int64(time(nil)) + 3
            do throws(DriverFailure) { try bench.store.protect(name, until: until) } catch {
                // Of one plugin some places can, and others cannot.
                guard error.code == .unsupported else { throw error }
                throw CheckBench.Skip(reason: "this store cannot protect: \(error.message)")
            }
            try bench.refused([.busy], "remove") { try bench.store.remove([name]) }
            try bench.refused([.busy], "put") { try bench.put(name, "other") }
            try bench.expect("kept", as: name, "protected")
            // A time that is asked for later never shortens it.
            try bench.store.protect(name, until: Int64(time(nil)) - 1)
            try bench.refused([.busy], "remove, after a shorter time was asked for") { try bench.store.remove([name]) }
            while Int64(time(nil)) <= until { usleep(50_000) }
            try bench.store.remove([name])
            try bench.expectNone(name, "removed after its time")
        },
        StoreCase("protect: of what is not there is NOT_FOUND") { bench in
            try needed(bench)
            try bench.refused([.notFound, .unsupported], "protect") {
                try bench.store.protect(bench.name("none"), until: Int64(time(nil)) + 1)
            }
        },
    ]
}
