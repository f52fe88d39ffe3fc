import Glibc
import Testing

/// What needs a kernel of its own: power cuts, small and broken disks, a clock that moves. Each runs in a User-Mode-Linux
/// machine on this machine's files (Tests/Machine).
@Suite("In a machine of its own", .serialized)
struct MachineTests {
    private func run(_ script: String, _ arguments: String, disks: String, modules: String = "", seconds: Int, memory: String = "1G")
        async throws
        -> String
    {
        let root = ServiceUnderTest.root
        let command = "python3 \(root)/Tests/Machine/\(script) \(ServiceUnderTest.binary) \(arguments)"
        let (status, output) = try await ServiceUnderTest.run(
            "/usr/bin/env",
            [
                "MACHINE_DISKS=\(disks)", "MACHINE_MODULES=\(modules)", "MACHINE_SECONDS=\(seconds)", "MACHINE_MEMORY=\(memory)",
                root + "/Tests/Machine/machine",
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
            "powerloss.py", "\(Self.points) \(SoakTests.seed)", disks: "256M 2G 256M 128M", modules: "dm-mod dm-log-writes dm-snapshot",
            seconds: 180 + 30 * Self.points)
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

    @Test(
        "LVM, thick and thin: it keeps every promise of a driver and leaves nothing behind; the openstack command's walk beside other backends; os-brick's over tgt and LIO"
    )
    func lvm() async throws {
        // Machines of one processor each, beside each other.
        async let walk: Void = storage()
        let types = FaultSample.isWholeForDrivers ? ["thin", "default"] : [FaultSample.one(of: ["thin", "default"])]
        try await withThrowingTaskGroup(of: String.self) { group in
            for type in types { group.addTask { try await conformance(type) } }
            for try await output in group { #expect(output.contains(" 0 failed") && output.contains("lvm: good"), "\(output)") }
        }
        try await walk
    }

    /// A command of LVM takes half a second in the machine: a twentieth of the cases, another one every day, of thin or of thick
    /// volumes; a sixth of both where changes are let in; all of them in `make soak`.
    private func conformance(_ type: String) async throws -> String {
        let list = try await ServiceUnderTest.run(ServiceUnderTest.binary, ["driver", "check", "lvm", "--list"])
        let names = list.output.split(separator: "\n").map(String.init)
        let cases = names.filter { FaultSample.holds($0 + type, oneOf: FaultSample.isWholeForDrivers ? 6 : 20) }
        let root = ServiceUnderTest.root
        let command =
            ["\(root)/Tests/Machine/lvm", ServiceUnderTest.binary, type]
            + cases.flatMap { ["--case", "'\($0.split(separator: "'").joined(separator: "'\\''"))'"] }
        let (_, output) = try await ServiceUnderTest.run(
            "/usr/bin/env",
            [
                "MACHINE_DISKS=30G", "MACHINE_MODULES=dm-mod dm-thin-pool dm-snapshot",
                "MACHINE_SECONDS=\(FaultSample.isWhole ? 5400 : 2400)",
                root + "/Tests/Machine/machine",
                command.joined(separator: " "),
            ])
        return output
    }

    @Test(
        "LVM over the kernel's NVMe target: os-brick attaches, extends and detaches; only hosts that are connected get in; nothing is left",
        .enabled(if: FaultSample.isWholeForDrivers || FaultSample.holds("nvme", oneOf: 3), "its day is another"))
    func nvme() async throws {
        let directory = ServiceUnderTest.root + "/.build/nvme-modules"
        let built = try await ServiceUnderTest.run(ServiceUnderTest.root + "/Tests/Machine/nvme-modules", [directory])
        // Debian has the sources of its present kernel only.
        if built.status == 69 { try Test.cancel("\(built.output)") }
        #expect(built.status == 0, "\(built.output)")
        let modules = ["nvme-core", "nvme-fabrics", "nvme-tcp", "nvmet", "nvmet-tcp"].map { "\(directory)/\($0).ko" }
        let output = try await run(
            "nvme.py", FaultSample.isWhole ? "CASES" : "", disks: "6G 6G 6G",
            modules: "dm-mod dm-thin-pool dm-snapshot configfs t10-pi crc64-rocksoft " + modules.joined(separator: " "), seconds: 900)
        for words in ["brick: one done", "brick: two done", "nvme: good"] { #expect(output.contains(words), "\(output.suffix(4000))") }
    }

    @Test("LVM's hosts that are killed in long work; groups, pools, targets and shares that are missing, full, busy or read-only")
    func storageFaults() async throws {
        let scenarios = [
            "thin_kills", "thick_kills", "missing_group", "full_pool", "busy_device", "foreign_snapshot", "half_wiped", "hung_device",
            "stopped_target", "wrong_password", "growing", "secrets", "full_share", "read_only_share",
        ]
        // Some of them, others every day; half of them where changes are let in.
        var chosen = scenarios.filter { FaultSample.holds($0, oneOf: FaultSample.isWholeForDrivers ? 2 : 5) }
        if chosen.isEmpty { chosen = [scenarios[2]] }
        let output = try await run(
            "faults.py", ([String(SoakTests.seed)] + chosen).joined(separator: " "), disks: "6G 6G 512M 4G 512M",
            modules: "dm-mod dm-thin-pool dm-snapshot", seconds: 1200, memory: "1G")
        for scenario in chosen { #expect(output.contains("\(scenario): good"), "\(output.suffix(4000))") }
        #expect(output.contains("faults: good"))
    }

    private func storage() async throws {
        // In `make test` one of them a day, where changes are let in two.
        let parts: [String] =
            if FaultSample.isWhole {
                ["thin thick file nfs", "brick", "images"]
            } else if FaultSample.isWholeForDrivers {
                ["thin file", FaultSample.one(of: ["brick", "images"])]
            } else {
                [FaultSample.one(of: ["thin file", "brick", "images"])]
            }
        let output = try await run(
            "storage.py", parts.joined(separator: " "), disks: "20G 20G 20G 20G",
            modules:
                "dm-mod dm-thin-pool dm-snapshot scsi_mod sd_mod libiscsi iscsi_tcp target_core_mod target_core_iblock iscsi_target_mod",
            seconds: FaultSample.isWhole ? 3600 : 1500, memory: "2G")
        for part in parts {
            let words =
                switch part {
                case "brick": ["brick: thin done", "brick: lio done"]
                case "images": ["images: imaged good"]
                default: ["backends: done", "hostile: done"]
                }
            for words in words + ["nothing wrong", "storage: good"] { #expect(output.contains(words), "\(output.suffix(4000))") }
        }
    }
}
