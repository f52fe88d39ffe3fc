import CDriver
import Glibc

/// Zeroing, discarding and mapping ranges of a handle.
enum RangeChecks {
    /// Requires that work on a range does not change its neighbours. `work` returns whether the range must be zero afterwards; otherwise
    /// it may be old or zero.
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
    ]
}
