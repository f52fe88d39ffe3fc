import CDriver
import Primitives

/// Listing, managing and unmanaging existing objects.
enum ManageChecks {
    private static func manage(_ bench: CheckBench, _ name: String, as object: CheckBench.Object) throws -> DriverValue {
        try bench.call(.manageVolume, object, [("reference", .members(["source-name": .string(name)]))])
    }

    /// The header of a valid qcow2 image of 4 GiB, as a guest may write it into its volume.
    private static let header: [UInt8] = {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        func put(_ value: UInt64, _ count: Int, at offset: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - index))) }
        }
        put(0x5146_49FB_0000_0003, 8, at: 0)
        put(16, 4, at: 20)
        put(4 << 30, 8, at: 24)
        put(8, 4, at: 36)
        put(0x3_0000, 8, at: 40)
        put(0x1_0000, 8, at: 48)
        put(1, 4, at: 56)
        put(4, 4, at: 96)
        put(104, 4, at: 100)
        put(0x2_0000, 8, at: 0x1_0000)
        for cluster in 0..<4 { put(1, 2, at: 0x2_0000 + 2 * cluster) }
        return bytes
    }()

    static let cases: [ConformanceCase] = [
        ConformanceCase("list: again and again the same", needs: [.listVolumes]) { bench in
            let volume = try bench.volume()
            for _ in 0..<5 { try bench.require(try bench.names()?.contains(volume.name) == true, "\(volume.name) is not listed") }
        },
        ConformanceCase("list: sizes are whole GiB, rounded up from the bytes", needs: [.listVolumes]) { bench in
            _ = try bench.volume(size: 3)
            for object in try bench.driver.call(.listVolumes, .object([]))["volumes"]?.list ?? [] {
                guard let bytes = object["bytes"]?.integer, let size = object["size"]?.integer, bytes >= 0 else { continue }
                try bench.require(size == (bytes + (1 << 30) - 1) >> 30, "\(object.loggable)")
            }
        },
        ConformanceCase("list: no name twice", needs: [.listVolumes]) { bench in
            _ = try bench.volume()
            let names = try bench.driver.call(.listVolumes, .object([]))["volumes"]?.list?.compactMap { $0["name"]?.string } ?? []
            try bench.require(Set(names).count == names.count, "\(names.count - Set(names).count) names are listed more than once")
        },
        ConformanceCase("list: while volumes come and go, those that stay are named", needs: [.listVolumes]) { bench in
            let staying = try bench.volume()
            let others = (0..<3).map { _ in CheckBench.Object() }
            others.forEach { bench.remember($0) }
            let failures = try VolumeChecks.parallel([staying] + others, bench) { bench, volume in
                for _ in 0..<8 {
                    if volume.id == staying.id {
                        try bench.require(bench.names()?.contains(staying.name) == true, "\(staying.name) is not listed")
                    } else {
                        try bench.call(.createVolume, volume)
                        try bench.call(.deleteVolume, volume)
                    }
                }
            }
            try bench.require(failures.isEmpty, failures.joined(separator: "; "))
        },
        ConformanceCase("manage: a volume is taken over under its new name, with its bytes", needs: [.manageVolume], handles: true) {
            bench in
            let old = try bench.volume(size: 2)
            try bench.write("old", to: old)
            try unmanage(bench, old)
            let new = CheckBench.Object(size: 2)
            bench.remember(new)
            let output = try manage(bench, old.name, as: new)
            try bench.require(output["size"]?.integer == 2, "its size is \(output["size"]?.loggable ?? "missing"), not 2")
            try bench.expect("old", in: bench.keeping(output, new), "the volume")
            if let names = try bench.names() {
                try bench.require(names.contains(new.name) && !names.contains(old.name), "the names are not exchanged")
            }
        },
        ConformanceCase("manage: again succeeds", needs: [.manageVolume]) { bench in
            let old = try bench.volume()
            let new = CheckBench.Object()
            bench.remember(new)
            for _ in 0..<3 { _ = try manage(bench, old.name, as: new) }
        },
        ConformanceCase("manage: under the name it has", needs: [.manageVolume], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("same", to: volume)
            _ = try manage(bench, volume.name, as: volume)
            try bench.expect("same", in: volume, "the volume")
        },
        ConformanceCase("manage: what is not there is refused", needs: [.manageVolume]) { bench in
            try bench.refused([.notFound, .invalid, .error], "manage") {
                _ = try manage(bench, "volume-" + UUID.random(), as: CheckBench.Object())
            }
        },
        ConformanceCase("manage: a name that is taken is not overwritten", needs: [.manageVolume], handles: true) { bench in
            let (old, taken) = (try bench.volume(), try bench.volume())
            try bench.write("taken", to: taken)
            try bench.refused([.exists, .error, .invalid], "manage") { _ = try manage(bench, old.name, as: taken) }
            try bench.expect("taken", in: taken, "the volume whose name was asked for")
            if let names = try bench.names() { try bench.require(names.contains(old.name), "what was refused lost its name") }
        },
        ConformanceCase("manage: what is listed with a reference is taken over by it", needs: [.manageVolume, .listVolumes], handles: true)
        {
            bench in
            let old = try bench.volume()
            let listed = try bench.driver.call(.listVolumes, .object([]))["volumes"]?.list?.first { $0["name"]?.string == old.name }
            guard let reference = listed?["reference"]?.string else { throw CheckBench.Skip(reason: "no references are listed") }
            try bench.write("old", to: old)
            try unmanage(bench, old)
            let new = CheckBench.Object()
            bench.remember(new)
            try bench.expect("old", in: bench.keeping(try manage(bench, reference, as: new), new), "the volume")
        },
        ConformanceCase("manage: a reference that leads elsewhere is refused", needs: [.manageVolume]) { bench in
            let canary = try bench.canary()
            for name in canary.names + ["../outside", ""] {
                let object = CheckBench.Object()
                bench.remember(object)
                let outcome = Result { try manage(bench, name, as: object) }
                try canary.verify(after: "manage of '\(name)'")
                try bench.refused([.notFound, .invalid, .error], "manage of '\(name)'") { _ = try outcome.get() }
            }
        },
        ConformanceCase("manage: a snapshot is left and taken over under a new name", needs: [.manageSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let old = try bench.snapshot(of: volume)
            try bench.write("now", to: volume)
            do { try bench.call(.unmanageSnapshot, volume, [("snapshot", bench.describe(old))]) } catch let failure as DriverFailure
                where failure.code == .unsupported
            {}
            let new = CheckBench.Object(isSnapshot: true)
            bench.remember(new, of: volume)
            let output = try bench.call(
                .manageSnapshot, volume,
                [("snapshot", bench.describe(new)), ("reference", .members(["source-name": .string(old.name)]))])
            try bench.expect("then", in: bench.keeping(output, new), of: volume, "the snapshot")
        },
        ConformanceCase("rename: a volume has its new name, again and again, and its bytes", needs: [.renameVolume], handles: true) {
            bench in
            let old = try bench.volume(size: 2)
            try bench.write("old", to: old)
            let new = CheckBench.Object(size: 2, data: old.data)
            bench.remember(new)
            var renamed = new
            for _ in 0..<3 { renamed = bench.keeping(try bench.call(.renameVolume, new, [("source", bench.describe(old))]), renamed) }
            try bench.expect("old", in: renamed, "the volume")
            if let names = try bench.names() {
                try bench.require(names.contains(new.name) && !names.contains(old.name), "the names are not exchanged")
            }
        },
        ConformanceCase("rename: a name that is taken is not overwritten", needs: [.renameVolume], handles: true) { bench in
            let (old, taken) = (try bench.volume(), try bench.volume())
            try bench.write("old", to: old)
            try bench.write("taken", to: taken)
            try bench.refused([.exists, .error, .invalid], "rename") {
                try bench.call(.renameVolume, taken, [("source", bench.describe(old))])
            }
            try bench.expect("taken", in: taken, "the volume whose name was asked for")
            try bench.expect("old", in: old, "the volume that was to be renamed")
        },
        ConformanceCase("rename: what is not there is refused", needs: [.renameVolume]) { bench in
            try bench.refused([.notFound, .invalid, .error], "rename") {
                try bench.call(.renameVolume, CheckBench.Object(), [("source", bench.describe(CheckBench.Object()))])
            }
        },
        ConformanceCase("manage: bytes that look like an image's header are bytes", needs: [.manageVolume], handles: true) { bench in
            let old = try bench.volume()
            try bench.handle(old, writable: true) { handle in
                try CheckBench.write(header, handle, at: 0)
                try handle.flush()
            }
            try unmanage(bench, old)
            let new = CheckBench.Object()
            bench.remember(new)
            let output = try manage(bench, old.name, as: new)
            try bench.require(output["size"]?.integer == 1, "its size is \(output["size"]?.loggable ?? "missing"), not 1")
            try bench.handle(bench.keeping(output, new)) { handle in
                try bench.require(CheckBench.same(try CheckBench.read(header.count, handle, at: 0), header), "the bytes are others")
            }
        },
        ConformanceCase("unmanage: the storage stays", needs: [.unmanageVolume, .listVolumes]) { bench in
            let volume = try bench.volume()
            for _ in 0..<2 { try unmanage(bench, volume) }
            let names = try bench.names() ?? []
            try bench.require(names.contains { $0.contains(volume.id) }, "nothing of \(volume.name) is listed")
        },
    ]

    private static func unmanage(_ bench: CheckBench, _ volume: CheckBench.Object) throws {
        do { try bench.call(.unmanageVolume, volume) } catch let failure as DriverFailure where failure.code == .unsupported {}
    }
}
