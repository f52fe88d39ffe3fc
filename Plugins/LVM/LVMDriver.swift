import CDriver
import DriverKit
import Glibc
import Targets

/// Volumes as logical volumes of a volume group of this machine, thick or in a thin pool, exported through iSCSI or NVMe targets.
/// The names are Cinder's.
final class LVMDriver: VolumeDriver {
    enum Wiping: String { case delete, allocate, both, none }

    let group: VolumeGroup
    private let poolName: String
    /// The thin pool; nil if volumes are thick.
    private let thinPool: String?
    private let mirrors: Int
    let wiping: Wiping
    let wipedBytes: UInt64
    private let wipedBytesPerSecond: UInt64
    private let overSubscription: Double
    private let targets: any TargetHelper

    private static let snapshotPrefix = "snapshot-"
    /// A prefix that LVM reserves.
    static let escapedSnapshotPrefix = "_snapshot-"

    init(_ call: Call) throws {
        let name = try call[LVMOptions.group]
        guard Self.isValid(name) else { throw DriverError(CLINKER_BAD_CONFIGURATION, "volume_group: '\(name)' is no name") }
        poolName = call.option("volume_backend_name") ?? call.option("backend") ?? "LVM"
        mirrors = try call[LVMOptions.mirrors]
        group = VolumeGroup(name, configuration: try call.given(LVMOptions.configurationFile).map { Self.directory(of: $0) })
        let volumes: [VolumeGroup.LogicalVolume]
        do { volumes = try group.volumes() } catch let error as DriverError {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "volume_group: \(name) cannot be used: \(error.message)")
        }
        thinPool = try Self.thinPool(of: group, volumes, type: try call[LVMOptions.type], mirrors: mirrors)
        wiping = try Self.wiping(call)
        wipedBytes = UInt64(try call[LVMOptions.clearSize]) << 20
        wipedBytesPerSecond = UInt64(try call[LVMOptions.clearLimit])
        let ratio = try call.given(LVMOptions.overSubscription) ?? call.option("max_over_subscription_ratio") ?? "20.0"
        overSubscription = Double(ratio == "auto" ? "20.0" : ratio) ?? 20
        targets = try Targets.helper(call)
    }

    private static func wiping(_ call: Call) throws -> Wiping {
        if try call[LVMOptions.clear].lowercased() == "none" { return .none }
        return Wiping(rawValue: try call[LVMOptions.clearWhen].lowercased()) ?? .delete
    }

    /// For `auto`: thin if there is a pool, or if the group is empty enough to create one.
    private static func thinPool(of group: VolumeGroup, _ volumes: [VolumeGroup.LogicalVolume], type: String, mirrors: Int) throws
        -> String?
    {
        let pool = group.name + "-pool"
        if type == "default" || (type == "auto" && mirrors > 0) { return nil }
        if let found = volumes.first(where: { $0.name == pool }) {
            guard found.isThinPool else { throw DriverError(CLINKER_BAD_CONFIGURATION, "\(group.name)/\(pool) is no thin pool") }
            if !found.isActive { try group.run("lvchange", "-ay", "\(group.name)/\(pool)") }
            return pool
        }
        if type == "auto", !volumes.isEmpty { return nil }
        do {
            try group.run("lvcreate", "-y", "--errorwhenfull", "y", "-l", "95%FREE", "-T", "\(group.name)/\(pool)")
        } catch let error as DriverError where error.code == CLINKER_EXISTS {}
        return pool
    }

    func capabilities(_ call: Call) {
        call.set("storage_protocol", targets.storageProtocol)
        call.set("thin_provisioning_support", thinPool != nil)
        call.set("thick_provisioning_support", thinPool == nil)
        call.set("multiattach", true)
        call.set("online_extend_support", true)
        call.set("sparse_copy_volume", true)
        // Null (microversion 3.69): hosts always lock while attaching, since NVMe scans for namespaces by itself.
        if targets.storageProtocol == "NVMe-oF" { call.setNull("shared_targets") } else { call.set("shared_targets", false) }
    }

    func stats(_ call: Call) throws {
        let volumes = try group.volumes()
        var (total, free) = try group.capacity()
        if let pool = thinPool.flatMap({ name in volumes.first { $0.name == name } }) {
            total = pool.size
            free = UInt64(Double(pool.size) * max(0, 100 - pool.dataPercent) / 100)
        }
        let provisioned = volumes.filter { !$0.isThinPool && $0.pool == thinPool }.reduce(0) { $0 + $1.size }
        call.list("pools") {
            call.object(nil) {
                call.set("name", poolName)
                call.set("total_capacity_gb", Double(total / UInt64(mirrors + 1)) / 1_073_741_824)
                call.set("free_capacity_gb", Double(free / UInt64(mirrors + 1)) / 1_073_741_824)
                if thinPool != nil {
                    call.set("provisioned_capacity_gb", Double(provisioned) / 1_073_741_824)
                    call.set("max_over_subscription_ratio", overSubscription)
                }
            }
        }
    }

    // MARK: volumes

    func createVolume(_ call: Call) throws {
        let (name, size) = (try name(call, "volume.name"), try call.gibibytes("volume.size"))
        do { try make(name, size, call) } catch let error as DriverError where error.code == CLINKER_EXISTS {
            let found = try group.required(name)
            guard found.size == size else {
                throw DriverError(CLINKER_EXISTS, "\(group.name)/\(name) exists already, with \(found.size) bytes instead of \(size)")
            }
        }
        try group.activate(name)
    }

    private func make(_ name: String, _ size: UInt64, _ call: Call) throws {
        if let thinPool {
            try group.run("lvcreate", "-y", "-V", "\(size)b", "-n", name, "-T", "\(group.name)/\(thinPool)")
        } else if wiping == .allocate || wiping == .both {
            // It has a temporary name until its former contents are wiped.
            let partial = name + ".partial"
            let volumes = try group.volumes().map(\.name)
            if volumes.contains(name) { throw DriverError(CLINKER_EXISTS, "\(group.name)/\(name) exists already") }
            if !volumes.contains(partial) { try allocate(partial, size) }
            try group.activate(partial)
            try wipe(group.path(partial), bytes: 0, call)
            try group.run("lvrename", group.name, partial, name)
        } else {
            try allocate(name, size)
        }
    }

    private func allocate(_ name: String, _ size: UInt64) throws {
        let mirroring = mirrors > 0 ? ["--type", "mirror", "-m", "\(mirrors)", "--nosync"] : []
        try group.run(["lvcreate", "-y", "-Wy", "-Zy", "-L", "\(size)b", "-n", name] + mirroring + [group.name])
    }

    func wipe(_ path: String, from start: UInt64 = 0, bytes: UInt64, _ call: Call) throws {
        let device = try BlockDevice(path, writable: true)
        defer { device.close() }
        try device.wipe(from: start, bytes: bytes, bytesPerSecond: wipedBytesPerSecond, call)
    }

    func extendVolume(_ call: Call) throws {
        let (name, wanted) = (try name(call, "volume.name"), try call.gibibytes("new_size"))
        try grow(name, to: wanted, call)
        // Without connections nobody needs to be notified.
        if call.boolean("volume.attached") ?? false { try targets.resized(name, device: group.path(name)) }
    }

    func grow(_ name: String, to wanted: UInt64, _ call: Call) throws {
        let volumes = try group.volumes()
        guard let volume = volumes.first(where: { $0.name == name }) else {
            throw DriverError(CLINKER_NOT_FOUND, "there is no logical volume \(group.name)/\(name)")
        }
        // A tag tells a repeated call from where on the added extents may still have their former contents.
        var unwiped = volume.tags.first { $0.hasPrefix(Self.unwipedTag) }
        guard volume.size < wanted || unwiped != nil else { return try group.activate(name) }
        if volume.size < wanted {
            if unwiped == nil, !volume.isThin, wiping == .allocate || wiping == .both {
                unwiped = Self.unwipedTag + "\(volume.size)"
                try group.run("lvchange", "--addtag", unwiped ?? "", "\(group.name)/\(name)")
            }
            // The origin of thick snapshots can only grow while it is inactive.
            let isOrigin = !volume.isThin && volumes.contains { $0.origin == name }
            if isOrigin { try group.run("lvchange", "-an", "\(group.name)/\(name)") }
            defer { if isOrigin { try? group.activate(name) } }
            try group.run("lvextend", "-y", "-L", "\(wanted)b", "\(group.name)/\(name)")
        }
        try group.activate(name)
        guard let unwiped, let start = UInt64(unwiped.dropFirst(Self.unwipedTag.count)) else { return }
        try wipe(group.path(name), from: start, bytes: 0, call)
        try group.run("lvchange", "--deltag", unwiped, "\(group.name)/\(name)")
    }

    private static let unwipedTag = "clinker.unwiped."

    /// Thin volumes share their blocks; thick ones are copied by the host.
    func cloneVolume(_ call: Call) throws { try snapshotVolume(of: name(call, "source.name"), call) }
    func createVolumeFromSnapshot(_ call: Call) throws { try snapshotVolume(of: name(call, "snapshot.name"), call) }

    private func snapshotVolume(of source: String, _ call: Call) throws {
        guard thinPool != nil, try group.required(source).isThin else { throw DriverError.unsupported }
        let name = try name(call, "volume.name")
        do { try group.run("lvcreate", "-y", "-s", "-kn", "-n", name, "\(group.name)/\(source)") } catch let error as DriverError
            where error.code == CLINKER_EXISTS
        {}
        try group.activate(name)
        try grow(name, to: call.gibibytes("volume.size"), call)
    }

    // MARK: snapshots

    func createSnapshot(_ call: Call) throws {
        let (volume, snapshot) = (try name(call, "volume.name"), try name(call, "snapshot.name"))
        let origin = try group.required(volume)
        if try group.find(snapshot) == nil { try makeSnapshot(snapshot, of: origin) }
        try group.activate(snapshot)
    }

    private func makeSnapshot(_ snapshot: String, of origin: VolumeGroup.LogicalVolume) throws {
        // A thick snapshot has space for all blocks of its origin.
        let room = origin.isThin ? [] : ["-l", "100%ORIGIN"]
        try group.run(["lvcreate", "-y", "-s", "-kn", "-n", snapshot] + room + ["\(group.name)/\(origin.name)"])
    }

    /// Merging removes the snapshot, so it is created again; a tag on the volume tells a repeated call how far the first one got.
    func revertToSnapshot(_ call: Call) throws {
        let (volume, snapshot) = (try name(call, "volume.name"), try name(call, "snapshot.name"))
        let origin = try group.required(volume)
        guard !origin.isThin else { throw DriverError.unsupported }
        let mark = "clinker.revert." + snapshot
        let isMarked = origin.tags.contains(mark)
        guard try isMarked || group.find(snapshot) != nil else {
            throw DriverError(CLINKER_NOT_FOUND, "there is no logical volume \(group.name)/\(snapshot)")
        }
        guard !origin.isOpen else {
            // A partial merge has changed the volume.
            throw DriverError(isMarked ? CLINKER_RETRY : CLINKER_BUSY, "the device of \(group.name)/\(volume) is open")
        }
        if !isMarked { try group.run("lvchange", "--addtag", mark, "\(group.name)/\(volume)") }
        if try group.find(snapshot) != nil, try !group.required(volume).isMerging {
            try group.run(["lvconvert", "-y", "--merge", "--interval", "1", "\(group.name)/\(snapshot)"], timeout: 3600)
        }
        while try group.required(volume).isMerging {
            if call.isCancelled { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            call.progress(done: 0, total: 0)
            try group.run("lvchange", "--poll", "y", "\(group.name)/\(volume)")
            usleep(200_000)
        }
        try group.activate(volume)
        if try group.find(snapshot) == nil { try makeSnapshot(snapshot, of: try group.required(volume)) }
        try group.run("lvchange", "--deltag", mark, "\(group.name)/\(volume)")
    }

    // MARK: attaching

    func exportVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        try group.activate(group.required(name).name)
        try targets.export(name, device: group.path(name))
    }

    func ensureExport(_ call: Call) throws { try exportVolume(call) }
    func unexportVolume(_ call: Call) throws { try targets.unexport(name(call, "volume.name")) }

    func connectVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        try group.activate(group.required(name).name)
        try targets.connect(name, device: group.path(name), call)
    }

    func disconnectVolume(_ call: Call) throws { try targets.disconnect(name(call, "volume.name"), call) }

    func openHandle(_ call: Call, writable: Bool) throws -> any BlockHandle {
        let isSnapshot = call.string("snapshot.name") != nil
        let name = try name(call, isSnapshot ? "snapshot.name" : "volume.name")
        try group.activate(group.required(name).name)
        return try BlockDevice(group.path(name), writable: writable && !isSnapshot)
    }

    // MARK: arguments

    func name(_ call: Call, _ argument: String) throws -> String {
        let name = try call.required(argument)
        guard Self.isValid(name), !name.hasPrefix(Self.escapedSnapshotPrefix) else {
            throw DriverError(CLINKER_INVALID, "'\(name)' cannot be the name of a logical volume")
        }
        return name.hasPrefix(Self.snapshotPrefix) ? "_" + name : name
    }

    /// lvm(8), "valid names", without the names that LVM reserves.
    private static func isValid(_ name: String) -> Bool {
        let reserved = ["_cdata", "_cmeta", "_corig", "_mlog", "_mimage", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vorigin"]
        return !name.isEmpty && name.utf8.count <= 110 && !name.hasPrefix("-") && !name.hasPrefix(".") && !name.hasPrefix("pvmove")
            && name.utf8.allSatisfy {
                ($0 < 128 && Character(UnicodeScalar($0)).isLetter) || ($0 >= 48 && $0 <= 57) || "+_.-".utf8.contains($0)
            }
            && !reserved.contains { name.hasSuffix($0) }
    }

    private static func directory(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }
}

nonisolated(unsafe) private let table = makeDriverTable(
    name: "lvm", version: "1.0.0", vendor: "Clinker", threads: .parallel, offering: .all.subtracting(.fence),
    options: LVMOptions.all
) {
    openDriver($0, $1) { try LVMDriver($0) }
}

/// The plugin's exported symbol.
@c(clinker_driver_v1)
public func lvmDriver() -> UnsafePointer<clinker_driver>? { table }
