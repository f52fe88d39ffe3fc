import CDriver

/// Changed extents since a snapshot: copying only these must give a copy of the volume.
enum ChangedChecks {
    private static let all = UInt64(1) << 30

    /// The extents of the object that changed since the snapshot.
    private static func changed(
        _ bench: CheckBench, _ object: CheckBench.Object, of volume: CheckBench.Object? = nil, since snapshot: CheckBench.Object,
        offset: UInt64 = 0, length: UInt64 = all
    ) throws -> [Driver.Handle.Extent] {
        var arguments = [("since", bench.describe(snapshot))]
        if volume != nil { arguments.append(("snapshot", bench.describe(object))) }
        return try bench.driver.withHandle(bench.arguments(volume ?? object, arguments), writable: false) { handle in
            guard let found = try handle.changed(offset: offset, length: length) else {
                throw CheckBench.Skip(reason: "the driver does not tell what has changed")
            }
            return found
        }
    }

    private static func covers(_ extents: [Driver.Handle.Extent], _ place: UInt64) -> Bool {
        extents.contains { $0.offset <= place && place < $0.offset + $0.length }
    }

    static let cases: [ConformanceCase] = [
        ConformanceCase(
            "changed: what was written since a snapshot is told, and what is not told is as it was", needs: [.createSnapshot], handles: true
        ) {
            bench in
            let volume = try bench.volume()
            var numbers = Numbers(state: 11)
            func places(_ count: Int) -> [UInt64] { (0..<count).map { _ in UInt64(numbers.next(below: 16_384)) << 16 } }
            let before = places(20)
            for place in before { try bench.write("before", to: volume, at: place) }
            let snapshot = try bench.snapshot(of: volume)
            let after = places(20) + before.prefix(3)
            for (index, place) in after.enumerated() { try bench.write("after \(index)", to: volume, at: place) }
            let found = try changed(bench, volume, since: snapshot)
            for place in after { try bench.require(covers(found, place), "what was written at \(place) is not told") }
            for place in before + places(100) where !covers(found, place) {
                let now = try bench.handle(volume) { try CheckBench.read(4096, $0, at: place) }
                let then = try bench.handle(snapshot, of: volume) { try CheckBench.read(4096, $0, at: place) }
                try bench.require(CheckBench.same(now, then), "the change at \(place) is not told")
            }
        },
        ConformanceCase("changed: every 4 KiB of a piece counts", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            let unit = try bench.handle(volume) { max(4096, $0.alignment) }
            let snapshot = try bench.snapshot(of: volume)
            let places = (0..<16).map { UInt64($0) * (10 << 20) + UInt64($0) * 4096 / unit * unit }
            for place in places { try bench.write("after", to: volume, at: place) }
            let found = try changed(bench, volume, since: snapshot)
            for place in places { try bench.require(covers(found, place), "what was written at \(place) is not told") }
        },
        ConformanceCase("changed: what became zeroes is told", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            for place in [64 << 20, 512 << 20] as [UInt64] {
                try bench.handle(volume, writable: true) { try CheckBench.write([UInt8](repeating: 7, count: 8 << 20), $0, at: place) }
            }
            let snapshot = try bench.snapshot(of: volume)
            try bench.handle(volume, writable: true) { handle in
                try handle.zero(offset: 64 << 20, length: 8 << 20)
                try handle.flush()
            }
            let found = try changed(bench, volume, since: snapshot)
            for place in [64 << 20, 68 << 20, (72 << 20) - 4096] as [UInt64] {
                try bench.require(covers(found, place), "what became zero at \(place) is not told")
            }
            for extent in found where extent.flags & UInt32(CLINKER_EXTENT_ZERO) != 0 {
                let piece = try bench.handle(volume) { try CheckBench.read(4096, $0, at: extent.offset) }
                try bench.require(CheckBench.are(piece, 0), "data at \(extent.offset) is called zero")
            }
        },
        ConformanceCase("changed: in order, and no more than was asked for", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            for place in [10, 100, 200, 300, 900] as [UInt64] { try bench.write("after", to: volume, at: place << 20) }
            for (start, length) in [(0, all), (100 << 20, 150 << 20), (300 << 20, 4096), (400 << 20, 100 << 20)] as [(UInt64, UInt64)] {
                var position = start
                for extent in try changed(bench, volume, since: snapshot, offset: start, length: length) {
                    try bench.require(extent.offset >= position && extent.length > 0, "out of order at \(extent.offset)")
                    position = extent.offset + extent.length
                }
                try bench.require(position <= start + length, "\(position) lies behind what was asked for")
            }
        },
        ConformanceCase("changed: from one snapshot to the next", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("first", to: volume, at: 10 << 20)
            let first = try bench.snapshot(of: volume)
            try bench.write("second", to: volume, at: 200 << 20)
            let second = try bench.snapshot(of: volume)
            try bench.write("third", to: volume, at: 600 << 20)
            let between = try changed(bench, second, of: volume, since: first)
            try bench.require(covers(between, 200 << 20), "what was written between them is not told")
            let since = try changed(bench, volume, since: second)
            try bench.require(covers(since, 600 << 20), "what was written after them is not told")
            let whole = try changed(bench, volume, since: first)
            try bench.require(covers(whole, 200 << 20) && covers(whole, 600 << 20), "what was written since the first is not told")
        },
        ConformanceCase("changed: since what is not there is refused", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            _ = try changed(bench, volume, since: try bench.snapshot(of: volume))
            try bench.refused([.notFound], "the changes since no snapshot") {
                _ = try changed(bench, volume, since: CheckBench.Object())
            }
        },
    ]
}
