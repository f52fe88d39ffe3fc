import Database
import Primitives

/// Volumes that are offered to other projects.
final class VolumeTransferTable: Table, @unchecked Sendable {
    static let table = VolumeTransferTable("volume_transfers", "x").declared()

    let id = Column<String>("id"), volumeID = Column<String>("volume_id"), name = Column<String?>("name")
    /// The project that offers the volume, which is the volume's.
    let sourceProjectID = Column<String>("source_project_id")
    let leavesSnapshots = Column<Bool>("no_snapshots")
    /// What the key is checked with: hexadecimal.
    let salt = Column<Secret>("salt"), keyHash = Column<Secret>("key_hash")
    let createdAt = Column<String>("created_at")
}
