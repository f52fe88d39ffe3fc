import Glibc
import Primitives
import TestSupport
import Testing

/// What the conformance suite is worth for stores whose objects lie on servers: real servers that lie in one way, and the case that finds
/// it through the store's plugin.
@Suite("Servers that lie to stores of backups", .serialized)
struct LyingServerTests {
    /// A lie and the case that finds it.
    typealias Lie = (words: String, rule: HTTPFaultProxy.Rule, foundBy: String)

    private static let bytes = "put: bytes are read as they were put, whatever their number"
    private static let range = "get: exactly the range, at every edge"
    private static let gone = "remove: the object is gone"
    private static let sizes = "stat_object: sizes, and NOT_FOUND for what is not there"
    private static let always = 1_000_000_000

    private static let notThere = HTTPFaultProxy.Fault.answer(status: 404, headers: [], body: "")
    private static let lies: [ObjectServerFaultTests.Kind: [Lie]] = [
        .s3: [
            ("a put is acknowledged and lost", .init("PUT", "", .lose, times: always), bytes),
            ("a byte is another", .init("GET", "/backups/", .alter, times: always), range),
            ("a removal is acknowledged and lost", .init("DELETE", "", .lose, times: always), gone),
            ("nothing is there for HEAD", .init("HEAD", "/backups/", notThere, times: always), sizes),
            ("a listing is as it was", .init("GET", "list-type", .stale, times: always), "writer: nothing is seen before it is committed"),
        ],
        .swift: [
            ("a put is acknowledged and lost", .init("PUT", "", .lose, times: always), bytes),
            ("a byte is another", .init("GET", "/backups/", .alter, times: always), range),
            ("a removal is acknowledged and lost", .init("DELETE", "", .lose, times: always), gone),
            ("nothing is there for HEAD", .init("HEAD", "/backups/", notThere, times: always), sizes),
        ],
    ]

    private func check(_ arguments: [String], environment: [String] = []) async throws -> (status: Int32, output: String) {
        try await ServiceUnderTest.run(
            "/usr/bin/env", environment + [ServiceUnderTest.binary, "driver", "check"] + arguments + ["--timeout", "60"])
    }

    private func expect(_ lie: String, foundBy name: String, in result: (status: Int32, output: String)) {
        #expect(
            result.status == 1 && result.output.contains("FAILED   \(name)\n"),
            "\(lie) is not found by '\(name)': \(result.output.suffix(1500))")
    }

    @Test("through the stores behind HTTP", arguments: ObjectServerFaultTests.Kind.allCases)
    func objectServers(kind: ObjectServerFaultTests.Kind) async throws {
        for lie in Self.lies[kind] ?? [] {
            let server = try kind == .s3 ? StorageUnderTest.moto.get() : StorageUnderTest.swift.get()
            let proxy = try HTTPFaultProxy(to: UInt16(server.port))
            let section =
                try kind == .s3
                ? StorageUnderTest.s3Section("backup_s3_consistent_list = true\nbackup_s3_retry_max_attempts = 0", port: Int(proxy.port))
                : StorageUnderTest.swiftSection("backup_swift_retry_attempts = 0", port: Int(proxy.port))
            let arguments = StorageUnderTest.arguments(section) + ["--case", lie.foundBy]
            let honest = try await check(arguments)
            #expect(honest.status == 0, "\(honest.output)")
            proxy.set(lie.rule)
            expect(lie.words, foundBy: lie.foundBy, in: try await check(arguments))
            #expect(proxy.hits > 0, "\(lie.words) was not met")
        }
    }

    @Test("through the NFS store")
    func nfs() async throws {
        let library = try Preload.library("nfs-lies", of: ["nfs"])
        let arguments = StorageUnderTest.arguments(try StorageUnderTest.nfs.get().nfsStore("lies")) + ["--kind", "store"]
        for (lie, name) in [
            ("none", Self.bytes), ("write_lost", Self.bytes), ("read_altered", Self.range), ("removal_lost", Self.gone),
            ("rename_lost", Self.bytes), ("size_short", Self.sizes), ("list_short", "list: with the sizes"),
        ] {
            let result = try await check(arguments + ["--case", name], environment: ["LD_PRELOAD=\(library)", "CLINKER_NFS_LIE=\(lie)"])
            if lie == "none" { #expect(result.status == 0, "\(result.output)") } else { expect(lie, foundBy: name, in: result) }
        }
        // A share whose root is no folder is not an empty store.
        let lost = try await check(
            arguments + ["--case", "list: with the sizes"], environment: ["LD_PRELOAD=\(library)", "CLINKER_NFS_LIE=root_no_folder"])
        #expect(lost.status == 1 && lost.output.contains("cannot list"), "\(lost.output)")
    }
}
