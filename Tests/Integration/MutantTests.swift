import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// What the conformance suite is worth: a driver with bugs that can be switched on, one by one, and the cases that find them.
@Suite("Mutants", .serialized)
struct MutantTests {
    struct Mutant: Sendable {
        let bug: String
        /// The case that finds it; nil: none does, for the reason that the table names.
        let foundBy: String?
        let words: String
    }

    /// What the bugs are in: a driver of volumes, or a store of backups.
    enum Subject: String, CaseIterable, CustomTestStringConvertible {
        case volumes = "mutants", stores = "store-mutants"

        var sources: String { ServiceUnderTest.root + "/Tests/DriverHostTests/Drivers/" + rawValue }
        var testDescription: String { "\(self)" }
    }

    /// The table beside the driver.
    static func table(_ subject: Subject) throws -> [Mutant] {
        try ServiceUnderTest.read(subject.sources + "/MUTANTS.tsv").split(separator: "\n").dropFirst().map { line in
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 3 else { throw ServiceUnderTest.Failure("no line of the table: \(line)") }
            return Mutant(bug: fields[0], foundBy: fields[1] == "-" ? nil : fields[1], words: fields[2])
        }
    }

    /// Compiles the driver into a directory and returns its path.
    static func build(_ subject: Subject = .volumes, in directory: String, _ flags: [String] = []) throws -> String {
        let path = directory + "/clinker-mutants.so"
        let files = ServiceUnderTest.entries(subject.sources).filter { $0.hasSuffix(".c") }.map { subject.sources + "/" + $0 }
        let status = reap(
            try spawn(
                "/usr/bin/cc",
                ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-pthread"]
                    + ["-I", ServiceUnderTest.root + "/Sources/CDriver/include", "-o", path] + flags + files
                    + (subject == .stores ? ["-lcrypto"] : []), descriptors: []))
        guard status == 0 else { throw ServiceUnderTest.Failure("cc failed") }
        return path
    }

    private static func check(_ driver: String, _ bug: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
        let directory = temporaryDirectory("mutant")
        let result = try await ServiceUnderTest.run(
            ServiceUnderTest.binary,
            ["driver", "check", driver, "--set", "directory=\(directory)/volumes", "--set", "bug=\(bug)", "--timeout", "20"] + arguments)
        // Whatever a driver starts or forks ends with the check.
        for _ in 0..<100 where !running(directory).isEmpty { usleep(20_000) }
        #expect(running(directory).isEmpty, "\(bug) leaves \(running(directory))")
        // A thousand volumes of a thousand mutants are not kept to the end.
        if let remover = try? spawn("/bin/rm", ["-rf", directory], descriptors: []) { reap(remover) }
        return result
    }

    /// Command lines of processes that hold a text.
    static func running(_ text: String) -> [String] {
        ServiceUnderTest.entries("/proc").compactMap { pid_t($0) }
            .compactMap { try? ServiceUnderTest.read("/proc/\($0)/cmdline").replacing("\0", with: " ") }.filter { $0.contains(text) }
    }

    @Test("a check that is interrupted leaves no process and no file")
    func interrupted() throws {
        let directory = temporaryDirectory("mutants")
        let driver = try Self.build(in: directory)
        let output = open("/dev/null", O_WRONLY | O_CLOEXEC)
        defer { close(output) }
        let pid = try spawn(
            ServiceUnderTest.binary, ["driver", "check", driver, "--set", "directory=\(directory)/volumes"],
            descriptors: [(source: output, target: 1), (source: output, target: 2)])
        var state: String?
        let limit = Timestamp.monotonic() + 20
        while state == nil, Timestamp.monotonic() < limit {
            // Its cases are told of it.
            let words = Self.running(directory).flatMap { $0.split(separator: " ") }
            state = words.first { $0.hasPrefix("state_dir=") }.map { String($0.dropFirst(10)) }
        }
        let made = try #require(state)
        #expect(access(made, F_OK) == 0)
        kill(pid, SIGTERM)
        #expect(reap(pid) >> 8 == 128 + SIGTERM)
        while !Self.running(directory).isEmpty, Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(Self.running(directory).isEmpty && access(made, F_OK) != 0)
    }

    @Test("the table tells of every bug, and of ten at least nine are found", arguments: Subject.allCases)
    func table(_ subject: Subject) throws {
        let table = try Self.table(subject)
        var bugs: Set<String> = []
        for file in ServiceUnderTest.entries(subject.sources) where file.hasSuffix(".c") {
            for piece in try ServiceUnderTest.read(subject.sources + "/" + file).split(separator: "\"") {
                // Between quotation marks, behind BUG( or bug(...,.
                if table.contains(where: { $0.bug == piece }) { bugs.insert(String(piece)) }
            }
            for match in try ServiceUnderTest.read(subject.sources + "/" + file).matches(of: /BUG\("([a-z0-9_]+)"\)/) {
                #expect(table.contains { $0.bug == match.1 }, "\(match.1) is not in the table")
            }
        }
        #expect(Set(table.map(\.bug)) == bugs && bugs.count == table.count)
        #expect(table.count >= 60 && table.count { $0.foundBy != nil } * 10 >= table.count * 9)
        #expect(table.allSatisfy { !$0.words.isEmpty })
    }

    @Test("the driver without a bug passes every case, and so it does whatever sizes it asks for")
    func honest() async throws {
        let driver = try Self.build(in: temporaryDirectory("mutants"))
        let whole = try await Self.check(driver, "none", [])
        #expect(whole.status == 0 && whole.output.contains(" 0 failed"), "\(whole.output)")
        // It has every call but one.
        let skipped = whole.output.split(separator: "\n").filter { $0.hasPrefix("skipped") }
        #expect(skipped.allSatisfy { $0.contains("rename_volume") || $0.contains("no references are listed") }, "\(skipped)")
        let subjects = ["handle", "zero", "discard", "extents", "changed", "clone", "copy", "stats"].flatMap { ["--case", $0] }
        let sizes = ["--set", "minimum=4096", "--set", "maximum=1048576"]
        let small = try await Self.check(driver, "none", sizes + subjects)
        #expect(small.status == 0, "\(small.output)")
    }

    @Test("the store without a bug passes every case, with writers of its own and with the host's", arguments: [[], ["-DWITHOUT_WRITERS"]])
    func honestStore(_ flags: [String]) async throws {
        let store = try Self.build(.stores, in: temporaryDirectory("mutants"), flags)
        let whole = try await Self.check(store, "none", [])
        #expect(whole.status == 0 && whole.output.contains(" 0 failed"), "\(whole.output)")
        let skipped = whole.output.split(separator: "\n").filter { $0.hasPrefix("skipped") }
        #expect(skipped.allSatisfy { $0.contains("CLINKER_CHECK_LARGE") }, "\(skipped)")
        #expect(whole.output.contains("emulated: put_open put_write put_close") == !flags.isEmpty)
    }

    @Test("each bug is found by the case that the table names", arguments: Subject.allCases)
    func found(_ subject: Subject) async throws {
        let driver = try Self.build(subject, in: temporaryDirectory("mutants"))
        // The whole suite over every bug takes a quarter of an hour of two processors: with the whole tables of faults.
        let isWhole = FaultSample.isWhole
        let mutants = try Self.table(subject).filter { isWhole || $0.foundBy != nil }
        try await withThrowingTaskGroup(of: Void.self) { group in
            var next = mutants.makeIterator()
            func add() {
                guard let mutant = next.next() else { return }
                group.addTask {
                    // Of the whole suite at least that case must fail; of what no case finds none may.
                    let result = try await Self.check(driver, mutant.bug, isWhole ? [] : ["--case", mutant.foundBy ?? ""])
                    if let name = mutant.foundBy {
                        let isFound = result.output.contains("FAILED   \(name)\n")
                        #expect(result.status == 1 && isFound, "\(mutant.bug) is not found by '\(name)': \(result.output.suffix(1500))")
                    } else {
                        #expect(result.status == 0, "\(mutant.bug) is found after all: \(result.output.suffix(3000))")
                    }
                }
            }
            for _ in 0..<3 { add() }
            while try await group.next() != nil { add() }
        }
    }
}
