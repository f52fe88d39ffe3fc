import Primitives
import TestSupport
import Testing

@testable import Backups

@Suite("Chunked backups that are read without being restored")
struct ChunkedImageTests {
    private func read(_ image: any BlockSource, at offset: Int, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 7, count: count)
        try bytes.withUnsafeMutableBytes { try image.read(at: UInt64(offset), into: $0) }
        return bytes
    }

    @Test("any range of a chain is what the volume was, whatever the compression", arguments: ChunkedCompression.allCases)
    func ranges(compression: ChunkedCompression) throws {
        let volume = RecordingVolume(mixedBytes(7 * unit + 1000, seed: 1))
        var chain = ChunkedChain(compression)
        try chain.write(volume)
        volume.change(unit - 5000, mixedBytes(20_000, seed: 2))
        volume.grow(by: mixedBytes(unit, seed: 3))
        try chain.write(volume)
        let image = try ChunkedBackup.image(of: chain.backups, in: chain.store)
        let wanted = volume.bytes
        #expect(image.size == UInt64(wanted.count))
        #expect(try read(image, at: 0, wanted.count) == wanted)
        var random = Seeded(4)
        for _ in 0..<200 {
            let start = Int(random.next() % UInt64(wanted.count))
            let count = min(wanted.count - start, Int(random.next() % UInt64(3 * unit)))
            #expect(try read(image, at: start, count) == Array(wanted[start..<start + count]))
        }
        #expect(throws: ChunkedFailure.self) { try read(image, at: wanted.count - 1, 2) }
    }

    @Test("what a damaged object holds cannot be read, and it is named; all else can")
    func damage() throws {
        let volume = RecordingVolume(mixedBytes(6 * unit, seed: 5))
        var chain = ChunkedChain(.none)
        try chain.write(volume)
        let name = chain.object(2)
        var bytes = try chain.bytes(name)
        bytes[10] ^= 1
        try chain.put(name, bytes)
        let image = try ChunkedBackup.image(of: chain.backups, in: chain.store)
        let object = try #require(try chain.backups[0].metadata(in: chain.store).objects.first { $0.number == 2 })
        let (start, end) = (Int(object.offset), Int(object.end))
        #expect(try read(image, at: 0, start) == Array(volume.bytes[..<start]))
        #expect(try read(image, at: end, volume.bytes.count - end) == Array(volume.bytes[end...]))
        for offset in [start, end - 1] {
            let failure = try #require(throws: ChunkedFailure.self) { try read(image, at: offset, 1) }
            #expect(failure.kind == .damaged && failure.reason.contains("-00002"))
        }
        // An object that was brought back is read at once.
        bytes[10] ^= 1
        try chain.put(name, bytes)
        #expect(try read(image, at: start, end - start) == Array(volume.bytes[start..<end]))
    }

    @Test("an increment stores what is damaged in its parents, whether it changed or not: it is whole then, and does not use it")
    func mending() throws {
        let volume = RecordingVolume(mixedBytes(6 * unit, seed: 6))
        var chain = ChunkedChain(.zstd)
        try chain.write(volume)
        let bytes = try chain.bytes(chain.object(1))
        try chain.put(chain.object(1), Array(bytes.dropLast()))
        let found = try ChunkedBackup.verify(chain.backups, in: chain.store)
        #expect(found.damages.count == 1 && found.damages[0].object?.number == 1)
        let range = try #require(found.damages[0].range)
        #expect(try ChunkedBackup.uses(found.damages, chain.backups, in: chain.store))
        volume.markUnchanged()
        volume.change(5 * unit, [1, 2, 3])
        try chain.write(volume)
        #expect(try ChunkedBackup.uses(found.damages, chain.backups, in: chain.store))
        chain.options.damagedParts = [range]
        volume.markUnchanged()
        try chain.write(volume)
        #expect(volume.readBytes >= range.count)
        #expect(try !ChunkedBackup.uses(found.damages, chain.backups, in: chain.store))
        #expect(try ChunkedBackup.verify(chain.backups, in: chain.store, includesReplaced: false).isGood)
        #expect(try !ChunkedBackup.verify(chain.backups, in: chain.store).isGood)
        let target = RecordingVolume(zeroes: Int(volume.size))
        try chain.restore(to: target)
        #expect(target.bytes == volume.bytes)
    }
}
