import Glibc
import Primitives
import Processes

/// A process may die at any instant: an object is whole or absent, and the next process goes on.
enum StoreDeathChecks {
    /// Runs an act in a process of its own; kills it so many microseconds after it began, if that is said.
    private static func run(_ act: StoreAct, _ name: String, _ bench: StoreBench, killedAfter delay: UInt32?) throws {
        guard case .object(let members) = bench.options else { return }
        let options = members.flatMap { ["--set", "\($0.name)=\($0.value.string ?? "")"] }
        let (mine, theirs) = try socketPair()
        defer { close(mine) }
        let pid: pid_t
        do {
            defer { close(theirs) }
            pid = try spawn(
                executablePath(), ["driver", "check", bench.path, "--kind", "store", "--run", "act: \(act.rawValue) \(name)"] + options,
                descriptors: [(source: theirs, target: 3)], newGroup: true)
        }
        var byte: UInt8 = 0
        let isOpen = recv(mine, &byte, 1, 0) == 1
        if let delay {
            usleep(delay)
            kill(pid, SIGKILL)
        }
        // It ends when it has reported, or is killed.
        while recv(mine, &byte, 1, 0) > 0 {}
        kill(pid, SIGKILL)
        reap(pid)
        try bench.require(isOpen, "the process that was to \(act.rawValue) did not open the store")
    }

    /// Before, during and after a call, in microseconds.
    private static let delays: [UInt32] = [0, 300, 1_000, 3_000, 6_000, 10_000, 20_000, 40_000]

    static let cases: [StoreCase] =
        [StoreAct.put, .write].flatMap { act in
            [
                StoreCase("kill -9: \(act == .put ? "put" : "a writer"), and there is all of the object or nothing") { bench in
                    for delay in delays {
                        let name = bench.name("killed-after/\(delay)")
                        try run(act, name, bench, killedAfter: delay)
                        if let found = try bench.store.object(name) {
                            try bench.require(
                                found.size == UInt64(StoreAct.size),
                                "killed after \(delay) us, it has \(found.size) bytes of \(StoreAct.size)")
                            try bench.expect(StoreAct.bytes, as: name, "killed after \(delay) us")
                        } else {
                            try bench.expectNone(name, "killed after \(delay) us")
                        }
                        // What is left besides is in no list.
                        let others = try bench.names("").filter { $0.contains("killed-after") && $0 != name && $0.contains(bench.home) }
                        try bench.require(others.isEmpty, "killed after \(delay) us, listed are \(others)")
                        try act.perform(bench.store, name, StoreAct.bytes)
                        try bench.require(try bench.store.object(name)?.size == UInt64(StoreAct.size), "the repetition did not put it")
                        try bench.store.remove([name])
                    }
                },
                StoreCase("kill -9: \(act == .put ? "put" : "a writer") that replaces, and there is all of the old or of the new") {
                    bench in
                    let (name, old) = (bench.name("object"), CheckBench.pattern(50_000, seed: 1))
                    for delay in delays {
                        try bench.put(name, old)
                        try run(act, name, bench, killedAfter: delay)
                        let found = try bench.get(name, count: StoreAct.size + 1)
                        let isWhole = CheckBench.same(found, old) || CheckBench.same(found, StoreAct.bytes)
                        try bench.require(isWhole, "killed after \(delay) us, it has \(found.count) bytes, of neither")
                    }
                },
                StoreCase("repeat: \(act == .put ? "put" : "a writer"), three times by three processes") { bench in
                    for _ in 0..<3 { try run(act, bench.name("object"), bench, killedAfter: nil) }
                    try bench.expect(StoreAct.bytes, as: bench.name("object"), "put three times")
                },
            ]
        } + [
            StoreCase("kill -9: remove, repeated by the next process, and what was not named stays") { bench in
                let names = StoreAct.remove.names(bench.home)
                for delay: UInt32 in [0, 1_000, 5_000] {
                    try bench.together(8) { thread in
                        for index in stride(from: thread, to: names.count, by: 8) { try bench.put(names[index], "1") }
                    }
                    try bench.put(bench.name("f3/stays"), "stays")
                    try run(.remove, bench.home, bench, killedAfter: delay)
                    try run(.remove, bench.home, bench, killedAfter: nil)
                    let left = try bench.names()
                    try bench.require(left == [bench.name("f3/stays")], "left are \(left.prefix(3))")
                }
            }
        ]
}
