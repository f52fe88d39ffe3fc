import CDriver
import DriverKit

/// Bytes that can be read, written and mapped: a raw file, or a qcow2 file over what lies beneath it.
protocol Layer: AnyObject {
    /// As its users see it, in bytes.
    var size: UInt64 { get throws }
    /// What lies behind the end reads as zeroes.
    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws
    func zero(offset: UInt64, length: UInt64) throws
    func grow(to size: UInt64) throws
    func flush() throws
    /// Pieces in order and without gaps, with CLINKER_EXTENT_ flags; stops when the closure returns false.
    func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool
    func close()
}

final class RawLayer: Layer {
    private let file: NFSFile
    private var known: UInt64?
    init(_ file: NFSFile) { self.file = file }

    var size: UInt64 {
        get throws {
            if let known { return known }
            let size = try file.size
            known = size
            return size
        }
    }

    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let end = try size
        let there = Int(min(UInt64(buffer.count), end > offset ? end - offset : 0))
        if there > 0 { try file.read(UnsafeMutableRawBufferPointer(rebasing: buffer[..<there]), at: offset) }
        UnsafeMutableRawBufferPointer(rebasing: buffer[there...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws { try file.write(buffer, at: offset) }

    func zero(offset: UInt64, length: UInt64) throws {
        let zeroes = [UInt8](repeating: 0, count: Int(min(length, 4 << 20)))
        var position = offset
        while position < offset + length {
            let count = Int(min(UInt64(zeroes.count), offset + length - position))
            try zeroes.withUnsafeBytes { try file.write(UnsafeRawBufferPointer(rebasing: $0[..<count]), at: position) }
            position += UInt64(count)
        }
    }

    func grow(to size: UInt64) throws {
        if try self.size < size { try file.truncate(to: size) }
        known = nil
    }

    func flush() throws { try file.flush() }

    /// NFS version 3 does not tell holes from data.
    func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool {
        let end = try size
        let hole = UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)
        let there = min(length, end > offset ? end - offset : 0)
        if there > 0, !each(offset, there, UInt32(CLINKER_EXTENT_DATA)) { return false }
        return there == length || each(offset + there, length - there, hole)
    }

    func close() { file.close() }
}

/// A qcow2 file, version 3 (QEMU's docs/interop/qcow2.txt): what Cinder's NFS driver and QEMU read and write. Clusters are
/// only ever added at the end; counts are written before data and data before what points to it, so that a process may die
/// between any two writes and leave at most clusters that nobody uses.
final class Qcow2: Layer {
    static let magic: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
    private static let newClusterBits: UInt32 = 16
    /// What a volume can have, in bytes.
    private static let largest: UInt64 = 8_388_607 << 30

    private let file: NFSFile
    private let below: (any Layer)?
    private(set) var virtualSize: UInt64
    private(set) var backing: String?
    private var backingFormat: String?
    private let clusterBits: UInt32
    private var l1Offset: UInt64
    private var l1: [UInt64]
    private let refcountTableOffset: UInt64
    private var refcountTable: [UInt64]
    private var l2Tables: [Int: [UInt64]] = [:]
    private let sizeWhenOpened: UInt64
    /// Where the next cluster goes.
    private var end: UInt64

    private static let copied: UInt64 = 1 << 63
    private static let compressed: UInt64 = 1 << 62
    private static let zeroFlag: UInt64 = 1
    private static let offsetMask: UInt64 = 0x00FF_FFFF_FFFF_FE00

    private var clusterSize: UInt64 { 1 << UInt64(clusterBits) }
    private var entriesPerTable: UInt64 { clusterSize / 8 }
    private var countsPerBlock: UInt64 { clusterSize / 2 }

    // MARK: the header

    /// What a file's header says, before anything of it is trusted.
    struct Header {
        let size: UInt64
        let backing: String?
        let hasDataFile: Bool
        let bytes: [UInt8]
    }

    /// Reads a header; nil if the file is no qcow2.
    static func header(of file: NFSFile) throws -> Header? {
        let count = Int(min(try file.size, 65_536))
        guard count >= 104 else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { try file.read($0, at: 0) }
        guard Array(bytes[..<4]) == magic else { return nil }
        let (offset, length) = (bytes.big64(8), Int(bytes.big32(16)))
        var backing: String?
        if offset != 0 {
            guard length <= 1023, offset <= UInt64(count - length) else {
                throw DriverError(CLINKER_INVALID, "\(file.name): the name of its backing file lies outside of its header")
            }
            backing = String(decoding: bytes[Int(offset)..<(Int(offset) + length)], as: UTF8.self)
        }
        let features = bytes.big32(4) >= 3 ? bytes.big64(72) : 0
        guard bytes.big64(24) <= Self.largest else {
            throw DriverError(CLINKER_INVALID, "\(file.name): its header says that it has \(bytes.big64(24)) bytes")
        }
        return Header(size: bytes.big64(24), backing: backing, hasDataFile: features & 4 != 0, bytes: bytes)
    }

    /// Opens a file over what lies beneath it.
    init(_ file: NFSFile, over below: (any Layer)?) throws {
        func refuse(_ why: String) -> DriverError { DriverError(CLINKER_INVALID, "\(file.name) cannot be used: \(why)") }
        guard let header = try Self.header(of: file) else { throw refuse("it is no qcow2 file") }
        let bytes = header.bytes
        guard bytes.big32(4) == 3 else { throw refuse("its qcow2 version is \(bytes.big32(4)), not 3") }
        guard !header.hasDataFile else { throw refuse("it keeps its data in another file") }
        guard bytes.big64(72) & ~1 == 0 else { throw refuse("it has features that are not known here (\(bytes.big64(72)))") }
        guard bytes.big32(32) == 0 else { throw refuse("it is encrypted") }
        guard bytes.big32(60) == 0 else { throw refuse("it has snapshots of its own") }
        guard bytes.big32(96) == 4 else { throw refuse("its counts have \(1 << bytes.big32(96)) bits, not 16") }
        clusterBits = bytes.big32(20)
        guard (12...21).contains(clusterBits) else { throw refuse("its clusters have 2^\(clusterBits) bytes") }
        self.file = file
        self.below = below
        virtualSize = header.size
        backing = header.backing
        backingFormat = nil
        l1Offset = bytes.big64(40)
        refcountTableOffset = bytes.big64(48)
        let (l1Count, tableClusters) = (Int(bytes.big32(36)), Int(bytes.big32(56)))
        guard l1Count <= 4 << 20, tableClusters <= 128 else { throw refuse("its tables are too large") }
        l1 = try file.big64s(count: l1Count, at: l1Offset)
        refcountTable = try file.big64s(count: tableClusters << Int(clusterBits - 3), at: refcountTableOffset)
        let size = try file.size
        sizeWhenOpened = size
        end = ((size + (1 << UInt64(clusterBits)) - 1) >> UInt64(clusterBits)) << UInt64(clusterBits)
    }

    /// Writes an empty file: all zeroes, or all of a backing file's bytes.
    static func create(in file: NFSFile, size: UInt64, backing: (name: String, format: String)?) throws {
        let cluster: UInt64 = 1 << UInt64(newClusterBits)
        let l1Count = (size + (cluster * cluster / 8) - 1) / (cluster * cluster / 8)
        let l1Clusters = max(1, (l1Count * 8 + cluster - 1) / cluster)
        // Counts of twice the volume: 2 GiB of file for each entry.
        let tableClusters = max(1, (size / (cluster * cluster / 2) * 2 * 8 + cluster - 1) / cluster)
        let used = 1 + tableClusters + 1 + l1Clusters
        var bytes = [UInt8](repeating: 0, count: Int((tableClusters + 2) * cluster))
        let header = headerBytes(
            size: size, clusterBits: newClusterBits, l1Count: UInt32(l1Count), l1Offset: (tableClusters + 2) * cluster,
            tableOffset: cluster,
            tableClusters: UInt32(tableClusters), backing: backing)
        bytes.replaceSubrange(0..<header.count, with: header)
        bytes.setBig64((tableClusters + 1) * cluster, at: Int(cluster))
        for index in 0..<Int(used) { bytes.setBig16(1, at: Int((tableClusters + 1) * cluster) + index * 2) }
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.truncate(to: used * cluster)
    }

    private static func headerBytes(
        size: UInt64, clusterBits: UInt32, l1Count: UInt32, l1Offset: UInt64, tableOffset: UInt64, tableClusters: UInt32,
        backing: (name: String, format: String)?
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 104)
        bytes.replaceSubrange(0..<4, with: magic)
        bytes.setBig32(3, at: 4)
        bytes.setBig32(clusterBits, at: 20)
        bytes.setBig64(size, at: 24)
        bytes.setBig32(l1Count, at: 36)
        bytes.setBig64(l1Offset, at: 40)
        bytes.setBig64(tableOffset, at: 48)
        bytes.setBig32(tableClusters, at: 56)
        bytes.setBig32(4, at: 96)
        bytes.setBig32(104, at: 100)
        if let backing {
            // The backing file's format is said, so that nobody guesses it from bytes that a guest wrote.
            var fields = [UInt8](repeating: 0, count: 8)
            fields.setBig32(0xE279_2ACA, at: 0)
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

    /// Puts another file beneath: its bytes must be those that this one sees now.
    func rebase(to backing: (name: String, format: String)?) throws {
        self.backing = backing?.name
        backingFormat = backing?.format
        try writeHeader(backing)
    }

    private func writeHeader(_ backing: (name: String, format: String)?) throws {
        var bytes = Self.headerBytes(
            size: virtualSize, clusterBits: clusterBits, l1Count: UInt32(l1.count), l1Offset: l1Offset, tableOffset: refcountTableOffset,
            tableClusters: UInt32(refcountTable.count >> Int(clusterBits - 3)), backing: backing)
        // In one request, over all of what was there.
        bytes += [UInt8](repeating: 0, count: 4096 - bytes.count)
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.flush()
    }

    // MARK: reading

    var size: UInt64 { virtualSize }

    private enum Cluster: Equatable {
        case data(UInt64)
        case zero
        case absent
    }

    private func l2(_ index: Int) throws -> [UInt64]? {
        if let table = l2Tables[index] { return table }
        guard index < l1.count, l1[index] & Self.offsetMask != 0 else { return nil }
        let table = try file.big64s(count: Int(entriesPerTable), at: l1[index] & Self.offsetMask)
        l2Tables[index] = table
        return table
    }

    private func entry(_ cluster: UInt64) throws -> UInt64 {
        try l2(Int(cluster / entriesPerTable))?[Int(cluster % entriesPerTable)] ?? 0
    }

    private func place(_ cluster: UInt64) throws -> Cluster {
        let entry = try entry(cluster)
        if entry & Self.compressed != 0 {
            throw DriverError(CLINKER_INVALID, "\(file.name) is compressed, which this driver does not read")
        }
        if entry & Self.zeroFlag != 0 { return .zero }
        let offset = entry & Self.offsetMask
        return offset == 0 ? .absent : .data(offset)
    }

    /// Runs of clusters that lie in a row, from `offset` on; offset and length are those of the run within the range.
    private func runs(_ offset: UInt64, _ length: UInt64, _ each: (Cluster, UInt64, UInt64) throws -> Bool) throws -> Bool {
        var position = offset
        let stop = offset + length
        while position < stop {
            let first = try place(position / clusterSize)
            var next = (position / clusterSize + 1) * clusterSize
            while next < stop {
                let following = try place(next / clusterSize)
                switch (first, following) {
                case (.data(let a), .data(let b)) where b == a + (next - position / clusterSize * clusterSize): break
                case (.zero, .zero), (.absent, .absent): break
                default:
                    guard try each(first, position, next - position) else { return false }
                    position = next
                    next = .max
                    continue
                }
                next += clusterSize
            }
            if next == .max { continue }
            return try each(first, position, stop - position)
        }
        return true
    }

    func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let there = Int(min(UInt64(buffer.count), virtualSize > offset ? virtualSize - offset : 0))
        _ = try runs(offset, UInt64(there)) { cluster, position, length in
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[Int(position - offset)..<Int(position - offset + length)])
            switch cluster {
            case .data(let start):
                let start = start + position % clusterSize
                // Only the last cluster that was there may be cut off.
                if start + length <= sizeWhenOpened || start > sizeWhenOpened + clusterSize {
                    try file.read(piece, at: start)
                } else {
                    try file.readPadded(piece, at: start)
                }
            case .zero: piece.initializeMemory(as: UInt8.self, repeating: 0)
            case .absent: try readBelow(piece, at: position)
            }
            return true
        }
        UnsafeMutableRawBufferPointer(rebasing: buffer[there...]).initializeMemory(as: UInt8.self, repeating: 0)
    }

    private func readBelow(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        if let below { try below.read(buffer, at: offset) } else { buffer.initializeMemory(as: UInt8.self, repeating: 0) }
    }

    func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool {
        try runs(offset, length) { cluster, position, length in
            switch cluster {
            case .data: return each(position, length, UInt32(CLINKER_EXTENT_DATA))
            case .zero: return each(position, length, UInt32(CLINKER_EXTENT_ZERO))
            case .absent:
                guard let below else { return each(position, length, UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)) }
                return try below.map(offset: position, length: length, each)
            }
        }
    }

    // MARK: writing

    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        _ = try runs(offset, UInt64(buffer.count)) { cluster, position, length in
            let piece = UnsafeRawBufferPointer(rebasing: buffer[Int(position - offset)..<Int(position - offset + length)])
            if case .data(let start) = cluster {
                guard try entry(position / clusterSize) & Self.copied != 0 else { throw shared }
                try file.write(piece, at: start + position % clusterSize)
            } else {
                try fill(piece, at: position)
            }
            return true
        }
    }

    private var shared: DriverError { DriverError(CLINKER_INVALID, "\(file.name) has clusters that are used twice") }

    /// Gives a run of clusters without data its data: the given bytes, and around them what was seen there before.
    private func fill(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var position = offset
        let stop = offset + UInt64(bytes.count)
        while position < stop {
            // Within one table.
            let span = entriesPerTable * clusterSize
            let last = min(stop, (position / span + 1) * span)
            let first = position / clusterSize
            let count = (last + clusterSize - 1) / clusterSize - first
            var whole = [UInt8](repeating: 0, count: Int(count * clusterSize))
            try whole.withUnsafeMutableBytes { whole in
                let (head, tail) = (Int(position - first * clusterSize), Int(last - first * clusterSize))
                if head > 0 { try read(UnsafeMutableRawBufferPointer(rebasing: whole[..<head]), at: first * clusterSize) }
                if tail < whole.count { try read(UnsafeMutableRawBufferPointer(rebasing: whole[tail...]), at: last) }
                UnsafeMutableRawBufferPointer(rebasing: whole[head..<tail]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[Int(position - offset)..<Int(last - offset)]))
            }
            let start = try allocate(count)
            try whole.withUnsafeBytes { try file.write($0, at: start) }
            try setEntries(first, (0..<count).map { Self.copied | (start + $0 * clusterSize) })
            position = last
        }
    }

    func zero(offset: UInt64, length: UInt64) throws {
        let stop = offset + length
        let first = (offset + clusterSize - 1) / clusterSize
        let last = stop >= virtualSize ? (stop + clusterSize - 1) / clusterSize : stop / clusterSize
        guard first < last else { return try zeroBytes(offset, length) }
        if offset < first * clusterSize { try zeroBytes(offset, first * clusterSize - offset) }
        var cluster = first
        while cluster < last {
            let end = min(last, (cluster / entriesPerTable + 1) * entriesPerTable)
            let entries = try (cluster..<end).map { try entry($0) }
            // Without anything beneath, what is absent is zero.
            if below != nil || entries.contains(where: { $0 & Self.offsetMask != 0 }) {
                try setEntries(cluster, entries.map { $0 | Self.zeroFlag })
            }
            cluster = end
        }
        if stop > last * clusterSize { try zeroBytes(last * clusterSize, stop - last * clusterSize) }
    }

    private func zeroBytes(_ offset: UInt64, _ length: UInt64) throws {
        try [UInt8](repeating: 0, count: Int(length)).withUnsafeBytes { try write($0, at: offset) }
    }

    func grow(to size: UInt64) throws {
        guard virtualSize < size else { return }
        let span = entriesPerTable * clusterSize
        let count = Int((size + span - 1) / span)
        if count > l1.count {
            l1 += [UInt64](repeating: 0, count: count - l1.count)
            let clusters = (UInt64(l1.count) * 8 + clusterSize - 1) / clusterSize
            l1Offset = try allocate(clusters)
            var bytes = [UInt8](repeating: 0, count: Int(clusters * clusterSize))
            for (index, entry) in l1.enumerated() { bytes.setBig64(entry, at: index * 8) }
            try bytes.withUnsafeBytes { try file.write($0, at: l1Offset) }
        }
        virtualSize = size
        try writeHeader(backing.map { (name: $0, format: backingFormat ?? "qcow2") })
    }

    func flush() throws { try file.flush() }
    func close() {
        file.close()
        below?.close()
    }

    /// The format of what lies beneath, for the header.
    func say(backingFormat: String) { self.backingFormat = backingFormat }

    // MARK: tables

    private func setEntries(_ cluster: UInt64, _ entries: [UInt64]) throws {
        let index = Int(cluster / entriesPerTable)
        var table: [UInt64]
        if let known = try l2(index) {
            table = known
        } else {
            table = [UInt64](repeating: 0, count: Int(entriesPerTable))
            let start = try allocate(1)
            try [UInt8](repeating: 0, count: Int(clusterSize)).withUnsafeBytes { try file.write($0, at: start) }
            l1[index] = Self.copied | start
            try file.write(big64: [l1[index]], at: l1Offset + UInt64(index) * 8)
        }
        let first = Int(cluster % entriesPerTable)
        table.replaceSubrange(first..<(first + entries.count), with: entries)
        try file.write(big64: entries, at: (l1[index] & Self.offsetMask) + UInt64(first) * 8)
        l2Tables[index] = table
    }

    /// Clusters in a row at the end of the file, counted before they are used.
    private func allocate(_ count: UInt64) throws -> UInt64 {
        try ensureBlocks(for: end / clusterSize + count)
        let start = end
        try setCounts(start / clusterSize, count)
        end += count * clusterSize
        return start
    }

    /// Makes the blocks of counts that clusters up to a number need; each lies at the end and counts itself, as do later ones.
    private func ensureBlocks(for clusters: UInt64) throws {
        var needed = clusters
        var block = Int(end / clusterSize / countsPerBlock)
        while UInt64(block) * countsPerBlock < needed {
            guard block < refcountTable.count else { throw DriverError(CLINKER_NO_SPACE, "\(file.name) has no room for more counts") }
            if refcountTable[block] == 0 {
                let start = end
                end += clusterSize
                needed += 1
                let own = Int(start / clusterSize / countsPerBlock)
                try [UInt8](repeating: 0, count: Int(clusterSize)).withUnsafeBytes { try file.write($0, at: start) }
                refcountTable[block] = start
                if own == block || refcountTable[own] != 0 { try setCounts(start / clusterSize, 1) }
                try file.write(big64: [start], at: refcountTableOffset + UInt64(block) * 8)
            }
            block += 1
        }
    }

    private func setCounts(_ cluster: UInt64, _ count: UInt64) throws {
        var position = cluster
        while position < cluster + count {
            let block = Int(position / countsPerBlock)
            let last = min(cluster + count, UInt64(block + 1) * countsPerBlock)
            let first = position % countsPerBlock
            let bytes = [UInt8]((0..<Int(last - position)).flatMap { _ in [0, 1] as [UInt8] })
            try bytes.withUnsafeBytes { try file.write($0, at: (refcountTable[block] & ~(clusterSize - 1)) + first * 2) }
            position = last
        }
    }
}

// MARK: big endian

extension NFSFile {
    fileprivate func big64s(count: Int, at offset: UInt64) throws -> [UInt64] {
        var bytes = [UInt8](repeating: 0, count: count * 8)
        try bytes.withUnsafeMutableBytes { try readPadded($0, at: offset) }
        return (0..<count).map { bytes.big64($0 * 8) }
    }

    fileprivate func write(big64 values: [UInt64], at offset: UInt64) throws {
        var bytes = [UInt8](repeating: 0, count: values.count * 8)
        for (index, value) in values.enumerated() { bytes.setBig64(value, at: index * 8) }
        try bytes.withUnsafeBytes { try write($0, at: offset) }
    }

    /// As read; a last cluster or table may be cut off where the file ends, and is zero there.
    fileprivate func readPadded(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let size = try size
        let there = Int(min(UInt64(buffer.count), size > offset ? size - offset : 0))
        if there > 0 { try read(UnsafeMutableRawBufferPointer(rebasing: buffer[..<there]), at: offset) }
        UnsafeMutableRawBufferPointer(rebasing: buffer[there...]).initializeMemory(as: UInt8.self, repeating: 0)
    }
}

extension [UInt8] {
    fileprivate func big32(_ offset: Int) -> UInt32 { self[offset..<(offset + 4)].reduce(0) { $0 << 8 | UInt32($1) } }
    fileprivate func big64(_ offset: Int) -> UInt64 { self[offset..<(offset + 8)].reduce(0) { $0 << 8 | UInt64($1) } }
    fileprivate mutating func setBig16(_ value: UInt16, at offset: Int) {
        for index in 0..<2 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt16(1 - index))) }
    }
    fileprivate mutating func setBig32(_ value: UInt32, at offset: Int) {
        for index in 0..<4 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(3 - index))) }
    }
    fileprivate mutating func setBig64(_ value: UInt64, at offset: Int) {
        for index in 0..<8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(7 - index))) }
    }
}
