import Glibc
import Primitives

/// A list names what there is, each once, in the order of the names' bytes.
enum ListChecks {
    /// In the order of bytes: `-`, `.`, `/`, digits, upper case, `_`, lower case.
    private static let words = [
        "B", "Z/z", "a-", "a-b/x", "a.x", "a/-", "a/1", "a/10", "a/2", "a/b/c", "a/b/d/e", "a/b0", "a/c", "a0", "aA", "a_", "aa", "b_/x",
        "ba", "z/y/x/w/v",
    ]

    private static func fill(_ bench: StoreBench) throws -> [String] {
        let names = words.map { bench.name($0) }
        // In another order than they are listed in.
        for name in names.reversed() { try bench.put(name, name) }
        return names
    }

    /// What a list must give.
    private static func model(_ names: [String], _ prefix: String, _ after: String) -> [String] {
        let (prefix, after) = (Array(prefix.utf8), Array(after.utf8))
        return names.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
            .filter { $0.starts(with: prefix) && after.lexicographicallyPrecedes($0) }.map { String(decoding: $0, as: UTF8.self) }
    }

    private static func compare(_ bench: StoreBench, _ names: [String], _ prefix: String, _ after: String) throws {
        let found = try bench.names(prefix, after: after)
        let wanted = model(names, prefix, after)
        guard found != wanted else { return }
        func short(_ names: [String]) -> String { names.map { $0.replacing(bench.home + "/", with: "") }.joined(separator: " ") }
        throw CheckBench.Failure(
            description:
                "prefix '\(short([prefix]))' after '\(short([after]))': \(short(found)) instead of \(short(wanted))")
    }

    static let cases: [StoreCase] = [
        StoreCase("list: in the order of the names' bytes, across folders") { bench in
            let names = try fill(bench)
            try compare(bench, names, bench.home, "")
            try compare(bench, names, bench.home + "/", "")
        },
        StoreCase("list: with the sizes") { bench in
            for size in [0, 1, 4_097] { try bench.put(bench.name("o\(size)"), CheckBench.pattern(size, seed: 1)) }
            var sizes: [UInt64] = []
            try bench.store.list(bench.home, after: "") { object in
                sizes.append(object.size)
                return true
            }
            try bench.require(sizes == [0, 1, 4_097], "they are \(sizes)")
        },
        StoreCase("list: a prefix is any beginning of a name") { bench in
            let names = try fill(bench)
            for prefix in ["a", "a/", "a/b", "a/b/", "a/b/d/e", "a/b/d/e/f", "a-", "A", "z/y/x/w", "none", "none/", "a/1", "a/zzz"] {
                try compare(bench, names, bench.name(prefix), "")
            }
        },
        StoreCase("list: begins after a name, whether there is such an object or not") { bench in
            let names = try fill(bench)
            let between = ["", "A", "a", "a/", "a/b", "a/b/", "a/b/d", "a/b/d/", "a/b/d/zz", "a/zz", "a~", "zz", "z/y/x/w/v/u"]
            for after in names + between.map({ bench.name($0) }) { try compare(bench, names, bench.home, after) }
            try compare(bench, names, bench.home, "~")
            try compare(bench, names, bench.home, bench.home)
        },
        StoreCase("list: a prefix and a name to begin after, together") { bench in
            let names = try fill(bench)
            for prefix in ["a", "a/", "a/b", "b", "z"] {
                for after in ["a", "a/1", "a/b/d/e", "aa", "z/", "B"] { try compare(bench, names, bench.name(prefix), bench.name(after)) }
            }
        },
        StoreCase("list: stops when it is told to") { bench in
            let names = try fill(bench)
            for most in [1, 2, 5, 7] {
                var found: [String] = []
                try bench.store.list(bench.home, after: "") { object in
                    found.append(object.name)
                    return found.count < most
                }
                try bench.require(found == Array(model(names, "", "").prefix(most)), "\(found.count) names instead of \(most)")
            }
        },
        StoreCase("list: 3,000 names, each once, and so page by page") { bench in
            let names = (0..<3_000).map { bench.name("data/\($0 % 16)/object-\($0)") }
            try bench.together(8) { thread in
                for index in stride(from: thread, to: names.count, by: 8) {
                    try bench.put(names[index], [UInt8(truncatingIfNeeded: index)])
                }
            }
            try compare(bench, names, bench.home, "")
            var paged: [String] = []
            while true {
                var page: [String] = []
                try bench.store.list(bench.home, after: paged.last ?? "") { object in
                    page.append(object.name)
                    return page.count < 700
                }
                paged += page
                if page.count < 700 { break }
            }
            try bench.require(paged == model(names, "", ""), "\(paged.count) names in pages of 700, or others")
        },
        StoreCase("list: while objects come and go, those that stay are named, each once and in order") { bench in
            let staying = (0..<200).map { bench.name("folder-\($0 % 5)/stays-\($0)") }
            for name in staying { try bench.put(name, "1") }
            let isOver = Guarded(false)
            try bench.together(4) { thread in
                if thread == 0 {
                    defer { isOver.withLock { $0 = true } }
                    for _ in 0..<30 {
                        let found = try bench.names()
                        let missing = Set(staying).subtracting(found)
                        try bench.require(missing.isEmpty, "\(missing.count) names that stay are left out")
                        try bench.require(Set(found).count == found.count, "a name is listed twice")
                    }
                } else {
                    var round = 0
                    while !isOver.withLock({ $0 }) {
                        let name = bench.name("folder-\(round % 7)/comes-\(thread)-\(round % 50)")
                        try bench.put(name, "2")
                        if round % 3 != 0 { try bench.store.remove([name]) }
                        // A folder of its own, which goes with it.
                        let passing = (0..<4).map { bench.name("passing-\(thread)-\(round % 5)-\($0)/object") }
                        for name in passing { try bench.put(name, "3") }
                        try bench.store.remove(passing)
                        round += 1
                    }
                }
            }
        },
        StoreCase("list: the whole store has the case's own names among others") { bench in
            try bench.put(bench.name("object"), "1")
            let found = try bench.names("").filter { $0.hasPrefix(bench.home) }
            try bench.require(found == [bench.name("object")], "of the own names are listed: \(found)")
        },
        StoreCase("list: of nothing is empty") { bench in
            try bench.require(try bench.names().isEmpty, "names where nothing was put")
            try bench.put(bench.name("a/b"), "1")
            try bench.store.remove([bench.name("a/b")])
            try bench.require(try bench.names().isEmpty, "names where everything was removed")
        },
        StoreCase("list: whoever is told of an object may read and remove it meanwhile") { bench in
            let names = (0..<20).map { bench.name("f\($0 % 3)/o\($0)") }
            for name in names { try bench.put(name, name) }
            var failure: (any Error)?
            var count = 0
            try bench.store.list(bench.home, after: "") { object in
                do {
                    let found = try bench.get(object.name)
                    try bench.require(found == Array(object.name.utf8), "\(object.name) has other bytes")
                    try bench.store.remove([object.name])
                    count += 1
                } catch { failure = failure ?? error }
                return failure == nil
            }
            if let failure { throw failure }
            try bench.require(count == names.count, "\(count) of \(names.count) were named")
        },
    ]
}
