import CDriver
import DiskImages
import DriverKit

/// What a file of a share is. That is recorded when a volume is made or taken over and never read from the file again: a
/// guest writes what it likes, a qcow2 header as well. Only a file of which nothing is recorded is looked at.
///
/// A guest cannot change the length of its file, and raw volumes are whole GiB. So whatever is whole GiB is raw, even when
/// it begins like a qcow2 file; a qcow2 file of such a length gets another one before its volume is left to itself.
extension Chain.Format {
    private static let gibibyte: UInt64 = 1 << 30

    static func isRaw(ofLength length: UInt64) -> Bool { length % gibibyte == 0 }

    /// Gives a qcow2 file a length that no raw volume has. What lies behind its last cluster is nobody's.
    static func setApart(_ file: NFSFile) throws {
        let length = try file.size
        if isRaw(ofLength: length) { try file.truncate(to: length + 65_536) }
    }

    /// What a file is of which nothing is recorded; a qcow2 file that this driver cannot use by itself is refused: one that
    /// leads to other files, is encrypted, or has features that are not known here, and one whose clusters have more than one use: through them its guest
    /// could write to its header.
    static func ofForeign(_ name: String, _ session: Session, _ call: Call) throws -> Self {
        let file = try session.open(name, writable: false)
        defer { file.close() }
        if isRaw(ofLength: try file.size) { return .raw }
        guard let header = try Qcow2Header.read(file) else { return .raw }
        if let backing = header.backing {
            throw DriverError(CLINKER_INVALID, "\(session.path(name)) has a backing file, '\(backing)': it cannot be taken over")
        }
        if header.hasDataFile {
            throw DriverError(CLINKER_INVALID, "\(session.path(name)) keeps its data in another file: it cannot be taken over")
        }
        try Qcow2(file, over: nil).examine { call.isCancelled }
        return .qcow2
    }
}
