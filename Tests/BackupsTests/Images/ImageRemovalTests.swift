import TestSupport
import Testing

@testable import Backups

/// Which image is a backup's, and goes with it.
@Suite("Images of backups that are looked for and removed")
struct ImageRemovalTests {
    private typealias Scene = ImageScene
    private static let volume = ImageScene.volume

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
        let cases: [(String, [String], String, Bool, Bool)] = [
            (own, [snapshot], "{\"base\": \"\(own)\"}", false, true), (base, [snapshot], "{\"base\": \"\(base)\"}", false, true),
            (base, [snapshot], "", false, true), (base, [snapshot], "", true, true), (own, [], "", false, true), (own, [], "", true, false),
            (base, [], "", true, true), (base, [], "", false, false), (own, [], "{\"base\": \"\(own)\"}", false, false),
            (base, ["backup.bbbbbbbb-0000-0000-0000-000000000002.snap.1"], "", true, false),
        ]
        for (image, snapshots, metadata, isOfSnapshot, found) in cases {
            let images = MemoryImages()
            try images.make(image, gibibytes: 1)
            for snapshot in snapshots { try images.makeSnapshot(snapshot, of: image) }
            let backup = ImageBackup(
                id: id, volumeID: Self.volume, serviceMetadata: metadata, createdAt: "2026-11-30T12:00:00.000000",
                isOfSnapshot: isOfSnapshot)
            let place = try backup.find(in: images)
            #expect((place != nil) == found, "\(image) \(snapshots) \(metadata)")
            #expect(place == nil || place?.snapshot == snapshots.first && place?.image.name == image)
        }
    }

    @Test("Cinder's copy of a snapshot is not taken for another backup of the volume whose own image is gone")
    func copyOfSnapshot() throws {
        let base = "volume-\(Self.volume).backup.base"
        func backup(_ number: Int, isOfSnapshot: Bool) -> ImageBackup {
            ImageBackup(
                id: "bbbbbbbb-0000-0000-0000-00000000000\(number)", volumeID: Self.volume, serviceMetadata: "",
                createdAt: "2026-11-30T12:00:00.000000", isOfSnapshot: isOfSnapshot)
        }
        let (images, objects) = (MemoryImages(), MemoryStore())
        let (copy, other) = (backup(1, isOfSnapshot: true), backup(2, isOfSnapshot: false))
        for image in [base, "volume-\(Self.volume).backup.\(other.id)"] { try images.make(image, gibibytes: 1) }
        // A removal that died before the row went is repeated.
        for _ in 0..<2 { try other.remove(from: images, objects) }
        #expect(images.names == [base])
        #expect(throws: ImageBackupFailure.self) { try other.open(in: images) }
        #expect(try copy.find(in: images)?.image.name == base)
        for _ in 0..<2 { try copy.remove(from: images, objects) }
        #expect(images.names == [])
    }

    @Test("the image goes also where the last of its backups is an increment whose removal died, or two are removed at the same time")
    func lastRemoval() throws {
        var scene = Scene()
        let (full, increment) = (try scene.backUp(), try scene.backUp())
        try full.remove(from: scene.images, scene.objects)
        scene.images.die(inCall: 1)
        #expect(throws: StoreFailure.self) { try increment.remove(from: scene.images, scene.objects) }
        scene.images.die(inCall: nil)
        #expect(try scene.images.images().map(\.snapshots) == [[]])
        try increment.remove(from: scene.images, scene.objects)
        #expect(scene.images.names == [])
        let (first, second) = (try scene.backUp(isFull: true), try scene.backUp())
        scene.images.interrupt { [images = scene.images, objects = scene.objects] in try? first.remove(from: images, objects) }
        try second.remove(from: scene.images, scene.objects)
        #expect(scene.images.names == [])
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
