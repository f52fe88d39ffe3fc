import Primitives
import TestSupport
import Testing

@testable import Backups

private let kib256 = 256 << 10

@Suite("A repository against a model")
struct ModelTests {
    /// A volume as the model has it, with what changed since its last backup.
    private struct Volume {
        var bytes: [UInt8]
        var changed: [Range<UInt64>] = []
        var last: Digest?
    }

    @Test("whatever is written, backed up, cut off, deleted and pruned, every backup that is left comes back as it was", arguments: 1...3)
    func model(_ seed: UInt64) throws {
        struct CutOff: Error {}
        var random = Seeded(seed)
        let directory = temporaryDirectory("model")
        var options = Repository.Options()
        options.packSize = 1 << 20
        options.sampling = 0.05
        options.segmentChunks = 8
        options.indexInterval = 0
        if seed % 2 == 0 { options.cacheDirectory = temporaryDirectory("cache") }
        let repository = try Repository.create(
            in: DirectoryStore(directory), password: Secret("secret"), chunkSize: kib256, options: options)
        var volumes = (0..<2).map { Volume(bytes: mixedImage(chunks: 10, chunkSize: kib256, tail: 500 * $0, seed: seed &+ UInt64($0))) }
        var backups: [(id: Digest, bytes: [UInt8])] = []
        for step in 0..<60 {
            let number = Int.random(in: 0..<volumes.count, using: &random)
            var volume = volumes[number]
            switch random.next() % 10 {
            case 0...2:
                let start = Int.random(in: 0..<volume.bytes.count, using: &random)
                let part = mixedChunk(min(volume.bytes.count - start, Int.random(in: 1...2 * kib256, using: &random)), &random)
                volume.bytes.replaceSubrange(start..<start + part.count, with: part)
                volume.changed.append(UInt64(start)..<UInt64(start + part.count))
            case 3 where volume.bytes.count < 20 * kib256:
                volume.bytes += mixedChunk(Int.random(in: 1...2 * kib256, using: &random), &random)
            case 4...6:
                let knows = random.next() % 4 > 0 && volume.last != nil
                let isCutOff = random.next() % 5 == 0
                let limit = UInt64.random(in: 0...UInt64(volume.bytes.count), using: &random)
                let source = MemorySource(
                    volume.bytes, changed: knows ? merged(volume.changed) : nil,
                    beforeRead: { if isCutOff, $0 >= limit { throw CutOff() } })
                var request = BackupRequest(backupID: "b\(step)", projectID: "p", volumeID: "v\(number)", parent: volume.last)
                request.continues = random.next() % 3 == 0
                do {
                    let made = try repository.backup(source, request)
                    #expect(made.missedChange == nil)
                    backups.append((made.snapshot, volume.bytes))
                    volume.last = made.snapshot
                    volume.changed = []
                } catch is CutOff {}
            case 7 where !backups.isEmpty:
                try repository.delete(backups.remove(at: Int.random(in: 0..<backups.count, using: &random)).id)
            case 8: _ = try repository.prune(grace: random.next() % 2 == 0 ? 0 : 3600, deadShare: 0.2)
            default:
                guard let (id, bytes) = backups.randomElement(using: &random) else { continue }
                try #expect(restored(repository, id, bytes.count) == bytes, "step \(step)")
            }
            volumes[number] = volume
        }
        for (id, bytes) in backups { try #expect(restored(repository, id, bytes.count) == bytes) }
        #expect(try Set(repository.snapshots().map(\.id)) == Set(backups.map(\.id)))
        _ = try repository.prune(grace: 0)
        _ = try repository.prune(grace: 0)
        for (id, bytes) in backups { try #expect(restored(repository, id, bytes.count) == bytes) }
        if Restic.isInstalled {
            let check = try Restic(directory: directory)("check", "--read-data")
            #expect(check.status == 0, "\(check.output)")
        }
    }

    private func restored(_ repository: Repository, _ id: Digest, _ size: Int) throws -> [UInt8] {
        let target = MemoryTarget(size)
        _ = try repository.restore(id, to: target)
        return target.bytes
    }

    private func merged(_ ranges: [Range<UInt64>]) -> [Range<UInt64>] {
        var merged: [Range<UInt64>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, last.upperBound >= range.lowerBound {
                merged[merged.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        return merged
    }
}
