import CDriver
import DriverKit
import Glibc

/// What the index says of an object.
struct Record: Equatable {
    /// Under which its data lies; no two objects that are put have the same one.
    let id: String
    let size: UInt64
    /// When it was put, in seconds since 1970.
    let modified: Int64
    /// Bytes of each of its pieces but the last; 0: it has none, and its data is here.
    let pieceSize: UInt64
    let content: [UInt8]

    /// An object whose data lies in pieces.
    init(id: String, size: UInt64, modified: Int64, pieceSize: UInt64) {
        self.id = id
        self.size = size
        self.modified = modified
        self.pieceSize = pieceSize
        content = []
    }

    /// A small one.
    init(id: String, content: [UInt8], modified: Int64) {
        self.id = id
        size = UInt64(content.count)
        self.modified = modified
        pieceSize = 0
        self.content = content
    }

    /// The most bytes of an object that is kept in the index.
    static let mostContent = 1024

    var isInPieces: Bool { pieceSize > 0 }

    /// Throws ERROR for what is no record of this version: nothing is guessed.
    init(_ bytes: [UInt8], of name: String) throws {
        let wrong = DriverError(CLINKER_ERROR, "the index has for \(name) what is no record of an object")
        guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else { throw wrong }
        let words = bytes[..<end].split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        guard words.count == 5, words[0] == "1", DataObjects.isID(words[1]), let size = UInt64(words[2]), size <= UInt64(Int64.max),
            let modified = Int64(words[3]), let pieceSize = UInt64(words[4]), pieceSize <= 1 << 30
        else { throw wrong }
        let content = Array(bytes[(end + 1)...])
        guard UInt64(content.count) == (pieceSize == 0 ? size : 0) else { throw wrong }
        if pieceSize == 0 {
            self.init(id: words[1], content: content, modified: modified)
        } else {
            self.init(id: words[1], size: size, modified: modified, pieceSize: pieceSize)
        }
    }

    var bytes: [UInt8] { Array("1 \(id) \(size) \(modified) \(pieceSize)\n".utf8) + content }
}

/// The names of the objects, with their records: keys of a few RADOS objects, by a hash of the name. Each keeps its keys in order, and a list
/// joins them. A key is changed by one operation that also looks whether it is still what it was.
struct Index: Sendable {
    private let pool: Pool
    private static let shards = 16

    init(_ pool: Pool) { self.pool = pool }

    private static func object(_ shard: Int) -> String { "clinker.index.\(String(shard, radix: 16))" }

    private static func object(of name: String) -> String {
        // FNV-1a.
        let hash = name.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        return object(Int((hash ^ hash >> 32) % UInt64(shards)))
    }

    func record(of name: String) throws -> Record? {
        try pool.value(of: name, in: Self.object(of: name)).map { try Record($0, of: name) }
    }

    /// False if the record is another one by now.
    func replace(_ old: Record?, of name: String, by new: Record?) throws -> Bool {
        try pool.setValue(of: name, in: Self.object(of: name), from: old?.bytes, to: new?.bytes)
    }

    /// The keys of one RADOS object, page by page.
    private struct Page {
        let object: String
        var entries: ArraySlice<(key: String, value: [UInt8])> = []
        var after: String
        var hasMore = true

        mutating func fill(_ pool: Pool, prefix: String) throws {
            while entries.isEmpty, hasMore {
                let found = try pool.values(of: object, prefix: prefix, after: after, atMost: 500)
                entries = found.entries[...]
                hasMore = found.hasMore
                if let last = entries.last { after = last.key }
            }
        }
    }

    /// Calls `each` in the order of the names' bytes, until it returns false.
    func walk(prefix: String, after: String, isCancelled: () -> Bool, _ each: (String, Record) throws -> Bool) throws {
        var pages = (0..<Self.shards).map { Page(object: Self.object($0), after: after) }
        while true {
            if isCancelled() { throw DriverError(CLINKER_CANCELLED, "cancelled") }
            var least: Int?
            for index in pages.indices {
                try pages[index].fill(pool, prefix: prefix)
                guard let key = pages[index].entries.first?.key else { continue }
                if let known = least, let other = pages[known].entries.first?.key, !key.utf8.lexicographicallyPrecedes(other.utf8) {
                    continue
                }
                least = index
            }
            guard let least, let (name, value) = pages[least].entries.popFirst() else { return }
            guard try each(name, Record(value, of: name)) else { return }
        }
    }
}
