import CDriver
import DriverKit

/// The header of a qcow2 file, version 2 or 3 (QEMU's docs/interop/qcow2.txt). It may come from an untrusted source: every number is checked
/// before it is used.
public struct Qcow2Header {
    static let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
    /// The largest virtual size in bytes.
    static let largest: UInt64 = 8_388_607 << 30

    /// The virtual size in bytes.
    public let size: UInt64
    public let backing: String?
    public let backingFormat: String?
    public let hasDataFile: Bool
    let version: UInt32
    let clusterBits: UInt32
    let l1Count: Int
    let l1Offset: UInt64
    let tableOffset: UInt64
    let tableClusters: Int
    let incompatible: UInt64
    let compatible: UInt64
    let autoclear: UInt64
    private let isEncrypted: Bool
    private let hasSnapshots: Bool
    private let refcountOrder: UInt32
    private let compression: UInt8

    /// Of the tables that say where each cluster lies, if all are there.
    public var tableBytes: UInt64 { (size >> UInt64(clusterBits)) * 8 }

    static let isDirty: UInt64 = 1
    private static let hasOtherCompression: UInt64 = 8

    /// Reads a file's header; nil if the file is not qcow2.
    public static func read(_ file: any ImageFile) throws -> Self? {
        let count = Int(min(try file.size, 65_536))
        guard count >= 104 else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { try file.read($0, at: 0) }
        guard Array(bytes[..<4]) == magic else { return nil }
        return try Self(bytes, file.name)
    }

    private init(_ bytes: [UInt8], _ name: String) throws {
        version = bytes.big32(4)
        size = bytes.big64(24)
        guard size <= Self.largest else {
            throw DriverError(CLINKER_INVALID, "\(name) cannot be used: its header says that it has \(size) bytes")
        }
        let (offset, length) = (bytes.big64(8), Int(bytes.big32(16)))
        if offset != 0 {
            guard length <= 1023, length <= bytes.count, offset <= UInt64(bytes.count - length) else {
                throw DriverError(CLINKER_INVALID, "\(name) cannot be used: the name of its backing file lies outside of its header")
            }
            backing = String(decoding: bytes[Int(offset)..<(Int(offset) + length)], as: UTF8.self)
        } else {
            backing = nil
        }
        clusterBits = bytes.big32(20)
        isEncrypted = bytes.big32(32) != 0
        l1Count = Int(bytes.big32(36))
        l1Offset = bytes.big64(40)
        tableOffset = bytes.big64(48)
        tableClusters = Int(bytes.big32(56))
        hasSnapshots = bytes.big32(60) != 0
        let hasFeatures = version >= 3
        incompatible = hasFeatures ? bytes.big64(72) : 0
        compatible = hasFeatures ? bytes.big64(80) : 0
        autoclear = hasFeatures ? bytes.big64(88) : 0
        refcountOrder = hasFeatures ? bytes.big32(96) : 4
        hasDataFile = incompatible & 4 != 0
        let headerLength = hasFeatures ? bytes.big32(100) : 72
        compression = headerLength > 104 && bytes.count > 104 ? bytes[104] : 0
        backingFormat = Self.extensions(bytes, from: headerLength)[Self.backingFormatName]
    }

    static let backingFormatName: UInt32 = 0xE279_2ACA

    /// The text extensions of the header, as far as they are valid.
    private static func extensions(_ bytes: [UInt8], from start: UInt32) -> [UInt32: String] {
        var found: [UInt32: String] = [:]
        var position = Int(start)
        while position <= bytes.count - 8 {
            let (kind, length) = (bytes.big32(position), Int(bytes.big32(position + 4)))
            guard kind != 0, length <= bytes.count - 8 - position else { break }
            if length <= 64 { found[kind] = String(decoding: bytes[(position + 8)..<(position + 8 + length)], as: UTF8.self) }
            position += 8 + (length + 7) / 8 * 8
        }
        return found
    }

    /// Why this driver cannot use the file; nil if it can.
    var refusal: String? {
        guard version == 3 else { return "its qcow2 version is \(version), not 3" }
        guard !hasDataFile else { return "it keeps its data in another file" }
        guard !isEncrypted else { return "it is encrypted" }
        if incompatible & Self.hasOtherCompression != 0 {
            guard compression == 0 else {
                return compression == 1 ? "its clusters are compressed with zstd" : "its clusters are compressed in an unknown way"
            }
        }
        let unknown = incompatible & ~(Self.isDirty | Self.hasOtherCompression)
        guard unknown == 0 else {
            return switch unknown {
            case 2: "it is marked as corrupt"
            case 16: "it has extended L2 entries"
            default: "it has features that are not known here (\(unknown))"
            }
        }
        guard !hasSnapshots else { return "it has snapshots of its own" }
        guard refcountOrder == 4 else { return "its counts have not 16 bits (order \(refcountOrder))" }
        guard (12...21).contains(clusterBits) else { return "its clusters have 2^\(clusterBits) bytes" }
        let cluster: UInt64 = 1 << UInt64(clusterBits)
        // QEMU's limit.
        guard l1Count <= 4 << 20, tableClusters <= (8 << 20) >> Int(clusterBits) else { return "its tables are too large" }
        let span = cluster * (cluster / 8)
        guard UInt64(l1Count) >= (size + span - 1) / span else { return "its table of tables is too small for its size" }
        for (offset, count) in [(l1Offset, l1Count), (tableOffset, tableClusters)] where count > 0 {
            guard offset % cluster == 0, offset >= cluster, offset <= Qcow2.longest else { return "a table of it lies at \(offset)" }
        }
        return nil
    }
}
