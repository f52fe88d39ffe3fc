import TestSupport
import Testing

@testable import Backups

/// A volume, its backups and the store.
struct ImageScene {
    static let volume = "aaaaaaaa-0000-0000-0000-000000000001"
    static let metadata = #"{"version": 2, "volume-base-metadata": {"display_name": "näme"}}"#

    let images = MemoryImages()
    let objects = MemoryStore()
    var bytes = SparseBytes()
    var size: UInt64 = 1 << 30
    private(set) var count = 0
    /// Each with what the volume was then.
    var chain: [(backup: ImageBackup, bytes: SparseBytes, size: UInt64)] = []

    mutating func next(after parent: ImageBackup?) -> ImageBackup {
        count += 1
        let digits = String(count)
        let id = "bbbbbbbb-0000-0000-0000-" + String(repeating: "0", count: 12 - digits.utf8.count) + digits
        return ImageBackup(
            id: id, volumeID: Self.volume,
            serviceMetadata: parent?.serviceMetadata ?? ImageBackup.serviceMetadata(volumeID: Self.volume, fullBackup: id),
            createdAt: "2026-11-30T12:00:0\(count % 10).000000")
    }

    func write(
        _ backup: ImageBackup, after parent: ImageBackup?, since before: SparseBytes?, newer: [String] = [],
        damaged: [Range<UInt64>] = [], share: Double = 0
    ) throws -> ImageBackupSummary {
        try backup.write(
            of: SparseVolume(bytes: bytes, size: size, before: before), to: images, objects, after: parent, newer: newer,
            damagedParts: damaged, volumeMetadata: Self.metadata, sampledShare: share)
    }

    /// Whether the image is what a backup was.
    func isImage(as backup: ImageBackup) throws -> Bool {
        let image = try images.open(images.names[0], at: nil, since: backup.snapshotName)
        return try image.changes(in: 0..<image.size) == []
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
            #expect(try backup.volumeMetadata(in: objects) == Self.metadata)
            #expect(try backup.verify(in: images).faults.isEmpty)
        }
    }
}
