import Glibc
import Primitives

/// Calls come from many threads at the same time.
enum ParallelChecks {
    static let cases: [StoreCase] = [
        StoreCase("threads: six hundred objects are put by sixteen, and each is whole") { bench in
            @Sendable func bytes(_ index: Int) -> [UInt8] { CheckBench.pattern(index * 37 % 60_000, seed: index) }
            try bench.together(16) { thread in
                for index in stride(from: thread, to: 600, by: 16) { try bench.put(bench.name("f\(index % 9)/o\(index)"), bytes(index)) }
            }
            try bench.require(try bench.names().count == 600, "\(try bench.names().count) of 600 are listed")
            try bench.together(8) { thread in
                for index in stride(from: thread, to: 600, by: 8) {
                    let found = try bench.get(bench.name("f\(index % 9)/o\(index)"), count: 60_001)
                    try bench.require(CheckBench.same(found, bytes(index)), "object \(index) has \(found.count) bytes, or others")
                }
            }
        },
        StoreCase("threads: one name is put by sixteen, and is whole in the end") { bench in
            let name = bench.name("a/object")
            try bench.together(16) { thread in
                for _ in 0..<10 { try bench.put(name, [UInt8](repeating: UInt8(thread), count: 10_000 + thread)) }
            }
            let found = try bench.get(name, count: 20_000)
            let winner = Int(found.first ?? 0xFF)
            try bench.require(CheckBench.are(found, UInt8(truncatingIfNeeded: winner)), "it has bytes of two")
            try bench.require(found.count == 10_000 + winner, "it has the bytes of \(winner) and \(found.count) of them")
            try bench.require(try bench.names() == [name], "listed are \(try bench.names())")
        },
        StoreCase("threads: each puts, reads, lists and removes names of its own") { bench in
            try bench.together(8) { thread in
                var numbers = Numbers(state: UInt64(thread) + 7)
                var model: [String: [UInt8]] = [:]
                let folder = bench.name("thread-\(thread)")
                for round in 0..<120 {
                    let name = folder + "/f\(numbers.next(below: 3))/o\(numbers.next(below: 8))"
                    switch numbers.next(below: 5) {
                    case 0, 1:
                        let bytes = CheckBench.pattern(numbers.next(below: 20_000), seed: round)
                        try bench.put(name, bytes)
                        model[name] = bytes
                    case 2:
                        try bench.store.remove([name])
                        model[name] = nil
                    case 3:
                        let names = try bench.names(folder + "/")
                        try bench.require(Set(names) == Set(model.keys), "\(names.count) names are listed, \(model.count) are there")
                    default:
                        guard let bytes = model[name] else {
                            try bench.require(try bench.store.object(name) == nil, "\(name) was removed and is there")
                            continue
                        }
                        let found = try bench.get(name, count: 30_000)
                        try bench.require(CheckBench.same(found, bytes), "\(name) has other bytes")
                    }
                }
            }
        },
        StoreCase("threads: a folder that is emptied by one is filled by others") { bench in
            // Whoever tidies up folders must not take one away under a writer.
            try bench.together(8) { thread in
                for round in 0..<80 {
                    let name = bench.name("one/folder/o\(thread)")
                    try bench.put(name, "round \(round)")
                    try bench.require(try bench.get(name, count: 100) == Array("round \(round)".utf8), "what was put is not there")
                    try bench.store.remove([name])
                }
            }
        },
    ]
}
