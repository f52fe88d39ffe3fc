import CDriver
import DriverKit

/// A qcow2 file, version 3 (QEMU's docs/interop/qcow2.txt): as used by Cinder's NFS driver and QEMU. Clusters
/// are only appended. Reference counts are written before data, data before the entries that point to it, and references are dropped last,
/// so that a process that dies between two writes leaves at most leaked clusters.
public final class Qcow2: Layer {
    private static let newClusterBits: UInt32 = 16
    /// The largest file, far below the point where sums of offsets and lengths could overflow.
    static let longest: UInt64 = 1 << 56

    let file: any ImageFile
    let below: (any Layer)?
    public internal(set) var virtualSize: UInt64
    public private(set) var backing: String?
    private var backingFormat: String?
    private let features: (incompatible: UInt64, compatible: UInt64)
    /// Feature bits to clear before the first write.
    private var autoclear: UInt64
    let clusterBits: UInt32
    var l1Offset: UInt64
    var l1: [UInt64]
    let refcountTableOffset: UInt64
    var refcountTable: [UInt64]
    var l2Tables: [Int: [UInt64]] = [:]
    let sizeWhenOpened: UInt64
    /// The offset of the next allocated cluster.
    var end: UInt64
    /// The last decompressed cluster: sequential readers read it in pieces.
    var inflated: (entry: UInt64, bytes: [UInt8])?

    static let copied: UInt64 = 1 << 63
    static let compressed: UInt64 = 1 << 62
    static let zeroFlag: UInt64 = 1
    static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00

    var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    var entriesPerTable: UInt64 { clusterSize / 8 }
    var countsPerBlock: UInt64 { clusterSize / 2 }

    /// Opens a file with its backing layer.
    public init(_ file: any ImageFile, over below: (any Layer)?) throws {
        func refuse(_ why: String) -> DriverError { DriverError(CLINKER_INVALID, "\(file.name) cannot be used: \(why)") }
        guard let header = try Qcow2Header.read(file) else { throw refuse("it is no qcow2 file") }
        if let refusal = header.refusal { throw refuse(refusal) }
        let size = try file.size
        guard size <= Self.longest else { throw refuse("it is \(size) bytes long") }
        self.file = file
        self.below = below
        virtualSize = header.size
        backing = header.backing
        backingFormat = header.backingFormat
        features = (header.incompatible, header.compatible)
        autoclear = header.autoclear
        clusterBits = header.clusterBits
        l1Offset = header.l1Count > 0 ? header.l1Offset : 0
        refcountTableOffset = header.tableClusters > 0 ? header.tableOffset : 0
        l1 = try file.big64s(count: header.l1Count, at: l1Offset)
        refcountTable = try file.big64s(count: header.tableClusters << Int(clusterBits - 3), at: refcountTableOffset)
        sizeWhenOpened = size
        // Also after its tables, whose last part may be beyond the end of the file.
        let cluster: UInt64 = 1 << UInt64(clusterBits)
        let used = max(size, l1Offset + UInt64(l1.count) * 8, refcountTableOffset + UInt64(refcountTable.count) * 8)
        end = (used + cluster - 1) / cluster * cluster
    }

    /// Creates a file without data: it reads as zeroes, or as its backing file.
    public static func create(in file: any ImageFile, size: UInt64, backing: (name: String, format: String)?) throws {
        let cluster: UInt64 = 1 << UInt64(newClusterBits)
        // The largest size that the refcount table can describe.
        guard size <= 1 << 51 else { throw DriverError(CLINKER_INVALID, "a qcow2 file has at most 2 PiB") }
        let l1Count = (size + (cluster * cluster / 8) - 1) / (cluster * cluster / 8)
        let l1Clusters = max(1, (l1Count * 8 + cluster - 1) / cluster)
        // Refcounts for twice the virtual size: 2 GiB of file per entry.
        let tableClusters = min(128, max(1, (size / (cluster * cluster / 2) * 2 * 8 + cluster - 1) / cluster))
        let used = 1 + tableClusters + 1 + l1Clusters
        var bytes = [UInt8](repeating: 0, count: Int((tableClusters + 2) * cluster))
        let header = headerBytes(
            size: size, clusterBits: newClusterBits, l1Count: UInt32(l1Count), l1Offset: (tableClusters + 2) * cluster,
            tableOffset: cluster, tableClusters: UInt32(tableClusters), features: (0, 0), backing: backing)
        bytes.replaceSubrange(0..<header.count, with: header)
        bytes.setBig64((tableClusters + 1) * cluster, at: Int(cluster))
        for index in 0..<Int(used) { bytes.setBig16(1, at: Int((tableClusters + 1) * cluster) + index * 2) }
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.truncate(to: used * cluster)
    }

    private static func headerBytes(
        size: UInt64, clusterBits: UInt32, l1Count: UInt32, l1Offset: UInt64, tableOffset: UInt64, tableClusters: UInt32,
        features: (incompatible: UInt64, compatible: UInt64), backing: (name: String, format: String)?
    ) -> [UInt8] {
        // Including the compression type: zlib.
        var bytes = [UInt8](repeating: 0, count: 112)
        bytes.replaceSubrange(0..<4, with: Qcow2Header.magic)
        bytes.setBig32(3, at: 4)
        bytes.setBig32(clusterBits, at: 20)
        bytes.setBig64(size, at: 24)
        bytes.setBig32(l1Count, at: 36)
        bytes.setBig64(l1Offset, at: 40)
        bytes.setBig64(tableOffset, at: 48)
        bytes.setBig32(tableClusters, at: 56)
        bytes.setBig64(features.incompatible, at: 72)
        bytes.setBig64(features.compatible, at: 80)
        bytes.setBig32(4, at: 96)
        bytes.setBig32(112, at: 100)
        if let backing {
            // The backing file's format is recorded, so that it is not probed from bytes that a guest wrote.
            var fields = [UInt8](repeating: 0, count: 8)
            fields.setBig32(Qcow2Header.backingFormatName, at: 0)
            fields.setBig32(UInt32(backing.format.utf8.count), at: 4)
            bytes += fields + Array(backing.format.utf8) + [UInt8](repeating: 0, count: (8 - backing.format.utf8.count % 8) % 8)
        }
        bytes += [UInt8](repeating: 0, count: 8)
        if let backing {
            bytes.setBig64(UInt64(bytes.count), at: 8)
            bytes.setBig32(UInt32(backing.name.utf8.count), at: 16)
            bytes += Array(backing.name.utf8)
        }
        return bytes
    }

    /// Replaces the backing file by one with the same contents.
    public func rebase(to backing: (name: String, format: String)?) throws {
        self.backing = backing?.name
        backingFormat = backing?.format
        try writeHeader()
    }

    func writeHeader() throws {
        var beneath: (name: String, format: String)?
        if let backing {
            guard let backingFormat else {
                throw DriverError(CLINKER_INVALID, "\(file.name) cannot be changed: the format of its backing file is not said")
            }
            beneath = (backing, backingFormat)
        }
        var bytes = Self.headerBytes(
            size: virtualSize, clusterBits: clusterBits, l1Count: UInt32(l1.count), l1Offset: l1Offset, tableOffset: refcountTableOffset,
            tableClusters: UInt32(refcountTable.count >> Int(clusterBits - 3)), features: features, backing: beneath)
        guard bytes.count <= 4096 else { throw DriverError(CLINKER_INVALID, "\(file.name): the name of its backing file is too long") }
        // In one write, over the whole former header.
        bytes += [UInt8](repeating: 0, count: 4096 - bytes.count)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.flush()
        autoclear = 0
    }

    /// Invalidates dirty bitmaps and the like before the first write.
    func beginWriting() throws {
        guard autoclear != 0 else { return }
        try [UInt8](repeating: 0, count: 8).withUnsafeBytes { try file.write($0, at: 88) }
        autoclear = 0
    }

    /// The backing layer's format, for the header.
    public func say(backingFormat: String) { self.backingFormat = backingFormat }

    func damaged(_ what: String) -> DriverError { DriverError(CLINKER_INVALID, "\(file.name) is damaged: \(what)") }

    public var size: UInt64 { virtualSize }
    public func flush() throws { try file.flush() }
    public func close() {
        file.close()
        below?.close()
    }
}
