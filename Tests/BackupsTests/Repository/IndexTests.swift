import TestSupport
import Testing

@testable import Backups

@Suite("The index of a repository")
struct IndexTests {
    private func digest(_ random: inout Seeded) -> Digest {
        Digest(words: (random.next(), random.next(), random.next(), random.next()))
    }

    @Test("blobs are found in memory and in a sorted file, each once, with the first pack that has it", arguments: [10, 64, 5000])
    func runs(_ batchSize: Int) throws {
        var random = Seeded(UInt64(batchSize))
        let builder = IndexRunBuilder(temporaryFilesIn: "/tmp", batchSize: batchSize)
        var ids: [Digest] = []
        for number in 0..<3000 {
            // Many ids have the same beginning, as a stranger could choose them, and some come again.
            var id = digest(&random)
            if number % 3 == 0 { id = Digest(words: (42, 42, 42, id.words.3)) }
            if number % 10 == 9 { id = ids[Int.random(in: 0..<ids.count, using: &random)] }
            ids.append(id)
            let type: BlobType = number % 7 == 0 ? .tree : .data
            try builder.add(
                IndexRecord(PackedBlob(id: id, type: type, offset: 5, length: 100, plainLength: 7), pack: UInt32(number)))
        }
        let run = try builder.finish()
        var expected: [BlobIndex.Key: UInt32] = [:]
        for (number, id) in ids.enumerated() {
            let key = BlobIndex.Key(id: id, type: number % 7 == 0 ? .tree : .data)
            expected[key] = expected[key] ?? UInt32(number)
        }
        #expect(run.count == expected.count)
        var records: [IndexRecord] = []
        var reader = run.reader()
        while let record = try reader.next() { records.append(record) }
        for (key, pack) in expected {
            let found = try run.find(key.id, key.type)
            #expect(found?.record.pack == pack && found?.record.blob.length == 100 && found?.record.type == key.type)
            #expect(found.map { records[$0.index].id } == key.id)
        }
        for _ in 0..<500 { #expect(try run.find(digest(&random), .data) == nil) }
        #expect(try IndexRunBuilder(temporaryFilesIn: "/tmp").finish().find(ids[0], .data) == nil)
    }

    @Test("an index object is read as it was written, marks included")
    func objects() throws {
        var random = Seeded(1)
        let packs = (0..<5).map { number in
            IndexedPack(
                id: digest(&random),
                blobs: (0..<number).map {
                    PackedBlob(
                        id: digest(&random), type: $0 == 1 ? .tree : .data, offset: UInt32($0), length: 32, plainLength: UInt32($0 % 2))
                }, markedAt: number == 3 ? 1_796_000_000.25 : nil)
        }
        var read: [IndexedPack] = []
        try IndexObject.scan(IndexObject.text(packs, supersedes: [packs[0].id]), name: .zero) { read.append($0) }
        #expect(read.sorted { $0.id < $1.id } == packs.sorted { $0.id < $1.id })
    }

    @Test("what other programs write is read, and what is malformed is refused")
    func foreign() throws {
        let id = String(repeating: "ab", count: 32)
        func scan(_ text: String) -> RepositoryError.Kind? {
            kind { try IndexObject.scan(Array(text.utf8), name: .zero) { _ in } }
        }
        let blob = "{\"id\":\"\(id)\",\"type\":\"data\",\"offset\":0,\"length\":38}"
        for good in [
            "{}", "{\"packs\":null}", " { \"packs\" : [ ] , \"other\" : [ 1.5e3 , {\"a\" : \"\\\"}\" } , null, true, false ] } ",
            "{\"packs\":[{\"blobs\":[\(blob)],\"id\":\"\(id)\",\"more\":-1}]}",
            "{\"packs_to_delete\":[{\"id\":\"\(id)\",\"time\":\"2026-11-30T05:00:00.123456789+01:00\",\"blobs\":[]}]}",
        ] { #expect(scan(good) == nil, "\(good)") }
        for bad in [
            "", "{", "[]", "{\"packs\":[{}]}", "{\"packs\":[{\"id\":\"\(id)x\"}]}", "{\"packs\":{}}", "{}x", "{\"packs\":[],}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[{}]}]}", "{\"a\":\"\\", "{\"a\":\"x\\\"}", "{\"a\":nul}", "{\"a\":\u{1}}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob.replacing("38", with: "31"))]}]}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob.replacing("38", with: "99999999999"))]}]}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob.replacing("38", with: "99999999999999999999999"))]}]}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob.replacing("38", with: "-38"))]}]}",
            "{\"packs\":[{\"id\":\"\(id)\",\"blobs\":[\(blob.replacing("data", with: "file"))]}]}",
            "{\"a\":" + String(repeating: "[", count: 100_000),
        ] { #expect(scan(bad) == .damaged, "\(bad.prefix(200))") }
    }

    @Test("no text, however mutated, makes a reader of indexes, trees or headers trap")
    func mutations() throws {
        var random = Seeded(7)
        let pack = IndexedPack(
            id: digest(&random), blobs: [PackedBlob(id: digest(&random), type: .tree, offset: 1, length: 40, plainLength: 9)], markedAt: 5)
        let header = Sealer(.random()).open([]) ?? pack.blobs.flatMap { [UInt8(3), 40, 0, 0, 0, 9, 0, 0, 0] + $0.id.bytes }
        let tree = [pack.id].withUnsafeBufferPointer { Trees.segment(size: 5, chunks: $0) }
        let texts = [IndexObject.text([pack]), tree, header]
        for round in 0..<30_000 {
            var text = texts[round % 3]
            for _ in 0...Int.random(in: 0..<3, using: &random) {
                let place = Int.random(in: 0..<text.count, using: &random)
                switch random.next() % 4 {
                case 0: text[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: text.remove(at: place)
                case 2: text.insert(UInt8("\"{}[],:\\09e-".utf8.randomElement(using: &random)!), at: place)
                default: text.removeSubrange(place...)
                }
                if text.isEmpty { break }
            }
            switch round % 3 {
            case 0: try? IndexObject.scan(text, name: .zero) { _ in }
            case 1: try? TreeNode.scan(text, tree: .zero, chunk: { _ in }, node: { _ in })
            default: _ = try? PackHeader.parse(text, end: 40)
            }
        }
    }
}
