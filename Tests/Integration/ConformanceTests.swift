import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// `clinker driver check`: the drivers that the project has keep the header's promises, and one that does not is found out.
@Suite("Conformance of drivers", .serialized)
struct ConformanceTests {
    private func check(_ arguments: [String], environment: [String] = []) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run("/usr/bin/env", environment + [ServiceUnderTest.binary, "driver", "check"] + arguments)
    }

    private func compiled(_ source: String) throws -> String {
        let directory = temporaryDirectory("conformance")
        let root = ServiceUnderTest.root
        let status = reap(
            try spawn(
                "/usr/bin/cc",
                [
                    "-std=c11", "-fPIC", "-shared", "-I", root + "/Sources/CDriver/include", "-o", directory + "/clinker-\(source).so",
                    root + "/Tests/DriverHostTests/Drivers/\(source).c", "-ldl",
                ], descriptors: []))
        #expect(status == 0)
        return directory
    }

    /// The arguments for a part of the cases, another one every day; none, for all of them.
    private func sample(_ kind: String, _ isWhole: Bool = FaultSample.isWholeForDrivers, of plugin: String = "file") async throws
        -> [String]
    {
        if isWhole { return [] }
        let names = try await check([plugin, "--list"]).output.split(separator: "\n").map(String.init)
        return names.filter { FaultSample.holds($0 + kind, oneOf: 6) }.flatMap { ["--case", $0] }
    }

    @Test("the file driver keeps every promise, and leaves nothing behind")
    func file() async throws {
        let directory = try compiled("simple")
        let volumes = directory + "/volumes"
        let result = try await check(["file", "--set", "file_directory=" + volumes, "--json", directory + "/report.json"])
        #expect(result.status == 0, "\(result.output)")
        let report = try JSON(parsing: try ServiceUnderTest.read(directory + "/report.json"))
        let cases = report["cases"]?.array ?? []
        #expect(
            cases.count >= 120
                && cases.allSatisfy {
                    $0["outcome"] == "passed" || $0["name"]?.string?.hasPrefix("changed: ") == true
                        || $0["reason"] == "no references are listed"
                },
            "\(result.output)")
        #expect(report["calls"]?["clone_volume"] == "native" && report["driver"] == "file")
        #expect(ServiceUnderTest.entries(volumes).isEmpty)
    }

    @Test("the POSIX store keeps every promise, and leaves nothing behind")
    func posixStore() async throws {
        let directory = temporaryDirectory("conformance")
        let objects = directory + "/objects"
        mkdir(objects, 0o700)
        let result = try await check(["posix", "--set", "backup_posix_path=" + objects, "--json", directory + "/report.json"])
        #expect(result.status == 0, "\(result.output)")
        let report = try JSON(parsing: try ServiceUnderTest.read(directory + "/report.json"))
        let cases = report["cases"]?.array ?? []
        let skipped = Set(cases.filter { $0["outcome"] != "passed" }.compactMap { $0["name"]?.string?.split(separator: ":").first })
        #expect(cases.count >= 80 && skipped.isSubset(of: ["put", "protect"]), "\(result.output)")
        #expect(report["driver"] == "posix" && report["calls"]?["protect"] == "unsupported" && report["calls"]?["put"] == "native")
        // Killed writers leave what is removed after a day.
        #expect(ServiceUnderTest.entries(objects).allSatisfy { $0 == ".clinker-partial" })
    }

    @Test("the NFS store keeps every promise on a real server, and leaves nothing behind")
    func nfsStore() async throws {
        let (directory, server) = (temporaryDirectory("conformance"), try StorageUnderTest.nfs.get())
        let result = try await check(
            StorageUnderTest.arguments(try server.nfsStore("conformance")) + ["--kind", "store", "--json", directory + "/report.json"])
        #expect(result.status == 0, "\(result.output)")
        let report = try JSON(parsing: try ServiceUnderTest.read(directory + "/report.json"))
        let cases = report["cases"]?.array ?? []
        let skipped = Set(cases.filter { $0["outcome"] != "passed" }.compactMap { $0["name"]?.string?.split(separator: ":").first })
        #expect(cases.count >= 80 && skipped.isSubset(of: ["put", "protect"]), "\(result.output)")
        #expect(report["calls"]?["put_open"] == "native" && report["calls"]?["protect"] == "unsupported")
        // Killed writers leave what is removed after a day.
        #expect(ServiceUnderTest.entries(server.nfsStoreDirectory("conformance")).allSatisfy { $0 == ".clinker-partial" })
    }

    @Test(
        "the stores behind HTTP keep every promise on real servers",
        arguments: ["s3 of moto", "s3 of moto with Object Lock", "s3 of Swift", "swift"])
    func objectServers(_ kind: String) async throws {
        let consistent = "backup_s3_consistent_list = true"
        let section =
            switch kind {
            case "s3 of moto": try StorageUnderTest.s3Section(consistent)
            case "s3 of moto with Object Lock": try StorageUnderTest.s3Section(consistent, bucket: "kept")
            case "s3 of Swift": try StorageUnderTest.s3Section(bucket: "checked", port: try StorageUnderTest.swift.get().port)
            default: try StorageUnderTest.swiftSection()
            }
        // Moto sees a quarter of the cases of S3 where changes are let in, and all in `make soak`; the other servers see what is particular to
        // them, and some of the rest.
        let own =
            switch kind {
            case "s3 of moto with Object Lock": ["protect", "remove"]
            case "swift":
                ["writer: its pieces", "writer: one that is given up", "put: again", "get: ", "list: in the order", "remove: the object"]
            default: ["writer: its pieces", "put: again", "list: in the order"]
            }
        // Swift's servers are one process here: thousands of objects take it minutes.
        let many = ["3,000", "six hundred", "a thousand", "each puts", "fifty", "come and go", "kill -9: remove"]
        let names = try await check([kind == "swift" ? "swift" : "s3", "--list"]).output.split(separator: "\n").map(String.init)
        let cases = names.filter { name in
            if kind == "s3 of moto", FaultSample.holds(name, oneOf: FaultSample.isWholeForDrivers ? 4 : 8) { return true }
            return own.contains { name.hasPrefix($0) }
                || (FaultSample.holds(name + kind, oneOf: 16) && !many.contains { name.contains($0) })
        }
        let result = try await check(StorageUnderTest.arguments(section) + cases.flatMap { ["--case", $0] })
        #expect(result.status == 0 && result.output.contains(" 0 failed"), "\(result.output)")
        if kind.hasSuffix("Lock") { #expect(result.output.contains("ok       protect: what is protected")) }
    }

    @Test("the Ceph store keeps every promise in a real cluster, and leaves no data that it has not noted")
    func cephStore() async throws {
        let rados = "rados -c \(try StorageUnderTest.ceph.get().directory)/ceph.conf -p backups"
        func shell(_ script: String) async throws -> Set<String> {
            let result = try await ServiceUnderTest.run("/bin/bash", ["-c", "set -o pipefail; " + script])
            #expect(result.status == 0, "\(result.output)")
            return Set(result.output.split(separator: "\n").map(String.init))
        }
        let ids = rados + " ls | sed -n 's/^clinker[.]data[.]\\([0-9a-f]*\\)[.].*/\\1/p'"
        let before = try await shell(ids)
        let directory = temporaryDirectory("conformance")
        let result = try await check(
            StorageUnderTest.arguments(try StorageUnderTest.cephStore()) + ["--kind", "store", "--json", directory + "/report.json"])
        #expect(result.status == 0, "\(result.output)")
        let report = try JSON(parsing: try ServiceUnderTest.read(directory + "/report.json"))
        let cases = report["cases"]?.array ?? []
        let skipped = Set(cases.filter { $0["outcome"] != "passed" }.compactMap { $0["name"]?.string?.split(separator: ":").first })
        #expect(cases.count >= 80 && skipped.isSubset(of: ["put", "protect"]), "\(result.output)")
        // What killed writers leave is removed a day later, by these notes.
        let noted = try await shell("for d in {0..9} {a..f}; do \(rados) listomapkeys clinker.unreferenced.$d 2> /dev/null || true; done")
        #expect(try await shell(ids).subtracting(before).subtracting(noted) == [])
    }

    @Test("the drivers of real storage keep every promise", arguments: ["rbd", "nfs", "nfs with qcow2 volumes"])
    func storage(_ kind: String) async throws {
        let section =
            switch kind {
            case "rbd": try StorageUnderTest.rbdSection()
            case "nfs": try StorageUnderTest.nfsSection()
            default: try StorageUnderTest.nfsSection("nfs_qcow2_volumes = true")
            }
        // Of raw files less than of qcow2, which are the same and more.
        let isWhole = kind == "nfs" ? FaultSample.isWhole : FaultSample.isWholeForDrivers
        let result = try await check(StorageUnderTest.arguments(section) + (try await sample(kind, isWhole)))
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains(" 0 failed"))
    }

    @Test("images that go while a pool is listed keep nobody from listing it")
    func vanishingImages() async throws {
        let result = try await check(
            StorageUnderTest.arguments(try StorageUnderTest.rbdSection()) + ["--case", "list: while volumes come and go"],
            environment: ["LD_PRELOAD=" + (try Preload.library("slow-watchers", of: ["rbd"]))])
        #expect(result.status == 0 && result.output.contains("1 passed"), "\(result.output)")
    }

    @Test("deep chains, full copies and the trash of rbd keep them too")
    func cloneDepths() async throws {
        let configurations = [
            "rbd_max_clone_depth = 1", "rbd_max_clone_depth = 0",
            "rbd_flatten_volume_from_snapshot = true\nenable_deferred_deletion = true\ndeferred_deletion_delay = 1",
        ]
        for options in FaultSample.isWhole ? configurations : [FaultSample.one(of: configurations)] {
            let subjects = ["clone", "volume from", "kill -9: clone", "kill -9: volume", "kill -9: delete", "cancel"]
            // With an allocator that overwrites what is freed: who closes a clone while a thread of librbd is in it dies.
            let result = try await check(
                StorageUnderTest.arguments(try StorageUnderTest.rbdSection(options)) + subjects.flatMap { ["--case", $0] },
                environment: ["MALLOC_PERTURB_=165"])
            #expect(result.status == 0, "\(options): \(result.output)")
        }
    }

    @Test("a driver of a hundred lines of C passes with what the host does for it")
    func simple() async throws {
        let directory = try compiled("simple")
        // The host's copies of whole volumes take seconds each: two of them are enough.
        let subjects = ["instance", "create", "new", "delete", "extend", "snapshot", "clone: holds", "connect", "handle", "kill -9: clone"]
        let result = try await check(
            [directory + "/clinker-simple.so", "--set", "directory=\(directory)/volumes", "--junit", directory + "/report.xml"]
                + subjects.flatMap { ["--case", $0] })
        #expect(result.status == 0, "\(result.output)")
        #expect(result.output.contains("emulated: clone_volume") && result.output.contains("skipped  snapshot:"))
        #expect(try ServiceUnderTest.read(directory + "/report.xml").contains("<testcase classname=\"simple\""))
    }

    /// A driver one day, a store the other: the toolchains take their time.
    @Test(
        "a new driver or store builds with one command and passes, in each language", arguments: ["c", "rust", "swift"],
        FaultSample.isWhole ? ["volume", "store"] : [FaultSample.one(of: ["volume", "store"])])
    func template(_ language: String, _ kind: String) async throws {
        let directory = try compiled("simple")
        let made = try await ServiceUnderTest.run(
            ServiceUnderTest.binary, ["driver", "new", "novel", "--language", language, "--kind", kind, "--directory", directory])
        #expect(made.status == 0, "\(made.output)")
        let home = getenv("HOME").map { String(cString: $0) } ?? "/root"
        let path = getenv("PATH").map { String(cString: $0) } ?? ""
        let built = try await ServiceUnderTest.run(
            "/usr/bin/env", ["PATH=\(path):\(home)/.cargo/bin", "make", "-C", directory + "/novel"])
        #expect(built.status == 0, "\(built.output)")
        let library = language == "swift" ? "libClinkerNovel.so" : "clinker-novel.so"
        let first = try await ServiceUnderTest.run(
            "/usr/bin/env", ["PATH=\(path):\(home)/.cargo/bin", "make", "-n", "-C", directory + "/novel", "check", "CLINKER=/opt/clinker"])
        #expect(first.output.contains("/opt/clinker driver check ./\(library)"), "\(first.output)")
        let result = try await check(
            ["\(directory)/novel/\(library)", "--set", "directory=\(directory)/volumes"]
                + (try await sample(language + kind, of: kind == "store" ? "posix" : "file")))
        #expect(result.status == 0 && result.output.contains(" 0 failed"), "\(result.output)")
        let again = try await ServiceUnderTest.run(
            ServiceUnderTest.binary, ["driver", "new", "novel", "--language", language, "--directory", directory])
        #expect(again.status == 2 && again.output.contains("cannot make"))
    }

    @Test("a driver's name must be one")
    func templateNames() async throws {
        for name in ["", "Upper", "a/b", "../x", "1st", "with-dash"] {
            let made = try await ServiceUnderTest.run(
                ServiceUnderTest.binary, ["driver", "new", name, "--language", "c", "--directory", "/tmp"])
            #expect(made.status == 2 && made.output.contains("the name must be"), "\(made.output)")
        }
    }

    @Test("a driver that crashes, hangs, fails or lies is found out, case by case")
    func faulty() async throws {
        let directory = try compiled("fault")
        let faults = directory + "/faults"
        func run(_ fault: String, _ name: String) async throws -> (status: Int32, output: String) {
            try ServiceUnderTest.write(faults, fault)
            return try await check([
                // A crash takes its time on a busy machine: the runtime writes down where it was.
                directory + "/clinker-fault.so", "--case", name, "--timeout", fault.contains("hang") ? "3" : "30",
                "--set", "wrapped=\(ServiceUnderTest.binary.dropLast("clinker".count))libClinkerFile.so", "--set", "faults=\(faults)",
                "--set", "file_directory=\(directory)/volumes",
            ])
        }
        for (fault, name, words) in [
            ("create_volume crash 1\n", "create: the same again succeeds", "the driver ended the process: signal"),
            ("create_volume hang 1\n", "create: the same again succeeds", "no end within 3 seconds"),
            ("delete_volume 3 1\n", "delete: of what is gone succeeds", "CLINKER_BUSY"),
            ("extend_volume 1 1\n", "extend: to the size it has succeeds", "fault 1"),
        ] {
            let result = try await run(fault, name)
            #expect(result.status == 1 && result.output.contains("FAILED   \(name)") && result.output.contains(words), "\(result.output)")
        }
        #expect(try await run("", "create: the same again succeeds").status == 0)
    }

    @Test("a driver that would take any file of the machine takes none of it: what it reached for is the suite's own, and is told")
    func canaries() async throws {
        let directory = temporaryDirectory("conformance")
        let driver = try MutantTests.build(in: directory)
        let result = try await check(
            [driver, "--set", "directory=\(directory)/volumes", "--set", "bug=manage_anything", "--case", "manage: a reference that leads"])
        #expect(result.status == 1 && result.output.contains("a file outside of the storage was moved or removed: /tmp/clinker-check-"))
        #expect(result.output.contains("runs as root") == (geteuid() == 0), "\(result.output)")
        #expect(result.output.contains("/etc/") == false)
    }

    @Test("a driver that does not open fails once, with the header's name of its code")
    func unopened() async throws {
        let directory = temporaryDirectory("conformance")
        let result = try await check([try MutantTests.build(in: directory), "--json", directory + "/report.json"])
        #expect(result.status == 1 && result.output.contains("CLINKER_BAD_CONFIGURATION: directory must be an absolute path"))
        #expect(result.output.contains(" 1 failed") && result.output.split(separator: "\n").count < 10, "\(result.output)")
    }

    @Test("a plugin is shown by its path, wherever it is named from")
    func shown() async throws {
        let directory = temporaryDirectory("conformance")
        _ = try MutantTests.build(in: directory)
        let result = try await ServiceUnderTest.run(
            "/bin/sh", ["-c", "cd \(directory) && \(ServiceUnderTest.binary) driver show ./clinker-mutants.so"])
        #expect(result.status == 0 && result.output.contains("name:    mutants"), "\(result.output)")
    }

    @Test("what is asked for wrongly is refused in a line")
    func refusals() async throws {
        #expect(try await check(["nope"]).status == 2)
        #expect(try await check(["file", "--set", "x"]).output.contains("must be key=value"))
        #expect(try await check(["file", "--case", "nope"]).output.contains("no case begins with nope; --list shows them"))
        // It would have worked in the directory that holds where none is named.
        let misspelt = try await check(["file", "--set", "file_directry=/nowhere"])
        #expect(misspelt.status == 2)
        #expect(misspelt.output.contains("--set file_directry: the driver has no such option; did you mean file_directory?"))
        #expect(try await check(["file", "--case", "instance: it opens", "--set", "max_over_subscription_ratio=2"]).status == 0)
        let list = try await check(["file", "--list"])
        #expect(list.status == 0 && list.output.split(separator: "\n").count >= 120)
    }
}
