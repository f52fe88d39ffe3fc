import JSON
import Primitives

/// A pack as an index lists it.
struct IndexedPack: Equatable, Sendable {
    var id: Digest
    var blobs: [PackedBlob]
    /// When the pack was marked for removal, in seconds since 1970; nil for a pack in use.
    var markedAt: Double?

    /// What the pack takes in the store, nearly.
    var size: UInt64 { blobs.reduce(UInt64(PackHeader.size(of: blobs) + Sealer.overhead + 4)) { $0 + UInt64($1.length) } }
}

/// The JSON of an object below `index/`.
///
/// Packs in `packs_to_delete` hold nothing that is needed and go when their time has come; restic does not know that member and takes
/// them for packs that nobody uses, which is true.
enum IndexObject {
    /// How many blobs an index object that we write has at most.
    static let blobLimit = 20_000

    static func text(_ packs: [IndexedPack], supersedes: [Digest] = []) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(200 + packs.reduce(0) { $0 + 130 + $1.blobs.count * 180 })
        text += "{".utf8
        if !supersedes.isEmpty {
            text += "\"supersedes\":[".utf8
            for (index, id) in supersedes.enumerated() {
                if index > 0 { text.append(UInt8(ascii: ",")) }
                text.append(UInt8(ascii: "\""))
                append(id, to: &text)
                text.append(UInt8(ascii: "\""))
            }
            text += "],".utf8
        }
        text += "\"packs\":[".utf8
        append(packs.filter { $0.markedAt == nil }, to: &text)
        let marked = packs.filter { $0.markedAt != nil }
        if !marked.isEmpty {
            text += "],\"packs_to_delete\":[".utf8
            append(marked, to: &text)
        }
        text += "]}".utf8
        return text
    }

    private static func append(_ digest: Digest, to text: inout [UInt8]) {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 64) {
            digest.writeHex(to: $0.baseAddress!)
            text.append(contentsOf: $0)
        }
    }

    private static func append(_ packs: [IndexedPack], to text: inout [UInt8]) {
        for (index, pack) in packs.enumerated() {
            text += (index > 0 ? ",{\"id\":\"" : "{\"id\":\"").utf8
            append(pack.id, to: &text)
            if let time = pack.markedAt { text += "\",\"time\":\"\(Timestamp.format(time))Z".utf8 }
            text += "\",\"blobs\":[".utf8
            for (index, blob) in pack.blobs.enumerated() {
                text += (index > 0 ? ",{\"id\":\"" : "{\"id\":\"").utf8
                append(blob.id, to: &text)
                text += blob.type == .data ? "\",\"type\":\"data\",\"offset\":".utf8 : "\",\"type\":\"tree\",\"offset\":".utf8
                text += String(blob.offset).utf8
                text += ",\"length\":".utf8
                text += String(blob.length).utf8
                if blob.isCompressed {
                    text += ",\"uncompressed_length\":".utf8
                    text += String(blob.plainLength).utf8
                }
                text += "}".utf8
            }
            text += "]}".utf8
        }
    }

    /// Reads an index object pack by pack.
    ///
    /// - Parameter name: for messages.
    static func scan(_ text: [UInt8], name: Digest, _ each: (IndexedPack) throws -> Void) throws {
        try text.withUnsafeBytes { bytes in
            var scanner = JSONScanner(bytes)
            do {
                try scanner.object { scanner, member in
                    if member.equals("packs") {
                        try scanner.arrayOrNull { try each(try pack(&$0, isMarked: false)) }
                    } else if member.equals("packs_to_delete") {
                        try scanner.arrayOrNull { try each(try pack(&$0, isMarked: true)) }
                    } else {
                        try scanner.skip()
                    }
                }
                try scanner.end()
            } catch let fault as JSONScanner.Fault {
                throw RepositoryError.damaged("index \(name): \(fault)")
            }
        }
    }

    private static func pack(_ scanner: inout JSONScanner, isMarked: Bool) throws -> IndexedPack {
        var id: Digest?
        var blobs: [PackedBlob] = []
        // A mark without a time that can be read counts as new: nothing goes too early.
        var time: Double? = isMarked ? Timestamp.seconds() : nil
        try scanner.object { scanner, member in
            if member.equals("id") {
                id = try scanner.digest()
            } else if member.equals("blobs") {
                try scanner.arrayOrNull { blobs.append(try blob(&$0)) }
            } else if member.equals("time"), isMarked {
                if try !scanner.null(), let text = try scanner.plainString(), let read = Timestamp.read(text) { time = read }
            } else {
                try scanner.skip()
            }
        }
        guard let id else { throw scanner.fault("a pack has no id") }
        return IndexedPack(id: id, blobs: blobs, markedAt: time)
    }

    private static func blob(_ scanner: inout JSONScanner) throws -> PackedBlob {
        var id: Digest?
        var type: BlobType?
        var offset: UInt32?
        var length: UInt32?
        var plainLength: UInt32 = 0
        try scanner.object { scanner, member in
            if member.equals("id") {
                id = try scanner.digest()
            } else if member.equals("type") {
                let text = try scanner.rawString()
                type = text.equals("data") ? .data : text.equals("tree") ? .tree : nil
            } else if member.equals("offset") {
                offset = UInt32(try scanner.unsigned(atMost: UInt64(UInt32.max)))
            } else if member.equals("length") {
                length = UInt32(try scanner.unsigned(atMost: UInt64(Int32.max)))
            } else if member.equals("uncompressed_length") {
                plainLength = UInt32(try scanner.unsigned(atMost: UInt64(Int32.max)))
            } else {
                try scanner.skip()
            }
        }
        guard let id, let type, let offset, let length else { throw scanner.fault("a blob lacks id, type, offset or length") }
        guard length >= UInt32(Sealer.overhead), UInt64(offset) + UInt64(length) <= UInt64(UInt32.max) else {
            throw scanner.fault("a blob has an impossible offset or length")
        }
        return PackedBlob(id: id, type: type, offset: offset, length: length, plainLength: plainLength)
    }
}
