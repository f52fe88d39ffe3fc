import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// The fault table of swaps: a volume that an instance uses gets another place or type through Nova, each driver call of that goes wrong in
/// each way, the core dies between any two requests of Nova's, and what there is afterwards is one volume, in use and whole, nothing beside.
@Suite("Fault table of swaps", .serialized)
struct FaultSwapTests {
    /// What is asked for.
    enum Act: String, CaseIterable, Sendable { case migrate, retype }

    /// How a call goes wrong: the fault plugin's action, once.
    enum Fault: String, CaseIterable, Sendable {
        case error = "1"
        case errorAfter = "1!"
        case retry = "2"
        case crash
        case crashAfter = "crash!"
        case coreDies = "core"
        case coreDiesAfter = "core!"
        var fails: Bool { self == .error || self == .errorAfter }
    }

    /// Driver calls of the backend that the volume comes to, and of the one that it leaves.
    private static let callsThere = ["create_volume", "export_volume", "connect_volume"]
    private static let callsHere = ["disconnect_volume", "unexport_volume", "delete_volume"]
    /// Where Nova waits (compute.py) while the core is killed.
    private static let points = ["begin", "attach", "connect", "copy", "complete", "detach", "end"]

    private final class Bed {
        let act: Act
        let backend: FaultyBackend
        let world: SwapWorld
        private let typeIDs: [String]

        init(_ act: Act) throws {
            self.act = act
            backend = try FaultyBackend()
            world = try SwapWorld(faulty: backend)
            typeIDs = try [("plain", "file"), ("faulty", "two")].map { [world] type, backend in
                let body: JSON = ["volume_type": ["name": .string(type), "extra_specs": ["volume_backend_name": .string(backend)]]]
                let made = try world.ask("POST", "/types", body, token: world.root)
                return try #require(made.json["volume_type"]?["id"]?.string, "\(made.text)")
            }
        }

        /// A volume on the backend that an instance uses.
        func attached(on backend: String) throws -> String {
            let (id, _) = try world.attached(type(of: backend))
            guard act == .migrate else { return id }
            // A type that fits both: its name is all that a retype changes.
            #expect(try world.act(id, "os-retype", ["new_type": "__DEFAULT__", "migration_policy": "never"]).status == 202)
            try world.wait(id, "volume_type", "__DEFAULT__")
            try world.wait(id, "status", "in-use")
            return id
        }

        func type(of backend: String) -> String { backend == "two" ? "faulty" : "plain" }

        func begin(_ id: String, to backend: String) throws {
            let answer =
                act == .migrate
                ? try world.act(id, "os-migrate_volume", ["host": .string("node@" + backend)])
                : try world.act(id, "os-retype", ["new_type": .string(type(of: backend)), "migration_policy": "on-demand"])
            #expect(answer.status == 202, "\(answer.text)")
        }

        /// Waits for the end; whether the volume moved.
        func settled(_ id: String, _ cell: String) throws -> Bool {
            let limit = Timestamp.monotonic() + 120
            while Timestamp.monotonic() < limit {
                if let shown = try? world.volume(id), shown["status"] == "in-use",
                    let status = shown["migration_status"]?.string, ["success", "error"].contains(status)
                {
                    return status == "success"
                }
                usleep(20_000)
            }
            throw ServiceUnderTest.Failure("\(cell) has no end: \(try world.volume(id))\n\(try world.nova.story())\n\(world.service.story)")
        }

        /// What lies where the volume was, or was to be, is deleted by an operation that may have failed: it goes by another one.
        func removeLeft(_ cell: String) throws -> Bool {
            let limit = Timestamp.monotonic() + 60
            while Timestamp.monotonic() < limit {
                let all = try? world.ask("GET", "/volumes/detail?limit=100", token: world.root).json["volumes"]?.array
                if all?.count == 1 { return false }
                if let left = all?.first(where: { $0["status"] == "error_deleting" })?["id"]?.string {
                    #expect(try world.ask("DELETE", "/volumes/\(left)", token: world.root).status == 202, "\(cell)")
                    return true
                }
                usleep(20_000)
            }
            throw ServiceUnderTest.Failure("\(cell): more is left than one volume\n\(try world.nova.story())\n\(world.service.story)")
        }

        /// One volume, whole and in use, and nothing beside.
        func require(_ id: String, from: String, to: String, isMoved: Bool, _ cell: String) async throws {
            try await world.requireWhole(id, host: "node@\(isMoved ? to : from)", isMoved: isMoved, aborts: true)
            if act == .retype { #expect(try world.volume(id)["volume_type"]?.string == type(of: isMoved ? to : from), "\(cell)") }
            let name = act == .migrate ? "__DEFAULT__" : type(of: isMoved ? to : from)
            #expect(
                try world.charged(["volumes", "gigabytes", "volumes_" + name, "gigabytes_" + name]) == [1, 1, 1, 1],
                "\(cell): charge")
            #expect(world.service.log.contains("glance-secret") == false)
            try world.remove(id)
            #expect(try world.charged(["volumes", "gigabytes", "volumes_" + name]) == [0, 0, 0], "\(cell): charge afterwards")
        }
    }

    /// A driver call goes wrong.
    private func fail(_ call: String, _ fault: Fault, _ bed: Bed) async throws {
        let cell = "swap \(bed.act) \(call) \(fault)"
        let (from, to) = Self.callsThere.contains(call) ? ("file", "two") : ("two", "file")
        let id = try bed.attached(on: from)
        try bed.backend.set("\(call) \(fault.rawValue) 1\n")
        try bed.begin(id, to: to)
        let isMoved = try bed.settled(id, cell)
        let isLeft = try bed.removeLeft(cell)
        #expect(try ServiceUnderTest.read(bed.backend.faults).isEmpty, "\(cell): the fault was not met")
        try bed.backend.set("")
        // What fails before the copy is used leaves the volume where it is; what the host repeats is seen by nobody. Where the core dies
        // while Nova waits for its answer, Nova may go on or take it back.
        if fault.fails {
            #expect(isMoved == Self.callsHere.contains(call), "\(cell): moved")
        } else if ![.coreDies, .coreDiesAfter].contains(fault) || call == "create_volume" || Self.callsHere.contains(call) {
            #expect(isMoved, "\(cell): not moved")
        }
        #expect(!isLeft || call == "delete_volume" && fault.fails, "\(cell): something was left")
        try await bed.require(id, from: from, to: to, isMoved: isMoved, cell)
    }

    /// The core dies where Nova waits.
    private func die(at point: String, _ bed: Bed) async throws {
        let cell = "swap \(bed.act) death at \(point)"
        let (world, from, to) = (bed.world, "file", "two")
        let id = try bed.attached(on: from)
        let before = try world.nova.story()["stopped"]?.array?.count ?? 0
        try world.nova.set(["stop": .string(point)])
        try bed.begin(id, to: to)
        let limit = Timestamp.monotonic() + 60
        while try world.nova.story()["stopped"]?.array?.count == before, Timestamp.monotonic() < limit { usleep(20_000) }
        #expect(try world.nova.story()["stopped"]?.array?.count == before + 1, "\(cell): Nova does not wait")
        for core in world.service.processes("core") { kill(core, SIGKILL) }
        try world.service.waitUntilServing()
        try world.nova.set(["stop": ""])
        let isMoved = try bed.settled(id, cell)
        #expect(try !bed.removeLeft(cell), "\(cell): something was left")
        // Once Nova has attached the copy it goes on whoever dies.
        if !["begin", "attach"].contains(point) { #expect(isMoved, "\(cell): not moved") }
        try await bed.require(id, from: from, to: to, isMoved: isMoved, cell)
    }

    @Test("every act, each of its driver calls and each of Nova's requests, each fault", arguments: Act.allCases)
    func table(act: Act) async throws {
        let calls = (Self.callsThere + Self.callsHere).flatMap { call in Fault.allCases.map { (call: call, fault: $0) } }
            .filter { FaultSample.holds("swap \(act) \($0.call) \($0.fault)", oneOf: 24) }
        let points = Self.points.filter { FaultSample.holds("swap \(act) death at \($0)") }
        guard !calls.isEmpty || !points.isEmpty else { return }
        let bed = try Bed(act)
        do {
            for (call, fault) in calls { try await fail(call, fault, bed) }
            for point in points { try await die(at: point, bed) }
        } catch { Issue.record("\(String(describing: error).prefix(3000))") }
    }
}
