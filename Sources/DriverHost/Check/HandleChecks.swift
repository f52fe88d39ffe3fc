import CDriver
import Glibc

/// Block handles: what is written is read, and maps tell the truth.
enum HandleChecks {
    /// What is done to a range leaves its neighbours, to the byte. `work` says whether the range is zero then; it is old or zero otherwise.
    private static func exactly(_ bench: CheckBench, _ work: (Driver.Handle, _ offset: UInt64, _ length: UInt64) throws -> Bool) throws {
        let volume = try bench.volume()
        try bench.handle(volume, writable: true) { handle in
            let unit = Int(handle.alignment)
            let size = max(65_536, 64 * unit)
            for (offset, length) in [(3, 1), (700, 5_000), (4_095, 2), (4_096, 4_095), (8_191, 8_194), (20_000, 30_000)] {
                let (first, count) = (offset * unit % size / unit * unit, min(length * unit, size / 2) / unit * unit)
                guard first + count <= size else { continue }
                try CheckBench.write([UInt8](repeating: 9, count: size), handle, at: 0)
                let isZero = try work(handle, UInt64(first), UInt64(count))
                let found = try CheckBench.read(size, handle, at: 0)
                let range = found[first..<(first + count)]
                try bench.require(
                    CheckBench.are(found[..<first], 9) && CheckBench.are(found[(first + count)...], 9),
                    "a neighbour of \(count) bytes at \(first) changed")
                try bench.require(
                    isZero ? CheckBench.are(range, 0) : range.allSatisfy { $0 == 0 || $0 == 9 }, "\(count) bytes at \(first) are wrong")
            }
        }
    }

    private static let zeroFlag = UInt32(CLINKER_EXTENT_ZERO)

    static let cases: [ConformanceCase] = [
        ConformanceCase("handle: its sizes make sense", handles: true) { bench in
            try bench.handle(try bench.volume()) { handle in
                let (alignment, preferred) = (handle.alignment, handle.preferredSize)
                try bench.require(alignment.nonzeroBitCount == 1 && alignment <= 1 << 20, "the alignment is \(alignment)")
                try bench.require(preferred >= 4096 && UInt64(preferred) % alignment == 0, "the preferred size is \(preferred)")
            }
        },
        ConformanceCase("handle: the last block", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("last", to: volume, at: (1 << 30) - 65_536)
            try bench.expect("last", in: volume, at: (1 << 30) - 65_536, "the volume")
        },
        ConformanceCase("handle: reading and writing behind the end is refused", handles: true) { bench in
            let volume = try bench.volume()
            for place in [1 << 30, (1 << 30) + 65_536, 1 << 40] as [UInt64] {
                try bench.refused([.invalid, .error, .noSpace], "a read at \(place)") {
                    _ = try bench.handle(volume) { try CheckBench.read(65_536, $0, at: place) }
                }
                try bench.refused([.invalid, .error, .noSpace], "a write at \(place)") {
                    try bench.handle(volume, writable: true) { try CheckBench.write([UInt8](repeating: 1, count: 65_536), $0, at: place) }
                }
            }
            let bytes = try bench.handle(volume) { try $0.size }
            try bench.require(bytes == 1 << 30, "it has \(bytes) bytes now")
        },
        ConformanceCase("handle: beyond 4 GiB", handles: true) { bench in
            let volume = try bench.asFarAsItGoes { try bench.volume(size: 6) }
            try bench.write("near", to: volume, at: 1 << 30)
            try bench.write("far", to: volume, at: 5 << 30)
            try bench.expect("far", in: volume, at: 5 << 30, "the volume")
            try bench.expect("near", in: volume, at: 1 << 30, "4 GiB before")
            try bench.handle(volume, writable: true) { try $0.zero(offset: 5 << 30, length: 65_536) }
            try bench.expect("near", in: volume, at: 1 << 30, "4 GiB before what became zero")
        },
        ConformanceCase("handle: of two volumes, each is its own's", handles: true) { bench in
            let volumes = (try bench.volume(), try bench.volume())
            try bench.handle(volumes.0, writable: true) { first in
                try bench.handle(volumes.1, writable: true) { second in
                    let count = max(4096, Int(first.alignment), Int(second.alignment))
                    for (handle, byte) in [(first, 1), (second, 2)] as [(Driver.Handle, UInt8)] {
                        try CheckBench.write([UInt8](repeating: byte, count: count), handle, at: 0)
                    }
                    for (handle, byte) in [(first, 1), (second, 2)] as [(Driver.Handle, UInt8)] {
                        try bench.require(CheckBench.are(try CheckBench.read(count, handle, at: 0), byte), "one shows the other's bytes")
                    }
                }
            }
        },
        ConformanceCase("handle: reading across the end is refused", handles: true) { bench in
            let volume = try bench.volume()
            try bench.refused([.invalid, .error], "a read across the end") {
                _ = try bench.handle(volume) { try CheckBench.read(131_072, $0, at: (1 << 30) - 65_536) }
            }
            try bench.refused([.invalid, .error, .noSpace], "a write across the end") {
                try bench.handle(volume, writable: true) {
                    try CheckBench.write([UInt8](repeating: 1, count: 131_072), $0, at: (1 << 30) - 65_536)
                }
            }
        },
        ConformanceCase("handle: one for reading does not write", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("kept", to: volume)
            try bench.refused([.invalid, .error, .unsupported], "a write") {
                try bench.handle(volume) { try CheckBench.write([UInt8](repeating: 1, count: 65_536), $0, at: 0) }
            }
            try bench.expect("kept", in: volume, "the volume")
        },
        ConformanceCase("handle: of what is not there is refused", handles: true) { bench in
            for writable in [false, true] {
                try bench.refused([.notFound], "a handle") { try bench.handle(CheckBench.Object(), writable: writable) { _ in } }
            }
        },
        ConformanceCase("handle: opened and closed a hundred times", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("kept", to: volume)
            for _ in 0..<100 { try bench.handle(volume) { _ = try $0.size } }
            try bench.expect("kept", in: volume, "the volume")
        },
        ConformanceCase("handle: several are open at the same time", handles: true) { bench in
            let volume = try bench.volume()
            try bench.handle(volume, writable: true) { writer in
                try CheckBench.write([UInt8](repeating: 7, count: 65_536), writer, at: 0)
                try writer.flush()
                try bench.handle(volume) { first in
                    try bench.handle(volume) { second in
                        let (a, b) = (try CheckBench.read(65_536, first, at: 0), try CheckBench.read(65_536, second, at: 0))
                        try bench.require(a == b && CheckBench.are(a, 7), "the readers see something else")
                    }
                }
            }
        },
        ConformanceCase("handle: what was written is there when it is opened again", handles: true) { bench in
            let volume = try bench.volume()
            for round in 0..<4 {
                try bench.write("round \(round)", to: volume, at: UInt64(round) << 20)
                for earlier in 0...round { try bench.expect("round \(earlier)", in: volume, at: UInt64(earlier) << 20, "round \(round)") }
            }
        },
        ConformanceCase("handle: 32 MiB at once", handles: true) { bench in
            let volume = try bench.volume()
            let bytes = CheckBench.pattern(32 << 20, seed: 31)
            try bench.handle(volume, writable: true) { try CheckBench.write(bytes, $0, at: 1 << 20) }
            let found = try bench.handle(volume) { try CheckBench.read(bytes.count, $0, at: 1 << 20) }
            try bench.require(CheckBench.same(found, bytes), "other bytes came back")
        },
        ConformanceCase("handle: random writes against a copy in memory", handles: true) { bench in
            let volume = try bench.volume()
            let region = 8 << 20
            var model = [UInt8](repeating: 0, count: region)
            var numbers = Numbers(state: 42)
            try bench.handle(volume, writable: true) { handle in
                let unit = max(512, Int(handle.alignment))
                for round in 0..<400 {
                    let length = (1 + numbers.next(below: 32)) * unit
                    let offset = numbers.next(below: (region - length) / unit) * unit
                    let bytes = CheckBench.pattern(length, seed: round)
                    try CheckBench.write(bytes, handle, at: UInt64(offset))
                    model.replaceSubrange(offset..<(offset + length), with: bytes)
                    if round % 50 == 49 {
                        try bench.require(CheckBench.same(try CheckBench.read(region, handle, at: 0), model), "after \(round + 1) writes")
                    }
                }
                try handle.flush()
            }
            try bench.require(
                CheckBench.same(try bench.handle(volume) { try CheckBench.read(region, $0, at: 0) }, model), "when opened again")
        },
        ConformanceCase("handle: random reads of a pattern", handles: true) { bench in
            let volume = try bench.volume()
            let pattern = CheckBench.pattern(4 << 20, seed: 13)
            try bench.handle(volume, writable: true) { try CheckBench.write(pattern, $0, at: 0) }
            var numbers = Numbers(state: 7)
            try bench.handle(volume) { handle in
                let unit = max(512, Int(handle.alignment))
                for _ in 0..<200 {
                    let length = (1 + numbers.next(below: 64)) * unit
                    let offset = numbers.next(below: (pattern.count - length) / unit) * unit
                    try bench.require(
                        try CheckBench.read(length, handle, at: UInt64(offset)) == Array(pattern[offset..<(offset + length)]),
                        "at \(offset)")
                }
            }
        },
        ConformanceCase("zero: the range reads as zeroes, its neighbours stay", handles: true) { bench in
            let volume = try bench.volume()
            let unit = 65_536
            try bench.handle(volume, writable: true) { handle in
                try CheckBench.write([UInt8](repeating: 9, count: 4 * unit), handle, at: 0)
                try handle.zero(offset: UInt64(unit), length: UInt64(2 * unit))
                let found = try CheckBench.read(4 * unit, handle, at: 0)
                try bench.require(CheckBench.are(found[unit..<(3 * unit)], 0), "the range is not zero")
                try bench.require(
                    CheckBench.are(found[..<unit], 9) && CheckBench.are(found[(3 * unit)...], 9), "a neighbour changed")
            }
        },
        ConformanceCase("zero: as little as the alignment allows, at any place", handles: true) { bench in
            try exactly(bench) { handle, offset, length in
                try handle.zero(offset: offset, length: length)
                return true
            }
        },
        ConformanceCase("discard: as little as the alignment allows, at any place", handles: true) { bench in
            try exactly(bench) { handle, offset, length in
                if handle.table.discard == nil { throw CheckBench.Skip(reason: "the driver has no discard") }
                try handle.discard(offset: offset, length: length)
                return false
            }
        },
        ConformanceCase("zero: 256 MiB", handles: true) { bench in
            let volume = try bench.volume()
            let places = [0, 40 << 20, 200 << 20, 250 << 20] as [UInt64]
            for place in places { try bench.write("gone", to: volume, at: place) }
            try bench.handle(volume, writable: true) { try $0.zero(offset: 0, length: 256 << 20) }
            for place in places { try bench.expect("", in: volume, at: place, "the range") }
        },
        ConformanceCase("discard: what is around stays", handles: true) { bench in
            let volume = try bench.volume()
            let unit = 65_536
            try bench.handle(volume, writable: true) { handle in
                guard let discard = handle.table.discard else { throw CheckBench.Skip(reason: "the driver has no discard") }
                try CheckBench.write([UInt8](repeating: 9, count: 3 * unit), handle, at: 0)
                do { _ = try handle.context.run { discard(handle.raw, $0, UInt64(unit), UInt64(unit)) } } catch let failure as DriverFailure
                    where failure.code == .unsupported
                { return }
                let found = try CheckBench.read(3 * unit, handle, at: 0)
                let range = found[unit..<(2 * unit)]
                try bench.require(CheckBench.are(range, 0) || CheckBench.are(range, 9), "the range is neither old nor zero")
                try bench.require(
                    CheckBench.are(found[..<unit], 9) && CheckBench.are(found[(2 * unit)...], 9), "a neighbour changed")
            }
        },
        ConformanceCase("extents: in order, without gaps, as far as was asked", handles: true) { bench in
            let volume = try bench.volume()
            try bench.handle(volume, writable: true) { try CheckBench.write([UInt8](repeating: 3, count: 1 << 20), $0, at: 100 << 20) }
            try bench.write("data", to: volume, at: 900 << 20)
            try bench.handle(volume) { handle in
                for (start, length) in [(UInt64(0), UInt64(1) << 30), (50 << 20, 200 << 20), (100 << 20, 65_536), (1 << 29, 65_536)] {
                    var position = start
                    for extent in try handle.extents(offset: start, length: length) {
                        try bench.require(extent.offset == position, "a gap or an overlap at \(position): \(extent)")
                        try bench.require(extent.length > 0, "an empty extent at \(position)")
                        position += extent.length
                    }
                    try bench.require(position == start + length, "the map of \(start)+\(length) ends at \(position)")
                }
            }
        },
        ConformanceCase("extents: what is called zero reads as zeroes", handles: true) { bench in
            let volume = try bench.volume()
            var numbers = Numbers(state: 3)
            for _ in 0..<20 { try bench.write("data", to: volume, at: UInt64(numbers.next(below: 1000)) << 20) }
            try bench.handle(volume) { handle in
                for extent in try handle.extents(offset: 0, length: 1 << 30) where extent.flags & zeroFlag != 0 {
                    var position = extent.offset
                    while position < extent.offset + extent.length {
                        let count = Int(min(4 << 20, extent.offset + extent.length - position))
                        try bench.require(
                            CheckBench.are(CheckBench.read(count, handle, at: position), 0), "data at \(position) and on")
                        // Every piece of small extents, samples of large ones.
                        position += max(UInt64(count), extent.length > 64 << 20 ? 32 << 20 : 0)
                    }
                }
            }
        },
        ConformanceCase("extents: what was written is data", handles: true) { bench in
            let volume = try bench.volume()
            let places: [UInt64] = [0, 4096 * 1000, 300 << 20, (1 << 30) - 65_536]
            for place in places { try bench.write("data", to: volume, at: place) }
            try bench.handle(volume) { handle in
                let map = try handle.extents(offset: 0, length: 1 << 30)
                for place in places {
                    let extent = map.first { $0.offset <= place && place < $0.offset + $0.length }
                    try bench.require(extent.map { $0.flags & zeroFlag == 0 } ?? false, "\(place) is called zero")
                }
            }
        },
        ConformanceCase("extents: a map that is stopped stops", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("data", to: volume, at: 100 << 20)
            try bench.handle(volume) { handle in
                guard let extents = handle.table.extents else { throw CheckBench.Skip(reason: "the driver has no extents") }
                final class Count { var value = 0 }
                let count = Count()
                let code = withExtendedLifetime(count) {
                    extents(
                        handle.raw, handle.context.pointer, 0, 1 << 30,
                        { opaque, _, _, _ in
                            guard let opaque else { return 1 }
                            Unmanaged<Count>.fromOpaque(opaque).takeUnretainedValue().value += 1
                            return 77
                        }, Unmanaged.passUnretained(count).toOpaque())
                }
                if code == Int32(CLINKER_UNSUPPORTED.rawValue) { throw CheckBench.Skip(reason: "the driver has no extents") }
                try bench.require(count.value == 1 && code == 77, "\(count.value) calls, and the value \(code) instead of 77")
            }
        },
        ConformanceCase("extents: of a snapshot tell its truth", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume, at: 64 << 20)
            let snapshot = try bench.snapshot(of: volume)
            try bench.write("now", to: volume, at: 512 << 20)
            try bench.handle(snapshot, of: volume) { handle in
                let map = try handle.extents(offset: 0, length: 1 << 30)
                let extent = map.first { $0.offset <= 64 << 20 && 64 << 20 < $0.offset + $0.length }
                try bench.require(extent.map { $0.flags & zeroFlag == 0 } ?? false, "what was written is called zero")
                for extent in map
                where extent.flags & zeroFlag != 0 && extent.offset <= 512 << 20 && 512 << 20 < extent.offset + extent.length {
                    try bench.require(
                        CheckBench.are(CheckBench.read(4096, handle, at: 512 << 20), 0), "the snapshot has what came later")
                }
            }
        },
        ConformanceCase("flush: what was flushed is there after the instance is closed", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("flushed", to: volume)
            let found = try bench.another().withHandle(bench.arguments(volume), writable: false) {
                try CheckBench.read(max(4096, Int($0.alignment)), $0, at: 0)
            }
            try bench.require(found.starts(with: "flushed".utf8), "another instance reads something else")
        },
        ConformanceCase("handles: eight threads, each on its own volume", handles: true) { bench in
            let volumes = try (0..<8).map { _ in try bench.volume() }
            let failures = try VolumeChecks.parallel(volumes, bench) { bench, volume in
                try bench.write(volume.id, to: volume)
                try bench.expect(volume.id, in: volume, volume.name)
                let bytes = CheckBench.pattern(65_536, seed: volume.id.utf8.reduce(0) { $0 &* 31 &+ Int($1) })
                try bench.handle(volume, writable: true) { handle in
                    for place in 0..<40 as Range<UInt64> {
                        try CheckBench.write(bytes, handle, at: place << 16)
                        let found = try CheckBench.read(bytes.count, handle, at: place << 16)
                        try bench.require(CheckBench.same(found, bytes), "\(volume.name) holds something else at \(place << 16)")
                    }
                }
            }
            try bench.require(failures.isEmpty, failures.joined(separator: "; "))
        },
        ConformanceCase("copy: the host's copy of a sparse volume is whole", handles: true) { bench in
            let (source, target) = (try bench.volume(), try bench.volume())
            for place in [0, 333, 1023] { try bench.write("piece \(place)", to: source, at: UInt64(place) << 20) }
            try bench.handle(source) { input in
                try bench.handle(target, writable: true) { output in try BlockCopy(targetIsZero: true).run(from: input, to: output) }
            }
            for place in [0, 333, 1023] { try bench.expect("piece \(place)", in: target, at: UInt64(place) << 20, "the target") }
            try bench.expect("", in: target, at: 500 << 20, "between")
        },
        ConformanceCase("copy: many pieces at the same time", handles: true) { bench in
            let (source, target) = (try bench.volume(), try bench.volume())
            let bytes = CheckBench.pattern(24 << 20, seed: 5)
            try bench.handle(source, writable: true) { try CheckBench.write(bytes, $0, at: 0) }
            try bench.handle(source) { input in
                try bench.handle(target, writable: true) { output in try BlockCopy(targetIsZero: true).run(from: input, to: output) }
            }
            let found = try bench.handle(target) { try CheckBench.read(bytes.count, $0, at: 0) }
            try bench.require(CheckBench.same(found, bytes), "the target holds other bytes")
        },
        ConformanceCase("copy: onto old data", handles: true) { bench in
            let (source, target) = (try bench.volume(), try bench.volume())
            try bench.write("old", to: target, at: 500 << 20)
            try bench.write("new", to: source, at: 10 << 20)
            try bench.handle(source) { input in
                try bench.handle(target, writable: true) { output in try BlockCopy(targetIsZero: false).run(from: input, to: output) }
            }
            try bench.expect("new", in: target, at: 10 << 20, "the target")
            try bench.expect("", in: target, at: 500 << 20, "what was old")
        },
    ]
}
