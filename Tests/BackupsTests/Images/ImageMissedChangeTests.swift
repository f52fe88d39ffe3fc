import Primitives
import TestSupport
import Testing

@testable import Backups

/// Increments in images whose volume's driver omits changes, and that die: a first attempt samples everything and so finds that out; whoever
/// repeats it samples nothing and has nothing but what was noted.
@Suite("Backups in images that die after they found that storage had missed a change")
struct ImageMissedChangeTests {
    private static let omitted: UInt64 = 9 << 20

    private struct Lying {
        let images = MemoryImages()
        let objects = MemoryStore()
        let full, increment: ImageBackup
        private(set) var volume: SparseVolume

        init() throws {
            func backup(_ id: String) -> ImageBackup {
                let volumeID = "aaaaaaaa-0000-0000-0000-000000000001"
                return ImageBackup(
                    id: id, volumeID: volumeID,
                    serviceMetadata: ImageBackup.serviceMetadata(
                        volumeID: volumeID, fullBackup: "bbbbbbbb-0000-0000-0000-000000000001"),
                    createdAt: "2026-11-30T12:00:00.000000")
            }
            full = backup("bbbbbbbb-0000-0000-0000-000000000001")
            increment = backup("bbbbbbbb-0000-0000-0000-000000000002")
            var bytes = SparseBytes()
            bytes.write([UInt8](repeating: 1, count: 200_000), at: 1 << 20)
            volume = SparseVolume(bytes: bytes, size: 64 << 20)
            _ = try full.write(of: volume, to: images, objects, after: nil, volumeMetadata: "{}")
            // The driver tells of none of these.
            let before = bytes
            bytes.write([6], at: omitted)
            bytes.write([7], at: 30 << 20)
            bytes.zero(1 << 20..<(1 << 20) + 65_536)
            volume = SparseVolume(bytes: bytes, size: 64 << 20, before: before, omitted: 0..<64 << 20)
        }

        func attempt(_ objects: (any ObjectStore)? = nil, sampling share: Double, _ control: TransferControl = TransferControl()) throws
            -> ImageBackupSummary
        {
            try increment.write(
                of: volume, to: images, objects ?? self.objects, after: full, volumeMetadata: "{}", sampledShare: share, control: control)
        }

        /// Whoever repeats the backup tells of the change, and the backup is what the volume was; nothing stays of it when it is removed.
        func expectKnown(_ comment: Comment) throws {
            let control = TransferControl()
            let isWhole = try increment.find(in: images) != nil
            let summary = try attempt(sampling: 0, control)
            #expect(isWhole || control.progress.missedChange != nil, comment)
            #expect(summary.missedChange != nil, comment)
            let target = SparseTarget(size: volume.size, isZero: true)
            _ = try increment.restore(from: images, to: target)
            let isSame = target.bytes == volume.bytes
            #expect(isSame, comment)
            try increment.remove(from: images, objects)
            try full.remove(from: images, objects)
            #expect(images.names == [] && objects.objects.isEmpty, comment)
        }
    }

    @Test("whoever repeats it compares everything and tells of the change, wherever in the image the attempt died")
    func images() throws {
        var deaths = 0
        // The first change makes the image as large as the volume: nothing was read until then.
        for change in 1...30 {
            let lying = try Lying()
            lying.images.die(inCall: change)
            let control = TransferControl()
            let isDead = (try? lying.attempt(sampling: 1, control)) == nil
            lying.images.die(inCall: nil)
            #expect(control.progress.missedChange != nil, "\(change): it is told before anything else is done")
            try lying.expectKnown("dead in call \(change)")
            guard isDead else { break }
            deaths += 1
        }
        #expect(deaths > 3)
    }

    @Test("the same where it died behind the note, or with its snapshot made")
    func objects() throws {
        // The first object is the note, the second what is kept of the volume.
        for (change, after) in [(1, true), (2, false), (2, true)] {
            let lying = try Lying()
            let gate = CrashGate(at: change, after: after)
            #expect(throws: (any Error).self) { try lying.attempt(GatedStore(store: lying.objects, gate: gate), sampling: 1) }
            #expect(gate.hasCrashed)
            try lying.expectKnown("dead with object \(change), after it: \(after)")
        }
    }

    @Test("a repetition of one that is whole tells of the change, as often as it is repeated")
    func whole() throws {
        let lying = try Lying()
        #expect(try lying.attempt(sampling: 1).missedChange != nil)
        for _ in 0..<2 { #expect(try lying.attempt(sampling: 0).missedChange != nil) }
        try lying.expectKnown("whole")
    }

    @Test("a store that does not take the note ends the attempt for good, and nothing was written to the image")
    func unnoted() throws {
        let lying = try Lying()
        let failure = #expect(throws: StoreFailure.self) {
            try lying.attempt(GatedStore(store: lying.objects, gate: BusyGate()), sampling: 1)
        }
        #expect(failure?.kind == .permanent)
        #expect(failure?.description.hasSuffix("where something had, and this cannot be noted: not now") == true)
        #expect(try lying.images.images().map(\.snapshots) == [[lying.full.snapshotName]])
        let image = try lying.images.open(lying.images.names[0], at: nil, since: lying.full.snapshotName)
        #expect(try image.changes(in: 0..<image.size) == [])
    }
}

/// A store that takes nothing at the moment.
private struct BusyGate: StoreGate {
    func enter(changes: Bool) throws(StoreFailure) { if changes { throw StoreFailure(.temporary, "not now") } }
    func leave(changes: Bool) throws(StoreFailure) {}
}
