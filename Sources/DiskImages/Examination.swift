import CDriver
import DriverKit

extension Qcow2 {
    /// Checks a complete foreign file: each cluster must be inside the file and used once. Otherwise a guest that writes to its volume could
    /// change the tables or the header, and with it the reference to a backing file.
    public func examine(isCancelled: () -> Bool) throws {
        let count = end / clusterSize
        // One bit per cluster: at most 128 MiB.
        guard count <= 1 << 30 else {
            throw DriverError(CLINKER_INVALID, "\(file.name) cannot be used: it has too many clusters to look at")
        }
        var uses = Uses(Int(count))
        func claim(_ offset: UInt64, _ length: UInt64 = 1) throws {
            var position = offset / clusterSize
            while position * clusterSize < offset + length {
                guard uses.claim(position) else { throw damaged("the cluster at \(position * clusterSize) is used twice") }
                position += 1
            }
        }
        try claim(0)
        if !l1.isEmpty { try claim(l1Offset, UInt64(l1.count) * 8) }
        if !refcountTable.isEmpty { try claim(refcountTableOffset, UInt64(refcountTable.count) * 8) }
        for index in refcountTable.indices where refcountTable[index] != 0 { try claim(try block(index)) }
        for entry in l1 where entry & Self.offsetMask != 0 {
            if isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            let table = try place(of: entry, "a table")
            try claim(table)
            for entry in try file.big64s(count: Int(entriesPerTable), at: table) {
                if entry & Self.compressed != 0 {
                    let (offset, length) = compressedRange(entry)
                    guard offset >= clusterSize, offset < end else { throw damaged("a compressed cluster lies at \(offset)") }
                    // Several compressed clusters may share a cluster; the sectors of the last one may exceed the end of the file.
                    for cluster in (offset / clusterSize)...((min(offset + length, end) - 1) / clusterSize) {
                        guard uses.share(cluster) else { throw damaged("the cluster at \(cluster * clusterSize) is used twice") }
                    }
                } else if entry & Self.offsetMask != 0 {
                    try claim(try place(of: entry, "a cluster"))
                }
            }
        }
    }

    /// Bitmaps of used clusters, and of those used by compressed data.
    private struct Uses {
        private var alone: [UInt64]
        private var together: [UInt64]

        init(_ count: Int) {
            alone = [UInt64](repeating: 0, count: count / 64 + 1)
            together = alone
        }

        mutating func claim(_ cluster: UInt64) -> Bool {
            let (word, bit) = (Int(cluster / 64), UInt64(1) << (cluster % 64))
            guard word < alone.count, (alone[word] | together[word]) & bit == 0 else { return false }
            alone[word] |= bit
            return true
        }

        mutating func share(_ cluster: UInt64) -> Bool {
            let (word, bit) = (Int(cluster / 64), UInt64(1) << (cluster % 64))
            guard word < alone.count, alone[word] & bit == 0 else { return false }
            together[word] |= bit
            return true
        }
    }
}
