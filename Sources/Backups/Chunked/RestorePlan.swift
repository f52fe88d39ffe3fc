/// What of a chain's objects makes up the volume: of each byte the newest that the chain has.
struct RestorePlan {
    /// An object, and the parts of it that no newer backup of the chain has replaced.
    struct Unit {
        /// Counts the backups of the chain from 0, the full one.
        var layer: Int
        var object: ChunkedObject
        /// In `parts`, ascending.
        var parts: Range<Int>
    }

    /// Sorted by their objects' offsets.
    private(set) var units: [Unit] = []
    private(set) var parts: [Range<UInt64>] = []
    /// The bytes of the volume.
    private(set) var size: UInt64 = 0

    /// - Parameters:
    ///   - layers: the objects of each backup, sorted by offset and apart from each other; the full one first.
    ///   - includesReplaced: whether objects that are replaced as a whole are units too.
    init(_ layers: [[ChunkedObject]], includesReplaced: Bool, last: String) throws(ChunkedFailure) {
        var covered: [Range<UInt64>] = []
        for (layer, objects) in layers.enumerated().reversed() {
            var position = 0
            for object in objects {
                while position < covered.count, covered[position].upperBound <= object.offset { position += 1 }
                let first = parts.count
                var start = object.offset
                var next = position
                while start < object.end {
                    guard next < covered.count, covered[next].lowerBound < object.end else {
                        parts.append(start..<object.end)
                        break
                    }
                    if covered[next].lowerBound > start { parts.append(start..<covered[next].lowerBound) }
                    start = covered[next].upperBound
                    next += 1
                }
                if parts.count > first || includesReplaced { units.append(Unit(layer: layer, object: object, parts: first..<parts.count)) }
            }
            covered = Self.union(covered, objects)
        }
        units.sort { ($0.object.offset, $0.layer) < ($1.object.offset, $1.layer) }
        guard covered.count <= 1, covered.first?.lowerBound ?? 0 == 0 else {
            let gap = covered[0].lowerBound > 0 ? 0..<covered[0].lowerBound : covered[0].upperBound..<covered[1].lowerBound
            throw .damaged("\(last): nothing in the chain holds the bytes from \(gap.lowerBound) to \(gap.upperBound)")
        }
        size = covered.first?.upperBound ?? 0
    }

    private static func union(_ ranges: [Range<UInt64>], _ objects: [ChunkedObject]) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        result.reserveCapacity(ranges.count)
        var (a, b) = (0, 0)
        while a < ranges.count || b < objects.count {
            let range: Range<UInt64>
            if b == objects.count || a < ranges.count && ranges[a].lowerBound <= objects[b].offset {
                range = ranges[a]
                a += 1
            } else {
                range = objects[b].range
                b += 1
            }
            if let last = result.last, range.lowerBound <= last.upperBound {
                result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// Refuses parts that hashes of blocks cannot verify.
    func check(blockSize: UInt64, name: (Unit) -> String) throws(ChunkedFailure) {
        for unit in units {
            guard unit.object.offset % blockSize == 0 else {
                throw .damaged("\(name(unit)): offset \(unit.object.offset) is not a multiple of chunk_size, \(blockSize)")
            }
            guard unit.object.length / blockSize <= ChunkedLimits.hashes else {
                throw .damaged(
                    "\(name(unit)): length \(unit.object.length) is more than \(ChunkedLimits.hashes) times chunk_size, \(blockSize)")
            }
            for part in parts[unit.parts]
            where part.lowerBound % blockSize != 0 || (part.upperBound % blockSize != 0 && part.upperBound != size) {
                throw .damaged(
                    "\(name(unit)): the bytes from \(part.lowerBound) to \(part.upperBound) are not whole blocks of \(blockSize)")
            }
        }
    }
}
