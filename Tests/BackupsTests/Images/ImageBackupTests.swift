import Primitives
import TestSupport
import Testing

@testable import Backups

/// Backups in images: Cinder's scheme for Ceph, over a store in memory.
@Suite("Backups in images")
struct ImageBackupTests {
    private typealias Scene = ImageScene
    private static let volume = ImageScene.volume
    private static let gibibyte: UInt64 = 1 << 30

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
        _ = try older.write(branch, after: full, since: moment, newer: [newest.id, full.id])
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

    @Test("an increment on a backup that is not the last leaves the image as it is itself, where none is of a later moment")
    func latest() throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 100_000), at: 0)
        let full = try scene.backUp()
        let before = scene.bytes
        scene.bytes.write([2], at: 1 << 20)
        _ = try scene.backUp()
        scene.bytes.write([3], at: 2 << 20)
        let latest = scene.next(after: full)
        _ = try scene.write(latest, after: full, since: before)
        #expect(try scene.isImage(as: latest))
        scene.chain.append((latest, scene.bytes, scene.size))
        try scene.expectAllRestorable("latest")
    }

    @Test("one of a moment before the newest that dies in any call and is repeated leaves the image as the newest is")
    func deathBeforeRevert() throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 100_000), at: 0)
        let full = try scene.backUp()
        let moment = scene.bytes
        scene.bytes.write([2], at: 1 << 20)
        let newest = try scene.backUp()
        var older = scene
        older.bytes = moment
        var death = 0
        while true {
            older.bytes.write([UInt8(truncatingIfNeeded: death + 3)], at: 5)
            let branch = older.next(after: full)
            func write() throws { _ = try older.write(branch, after: full, since: moment, newer: [newest.id]) }
            scene.images.die(inCall: death)
            let isDead = (try? write()) == nil
            scene.images.die(inCall: nil)
            if isDead { try write() }
            #expect(try scene.isImage(as: newest), "dead in call \(death)")
            older.chain.append((branch, older.bytes, older.size))
            guard isDead else { break }
            death += 1
        }
        #expect(death >= 3)
        try older.expectAllRestorable("deaths")
    }

    @Test("what cannot be read from the parent is not compared with it, and is stored anew", arguments: [true, false])
    func damagedParent(knowsChanges: Bool) throws {
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 200_000), at: 0)
        scene.bytes.write([UInt8](repeating: 1, count: 65_536), at: 8 << 20)
        let full = try scene.backUp()
        let before = knowsChanges ? scene.bytes : nil
        scene.bytes.write([2], at: 100 << 20)
        scene.images.fault = SparseVolume.Fault(range: 0..<65_536, error: StoreFailure(.permanent, "an I/O error"))
        let backup = scene.next(after: full)
        #expect(throws: StoreFailure.self) { try scene.write(backup, after: full, since: before, share: 1) }
        let summary = try scene.write(backup, after: full, since: before, damaged: [0..<65_536, 0..<4096], share: 1)
        #expect(summary.written == 2 * 65_536 && summary.missedChange == nil)
        scene.images.fault = nil
        scene.chain.append((backup, scene.bytes, scene.size))
        try scene.expectAllRestorable("damaged")
    }

    @Test("bytes that the store has lost are told; a read that fails otherwise, as that of a store that does not answer, is no verdict")
    func readFaults() throws {
        struct Lost: Error {}
        var scene = Scene()
        scene.bytes.write([UInt8](repeating: 1, count: 200_000), at: 0)
        let full = try scene.backUp()
        scene.images.fault = SparseVolume.Fault(range: 65_536..<65_537, error: Lost())
        let faults = try full.verify(in: scene.images) { $0 is Lost }.faults
        #expect(faults.map { $0.range } == [65_536..<131_072])
        scene.images.fault = SparseVolume.Fault(range: 65_536..<65_537, error: StoreFailure(.temporary, "no answer"))
        #expect(throws: StoreFailure.self) { try full.verify(in: scene.images) { $0 is Lost } }
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
}
