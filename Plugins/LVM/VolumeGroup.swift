import CDriver
import DriverKit
import Glibc
import JSON

/// A volume group and its logical volumes, through LVM's commands and their JSON reports.
struct VolumeGroup: Sendable {
    struct LogicalVolume {
        let name: String
        /// The size in bytes.
        let size: UInt64
        /// lvs's lv_attr: type, permissions, allocation, fixed, state, open, target, zero, health, skip.
        let attributes: [Character]
        /// The origin of a snapshot. A thin snapshot is a volume of its own.
        let origin: String?
        let pool: String?
        let tags: [String]
        let dataPercent: Double

        var isThinPool: Bool { attributes.first == "t" }
        var isThin: Bool { attributes.first == "V" }
        var isOpen: Bool { attributes.count > 5 && attributes[5] == "o" }
        var isActive: Bool { attributes.count > 4 && attributes[4] == "a" }
        /// Whether a snapshot is being merged into it.
        var isMerging: Bool { attributes.first == "O" }

        /// Whether it depends on the volume. A thin snapshot in the volume's pool does not; a thick snapshot does, and so does a thin volume
        /// with an external origin.
        func hangs(on volume: LogicalVolume) -> Bool { origin == volume.name && !(isThin && volume.isThin && pool == volume.pool) }
    }

    let name: String
    private let tool: Tool

    init(_ name: String, configuration: String?) {
        self.name = name
        var environment = ["LVM_SUPPRESS_FD_WARNINGS=1", "DM_DISABLE_UDEV=\(access("/run/udev/control", F_OK) == 0 ? 0 : 1)"]
        if let configuration { environment.append("LVM_SYSTEM_DIR=\(configuration)") }
        tool = Tool("lvm", environment: environment)
    }

    // MARK: reports

    /// Bytes.
    func capacity() throws -> (total: UInt64, free: UInt64) {
        let rows = try report(["vgs", "-o", "vg_size,vg_free", name], "vg")
        guard let row = rows.first else { throw DriverError(CLINKER_BAD_CONFIGURATION, "there is no volume group \(name)") }
        return (Self.bytes(row["vg_size"]), Self.bytes(row["vg_free"]))
    }

    func volumes() throws -> [LogicalVolume] {
        try report(["lvs", "-o", "lv_name,lv_size,lv_attr,origin,pool_lv,lv_tags,data_percent", name], "lv").map { row in
            func text(_ field: String) -> String? { row[field]?.string.flatMap { $0.isEmpty ? nil : $0 } }
            return LogicalVolume(
                name: text("lv_name") ?? "", size: Self.bytes(row["lv_size"]), attributes: Array(text("lv_attr") ?? ""),
                origin: text("origin"),
                pool: text("pool_lv"), tags: (text("lv_tags") ?? "").split(separator: ",").map(String.init),
                dataPercent: Double(text("data_percent") ?? "") ?? 0)
        }
    }

    func find(_ volume: String) throws -> LogicalVolume? { try volumes().first { $0.name == volume } }

    func required(_ volume: String) throws -> LogicalVolume {
        guard let found = try find(volume) else { throw DriverError(CLINKER_NOT_FOUND, "there is no logical volume \(name)/\(volume)") }
        return found
    }

    private func report(_ arguments: [String], _ kind: String) throws -> [JSON] {
        let answer = try tool.run([arguments[0], "--reportformat", "json", "--units", "b", "--nosuffix"] + arguments.dropFirst())
        guard answer.status == 0 else { throw failure(answer, arguments[0]) }
        guard let report = try? JSON(parsing: answer.output) else { throw DriverError(CLINKER_ERROR, "\(arguments[0]) gave no JSON") }
        return report["report"]?.array?.first?[kind]?.array ?? []
    }

    private static func bytes(_ value: JSON?) -> UInt64 { value?.string.flatMap { UInt64($0) } ?? 0 }

    // MARK: changes

    /// Runs a command that changes something; LVM's error text selects the code.
    @discardableResult
    func run(_ arguments: String...) throws -> String { try run(arguments) }

    /// Returns the output of the command.
    @discardableResult
    func run(_ arguments: [String], timeout: Int = 120) throws -> String {
        let answer = try tool.run(arguments, timeout: timeout)
        guard answer.status == 0 else { throw failure(answer, arguments[0]) }
        return answer.output
    }

    private func failure(_ answer: Tool.Answer, _ command: String) -> DriverError {
        let text = answer.errors.lowercased()
        func says(_ words: String...) -> Bool { words.contains { text.contains($0) } }
        let code: clinker_code =
            if says("insufficient free space", "insufficient free extents", "reached threshold", "no free extents", "not enough free") {
                CLINKER_NO_SPACE
            } else if says("volume group \"\(name.lowercased())\" not found", "cannot process volume group") {
                CLINKER_RETRY
            } else if says("failed to find logical volume", "not found") {
                CLINKER_NOT_FOUND
            } else if says("already exists") {
                CLINKER_EXISTS
            } else if says("in use", "is used by", "device or resource busy") {
                CLINKER_BUSY
            } else {
                CLINKER_ERROR
            }
        return DriverError(code, "\(command): \(answer.complaint)")
    }

    // MARK: devices

    /// The device of a logical volume. Device-mapper joins names with a dash and doubles dashes in them.
    func path(_ volume: String) -> String {
        func escaped(_ text: String) -> String { text.split(separator: "-", omittingEmptySubsequences: false).joined(separator: "--") }
        return "/dev/mapper/\(escaped(name))-\(escaped(volume))"
    }

    /// The copy-on-write device of a snapshot.
    func cowPath(_ volume: String) -> String { path(volume) + "-cow" }

    /// Activates the volume and waits for its device, which may appear after lvchange has returned.
    func activate(_ volume: String) throws {
        let path = path(volume)
        if access(path, F_OK) == 0 { return }
        try run("lvchange", "-ay", "-K", "\(name)/\(volume)")
        for _ in 0..<250 {
            if access(path, F_OK) == 0 { return }
            usleep(20_000)
        }
        throw DriverError(CLINKER_RETRY, "the device \(path) did not appear")
    }
}
