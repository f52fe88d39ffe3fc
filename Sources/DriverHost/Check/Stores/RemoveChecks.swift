import Glibc

/// What is removed is gone, and nothing else is.
enum RemoveChecks {
    static let cases: [StoreCase] = [
        StoreCase("remove: the object is gone") { bench in
            try bench.put(bench.name("a/object"), "1")
            try bench.store.remove([bench.name("a/object")])
            try bench.expectNone(bench.name("a/object"), "removed")
        },
        StoreCase("remove: of what is gone, or never was, succeeds") { bench in
            try bench.put(bench.name("object"), "1")
            for _ in 0..<3 { try bench.store.remove([bench.name("object"), bench.name("never"), bench.name("no/such/folder")]) }
            try bench.store.remove([])
        },
        StoreCase("remove: a thousand at once, some of them gone already") { bench in
            let names = (0..<1_000).map { bench.name("f\($0 % 10)/o\($0)") }
            try bench.together(8) { thread in
                for index in stride(from: thread, to: 1_000, by: 8) where index % 3 != 0 { try bench.put(names[index], "1") }
            }
            try bench.put(bench.name("f1/stays"), "stays")
            try bench.store.remove(names)
            let left = try bench.names()
            try bench.require(left == [bench.name("f1/stays")], "left are \(left.prefix(5))")
        },
        StoreCase("remove: names that begin like it stay") { bench in
            let stay = ["ab", "a-", "a.b", "b/a", "c/a/d", "aa/a"]
            for word in stay { try bench.put(bench.name(word), word) }
            try bench.put(bench.name("a"), "goes")
            try bench.store.remove([bench.name("a")])
            // Beginnings of names are names of nothing.
            try bench.store.remove([bench.name("b"), bench.name("c"), bench.name("c/a"), bench.home])
            for word in stay { try bench.expect(word, as: bench.name(word), "beside what was removed") }
        },
        StoreCase("remove: what was removed can be put again") { bench in
            for round in 0..<20 {
                try bench.put(bench.name("a/b/object"), "round \(round)")
                try bench.expect("round \(round)", as: bench.name("a/b/object"), "put again")
                try bench.store.remove([bench.name("a/b/object")])
            }
            try bench.put(bench.name("a"), "where a folder was")
            try bench.expect("where a folder was", as: bench.name("a"), "a name that was a folder's")
        },
        StoreCase("remove: goes on behind a name that it refuses, and fails") { bench in
            let names = ["one", "two"].map { bench.name($0) }
            for name in names { try bench.put(name, "1") }
            try bench.refused([.invalid], "with '../x' among the names") { try bench.store.remove([names[0], "../x", names[1]]) }
            for name in names { try bench.expectNone(name, "beside a name that is refused") }
        },
        StoreCase("remove: what is being read is read to its end or is NOT_FOUND") { bench in
            let bytes = CheckBench.pattern(1 << 20, seed: 3)
            for _ in 0..<20 {
                try bench.put(bench.name("object"), bytes)
                try bench.together(2) { thread in
                    if thread == 0 { return try bench.store.remove([bench.name("object")]) }
                    do {
                        let found = try bench.get(bench.name("object"), count: 1 << 20)
                        try bench.require(CheckBench.same(found, bytes), "\(found.count) bytes are read while it is removed, or others")
                    } catch let failure as DriverFailure where failure.code == .notFound {}
                }
            }
        },
    ]
}
