import CDriver
import DriverKit

// Listing, managing and unmanaging.
extension LVMDriver {
    func listVolumes(_ call: Call) throws {
        let volumes = try group.volumes().filter { !$0.isThinPool && !$0.name.hasSuffix(".partial") }
        call.list("volumes") {
            for volume in volumes where !volume.name.hasPrefix(Self.escapedSnapshotPrefix) {
                call.object(nil) {
                    call.set("name", volume.name)
                    call.set("bytes", Int64(volume.size))
                    call.set("size", Int64((volume.size + 1_073_741_823) >> 30))
                    if let reason = Self.reasonToLeave(volume, among: volumes) { call.set("unsafe", reason) }
                    call.list("snapshots") {
                        for snapshot in volumes where snapshot.origin == volume.name && snapshot.name.hasPrefix(Self.escapedSnapshotPrefix)
                        {
                            call.object(nil) { call.set("name", String(snapshot.name.dropFirst())) }
                        }
                    }
                }
            }
        }
    }

    func manageVolume(_ call: Call) throws {
        let target = try name(call, "volume.name")
        try rename(name(call, call.referenceArgument), as: target, isForeign: true)
        let size = max(1, (try group.required(target).size + 1_073_741_823) >> 30)
        // Volumes are whole GiB.
        try grow(target, to: size << 30, call)
        try group.activate(target)
        call.set("size", Int64(size))
    }

    func manageSnapshot(_ call: Call) throws {
        let target = try name(call, "snapshot.name")
        try rename(name(call, call.referenceArgument), as: target)
        let found = try group.required(target)
        guard found.origin == (try name(call, "volume.name")) else {
            throw DriverError(CLINKER_INVALID, "\(group.name)/\(target) is no snapshot of the volume")
        }
        try group.activate(target)
        call.set("size", Int64((found.size + 1_073_741_823) >> 30))
    }

    /// Why a logical volume cannot be managed; nil if it can.
    private static func reasonToLeave(_ volume: VolumeGroup.LogicalVolume, among volumes: [VolumeGroup.LogicalVolume]) -> String? {
        if volume.isOpen { return "its device is open" }
        if let origin = volumes.first(where: { volume.hangs(on: $0) }) { return "it is a snapshot of \(origin.name)" }
        return nil
    }

    func renameVolume(_ call: Call) throws {
        let target = try name(call, "volume.name")
        try rename(name(call, "source.name"), as: target)
        _ = try group.required(target)
    }

    /// - Parameter isForeign: whether it was not created by this driver.
    private func rename(_ reference: String, as target: String, isForeign: Bool = false) throws {
        let volumes = try group.volumes()
        guard reference != target, let found = volumes.first(where: { $0.name == reference }) else { return }
        guard !volumes.contains(where: { $0.name == target }) else {
            throw DriverError(CLINKER_EXISTS, "\(group.name)/\(target) exists already")
        }
        guard !found.isThinPool else { throw DriverError(CLINKER_INVALID, "\(group.name)/\(reference) is a thin pool") }
        if isForeign, let reason = Self.reasonToLeave(found, among: volumes) {
            throw DriverError(CLINKER_BUSY, "\(group.name)/\(reference) is left as it is: \(reason)")
        }
        try group.run("lvrename", group.name, reference, target)
    }

    // An unmanaged object stays as it is.
    func unmanageVolume(_ call: Call) throws {}
    func unmanageSnapshot(_ call: Call) throws {}
}
