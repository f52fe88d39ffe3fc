import CDriver
import Glibc
import Primitives

/// Connections of hosts to volumes.
enum AttachingChecks {
    static func connector(_ host: String) -> DriverValue {
        .members([
            "host": .string(host), "ip": .string("127.0.0.1"), "initiator": .string("iqn.2026-11.example:\(host)"),
            "nqn": .string("nqn.2026-11.example:\(host)"), "platform": .string("x86_64"), "os_type": .string("linux"),
            "multipath": .boolean(false), "mountpoint": .string("/dev/vdb"),
        ])
    }

    private static func connect(_ bench: CheckBench, _ volume: CheckBench.Object, _ host: String = "one", mode: String = "rw") throws
        -> DriverValue
    {
        try bench.call(.connectVolume, volume, [("connector", connector(host)), ("mode", .string(mode))])
    }

    private static func disconnect(_ bench: CheckBench, _ volume: CheckBench.Object, _ host: String? = "one", remaining: [String] = [])
        throws
    {
        var more: [(String, DriverValue)] = [
            ("attachments", .list(remaining.map { .members(["connector": connector($0)]) }))
        ]
        if let host { more.append(("connector", connector(host))) }
        try callIfThere(bench, .disconnectVolume, volume, more)
    }

    private static func callIfThere(
        _ bench: CheckBench, _ method: DriverMethod, _ volume: CheckBench.Object, _ more: [(String, DriverValue)] = []
    ) throws {
        do { try bench.call(method, volume, more) } catch let failure as DriverFailure where failure.code == .unsupported {}
    }

    /// A volume that is ready to be connected.
    private static func exported(_ bench: CheckBench) throws -> CheckBench.Object {
        let volume = try bench.volume()
        do { return bench.keeping(try bench.call(.exportVolume, volume), volume) } catch let failure as DriverFailure
            where failure.code == .unsupported
        { return volume }
    }

    /// The members that os-brick needs.
    private static let members = [
        "local": ["device_path"], "iscsi": ["target_iqn", "target_portal", "target_lun"], "rbd": ["name", "hosts", "ports"],
        "nfs": ["export", "name"],
    ]

    /// A path of this machine that an answer names must lead to the volume.
    private static func expectPath(_ bench: CheckBench, _ answer: DriverValue, holding text: String = "") throws {
        guard answer["driver_volume_type"]?.string == "local", let path = answer["data"]?["device_path"]?.string else { return }
        let file = open(path, O_RDONLY | O_CLOEXEC)
        let failure = SystemError.last(path)
        try bench.require(file >= 0, "\(failure)")
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: text.utf8.count)
        let count = pread(file, &bytes, bytes.count, 0)
        try bench.require(count == bytes.count && bytes == Array(text.utf8), "\(path) does not hold the volume's bytes")
    }

    static let cases: [ConformanceCase] = [
        ConformanceCase("connect: the answer names a kind of connection and its data", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            let answer = try connect(bench, volume)
            try bench.require(answer["driver_volume_type"]?.string?.isEmpty == false, "driver_volume_type: \(answer.loggable)")
            guard case .object(let members)? = answer["data"] else { throw CheckBench.Failure(description: "data: \(answer.loggable)") }
            try bench.require(!members.isEmpty, "data is empty")
            try disconnect(bench, volume)
        },
        ConformanceCase("connect: what the answer names is there", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            if bench.hasHandles { try bench.write("here", to: volume) }
            let answer = try connect(bench, volume)
            let kind = answer["driver_volume_type"]?.string ?? ""
            for name in members[kind] ?? [] {
                try bench.require(answer["data"]?[name].map { $0 != .null } ?? false, "a connection of kind \(kind) needs \(name)")
            }
            try expectPath(bench, answer, holding: bench.hasHandles ? "here" : "")
            try disconnect(bench, volume)
        },
        ConformanceCase("connect: secrets stay out of the log", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            _ = try connect(bench, volume)
            try disconnect(bench, volume)
            try bench.require(bench.witness.betrayal == nil, "a secret of the answer stands in the log: \(bench.witness.betrayal ?? "")")
        },
        ConformanceCase("connect: a connector that lacks what is needed is refused", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            for connector in [[:], ["host": .string("one")], ["ip": .string("127.0.0.1")]] as [KeyValuePairs<String, DriverValue>] {
                do {
                    try bench.call(.connectVolume, volume, [("connector", .members(connector)), ("mode", .string("rw"))])
                } catch let failure as DriverFailure {
                    try bench.require(failure.code == .invalid, "\(failure.code.name) (\(failure.message)), not CLINKER_INVALID")
                }
            }
            try disconnect(bench, volume, nil)
        },
        ConformanceCase("connect: again is the same connection", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            let first = try connect(bench, volume)
            try bench.require(try connect(bench, volume) == first, "the second answer differs")
            try disconnect(bench, volume)
        },
        ConformanceCase("connect: what a host was told stays true while it is connected", needs: [.connectVolume, .createSnapshot]) {
            bench in
            var volume = try exported(bench)
            let before = try bench.snapshot(of: volume)
            let told = try connect(bench, volume)
            volume.isConnected = true
            // Each may be refused as busy, which leaves everything unchanged, or succeed without disturbing connected hosts.
            func attempt(_ what: String, _ body: () throws -> Void) throws {
                do { try body() } catch let failure as DriverFailure where failure.code == .unsupported {} catch let failure
                    as DriverFailure
                { try bench.require(failure.code == .busy, "\(what): \(failure.code) (\(failure.message)), not busy") }
                try bench.require(try connect(bench, volume) == told, "\(what): a host that connects now is told something else")
            }
            try attempt("deleting a snapshot") { try bench.delete(before, of: volume) }
            try attempt("a snapshot") { _ = try bench.snapshot(of: volume) }
            try attempt("extending") {
                try bench.call(.extendVolume, volume, [("new_size", .integer(2)), ("attached", .boolean(true))])
            }
            try disconnect(bench, volume)
        },
        ConformanceCase("connect: for reading only", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            let answer = try connect(bench, volume, mode: "ro")
            let mode = answer["data"]?["access_mode"]?.string
            try bench.require(mode == nil || mode == "ro", "access_mode is \(mode ?? ""), not ro")
            try disconnect(bench, volume)
        },
        ConformanceCase("connect: to what is not there is refused", needs: [.connectVolume]) { bench in
            try bench.refused([.notFound], "a connection") { _ = try connect(bench, CheckBench.Object()) }
        },
        ConformanceCase("connect: two hosts, where the driver says that they may", needs: [.connectVolume]) { bench in
            guard try bench.driver.call(.capabilities, .object([]))["multiattach"]?.boolean == true else {
                throw CheckBench.Skip(reason: "multiattach is not true")
            }
            let volume = try exported(bench)
            let one = try connect(bench, volume, "one")
            let two = try connect(bench, volume, "two")
            for answer in [one, two] { try expectPath(bench, answer) }
            try disconnect(bench, volume, "one", remaining: ["two"])
            try expectPath(bench, two)
            _ = try connect(bench, volume, "two")
            try disconnect(bench, volume, "two")
        },
        ConformanceCase("disconnect: again, and of what never was connected", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            try disconnect(bench, volume)
            _ = try connect(bench, volume)
            for _ in 0..<3 { try disconnect(bench, volume) }
        },
        ConformanceCase("disconnect: every connection, where no connector is named", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            _ = try connect(bench, volume)
            try disconnect(bench, volume, nil)
        },
        ConformanceCase("disconnect: a connection that another attachment of its host still needs stays", needs: [.connectVolume]) {
            bench in
            let volume = try exported(bench)
            let first = try connect(bench, volume)
            try disconnect(bench, volume, "one", remaining: ["one"])
            try expectPath(bench, first)
            try bench.require(try connect(bench, volume) == first, "it changed")
            try disconnect(bench, volume)
        },
        ConformanceCase("export: again, ensured, and taken back twice") { bench in
            let volume = try bench.volume()
            for method in [DriverMethod.exportVolume, .exportVolume, .ensureExport, .unexportVolume, .unexportVolume] {
                try callIfThere(bench, method, volume)
            }
        },
        ConformanceCase("export: taking back what never was") { bench in
            let volume = try bench.volume()
            if bench.hasHandles { try bench.write("kept", to: volume) }
            try callIfThere(bench, .unexportVolume, volume)
            if bench.hasHandles { try bench.expect("kept", in: volume, "the volume") }
        },
        ConformanceCase("export: ensured after it was lost, then connected", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            try callIfThere(bench, .ensureExport, volume)
            _ = try connect(bench, volume)
            try disconnect(bench, volume)
            try callIfThere(bench, .unexportVolume, volume)
        },
        ConformanceCase("attach: a volume that was connected and let go can be deleted", needs: [.connectVolume]) { bench in
            let volume = try exported(bench)
            _ = try connect(bench, volume)
            try disconnect(bench, volume)
            try callIfThere(bench, .unexportVolume, volume)
            try bench.call(.deleteVolume, volume)
        },
        ConformanceCase("attach: what is written through a handle is there while it is connected", needs: [.connectVolume], handles: true) {
            bench in
            let volume = try exported(bench)
            _ = try connect(bench, volume)
            try bench.write("through", to: volume)
            try bench.expect("through", in: volume, "the volume")
            try disconnect(bench, volume)
        },
    ]
}
