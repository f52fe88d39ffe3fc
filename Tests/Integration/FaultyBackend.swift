import Glibc
import JSON
import Primitives
import Processes
import TestSupport
import Testing

/// The fault plugin around the file driver, in a directory of its own: compiled, configured, and told what to do wrong.
struct FaultyBackend {
    let directory: String
    /// The file that says which calls go wrong, and how.
    var faults: String { directory + "/faults" }
    var files: Set<String> { Set(ServiceUnderTest.entries(directory + "/volumes")) }

    init() throws {
        directory = temporaryDirectory("fault")
        let root = ServiceUnderTest.root
        let compiled = reap(
            try spawn(
                "/usr/bin/cc",
                [
                    "-std=c11", "-fPIC", "-shared", "-I", root + "/Sources/CDriver/include", "-o", directory + "/clinker-fault.so",
                    root + "/Tests/DriverHostTests/Drivers/fault.c", "-ldl",
                ], descriptors: []))
        #expect(compiled == 0)
        try set("")
    }

    func set(_ lines: String) throws { try ServiceUnderTest.write(faults, lines) }

    /// Waits until the fault was met, and starts the service again if that killed it; whether it did.
    @discardableResult
    func meet(_ fault: FaultBackupTests.Fault, _ service: ServiceUnderTest, _ cell: String) throws -> Bool {
        let limit = Timestamp.monotonic() + 30
        while try !ServiceUnderTest.read(faults).isEmpty, Timestamp.monotonic() < limit { usleep(10_000) }
        let isMet = try ServiceUnderTest.read(faults).isEmpty
        #expect(isMet, "\(cell): the fault was not met")
        try set("")
        guard isMet, fault.killsService else { return false }
        _ = service.waitForEnd()
        // A core that has not been scheduled since answers for the one to come, and then ends.
        while (try? service.request("GET", "/")) != nil, Timestamp.monotonic() < limit + 30 { usleep(10_000) }
        try service.start()
        return true
    }

    /// Asks the service for something while the fault is to come; nil: a core that dies took the answer with it.
    func ask(_ fault: FaultBackupTests.Fault, _ service: ServiceUnderTest, _ path: String, _ body: JSON) throws -> JSON? {
        do {
            let answer = try service.api("POST", path, body)
            guard answer.status == 202 else { throw ServiceUnderTest.Failure("\(answer.status) \(answer.text)") }
            return answer.json
        } catch {
            guard fault.killsCore else { throw error }
            return nil
        }
    }

    /// Its section of the configuration.
    func section(callTimeout: Int, name: String = "fault") -> String {
        """
        [\(name)]
        volume_driver = \(directory)/clinker-fault.so
        wrapped = \(ServiceUnderTest.binary.dropLast("clinker".count))libClinkerFile.so
        faults = \(faults)
        file_directory = \(directory)/volumes
        max_over_subscription_ratio = 1000000
        driver_call_timeout = \(callTimeout)
        """
    }

    /// A service with this backend.
    /// `beside`: another backend, with its section.
    func service(
        auth: String = "noauth", options: String = "", more: String = "", callTimeout: Int = 1,
        beside: (name: String, section: String)? = nil
    ) throws
        -> ServiceUnderTest
    {
        try ServiceUnderTest(
            auth: auth, options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1\n\(options)",
            backends: (["fault"] + [beside?.name].compactMap(\.self)).joined(separator: ","),
            sections: """
                \(section(callTimeout: callTimeout))
                \(more)
                \(beside?.section ?? "")
                """)
    }
}

/// Which cells of the fault tables run: all of them with CLINKER_FAULTS=all, those whose names hold its words if it is something else (as
/// "restore in cinder"); without it a twelfth, another one every day (or by CLINKER_SEED). FlowsTests has every flow with every fault in memory: here is shown that processes, files and the API behave the same.
enum FaultSample {
    private static let words = getenv("CLINKER_FAULTS").map { String(cString: $0) }
    static let isWhole = words == "all"
    /// Whether the drivers are checked case by case, all of them: in `make soak` and where changes are let in.
    static let isWholeForDrivers = isWhole || getenv("CLINKER_CONFORMANCE").map { String(cString: $0) } == "all"
    private static let seed = getenv("CLINKER_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64(Timestamp.seconds() / 86_400)

    /// Another one every day.
    static func one<T>(of things: [T]) -> T { things[Int(seed % UInt64(things.count))] }

    static func holds(_ cell: String, oneOf parts: UInt64 = 12) -> Bool {
        if isWhole { return true }
        if let words = Self.words { return cell.contains(words) }
        // FNV-1a: the same in every process.
        let hash = cell.utf8.reduce(14_695_981_039_346_656_037 &+ seed) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 }
        return (hash >> 32) % parts == 0
    }
}
