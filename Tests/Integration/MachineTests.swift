import Glibc
import Testing

/// What needs a kernel of its own: power cuts, small and broken disks, a clock that moves. Each runs in a User-Mode-Linux
/// machine on this machine's files (Tests/Machine).
@Suite("In a machine of its own", .serialized)
struct MachineTests {
    private func run(_ script: String, _ arguments: String, disks: String, modules: String = "", seconds: Int) async throws -> String {
        let root = ServiceUnderTest.root
        let command = "python3 \(root)/Tests/Machine/\(script) \(ServiceUnderTest.binary) \(arguments)"
        let (status, output) = try await ServiceUnderTest.run(
            "/usr/bin/env",
            [
                "MACHINE_DISKS=\(disks)", "MACHINE_MODULES=\(modules)", "MACHINE_SECONDS=\(seconds)", root + "/Tests/Machine/machine",
                command,
            ])
        #expect(status == 0, "\(output.suffix(4000))")
        return output
    }

    /// Power cuts tried; `make soak` asks for 50.
    private static var points: Int { getenv("CLINKER_POWER_CUTS").flatMap { Int(String(cString: $0)) } ?? 10 }

    @Test("after a power cut everything acknowledged is there, and nothing is damaged")
    func powerLoss() async throws {
        let output = try await run(
            "powerloss.py", "\(Self.points) \(SoakTests.seed)", disks: "128M 1G 128M 128M", modules: "dm-mod dm-log-writes dm-snapshot",
            seconds: 60 + 15 * Self.points)
        #expect(output.contains("everything acknowledged was there"))
        print(output)
    }

    @Test("full, broken and read-only disks and a clock that moves by hours cost requests, never work")
    func disks() async throws {
        let output = try await run("disks.py", "", disks: "48M 64M", seconds: 300)
        for scenario in ["volumes_full", "database_full", "database_full_restart", "clock", "read_only"] {
            #expect(output.contains("\(scenario): good"), "\(output.suffix(3000))")
        }
    }
}
