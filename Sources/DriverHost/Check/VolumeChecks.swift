import CDriver
import Primitives

/// Creating, extending and deleting volumes.
enum VolumeChecks {
    static let cases: [ConformanceCase] = [
        ConformanceCase("create: a volume is listed with its size", needs: [.listVolumes]) { bench in
            let volume = try bench.volume(size: 2)
            let found = try bench.driver.call(.listVolumes, .object([]))["volumes"]?.list?.first { $0["name"]?.string == volume.name }
            try bench.require(found != nil, "it is not listed")
            try bench.require(found?["size"]?.integer == 2, "its size is \(found?["size"]?.loggable ?? "missing"), not 2")
        },
        ConformanceCase("create: the same again succeeds") { bench in
            let volume = try bench.volume()
            for _ in 0..<3 { try bench.call(.createVolume, volume) }
        },
        ConformanceCase("create: the same again keeps what was written", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("kept", to: volume)
            try bench.call(.createVolume, volume)
            try bench.expect("kept", in: volume, "after the second call")
        },
        ConformanceCase("create: its private text has at most 4,096 bytes") { bench in
            let volume = try bench.volume()
            try bench.require(volume.data?.utf8.count ?? 0 <= 4096, "\(volume.data?.utf8.count ?? 0) bytes")
        },
        ConformanceCase("create: a volume whose private text was lost is found by its name", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("found", to: volume)
            var lost = volume
            lost.data = nil
            try bench.expect("found", in: lost, "without the text")
            try bench.call(.deleteVolume, lost)
        },
        ConformanceCase("create: a size that is none is refused") { bench in
            for size in [0, -1] {
                let volume = CheckBench.Object(size: size)
                bench.remember(CheckBench.Object(id: volume.id))
                try bench.refused([.invalid, .error], "size \(size)") { try bench.call(.createVolume, volume) }
            }
        },
        ConformanceCase("create: a call without a name is refused") { bench in
            for method in [DriverMethod.createVolume, .deleteVolume] {
                try bench.refused([.invalid, .error, .notFound], "\(method.rawValue) without volume.name") {
                    _ = try bench.driver.call(method, .members(["volume": .members(["size": .integer(1)])]))
                }
            }
        },
        ConformanceCase("create: ten volumes are ten", needs: [.listVolumes]) { bench in
            let volumes = try (0..<10).map { _ in try bench.volume() }
            let names = try bench.names() ?? []
            try bench.require(volumes.allSatisfy { names.contains($0.name) }, "not all are listed")
        },
        ConformanceCase("create: many threads at the same time") { bench in
            // The thread model decides whether the host runs the calls concurrently.
            let volumes = (0..<8).map { _ in CheckBench.Object() }
            for volume in volumes { bench.remember(volume) }
            let failures = try parallel(volumes, bench) { bench, volume in try bench.call(.createVolume, volume) }
            try bench.require(failures.isEmpty, failures.joined(separator: "; "))
        },
        ConformanceCase("create and delete: many threads, many rounds") { bench in
            let volumes = (0..<8).map { _ in CheckBench.Object() }
            let failures = try parallel(volumes, bench) { bench, volume in
                for _ in 0..<5 {
                    try bench.call(.createVolume, volume)
                    try bench.call(.deleteVolume, volume)
                }
            }
            try bench.require(failures.isEmpty, failures.joined(separator: "; "))
        },
        ConformanceCase("new volume: reads as zeroes at its beginning, middle and end", handles: true) { bench in
            let volume = try bench.volume(size: 2)
            for offset: UInt64 in [0, 4096, 1 << 30, (2 << 30) - 4096 - (2 << 30) % 4096] {
                try bench.expect("", in: volume, at: offset / 65_536 * 65_536, "a new volume")
            }
        },
        ConformanceCase("new volume: the name of a deleted one shows nothing of it", handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("secret", to: volume)
            try bench.write("secret", to: volume, at: 512 << 20)
            try bench.call(.deleteVolume, volume)
            let again = bench.keeping(try bench.call(.createVolume, volume), volume)
            try bench.expect("", in: again, "the beginning")
            try bench.expect("", in: again, at: 512 << 20, "the middle")
        },
        ConformanceCase("new volume: it is as large as asked", handles: true) { bench in
            for size in [1, 3, 4, 5] {
                let volume = try size > 3 ? bench.asFarAsItGoes { try bench.volume(size: size) } : bench.volume(size: size)
                let bytes = try bench.handle(volume) { try $0.size }
                try bench.require(bytes == UInt64(size) << 30, "\(bytes) bytes for \(size) GiB")
            }
        },
        ConformanceCase("delete: a volume is gone", needs: [.listVolumes]) { bench in
            let volume = try bench.volume()
            try bench.call(.deleteVolume, volume)
            try bench.require(try bench.names()?.contains(volume.name) == false, "it is still listed")
        },
        ConformanceCase("delete: of what is gone succeeds") { bench in
            let volume = try bench.volume()
            for _ in 0..<3 { try bench.call(.deleteVolume, volume) }
        },
        ConformanceCase("delete: of what never was succeeds") { bench in try bench.call(.deleteVolume, CheckBench.Object()) },
        ConformanceCase("delete: others stay", handles: true) { bench in
            let (first, second) = (try bench.volume(), try bench.volume())
            try bench.write("second", to: second)
            try bench.call(.deleteVolume, first)
            try bench.expect("second", in: second, "after the other's deletion")
        },
        ConformanceCase("delete: a handle to what is gone is refused", handles: true) { bench in
            let volume = try bench.volume()
            try bench.call(.deleteVolume, volume)
            try bench.refused([.notFound], "a handle") { try bench.handle(volume) { _ in } }
        },
        ConformanceCase("extend: a volume is larger", needs: [.extendVolume], handles: true) { bench in
            var volume = try bench.volume()
            try extend(bench, &volume, to: 3)
            let bytes = try bench.handle(volume) { try $0.size }
            try bench.require(bytes == 3 << 30, "\(bytes) bytes for 3 GiB")
        },
        ConformanceCase("extend: what was there stays, what is new reads as zeroes", needs: [.extendVolume], handles: true) { bench in
            var volume = try bench.volume()
            try bench.write("first", to: volume)
            try bench.write("last", to: volume, at: (1 << 30) - 65_536)
            let end = try bench.lastBlock(volume, gibibytes: 1)
            try bench.write("end", to: volume, at: end)
            try extend(bench, &volume, to: 2)
            try bench.expect("end", in: volume, at: end, "the last block")
            try bench.expect("first", in: volume, "the beginning")
            try bench.expect("last", in: volume, at: (1 << 30) - 65_536, "the old end")
            try bench.expect("", in: volume, at: 1 << 30, "behind the old end")
            try bench.expectZeroes(in: volume, from: 1 << 30, to: 2 << 30, "what is new")
        },
        ConformanceCase("extend: to the size it has succeeds", needs: [.extendVolume]) { bench in
            var volume = try bench.volume(size: 2)
            for _ in 0..<3 { try extend(bench, &volume, to: 2) }
        },
        ConformanceCase("extend: a late repetition with less takes nothing away", needs: [.extendVolume], handles: true) { bench in
            var volume = try bench.volume()
            let end = try bench.lastBlock(volume, gibibytes: 3)
            try extend(bench, &volume, to: 3)
            try bench.write("end", to: volume, at: end)
            // It is refused, or there is nothing to do.
            do { try bench.call(.extendVolume, volume, [("new_size", .integer(2))]) } catch is DriverFailure {}
            let bytes = try bench.handle(volume) { try $0.size }
            try bench.require(bytes == 3 << 30, "\(bytes) bytes are left of 3 GiB")
            try bench.expect("end", in: volume, at: end, "the end")
        },
        ConformanceCase("unsupported: who answers so has done nothing") { bench in
            let (volume, other) = (try bench.volume(), CheckBench.Object())
            bench.remember(other)
            func size() throws -> UInt64? { bench.hasHandles ? try bench.handle(volume) { try $0.size } : nil }
            for (method, arguments) in [
                (.cloneVolume, bench.arguments(other, [("source", bench.describe(volume))])),
                (.createSnapshot, bench.arguments(volume, [("snapshot", bench.describe(other))])),
                (.extendVolume, bench.arguments(volume, [("new_size", .integer(2))])),
            ] as [(DriverMethod, DriverValue)] {
                let bytes = try size()
                do {
                    _ = try bench.driver.callNatively(method, arguments)
                    // It is supported; another case tests it.
                    switch method {
                    case .createSnapshot: try bench.delete(other, of: volume)
                    case .cloneVolume: try bench.call(.deleteVolume, other)
                    default: break
                    }
                } catch let failure as DriverFailure where failure.code == .unsupported {
                    let isThere = try bench.names().map { $0.contains(other.name) } ?? false
                    try bench.require(!isThere, "\(method.rawValue) answered so, and had made \(other.name)")
                    let now = try size()
                    try bench.require(
                        now == bytes, "\(method.rawValue) answered so, and the volume has \(now ?? 0) bytes instead of \(bytes ?? 0)")
                }
            }
        },
        ConformanceCase("extend: again and again", needs: [.extendVolume], handles: true) { bench in
            var volume = try bench.volume()
            for size in 2...6 { try extend(bench, &volume, to: size) }
            let bytes = try bench.handle(volume) { try $0.size }
            try bench.require(bytes == 6 << 30, "\(bytes) bytes for 6 GiB")
        },
        ConformanceCase("extend: of what is not there is refused", needs: [.extendVolume]) { bench in
            var volume = CheckBench.Object()
            try bench.refused([.notFound], "extend") { try extend(bench, &volume, to: 2) }
        },
    ]

    static func extend(_ bench: CheckBench, _ volume: inout CheckBench.Object, to size: Int) throws {
        let output = try bench.call(.extendVolume, volume, [("new_size", .integer(Int64(size))), ("attached", .boolean(false))])
        volume = bench.keeping(output, volume)
        volume.size = size
    }

    /// Runs the work for every object on a thread of its own, serialized if the driver requires that; returns the failures.
    static func parallel(
        _ objects: [CheckBench.Object], _ bench: CheckBench, _ work: @escaping @Sendable (CheckBench, CheckBench.Object) throws -> Void
    ) throws -> [String] {
        struct Shared: @unchecked Sendable { let bench: CheckBench }
        let shared = Shared(bench: bench)
        let isSerialized = bench.driver.plugin.isSerialized
        let turn = Guarded(())
        let failures = Guarded<[String]>([])
        let done = Semaphore()
        for object in objects {
            startThread("check") {
                do {
                    if isSerialized { try turn.withLock { _ in try work(shared.bench, object) } } else { try work(shared.bench, object) }
                } catch { failures.withLock { $0.append("\(object.name): \(error)") } }
                done.post()
            }
        }
        for _ in objects { done.wait() }
        return failures.withLock { $0 }
    }
}
