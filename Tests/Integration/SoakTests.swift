import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Random death under load: 16 clients live volumes' lives while processes are killed and stopped at random. Then
/// everything that was acknowledged must be there, and rows, quota, pools and files must say the same.
@Suite("Random crash run", .serialized)
struct SoakTests {
    /// What the clients were told.
    final class Ledger: Sendable {
        struct State {
            var created: Set<String> = []
            var deleteAccepted: Set<String> = []
            /// Deletions whose answer was lost: either end is right.
            var deleteUnknown: Set<String> = []
            /// Deletions that were refused, with the answer.
            var deleteRefused: [String: String] = [:]
            var lives = 0
            var lostAnswers = 0
            var refused = 0
            var serverErrors: [String] = []
        }
        let state = Guarded(State())
    }

    static var seconds: Double { getenv("CLINKER_SOAK_SECONDS").flatMap { Double(String(cString: $0)) } ?? 8 }
    static var seed: UInt64 { getenv("CLINKER_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64(Timestamp.seconds()) }

    /// One life after the other until the end. A lost answer ends a life; what it left stays for the audit.
    private static func live(_ service: ServiceUnderTest, _ ledger: Ledger, seed: UInt64, until end: Double) {
        var random = Seeded(seed)
        func ask(_ method: String, _ path: String, _ body: JSON? = nil) -> ServiceUnderTest.Answer? {
            do {
                let answer = try service.api(method, path, body)
                if answer.status >= 500 {
                    ledger.state.withLock { $0.serverErrors.append("\(method) \(path): \(answer.text.prefix(200))") }
                }
                return answer
            } catch {
                ledger.state.withLock {
                    if "\(error)".contains("refused") { $0.refused += 1 } else { $0.lostAnswers += 1 }
                }
                return nil
            }
        }
        func settle(_ id: String, _ status: String) -> Bool {
            let limit = Timestamp.monotonic() + 30
            while Timestamp.monotonic() < limit {
                if let answer = ask("GET", "/volumes/\(id)"), let now = answer.json["volume"]?["status"]?.string {
                    if now == status { return true }
                    if now.hasPrefix("error") { return false }
                }
                usleep(5_000)
            }
            return false
        }
        while Timestamp.monotonic() < end {
            let type = Bool.random(using: &random) ? "one" : "two"
            let body: JSON = ["volume": ["size": 1, "volume_type": .string(type)]]
            guard let id = ask("POST", "/volumes", body)?.json["volume"]?["id"]?.string else { continue }
            ledger.state.withLock { _ = $0.created.insert(id) }
            guard settle(id, "available") else { continue }
            switch Int.random(in: 0..<6, using: &random) {
            case 0:
                _ = ask("POST", "/volumes/\(id)/action", ["os-extend": ["new_size": 2]])
                _ = settle(id, "available")
            case 1:
                if let clone = ask("POST", "/volumes", ["volume": ["source_volid": .string(id)]])?.json["volume"]?["id"]?.string {
                    ledger.state.withLock { _ = $0.created.insert(clone) }
                    _ = settle(clone, "available")
                    delete(clone)
                }
            case 2:
                let made = ask("POST", "/attachments", ["attachment": ["volume_uuid": .string(id), "connector": LifecycleTests.connector]])
                // An answer that was lost left an attachment of unknown name: it is the audit's.
                guard let attachment = made?.json["attachment"]?["id"]?.string else { continue }
                for _ in 0..<20 {
                    if let status = ask("DELETE", "/attachments/\(attachment)")?.status, status == 200 || status == 404 { break }
                    usleep(20_000)
                }
                _ = settle(id, "available")
            case 3:
                // To the other backend, by a copy.
                let retype: JSON = ["os-retype": ["new_type": type == "one" ? "two" : "one", "migration_policy": "on-demand"]]
                _ = ask("POST", "/volumes/\(id)/action", retype)
                _ = settle(id, "available")
            case 4:
                guard let snapshot = ask("POST", "/snapshots", ["snapshot": ["volume_id": .string(id)]])?.json["snapshot"]?["id"]?.string
                else { break }
                let limit = Timestamp.monotonic() + 30
                while Timestamp.monotonic() < limit, ask("GET", "/snapshots/\(snapshot)")?.json["snapshot"]?["status"] == "creating" {
                    usleep(5_000)
                }
                delete(id, cascade: true)
                ledger.state.withLock { $0.lives += 1 }
                continue
            default: break
            }
            delete(id)
            ledger.state.withLock { $0.lives += 1 }
        }

        func delete(_ id: String, cascade: Bool = false) {
            guard let answer = ask("DELETE", "/volumes/\(id)" + (cascade ? "?cascade=true" : "")) else {
                ledger.state.withLock { _ = $0.deleteUnknown.insert(id) }
                return
            }
            ledger.state.withLock {
                if answer.status == 202 { $0.deleteAccepted.insert(id) } else { $0.deleteRefused[id] = "\(answer.status) \(answer.text)" }
            }
        }
    }

    /// Two backends, each with a type of its own.
    private static func service() throws -> ServiceUnderTest {
        let service = try MoveTests.service(
            options: "quota_volumes = -1\nquota_gigabytes = -1\nquota_snapshots = -1", one: "max_over_subscription_ratio = 1000000",
            two: "max_over_subscription_ratio = 1000000")
        try MoveTests.types(service)
        return service
    }

    /// Waits for clients off the pool that tests share.
    static func wait(_ semaphore: Primitives.Semaphore, _ count: Int) async {
        await withCheckedContinuation { continuation in
            startThread("wait") {
                for _ in 0..<count { semaphore.wait() }
                continuation.resume()
            }
        }
    }

    /// No death but those that the test caused.
    private static func expectNoCrash(_ service: ServiceUnderTest) async throws {
        let words = "Segmentation fault|Illegal instruction|Aborted|Bus error|breakpoint trap"
        let crashes = try await ServiceUnderTest.run("/bin/grep", ["-E", words, service.directory + "/log"]).output
        #expect(crashes == "")
    }

    /// Every volume, page by page.
    private static func all(_ service: ServiceUnderTest) throws -> [JSON] {
        var volumes: [JSON] = []
        while true {
            let marker = volumes.last?["id"]?.string.map { "&marker=\($0)" } ?? ""
            guard let page = try service.api("GET", "/volumes/detail?limit=200" + marker).json["volumes"]?.array else {
                throw ServiceUnderTest.Failure("no page of volumes")
            }
            volumes += page
            if page.count < 200 { return volumes }
        }
    }

    @Test("after random kills nothing is stranded, lost, orphaned or charged twice")
    func run() async throws {
        let seed = Self.seed
        let service = try Self.service()
        let ledger = Ledger()
        let end = Timestamp.monotonic() + Self.seconds
        let finished = Semaphore()
        for index in 0..<16 {
            startThread("client-\(index)") {
                Self.live(service, ledger, seed: seed &+ UInt64(index), until: end)
                finished.post()
            }
        }
        var random = Seeded(seed &* 31)
        var kills = 0
        /// Of the core, in seconds: from the kill, and from its end, which waits for a write that the kernel is in.
        var recoveries: [(sinceKill: Double, sinceEnd: Double)] = []
        while Timestamp.monotonic() < end {
            usleep(UInt32.random(in: 100_000...500_000, using: &random))
            let cores = service.processes("core")
            let hosts = service.processes("driver-host") + service.processes("transfer")
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1:
                for core in cores { kill(core, SIGKILL) }
                kills += 1
                let killed = Timestamp.monotonic()
                while cores.contains(where: { access("/proc/\($0)", F_OK) == 0 }), Timestamp.monotonic() - killed < 30 { usleep(1_000) }
                let ended = Timestamp.monotonic()
                while (try? service.request("GET", "/"))?.status != 300, Timestamp.monotonic() - ended < 30 { usleep(1_000) }
                let answered = Timestamp.monotonic()
                recoveries.append((sinceKill: answered - killed, sinceEnd: answered - ended))
            case 2, 3:
                for host in hosts { kill(host, SIGKILL) }
                kills += 1
            case 4:
                for pid in cores + hosts { kill(pid, SIGKILL) }
                kills += 1
            default:
                for pid in Bool.random(using: &random) ? cores : hosts {
                    kill(pid, SIGSTOP)
                    usleep(UInt32.random(in: 50_000...300_000, using: &random))
                    kill(pid, SIGCONT)
                }
            }
        }
        await Self.wait(finished, 16)
        let told = ledger.state.withLock { $0 }

        // Attachments whose answer was lost are there for their owner to remove.
        for left in try service.api("GET", "/attachments").json["attachments"]?.array ?? [] {
            let id = left["id"]?.string ?? ""
            let limit = Timestamp.monotonic() + 30
            while let status = try? service.api("DELETE", "/attachments/\(id)").status, status != 200, status != 404,
                Timestamp.monotonic() < limit
            { usleep(50_000) }
        }
        // Within 30 s nothing is on its way any more.
        let transitional = ["creating", "deleting", "extending", "attaching", "detaching", "reserved", "retyping"]
        let limit = Timestamp.monotonic() + 30
        var volumes: [JSON] = []
        let settling = Timestamp.monotonic()
        repeat {
            usleep(50_000)
            volumes = try Self.all(service)
        } while volumes.contains { transitional.contains($0["status"]?.string ?? "") } && Timestamp.monotonic() < limit
        let settled = Timestamp.monotonic() - settling
        let rows = Set(volumes.compactMap { $0["id"]?.string })
        let stranded = volumes.filter { transitional.contains($0["status"]?.string ?? "") }
        #expect(stranded.isEmpty, "stranded: \(stranded.map { ($0["id"]?.string ?? "", $0["status"]?.string ?? "") })")
        let lost = told.created.subtracting(told.deleteAccepted).subtracting(told.deleteUnknown).subtracting(rows)
        #expect(lost.isEmpty, "acknowledged creates lost: \(lost.map { ($0, told.deleteRefused[$0] ?? "no deletion answered") })")
        #expect(told.deleteAccepted.isDisjoint(with: rows), "acknowledged deletes undone: \(told.deleteAccepted.intersection(rows))")
        // A deletion that was refused or not heard of leaves snapshots too.
        let snapshots = try service.api("GET", "/snapshots/detail?limit=1000").json["snapshots"]?.array ?? []
        #expect(try service.usage("volumes") == Int64(volumes.count) && service.usage("snapshots") == Int64(snapshots.count))
        #expect(try service.usage("gigabytes") == (volumes + snapshots).reduce(0) { $0 + ($1["size"]?.integer ?? 0) })
        let stored = volumes.filter { $0["os-vol-host-attr:host"]?.string != nil }
        /// `backend/name` of what a row stands for.
        func object(_ volume: JSON) -> String {
            let backend = volume["os-vol-host-attr:host"]?.string?.contains("@one") == true ? "one" : "two"
            return "\(backend)/volume-\(volume["os-vol-mig-status-attr:name_id"]?.string ?? volume["id"]?.string ?? "")"
        }
        let all = ["one", "two"].flatMap { backend in
            ServiceUnderTest.entries(service.state + "/volumes/" + backend).map { "\(backend)/\($0)" }
        }
        let files = Set(all.filter { $0.contains("/volume-") && !$0.hasSuffix(".partial") })
        let names = Set(stored.map(object))
        #expect(files.subtracting(names).isEmpty, "orphans: \(files.subtracting(names))")
        // A call that eight hosts died in is given up, and its volume's owner is told.
        let inError = volumes.filter { $0["status"]?.string?.hasPrefix("error") ?? false }
        for volume in inError {
            let id = volume["id"]?.string ?? ""
            let messages = try service.api("GET", "/messages?resource_uuid=\(id)").json["messages"]?.array ?? []
            #expect(!messages.isEmpty, "\(volume["status"]?.string ?? "") without a message: \(id)")
            print("soak: \(id) \(volume["status"]?.string ?? ""): \(messages.compactMap { $0["user_message"]?.string })")
        }
        // A volume in error may have lost its storage; every other one has it.
        let failed = Set(stored.filter(inError.contains).map(object))
        #expect(names.subtracting(files).subtracting(failed).isEmpty, "rows without storage")
        #expect(all.allSatisfy { !$0.hasSuffix(".partial") }, "half-made files remain")
        #expect(told.refused == 0, "connections refused")
        try await Self.expectNoCrash(service)
        let examined = try await DoctorTests.examine(service)
        #expect(examined.findings.isEmpty, "\(examined.findings.prefix(5))")
        func milliseconds(_ seconds: Double?) -> Int { Int((seconds ?? 0) * 1000) }
        func middleAndMost(_ seconds: [Double]) -> String {
            let sorted = seconds.sorted()
            return "\(milliseconds(sorted.isEmpty ? nil : sorted[sorted.count / 2])) ms, at most \(milliseconds(sorted.last)) ms"
        }
        print(
            "soak: seed \(seed), \(kills) kills, \(told.lives) lives, \(told.lostAnswers) answers lost, \(volumes.count) volumes left,"
                + " \(inError.count) in error, recovery of the core"
                + " after its end \(middleAndMost(recoveries.map(\.sinceEnd))), after its kill \(middleAndMost(recoveries.map(\.sinceKill))),"
                + " settled \(milliseconds(settled)) ms after the last kill,"
                + " server errors \(told.serverErrors.count): \(told.serverErrors.prefix(3))")
    }

    /// Memory in KiB that all the service's processes have taken, and what they have open. Pages of files do not count: whose share they
    /// are changes with whoever else runs the same program.
    private static func footprint(_ service: ServiceUnderTest) -> (memory: Int, open: [String]) {
        var memory = 0
        var open: [String] = []
        for pid in [service.pid] + service.processes("core") + service.processes("driver-host") {
            open += openFiles(of: pid)
            for line in ((try? ServiceUnderTest.read("/proc/\(pid)/smaps_rollup")) ?? "").split(separator: "\n")
            where line.hasPrefix("Pss_Anon:") || line.hasPrefix("Pss_Shmem:") {
                memory += line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
            }
        }
        return (memory, open)
    }

    @Test("under mixed load memory does not grow and descriptors do not leak")
    func endurance() async throws {
        let service = try Self.service()
        let ledger = Ledger()
        let begin = Timestamp.monotonic()
        let end = begin + Self.seconds
        let finished = Semaphore()
        for index in 0..<8 {
            startThread("client-\(index)") {
                Self.live(service, ledger, seed: Self.seed &+ UInt64(index), until: end)
                finished.post()
            }
        }
        startThread("reader") {
            while Timestamp.monotonic() < end {
                for path in ["/volumes/detail?limit=50", "/volumes/summary", "/limits", "/os-services", "/messages", "/types", "/nothing"] {
                    _ = try? service.api("GET", path)
                }
                _ = try? service.request("GET", "/metrics")
                _ = try? service.api("POST", "/volumes", ["volume": ["size": -1]])
                usleep(2_000)
            }
            finished.post()
        }
        // The first sixth is for caches to fill: five minutes of thirty.
        while Timestamp.monotonic() < begin + Self.seconds / 6 { usleep(50_000) }
        let early = Self.footprint(service)
        var samples: [Int] = []
        while Timestamp.monotonic() < end {
            usleep(useconds_t(min(Self.seconds / 60, 30) * 1e6))
            samples.append(Self.footprint(service).memory)
        }
        await Self.wait(finished, 9)
        usleep(1_000_000)
        try await Self.expectNoCrash(service)
        var late = Self.footprint(service)
        // Readers of the database that only a crowd needed are closed as others come back.
        let patience = Timestamp.monotonic() + 10
        while late.open.count > early.open.count, Timestamp.monotonic() < patience {
            _ = try service.api("GET", "/volumes")
            usleep(100_000)
            late = Self.footprint(service)
        }
        let told = ledger.state.withLock { $0 }
        print(
            "endurance: \(Int(Self.seconds)) s, \(told.lives) lives, memory \(early.memory) KiB after a sixth, \(late.memory) KiB at the end, most"
                + " \(samples.max() ?? 0) KiB, descriptors \(early.open.count) and \(late.open.count)")
        // A leak goes on, caches come to their end.
        print("endurance: KiB from the first sixth on \(samples)")
        #expect(told.serverErrors.isEmpty && told.lostAnswers == 0, "\(told.serverErrors.prefix(3))")
        #expect(late.open.count <= early.open.count, "descriptors leak: \(early.open), then \(late.open)")
        // A run of seconds says little: caches are still filling.
        #expect(
            late.memory < early.memory * (Self.seconds < 600 ? 200 : 105) / 100,
            "memory grows: \(early.memory) KiB, then \(late.memory) KiB")
    }
}
