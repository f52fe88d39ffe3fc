import CDriver
import DriverKit
import Glibc

// Removal of volumes and snapshots, and of nothing else.
extension LVMDriver {
    func deleteVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        let volumes = try group.volumes()
        // Nothing depends on a volume that was never used.
        if let partial = volumes.first(where: { $0.name == name + ".partial" }) { try remove(partial.name) }
        guard let volume = volumes.first(where: { $0.name == name }) else { return }
        if let snapshot = volumes.first(where: { $0.origin == name && $0.name.hasPrefix(Self.escapedSnapshotPrefix) }) {
            throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.name)")
        }
        try delete(volume, among: volumes, wiping: group.path(name), call)
    }

    /// Wipes the contents of a thick volume at `path` and removes it; refuses while it is open, or if objects that are not ours would be
    /// removed with it.
    private func delete(
        _ volume: VolumeGroup.LogicalVolume, among volumes: [VolumeGroup.LogicalVolume], wiping path: String, _ call: Call
    ) throws {
        let object = "\(group.name)/\(volume.name)"
        let isBegun = volume.tags.contains(Self.goingTag)
        do {
            if let dependent = volumes.first(where: { $0.hangs(on: volume) }) {
                throw DriverError(CLINKER_BUSY, "\(group.name)/\(dependent.name), which is not ours, needs \(volume.name)")
            }
            guard !volume.isOpen else { throw DriverError(CLINKER_BUSY, "the device of \(object) is open") }
            guard !volume.isThin, wiping == .delete || wiping == .both else { return try remove(volume.name) }
            if path == group.path(volume.name) { try group.activate(volume.name) }
            guard access(path, F_OK) == 0 else { return try remove(volume.name) }
            // Tagged before the first byte is wiped: from here on the volume must never be reported as intact.
            if !isBegun { try group.run("lvchange", "--addtag", Self.goingTag, object) }
        } catch let error as DriverError where isBegun && error.code == CLINKER_BUSY {
            throw Self.gone(error)
        }
        do {
            try wipe(path, bytes: wipedBytes, call)
            try remove(volume.name)
        } catch let error as DriverError where error.code == CLINKER_BUSY { throw Self.gone(error) }
    }

    /// The tag of volumes that are being wiped; for them BUSY, which promises an intact object, must not be answered.
    private static let goingTag = "clinker.going"
    private static func gone(_ error: DriverError) -> DriverError {
        DriverError(CLINKER_ERROR, "it is wiped, wholly or in part, and cannot be removed yet: \(error.message)")
    }

    private func remove(_ name: String) throws {
        // udev or a probe may keep the device open for a moment.
        for attempt in 0..<5 {
            do {
                // lvremove would remove the snapshots of an origin too: LVM checks under its own lock that there are none.
                let said = try group.run("lvremove", "-f", "-S", "lv_name=\"\(name)\" && \(Self.isFree)", group.name)
                if said.contains("successfully removed") { return }
                guard let left = try group.find(name) else { return }
                throw DriverError(CLINKER_BUSY, "\(group.name)/\(left.name) is needed by something that is not ours")
            } catch let error as DriverError {
                if error.code == CLINKER_NOT_FOUND { return }
                if error.code != CLINKER_BUSY || attempt == 4 { throw error }
            }
            usleep(200_000)
        }
    }

    /// lvs's roles of volumes that others depend on. Thin snapshots do not depend on their origin.
    private static let isFree = ["thickorigin", "multithickorigin", "extorigin", "multiextorigin", "extthinorigin", "multiextthinorigin"]
        .map { "lv_role!=\"\($0)\"" }.joined(separator: " && ")

    func deleteSnapshot(_ call: Call) throws {
        let snapshot = try name(call, "snapshot.name")
        let volumes = try group.volumes()
        guard let found = volumes.first(where: { $0.name == snapshot }) else { return }
        // The copy-on-write device of a thick snapshot holds tenants' data too.
        try delete(found, among: volumes, wiping: group.cowPath(snapshot), call)
    }
}
