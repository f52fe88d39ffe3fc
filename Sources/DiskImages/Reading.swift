import CDriver
import DriverKit

extension Qcow2 {
    enum Cluster: Equatable {
        case data(UInt64)
        /// The L2 entry of the cluster.
        case compressed(UInt64)
        case zero
        case absent
    }

    func l2(_ index: Int) throws -> [UInt64]? {
        if let table = l2Tables[index] { return table }
        guard index < l1.count, l1[index] & Self.offsetMask != 0 else { return nil }
        let table = try file.big64s(count: Int(entriesPerTable), at: try place(of: l1[index], "a table"))
        keep(table, index)
        return table
    }

    /// Recently used tables; sequential access needs few of them.
    func keep(_ table: [UInt64], _ index: Int) {
        if l2Tables.count >= 64, l2Tables[index] == nil { l2Tables.removeAll(keepingCapacity: true) }
        l2Tables[index] = table
    }

    /// The offset in an entry; it must be the start of a cluster other than the header's.
    func place(of entry: UInt64, _ what: String) throws -> UInt64 {
        let offset = entry & Self.offsetMask
        guard offset % clusterSize == 0, try isInside(offset) else { throw damaged("\(what) lies at \(offset)") }
        return offset
    }

    /// Checks that an offset is after the header and before the end, which another process may have moved since the file was opened.
    func isInside(_ offset: UInt64) throws -> Bool {
        guard offset >= clusterSize else { return false }
        return try offset < end || offset < file.size
    }

    func entry(_ cluster: UInt64) throws -> UInt64 {
        try l2(Int(cluster / entriesPerTable))?[Int(cluster % entriesPerTable)] ?? 0
    }

    private func cluster(_ cluster: UInt64) throws -> Cluster {
        let entry = try entry(cluster)
        if entry & Self.compressed != 0 { return .compressed(entry) }
        if entry & Self.zeroFlag != 0 { return .zero }
        return entry & Self.offsetMask == 0 ? .absent : .data(try place(of: entry, "a cluster"))
    }

    /// Calls the closure with runs of contiguous clusters; offset and length are those of the run within the range.
    func runs(_ offset: UInt64, _ length: UInt64, _ each: (Cluster, UInt64, UInt64) throws -> Bool) throws -> Bool {
        var position = offset
        let stop = offset + length
        while position < stop {
            let first = try cluster(position / clusterSize)
            let start = position / clusterSize * clusterSize
            var next = start + clusterSize
            merging: while next < stop {
                switch (first, try cluster(next / clusterSize)) {
                case (.data(let a), .data(let b)) where b == a + (next - start): break
                case (.zero, .zero): break
                case (.absent, .absent):
                    // A missing table is skipped as a whole.
                    let span = entriesPerTable * clusterSize
                    guard try l2(Int(next / span)) == nil else { break }
                    next = (next / span + 1) * span
                    continue merging
                default: break merging
                }
                next += clusterSize
            }
            guard try each(first, position, min(next, stop) - position) else { return false }
            position = min(next, stop)
        }
        return true
    }

    public func read(_ buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        let there = Int(min(UInt64(buffer.count), virtualSize > offset ? virtualSize - offset : 0))
        _ = try runs(offset, UInt64(there)) { cluster, position, length in
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[Int(position - offset)..<Int(position - offset + length)])
            switch cluster {
            case .data(let start):
                let start = start + position % clusterSize
                // Only the last cluster may be truncated.
                if start + length <= sizeWhenOpened || start > sizeWhenOpened + clusterSize {
                    try file.read(piece, at: start)
                } else {
                    try file.readPadded(piece, at: start)
                }
            case .compressed(let entry):
                let bytes = try inflate(entry)
                let first = Int(position % clusterSize)
                piece.copyBytes(from: bytes[first..<(first + Int(length))])
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

    public func map(offset: UInt64, length: UInt64, _ each: (UInt64, UInt64, UInt32) -> Bool) throws -> Bool {
        try runs(offset, length) { cluster, position, length in
            switch cluster {
            case .data, .compressed: return each(position, length, UInt32(CLINKER_EXTENT_DATA))
            case .zero: return each(position, length, UInt32(CLINKER_EXTENT_ZERO))
            case .absent:
                guard let below else { return each(position, length, UInt32(CLINKER_EXTENT_HOLE) | UInt32(CLINKER_EXTENT_ZERO)) }
                return try below.map(offset: position, length: length, each)
            }
        }
    }
}
