import Glibc

/// A name is taken as it is, or refused; none leads elsewhere.
enum ObjectNameChecks {
    /// Names that no store takes.
    private static let hostile: [(what: String, name: @Sendable (StoreBench) -> String)] = [
        ("the empty name", { _ in "" }), ("'/'", { _ in "/" }), ("'.'", { _ in "." }), ("'..'", { _ in ".." }),
        ("'../x'", { _ in "../x" }), ("'/x'", { _ in "/x" }), ("'a//b'", { $0.name("a//b") }), ("'a/../b'", { $0.name("a/../b") }),
        ("'a/./b'", { $0.name("a/./b") }), ("'a/..'", { $0.name("a/..") }), ("'a/'", { $0.name("a/") }), ("'.hidden'", { _ in ".hidden" }),
        ("'a/.hidden'", { $0.name("a/.hidden") }), ("a line feed", { $0.name("a\nb") }), ("a tabulator", { $0.name("a\tb") }),
        ("1,025 bytes", { bench in long(bench, 1_025) }), ("a word of 256 bytes", { $0.name(String(repeating: "x", count: 256)) }),
        ("5,000 bytes", { bench in long(bench, 5_000) }),
        ("65 words", { bench in bench.name((0..<64).map { _ in "w" }.joined(separator: "/")) }),
    ]

    /// A name of so many bytes in words of at most 200.
    private static func long(_ bench: StoreBench, _ bytes: Int) -> String {
        var name = bench.home
        while name.utf8.count < bytes {
            let left = bytes - name.utf8.count - 1
            // No word is empty.
            let count = left > 200 && left < 203 ? 100 : min(200, left)
            name += "/" + String(repeating: "n", count: count)
        }
        return name
    }

    static let cases: [StoreCase] =
        ["put", "get", "stat_object", "remove", "put_open"].map { call in
            StoreCase("names: \(call) refuses those that are none") { bench in
                for (what, name) in hostile {
                    try bench.refused([.invalid], "\(call) of \(what)") {
                        switch call {
                        case "put": try bench.put(name(bench), "x")
                        case "get": _ = try bench.get(name(bench), count: 10)
                        case "stat_object":
                            // Absent is no refusal.
                            if try bench.store.object(name(bench)) == nil { throw DriverFailure(.notFound, "it says NOT_FOUND") }
                        case "remove": try bench.store.remove([name(bench)])
                        default:
                            // Without writers the host asks when it puts.
                            let writer = try bench.store.write(name(bench))
                            defer { writer.abandon() }
                            try writer.commit()
                        }
                    }
                }
            }
        }
        + [
            StoreCase("names: none leads out of the store") { bench in
                let canary = try Canary(in: CheckHost.directory(bench.options))
                defer { canary.remove() }
                for name in canary.names + canary.freeNames + canary.names.map({ bench.name("a/" + $0) }) {
                    try? bench.put(name, "overwritten")
                    try canary.verify(after: "put of \(name)")
                    if let found = try? bench.get(name, count: 100), found.starts(with: Array("canary".utf8)) {
                        throw CheckBench.Failure(description: "get of \(name) reads a file outside of the store")
                    }
                    try? bench.store.remove([name])
                    try canary.verify(after: "remove of \(name)")
                    if let writer = try? bench.store.write(name) {
                        try? writer.commit()
                        try canary.verify(after: "put_open of \(name)")
                    }
                }
            },
            StoreCase("names: prefixes of lists lead nowhere either") { bench in
                let canary = try Canary(in: CheckHost.directory(bench.options))
                defer { canary.remove() }
                for prefix in ["../", "/", "..", String(repeating: "../", count: 20), "/etc/", bench.name("../../")] {
                    // No object's name begins so: a list of nothing, or a refusal.
                    let found = (try? bench.names(prefix)) ?? []
                    try bench.require(found.isEmpty, "'\(prefix)' lists \(found.prefix(3))")
                }
            },
            StoreCase("names: every byte that they may have, in every place") { bench in
                let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
                for word in [letters, String(letters.reversed().drop { $0 == "." }), "-", "_", "a.", "x..y", "-rf", "con"] {
                    let name = bench.name("w/" + word)
                    try bench.put(name, word)
                    try bench.expect(word, as: name, word)
                    try bench.store.remove([name])
                    try bench.put(bench.name(word + "/o"), word)
                    try bench.expect(word, as: bench.name(word + "/o"), word + "/o")
                }
            },
            StoreCase("names: upper and lower case are two objects") { bench in
                for word in ["object", "Object", "OBJECT"] { try bench.put(bench.name(word), word) }
                for word in ["object", "Object", "OBJECT"] { try bench.expect(word, as: bench.name(word), word) }
            },
            StoreCase("names: of 1,024 bytes, and words of 255") { bench in
                for name in [long(bench, 1_024), long(bench, 1_000), bench.name(String(repeating: "w", count: 255))] {
                    try bench.put(name, "long")
                    try bench.expect("long", as: name, "a name of \(name.utf8.count) bytes")
                }
                // The last byte counts.
                let (one, two) = (String(long(bench, 1_024).dropLast()) + "1", String(long(bench, 1_024).dropLast()) + "2")
                try bench.put(one, "one")
                try bench.put(two, "two")
                try bench.expect("one", as: one, "a long name that differs in its last byte")
            },
            StoreCase("names: of 64 words") { bench in
                let name = bench.name((1..<64).map { "w\($0 % 10)" }.joined(separator: "/"))
                try bench.put(name, "deep")
                try bench.expect("deep", as: name, "64 words")
            },
            StoreCase("names: that begin like each other do not meet") { bench in
                let words = ["x", "xy", "x-y", "x.y", "x_", "xyz", "folder/x", "folder-x", "folder.x"]
                for word in words { try bench.put(bench.name(word), word) }
                for word in words { try bench.expect(word, as: bench.name(word), word) }
            },
            StoreCase("names: of an object and of one below it: both are there, or the second is refused") { bench in
                try bench.put(bench.name("a"), "above")
                do {
                    try bench.put(bench.name("a/b"), "below")
                    try bench.expect("below", as: bench.name("a/b"), "the second")
                } catch let failure as DriverFailure {
                    try bench.require([.exists, .invalid].contains(failure.code), "the second: \(failure)")
                }
                try bench.expect("above", as: bench.name("a"), "the first")
                try bench.put(bench.name("c/d"), "below")
                do {
                    try bench.put(bench.name("c"), "above")
                    try bench.expect("above", as: bench.name("c"), "the second")
                } catch let failure as DriverFailure {
                    try bench.require([.exists, .invalid].contains(failure.code), "the second: \(failure)")
                }
                try bench.expect("below", as: bench.name("c/d"), "the first")
            },
            StoreCase("names: other printable bytes are taken as they are, or refused") { bench in
                for word in [
                    "with space", "per%2Fcent", "%00", "plus+", "a:b", "a?b", "a#b", "a&b=c", "a*b", "é", "日本", "a\\b", "\"quoted\"",
                    "$(x)", "~",
                ] {
                    let name = bench.name(word)
                    do { try bench.put(name, word) } catch let failure as DriverFailure {
                        try bench.require(failure.code == .invalid, "\(word): \(failure)")
                        continue
                    }
                    try bench.expect(word, as: name, word)
                    let listed = try bench.names()
                    try bench.require(listed == [name], "\(word) is listed as \(listed)")
                    try bench.store.remove([name])
                    try bench.expectNone(name, "\(word), removed")
                }
            },
        ]
}
