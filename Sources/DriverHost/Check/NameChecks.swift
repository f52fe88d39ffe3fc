import CDriver
import Primitives

/// Names identify objects and must not lead to anything else.
enum NameChecks {
    private static func arguments(_ bench: CheckBench, _ name: String, _ more: [(String, DriverValue)] = []) -> DriverValue {
        let volume = DriverValue.members([
            "id": .string("x"), "name": .string(name), "size": .integer(1), "pool": .optional(bench.pool),
        ])
        return .object([DriverValue.Member("volume", volume)] + more.map { DriverValue.Member($0.0, $0.1) })
    }

    static let cases: [ConformanceCase] = [
        ConformanceCase("names: a volume whose name leads elsewhere is refused, and nothing is made or removed there") { bench in
            let canary = try bench.canary()
            for name in canary.freeNames + ["a/b", ""] {
                try bench.refused([.invalid, .error], "create of '\(name)'") {
                    _ = try bench.driver.call(.createVolume, arguments(bench, name))
                }
                try canary.verify(after: "create of '\(name)'")
            }
            for name in canary.names {
                // It is refused, or treated as a name that does not exist.
                do { _ = try bench.driver.call(.deleteVolume, arguments(bench, name)) } catch is DriverFailure {}
                try canary.verify(after: "delete of '\(name)'")
                do { _ = try bench.driver.call(.extendVolume, arguments(bench, name, [("new_size", .integer(2))])) } catch is DriverFailure
                {}
                try canary.verify(after: "extend of '\(name)'")
            }
        },
        ConformanceCase("names: nothing elsewhere is read, written or copied", handles: true) { bench in
            let canary = try bench.canary()
            for name in canary.names {
                try bench.refused([.invalid, .error, .notFound], "a handle of '\(name)'") {
                    try bench.driver.withHandle(arguments(bench, name), writable: true) { _ in }
                }
                let clone = CheckBench.Object()
                bench.remember(clone)
                do {
                    _ = try bench.driver.call(
                        .cloneVolume, bench.arguments(clone, [("source", arguments(bench, name)["volume"] ?? .null)]))
                    throw CheckBench.Failure(description: "'\(name)' was cloned")
                } catch is DriverFailure {}
                try canary.verify(after: "a clone of '\(name)'")
            }
        },
        ConformanceCase("names: two that differ only at their end are two", handles: true) { bench in
            var (first, second) = (CheckBench.Object(), CheckBench.Object())
            second.id = String(first.id.dropLast()) + (first.id.hasSuffix("0") ? "1" : "0")
            for object in [first, second] { bench.remember(object) }
            first = bench.keeping(try bench.call(.createVolume, first), first)
            second = bench.keeping(try bench.call(.createVolume, second), second)
            try bench.write("first", to: first)
            try bench.write("second", to: second)
            try bench.expect("first", in: first, "the first")
            try bench.call(.deleteVolume, first)
            try bench.expect("second", in: second, "the second")
        },
        ConformanceCase("names: one that is too long is refused, one that is not is made") { bench in
            for length in [64, 128, 255, 256, 1024, 5000] {
                let name = "volume-" + String(repeating: "x", count: length - 7)
                do {
                    _ = try bench.driver.call(.createVolume, arguments(bench, name))
                } catch let failure as DriverFailure {
                    try bench.require(
                        [.invalid, .error].contains(failure.code), "a name of \(length) bytes: \(failure.code.name), not CLINKER_INVALID")
                    continue
                }
                if let names = try bench.names() { try bench.require(names.contains(name), "a name of \(length) bytes is not listed") }
                _ = try bench.driver.call(.deleteVolume, arguments(bench, name))
            }
        },
    ]
}
