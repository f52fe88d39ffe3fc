import CDriver
import Glibc

/// Flushes, concurrent handles, and the host's copies.
enum CopyChecks {
    static let cases: [ConformanceCase] = [
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
