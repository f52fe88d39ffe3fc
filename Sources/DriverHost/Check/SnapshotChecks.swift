import CDriver
import Primitives

/// Snapshots, volumes created from them, and reverting.
enum SnapshotChecks {
    static let cases: [ConformanceCase] = [
        ConformanceCase("snapshot: made, made again, deleted, deleted again", needs: [.createSnapshot, .deleteSnapshot]) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            for _ in 0..<2 { try bench.call(.createSnapshot, volume, [("snapshot", bench.describe(snapshot))]) }
            for _ in 0..<3 { try bench.delete(snapshot, of: volume) }
        },
        ConformanceCase("snapshot: deleting what never was succeeds", needs: [.createSnapshot, .deleteSnapshot]) { bench in
            let volume = try bench.volume()
            try bench.delete(CheckBench.Object(isSnapshot: true), of: volume)
        },
        ConformanceCase("snapshot: of what is not there is refused", needs: [.createSnapshot]) { bench in
            let snapshot = CheckBench.Object(isSnapshot: true)
            try bench.refused([.notFound], "a snapshot") {
                try bench.call(.createSnapshot, CheckBench.Object(), [("snapshot", bench.describe(snapshot))])
            }
        },
        ConformanceCase("snapshot: it is listed, and gone when deleted", needs: [.createSnapshot, .deleteSnapshot, .listVolumes]) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            try bench.require(try bench.names()?.contains(snapshot.name) == true, "it is not listed")
            try bench.delete(snapshot, of: volume)
            try bench.require(try bench.names()?.contains(snapshot.name) == false, "it is still listed")
        },
        ConformanceCase("snapshot: its bytes stay while the volume's change", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("before", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try bench.write("after", to: volume)
            try bench.write("new", to: volume, at: 512 << 20)
            try bench.expect("before", in: snapshot, of: volume, "the snapshot")
            try bench.expect("", in: snapshot, of: volume, at: 512 << 20, "the snapshot")
            try bench.expect("after", in: volume, "the volume")
        },
        ConformanceCase("snapshot: several hold several moments", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            var snapshots: [CheckBench.Object] = []
            for round in 0..<4 {
                try bench.write("round \(round)", to: volume)
                snapshots.append(try bench.snapshot(of: volume))
            }
            for (round, snapshot) in snapshots.enumerated() {
                try bench.expect("round \(round)", in: snapshot, of: volume, "snapshot \(round)")
            }
        },
        ConformanceCase(
            "snapshot: one in the middle is deleted, the others stay", needs: [.createSnapshot, .deleteSnapshot], handles: true
        ) { bench in
            let volume = try bench.volume()
            var snapshots: [CheckBench.Object] = []
            for round in 0..<3 {
                try bench.write("round \(round)", to: volume)
                snapshots.append(try bench.snapshot(of: volume))
            }
            try bench.delete(snapshots[1], of: volume)
            try bench.expect("round 0", in: snapshots[0], of: volume, "the first")
            try bench.expect("round 2", in: snapshots[2], of: volume, "the last")
        },
        ConformanceCase(
            "snapshot: one that others made of a volume stays when the volume is deleted, or keeps it", needs: [.createSnapshot],
            handles: true
        ) { bench in
            let volume = try bench.volume()
            try bench.write("kept", to: volume)
            try bench.write("kept", to: volume, at: 700 << 20)
            let foreign = CheckBench.Object(isSnapshot: true, foreignName: "backup-of-tonight-" + UUID.random())
            bench.remember(foreign, of: volume)
            let snapshot = bench.keeping(try bench.call(.createSnapshot, volume, [("snapshot", bench.describe(foreign))]), foreign)
            do { try bench.call(.deleteVolume, volume) } catch let failure as DriverFailure where failure.code == .busy {
                // BUSY means that nothing was changed.
                for offset: UInt64 in [0, 700 << 20] { try bench.expect("kept", in: volume, at: offset, "the volume, which is busy") }
            }
            for offset: UInt64 in [0, 700 << 20] { try bench.expect("kept", in: snapshot, of: volume, at: offset, "the snapshot") }
        },
        ConformanceCase("snapshot: a repeated call does not take a new moment", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try bench.write("now", to: volume)
            try bench.call(.createSnapshot, volume, [("snapshot", bench.describe(snapshot))])
            try bench.expect("then", in: snapshot, of: volume, "after the second call")
        },
        ConformanceCase("snapshot: a handle to it does not write", needs: [.createSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            try bench.refused([.invalid, .error, .unsupported, .busy], "a write to a snapshot's handle") {
                try bench.handle(snapshot, of: volume) { try CheckBench.write([UInt8](repeating: 1, count: 4096), $0, at: 0) }
            }
        },
        ConformanceCase("snapshot: a handle that asks to write it is refused, or does not", needs: [.createSnapshot], handles: true) {
            bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try bench.refused([.invalid, .error, .unsupported, .busy], "a write to a snapshot") {
                try bench.handle(snapshot, of: volume, writable: true) {
                    try CheckBench.write([UInt8](repeating: 1, count: 65_536), $0, at: 0)
                }
            }
            try bench.expect("then", in: snapshot, of: volume, "the snapshot")
        },
        ConformanceCase("snapshot: none is left behind when its volume goes", needs: [.createSnapshot, .deleteSnapshot]) { bench in
            let volume = try bench.volume()
            let snapshot = try bench.snapshot(of: volume)
            do { try bench.call(.deleteVolume, volume) } catch let failure as DriverFailure where failure.code == .busy { return }
            // It was deleted together with the volume, or is deleted now.
            do { try bench.delete(snapshot, of: volume) } catch let failure as DriverFailure where failure.code == .notFound {}
            try bench.require(try bench.names()?.contains(snapshot.name) != true, "\(snapshot.name) cannot be deleted any more")
        },
        ConformanceCase("volume from snapshot: holds its bytes", needs: [.createVolumeFromSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try bench.write("now", to: volume)
            try bench.expect("then", in: try bench.volume(from: snapshot, of: volume), "the new volume")
        },
        ConformanceCase("volume from snapshot: larger, with zeroes behind", needs: [.createVolumeFromSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("end", to: volume, at: (1 << 30) - 65_536)
            let made = try bench.volume(from: try bench.snapshot(of: volume), of: volume, size: 2)
            let bytes = try bench.handle(made) { try $0.size }
            try bench.require(bytes == 2 << 30, "\(bytes) bytes for 2 GiB")
            try bench.expect("end", in: made, at: (1 << 30) - 65_536, "the old end")
            try bench.expectZeroes(in: made, from: 1 << 30, to: 2 << 30, "behind")
        },
        ConformanceCase("volume from snapshot: made again is the same", needs: [.createVolumeFromSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            let made = try bench.volume(from: snapshot, of: volume)
            try bench.call(.createVolumeFromSnapshot, made, [("snapshot", bench.describe(snapshot)), ("source", bench.describe(volume))])
            try bench.expect("then", in: made, "after the second call")
        },
        ConformanceCase("volume from snapshot: neither changes the other", needs: [.createVolumeFromSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            let made = try bench.volume(from: snapshot, of: volume)
            try bench.write("own", to: made)
            try bench.expect("then", in: snapshot, of: volume, "the snapshot")
            try bench.expect("then", in: volume, "the volume")
            try bench.expect("own", in: made, "the new volume")
        },
        ConformanceCase(
            "volume from snapshot: the snapshot can go, or says that it is busy", needs: [.createVolumeFromSnapshot, .deleteSnapshot],
            handles: true
        ) {
            bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            let made = try bench.volume(from: snapshot, of: volume)
            do { try bench.delete(snapshot, of: volume) } catch let failure as DriverFailure where failure.code == .busy {}
            try bench.expect("then", in: made, "the new volume")
        },
        ConformanceCase("volume from snapshot: of one that is not there is refused", needs: [.createVolumeFromSnapshot, .createSnapshot]) {
            bench in
            let volume = try bench.volume()
            try bench.refused([.notFound], "a volume of no snapshot") {
                _ = try bench.volume(from: CheckBench.Object(isSnapshot: true), of: volume)
            }
        },
        ConformanceCase("revert: the volume is what it was", needs: [.revertToSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            try bench.write("now", to: volume)
            try bench.write("new", to: volume, at: 512 << 20)
            try bench.call(.revertToSnapshot, volume, [("snapshot", bench.describe(snapshot))])
            try bench.expect("then", in: volume, "the volume")
            try bench.expect("", in: volume, at: 512 << 20, "what was new")
            try bench.expect("then", in: snapshot, of: volume, "the snapshot")
        },
        ConformanceCase("revert: again, and after more was written", needs: [.revertToSnapshot], handles: true) { bench in
            let volume = try bench.volume()
            try bench.write("then", to: volume)
            let snapshot = try bench.snapshot(of: volume)
            for round in 0..<3 {
                try bench.write("round \(round)", to: volume)
                for _ in 0..<2 { try bench.call(.revertToSnapshot, volume, [("snapshot", bench.describe(snapshot))]) }
                try bench.expect("then", in: volume, "round \(round)")
            }
        },
        ConformanceCase(
            "revert: to what is not there is refused, and changes nothing", needs: [.revertToSnapshot, .createSnapshot], handles: true
        ) { bench in
            let volume = try bench.volume()
            try bench.write("kept", to: volume)
            try bench.refused([.notFound], "a revert") {
                try bench.call(.revertToSnapshot, volume, [("snapshot", bench.describe(CheckBench.Object(isSnapshot: true)))])
            }
            try bench.expect("kept", in: volume, "the volume")
        },
    ]
}
