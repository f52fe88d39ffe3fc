import CDriver
import Glibc

/// Opening, reading and writing block handles.
enum HandleChecks {
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
                    _ = try bench.handle(volume) { handle in
                        // A call that reads less than was asked for sets no errno: what stands there is of an earlier one.
                        errno = ENOENT
                        return try CheckBench.read(65_536, handle, at: place)
                    }
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
                _ = try bench.handle(volume) { handle in
                    errno = ENOENT
                    return try CheckBench.read(131_072, handle, at: (1 << 30) - 65_536)
                }
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
    ]
}
