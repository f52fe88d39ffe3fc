import Primitives
import TestSupport
import Testing

@testable import Backups

/// Backups in images: Cinder's scheme for Ceph, over a store in memory.
@Suite("Backups in images")
struct ImageBackupTests {
    private static let volume = "aaaaaaaa-0000-0000-0000-000000000001"
    private static let gibibyte: UInt64 = 1 << 30
    private static let metadata = #"{"version": 2, "volume-base-metadata": {"display_name": "näme"}}"#

    /// A volume, its backups and the store.
    private struct Scene {
        let images = MemoryImages()
        let objects = MemoryStore()
        var bytes = SparseBytes()
        var size = gibibyte
        private(set) var count = 0
        /// Each with what the volume was then.
        var chain: [(backup: ImageBackup, bytes: SparseBytes, size: UInt64)] = []

        mutating func next(after parent: ImageBackup?) -> ImageBackup {
            count += 1
            let digits = String(count)
            let id = "bbbbbbbb-0000-0000-0000-" + String(repeating: "0", count: 12 - digits.utf8.count) + digits
            return ImageBackup(
                id: id, volumeID: volume,
                serviceMetadata: parent?.serviceMetadata ?? ImageBackup.serviceMetadata(volumeID: volume, fullBackup: id),
                createdAt: "2026-11-30T12:00:0\(count % 10).000000")
        }

        func write(_ backup: ImageBackup, after parent: ImageBackup?, since before: SparseBytes?, share: Double = 0) throws
            -> ImageBackupSummary
        {
            try backup.write(
                of: SparseVolume(bytes: bytes, size: size, before: before), to: images, objects, after: parent, volumeMetadata: metadata,
                sampledShare: share)
        }

        @discardableResult
        mutating func backUp(isFull: Bool = false, knowsChanges: Bool = true) throws -> ImageBackup {
            let parent = isFull ? nil : chain.last
            let backup = next(after: parent?.backup)
            _ = try write(backup, after: parent?.backup, since: knowsChanges ? parent?.bytes : nil)
            chain.append((backup, bytes, size))
            return backup
        }

        /// Every backup is what the volume was, restored to a new volume and over one that holds something else.
        func expectAllRestorable(_ comment: Comment) throws {
            for (backup, bytes, size) in chain {
                for isZero in [true, false] {
                    var old = SparseBytes()
                    if !isZero { for place in [0, 100_000, size - 70_000] { old.write([UInt8](repeating: 9, count: 70_000), at: place) } }
                    let target = SparseTarget(old, size: size, isZero: isZero)
                    _ = try backup.restore(from: images, to: target)
                    #expect(target.bytes == bytes, "\(comment): \(backup.id), isZero \(isZero)")
                }
                #expect(try backup.volumeMetadata(in: objects) == metadata)
                #expect(try backup.verify(in: images).faults.isEmpty)
            }
        }
    }

    @Test("a full backup and its increments are restored, whether the driver knows what changed or not, and after the volume grew")
    func chain() throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 300_000), at: 50_000)
        scene.bytes.write([UInt8](repeating: 2, count: 10), at: Self.gibibyte - 10)
        try scene.backUp()
        for knowsChanges in [true, false] {
            scene.bytes.write([UInt8](repeating: 3, count: 5_000_000), at: 200_000)
            try scene.backUp(knowsChanges: knowsChanges)
            scene.bytes.zero(65_536..<4_000_000)
            try scene.backUp(knowsChanges: knowsChanges)
            scene.size += Self.gibibyte
            scene.bytes.write([4], at: scene.size - 1)
            try scene.backUp(knowsChanges: knowsChanges)
        }
        try scene.expectAllRestorable("chain")
        #expect(scene.images.names == ["volume-\(Self.volume).backup.\(scene.chain[0].backup.id)"])
        #expect(
            try scene.images.images()[0].snapshots == scene.chain.map { $0.backup.snapshotName }
                && scene.chain[1].backup.snapshotName == "backup.\(scene.chain[1].backup.id).snap.1796040002")
    }

    @Test("an increment reads only what changed where the driver knows it, and writes only what changed where it does not")
    func effort() throws {
        var scene = Scene()
        for place in 0..<200 { scene.bytes.write([UInt8](repeating: 1, count: 65_536), at: UInt64(place) << 20) }
        let full = try scene.backUp()
        let before = scene.bytes
        scene.bytes.write([7], at: 3 << 20)
        let known = try scene.write(scene.next(after: full), after: full, since: before)
        #expect(known.read == 65_536 && known.written == 65_536)
        let unknown = try scene.write(scene.next(after: full), after: full, since: nil)
        #expect(unknown.read == 200 * 65_536 && unknown.written == 65_536)
    }

    @Test("one that is whole counts as made, also for whoever repeats it")
    func made() throws {
        var scene = Scene()
        scene.bytes.write([1], at: 0)
        let full = scene.next(after: nil)
        let increment = scene.next(after: full)
        for _ in 0..<2 { #expect(try scene.write(full, after: nil, since: nil).objects == 1) }
        for _ in 0..<2 { #expect(try scene.write(increment, after: full, since: scene.bytes).objects == 1) }
    }

    @Test("a driver that omits a change is found out by a sample, and everything is compared")
    func omission() throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 200_000), at: 1 << 20)
        let full = try scene.backUp()
        let before = scene.bytes
        scene.bytes.write([5], at: 1 << 20)
        scene.bytes.write([6], at: 9 << 20)
        let backup = scene.next(after: full)
        var source = SparseVolume(bytes: scene.bytes, size: scene.size, before: before)
        source.omitted = 9 << 20..<10 << 20
        let summary = try backup.write(
            of: source, to: scene.images, scene.objects, after: full, volumeMetadata: "", sampledShare: 1)
        #expect(summary.missedChange == 9 << 20)
        let target = SparseTarget(size: scene.size, isZero: true)
        _ = try backup.restore(from: scene.images, to: target)
        #expect(target.bytes == scene.bytes)
    }

    @Test("one that dies in any call is repeated, or given up and another made, and all are what the volume was", arguments: [true, false])
    func deaths(isRepeated: Bool) throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 1_000_000), at: 0)
        for isFull in [true, false, false] {
            var death = 0
            while true {
                scene.bytes.write([UInt8](repeating: UInt8(truncatingIfNeeded: 10 + death), count: 70_000), at: UInt64(death) * 100_000)
                scene.bytes.zero(UInt64(death) * 50_000..<UInt64(death) * 50_000 + 65_536)
                let parent = isFull ? nil : scene.chain.last
                let backup = scene.next(after: parent?.backup)
                scene.images.die(inCall: death)
                var isDead = false
                do { _ = try scene.write(backup, after: parent?.backup, since: parent?.bytes) } catch { isDead = true }
                scene.images.die(inCall: nil)
                if isDead, isRepeated { _ = try scene.write(backup, after: parent?.backup, since: parent?.bytes) }
                if isDead, !isRepeated { try backup.remove(from: scene.images, scene.objects) }
                if !isDead || isRepeated { scene.chain.append((backup, scene.bytes, scene.size)) }
                guard isDead else { break }
                death += 1
            }
            #expect(death >= 3)
            try scene.expectAllRestorable("dead in call \(death)")
        }
        for (backup, _, _) in scene.chain.reversed() { try backup.remove(from: scene.images, scene.objects) }
        #expect(scene.images.names == [] && scene.objects.objects.isEmpty)
    }

    @Test("an increment on an older backup than the newest leaves both as they are, and the image as the newest is")
    func branch() throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 100_000), at: 0)
        let full = try scene.backUp()
        let moment = scene.bytes
        scene.size += Self.gibibyte
        scene.bytes.write([2], at: scene.size - 1)
        let newest = try scene.backUp()
        // Of a snapshot that was made between the two, before the volume grew.
        var older = scene
        (older.bytes, older.size) = (moment, Self.gibibyte)
        older.bytes.write([3], at: 5)
        let branch = older.next(after: full)
        _ = try older.write(branch, after: full, since: moment)
        scene.chain.append((branch, older.bytes, older.size))
        try scene.expectAllRestorable("branch")
        let image = try scene.images.open(scene.images.names[0], at: nil, since: newest.snapshotName)
        #expect(try image.changes(in: 0..<scene.size) == [])
        // One on the newest that is smaller: a snapshot from before it grew.
        let smaller = older.next(after: newest)
        _ = try older.write(smaller, after: newest, since: nil)
        scene.chain.append((smaller, older.bytes, older.size))
        try scene.expectAllRestorable("smaller")
    }

    @Test("nothing is made on top of a backup whose snapshot is missing, and the image stays as it is")
    func missingSnapshot() throws {
        var scene = Scene()
        scene.bytes.write([1], at: 0)
        let full = try scene.backUp()
        let other = try scene.backUp()
        try scene.images.removeSnapshot(other.snapshotName, of: scene.images.names[0])
        let changes = scene.images.changes
        #expect {
            try scene.write(scene.next(after: other), after: other, since: nil)
        } throws: {
            "\($0)" == "the store has no snapshot of backup \(other.id): looked for it in image \(scene.images.names[0]) or "
                + "volume-\(Self.volume).backup.base"
        }
        #expect(scene.images.changes == changes)
        scene.chain = [(full, scene.bytes, scene.size)]
        try scene.expectAllRestorable("the full one")
    }

    @Test("the image goes with the last of its backups, in any order, and stays with a snapshot that is nobody's backup")
    func removal() throws {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            var scene = Scene()
            for value in 1...3 {
                scene.bytes.write([UInt8(value)], at: 0)
                try scene.backUp()
            }
            let all = scene.chain
            for index in order {
                try all[index].backup.remove(from: scene.images, scene.objects)
                // Once more: it is gone already.
                try all[index].backup.remove(from: scene.images, scene.objects)
                scene.chain.removeAll { $0.backup == all[index].backup }
                try scene.expectAllRestorable("without \(index)")
            }
            #expect(scene.images.names == [] && scene.objects.objects.isEmpty)
        }
        var scene = Scene()
        let full = try scene.backUp()
        try scene.images.addSnapshot("somebody's", of: scene.images.names[0])
        try full.remove(from: scene.images, scene.objects)
        #expect(try scene.images.images().map(\.snapshots) == [["somebody's"]])
    }

    @Test("what Cinder has written is found under the names that it gives: with and without service_metadata, with and without snapshots")
    func cinders() throws {
        let id = "bbbbbbbb-0000-0000-0000-000000000001"
        let (own, base) = ("volume-\(Self.volume).backup.\(id)", "volume-\(Self.volume).backup.base")
        let snapshot = "backup.\(id).snap.1764500000.12"
        for (image, snapshots, metadata, found) in [
            (own, [snapshot], "{\"base\": \"\(own)\"}", true), (base, [snapshot], "{\"base\": \"\(base)\"}", true),
            (base, [snapshot], "", true), (own, [], "", true), (base, [], "", true), (own, [], "{\"base\": \"\(own)\"}", false),
            (base, ["backup.bbbbbbbb-0000-0000-0000-000000000002.snap.1"], "", false),
        ] {
            let images = MemoryImages()
            try images.make(image, gibibytes: 1)
            for snapshot in snapshots { try images.makeSnapshot(snapshot, of: image) }
            let backup = ImageBackup(id: id, volumeID: Self.volume, serviceMetadata: metadata, createdAt: "2026-11-30T12:00:00.000000")
            let place = try backup.find(in: images)
            #expect((place != nil) == found, "\(image) \(snapshots) \(metadata)")
            #expect(place == nil || place?.snapshot == snapshots.first && place?.image.name == image)
        }
    }

    @Test(
        "a record that leads to what is no image of the volume's backups is refused, and nothing is removed",
        arguments: [
            "{\"base\": \"volume-aaaaaaaa-0000-0000-0000-000000000002.backup.base\"}", "{\"base\": \"volume-\(volume)\"}",
            "{\"base\": \"volume-\(volume).backup.x\"}", "{\"base\": 1}", "{", "{\"base\": \"../volume-\(volume).backup.base\"}",
        ])
    func forged(metadata: String) throws {
        let images = MemoryImages()
        for name in ["volume-aaaaaaaa-0000-0000-0000-000000000002.backup.base", "volume-\(Self.volume)", "volume-\(Self.volume).backup.x"] {
            try images.make(name, gibibytes: 1)
        }
        let backup = ImageBackup(
            id: "bbbbbbbb-0000-0000-0000-000000000001", volumeID: Self.volume, serviceMetadata: metadata, createdAt: "")
        let objects = MemoryStore()
        #expect(throws: ImageBackupFailure.self) { try backup.remove(from: images, objects) }
        #expect(throws: ImageBackupFailure.self) { try backup.open(in: images) }
        #expect(images.names.count == 3)
    }
}
