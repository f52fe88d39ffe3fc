import CDriver
import DriverKit
import Glibc

/// How volumes and snapshots go, and nothing else with them.
extension LVMDriver {
    func deleteVolume(_ call: Call) throws {
        let name = try name(call, "volume.name")
        let volumes = try group.volumes()
        // Nothing hangs on one that nobody was ever given.
        if let partial = volumes.first(where: { $0.name == name + ".partial" }) { try remove(partial.name) }
        guard let volume = volumes.first(where: { $0.name == name }) else { return }
        if let snapshot = volumes.first(where: { $0.origin == name && $0.name.hasPrefix(Self.escapedSnapshotPrefix) }) {
            throw DriverError(CLINKER_BUSY, "\(name) has the snapshot \(snapshot.name)")
        }
        try delete(volume, among: volumes, wiping: group.path(name), call)
    }

    /// Wipes what a thick one held, at `path`, and removes it; refuses while somebody has it open, or something that is not ours would
    /// go with it.
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
            // Before the first byte goes: whatever happens from here on, nobody may be given it as whole again.
            if !isBegun { try group.run("lvchange", "--addtag", Self.goingTag, object) }
        } catch let error as DriverError where isBegun && error.code == CLINKER_BUSY {
            throw Self.gone(error)
        }
        do {
            try wipe(path, bytes: wipedBytes, call)
            try remove(volume.name)
        } catch let error as DriverError where error.code == CLINKER_BUSY { throw Self.gone(error) }
    }

    /// The mark of what is being wiped: BUSY would say that it is as it was.
    private static let goingTag = "clinker.going"
    private static func gone(_ error: DriverError) -> DriverError {
        DriverError(CLINKER_ERROR, "it is wiped, wholly or in part, and cannot be removed yet: \(error.message)")
    }

    private func remove(_ name: String) throws {
        // Whoever looks at new devices (udev, a probe) may hold it for a moment.
        for attempt in 0..<5 {
            do {
                // Of an origin lvremove removes what hangs on it, too: LVM itself looks, under its lock, that there is nothing.
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

    /// lvs's roles of a volume that others hang on. A thin one's snapshots do not.
    private static let isFree = ["thickorigin", "multithickorigin", "extorigin", "multiextorigin", "extthinorigin", "multiextthinorigin"]
        .map { "lv_role!=\"\($0)\"" }.joined(separator: " && ")

    func deleteSnapshot(_ call: Call) throws {
        let snapshot = try name(call, "snapshot.name")
        let volumes = try group.volumes()
        guard let found = volumes.first(where: { $0.name == snapshot }) else { return }
        // What a thick one's origin has lost is kept in a device of its own, and is a tenant's data too.
        try delete(found, among: volumes, wiping: group.cowPath(snapshot), call)
    }
}
