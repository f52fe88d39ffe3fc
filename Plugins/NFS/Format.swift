import CDriver
import DiskImages
import DriverKit
import NFSClient

extension NFSFile: ImageFile {}

/// The format of a file. It is recorded when a volume is created or managed and never probed again, since a guest can write a qcow2 header
/// into a raw volume. Only a file without a record is examined.
///
/// A guest cannot change the length of its file, and raw volumes are whole GiB. So a file of whole GiB is raw, even if it begins like a qcow2
/// file; a qcow2 file of such a length is extended before its volume is unmanaged.
extension Chain.Format {
    private static let gibibyte: UInt64 = 1 << 30

    static func isRaw(ofLength length: UInt64) -> Bool { length % gibibyte == 0 }

    /// Extends a qcow2 file to a length that no raw volume has; bytes after its last cluster are unused.
    static func setApart(_ file: NFSFile) throws {
        let length = try file.size
        if isRaw(ofLength: length) { try file.truncate(to: length + 65_536) }
    }

    /// Examines a file without a record. Refused are qcow2 files that refer to other files, are encrypted or have unknown features, and those
    /// with clusters that are used more than once, through which a guest could write to the header.
    ///
    /// Reads at most `most` bytes of tables; of an image with larger tables only the header is examined.
    static func ofForeign(_ name: String, _ session: Session, _ call: Call, reading most: UInt64 = .max) throws -> Self {
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
        let image = try Qcow2(file, over: nil)
        if header.tableBytes <= most { try image.examine { call.isCancelled } }
        return .qcow2
    }
}
