import CDriver
import DriverKit

extension Qcow2 {
    public func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        guard offset <= virtualSize, UInt64(buffer.count) <= virtualSize - offset else {
            throw DriverError(CLINKER_INVALID, "\(buffer.count) bytes at \(offset) lie behind the end of \(file.name)")
        }
        try beginWriting()
        _ = try runs(offset, UInt64(buffer.count)) { cluster, position, length in
            let piece = UnsafeRawBufferPointer(rebasing: buffer[Int(position - offset)..<Int(position - offset + length)])
            if case .data(let start) = cluster {
                try requireOwn(position, length)
                try file.write(piece, at: start + position % clusterSize)
            } else {
                try fill(piece, at: position)
            }
            return true
        }
    }

    private func requireOwn(_ offset: UInt64, _ length: UInt64) throws {
        for cluster in (offset / clusterSize)...((offset + max(1, length) - 1) / clusterSize) {
            guard try entry(cluster) & Self.copied != 0 else {
                throw DriverError(CLINKER_INVALID, "\(file.name) has clusters that are used twice")
            }
        }
    }

    /// Allocates a run of clusters and fills them with the given bytes, and around them with the previous contents.
    private func fill(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var position = offset
        let stop = offset + UInt64(bytes.count)
        while position < stop {
            // Within one L2 table.
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

    public func zero(offset: UInt64, length: UInt64) throws {
        guard offset <= virtualSize, length <= virtualSize - offset else {
            throw DriverError(CLINKER_INVALID, "\(length) bytes at \(offset) lie behind the end of \(file.name)")
        }
        guard length > 0 else { return }
        try beginWriting()
        let stop = offset + length
        let first = (offset + clusterSize - 1) / clusterSize
        let last = stop >= virtualSize ? (stop + clusterSize - 1) / clusterSize : stop / clusterSize
        guard first < last else { return try zeroBytes(offset, length) }
        if offset < first * clusterSize { try zeroBytes(offset, first * clusterSize - offset) }
        var cluster = first
        while cluster < last {
            let end = min(last, (cluster / entriesPerTable + 1) * entriesPerTable)
            let entries = try (cluster..<end).map { try entry($0) }
            // Without a backing layer unallocated clusters are zero.
            if below != nil || entries.contains(where: { $0 & (Self.offsetMask | Self.compressed) != 0 }) {
                // An allocated cluster is kept for later writes.
                try setEntries(cluster, entries.map { $0 & Self.compressed != 0 ? Self.zeroFlag : $0 | Self.zeroFlag })
            }
            cluster = end
        }
        if stop > last * clusterSize { try zeroBytes(last * clusterSize, stop - last * clusterSize) }
    }

    private func zeroBytes(_ offset: UInt64, _ length: UInt64) throws {
        try [UInt8](repeating: 0, count: Int(length)).withUnsafeBytes { try write($0, at: offset) }
    }

    public func grow(to size: UInt64) throws {
        guard virtualSize < size else { return }
        try beginWriting()
        let span = entriesPerTable * clusterSize
        guard size <= Qcow2Header.largest else { throw DriverError(CLINKER_INVALID, "\(file.name) cannot have \(size) bytes") }
        let count = Int((size + span - 1) / span)
        guard count <= 4 << 20 else {
            throw DriverError(CLINKER_INVALID, "\(file.name) cannot have \(size) bytes: its clusters are too small")
        }
        let old = (offset: l1Offset, clusters: (UInt64(l1.count) * 8 + clusterSize - 1) / clusterSize)
        var isLeft = false
        if count > l1.count {
            let more = [UInt64](repeating: 0, count: count - l1.count)
            if UInt64(count) * 8 <= old.clusters * clusterSize {
                // The rest of the cluster after the end is unused.
                try file.write(big64: more, at: l1Offset + UInt64(l1.count) * 8)
                try file.flush()
                l1 += more
            } else {
                let clusters = (UInt64(count) * 8 + clusterSize - 1) / clusterSize
                let place = try allocate(clusters)
                l1 += more
                l1Offset = place
                var bytes = [UInt8](repeating: 0, count: Int(clusters * clusterSize))
                for (index, entry) in l1.enumerated() { bytes.setBig64(entry, at: index * 8) }
                try bytes.withUnsafeBytes { try file.write($0, at: l1Offset) }
                try file.flush()
                isLeft = true
            }
        }
        virtualSize = size
        try writeHeader()
        if isLeft { for index in 0..<old.clusters { try release(at: old.offset + index * clusterSize) } }
    }

    // MARK: tables

    private func setEntries(_ cluster: UInt64, _ entries: [UInt64]) throws {
        let index = Int(cluster / entriesPerTable)
        guard index < l1.count else { throw damaged("it has no table \(index)") }
        var table: [UInt64]
        if let known = try l2(index) {
            guard l1[index] & Self.copied != 0 else { throw damaged("a table is used twice") }
            table = known
        } else {
            table = [UInt64](repeating: 0, count: Int(entriesPerTable))
            let start = try allocate(1)
            try [UInt8](repeating: 0, count: Int(clusterSize)).withUnsafeBytes { try file.write($0, at: start) }
            l1[index] = Self.copied | start
            try file.write(big64: [l1[index]], at: l1Offset + UInt64(index) * 8)
        }
        let first = Int(cluster % entriesPerTable)
        let before = table[first..<(first + entries.count)]
        let changes = zip(before, entries).filter { $0 != $1 }
        table.replaceSubrange(first..<(first + entries.count), with: entries)
        try file.write(big64: entries, at: (l1[index] & Self.offsetMask) + UInt64(first) * 8)
        keep(table, index)
        for (old, new) in changes { try letGo(of: old, for: new) }
    }

    /// Drops the reference of an entry to its cluster.
    private func letGo(of old: UInt64, for new: UInt64) throws {
        if old & Self.compressed != 0 {
            let (offset, length) = compressedRange(old)
            for cluster in (offset / clusterSize)...((offset + length - 1) / clusterSize) { try release(at: cluster * clusterSize) }
        } else if old & Self.offsetMask != 0, old & Self.offsetMask != new & Self.offsetMask {
            try release(at: old & Self.offsetMask)
        }
    }

    /// Allocates contiguous clusters at the end of the file; their refcounts are written before they are used.
    private func allocate(_ count: UInt64) throws -> UInt64 {
        try ensureBlocks(for: end / clusterSize + count)
        let start = end
        try setCounts(start / clusterSize, count)
        end += count * clusterSize
        return start
    }

    /// Allocates the refcount blocks for clusters up to a number, each at the end of the file; they count themselves.
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
                if own == block || (own < refcountTable.count && refcountTable[own] != 0) { try setCounts(start / clusterSize, 1) }
                try file.write(big64: [start], at: refcountTableOffset + UInt64(block) * 8)
            }
            block += 1
        }
    }

    func block(_ index: Int) throws -> UInt64 {
        guard index < refcountTable.count else { throw DriverError(CLINKER_NO_SPACE, "\(file.name) has no room for more counts") }
        let offset = refcountTable[index]
        guard offset % clusterSize == 0, offset >= clusterSize, offset < end else { throw damaged("counts lie at \(offset)") }
        return offset
    }

    private func setCounts(_ cluster: UInt64, _ count: UInt64) throws {
        var position = cluster
        while position < cluster + count {
            let index = Int(position / countsPerBlock)
            let last = min(cluster + count, UInt64(index + 1) * countsPerBlock)
            let bytes = [UInt8]((0..<Int(last - position)).flatMap { _ in [0, 1] as [UInt8] })
            try bytes.withUnsafeBytes { try file.write($0, at: try block(index) + position % countsPerBlock * 2) }
            position = last
        }
    }

    /// Decrements the refcount of a cluster; a missing or zero count is not changed.
    private func release(at offset: UInt64) throws {
        let cluster = offset / clusterSize
        let index = Int(cluster / countsPerBlock)
        guard index < refcountTable.count, refcountTable[index] != 0 else { return }
        let place = try block(index) + cluster % countsPerBlock * 2
        var bytes: [UInt8] = [0, 0]
        try bytes.withUnsafeMutableBytes { try file.readPadded($0, at: place) }
        let count = bytes.big16(0)
        guard count > 0 else { return }
        bytes.setBig16(count - 1, at: 0)
        try bytes.withUnsafeBytes { try file.write($0, at: place) }
    }
}
