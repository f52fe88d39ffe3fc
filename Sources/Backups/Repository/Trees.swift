import JSON

/// The trees of a volume's backup, as restic's directories and files.
///
/// ```
/// volume.json                  what the backup is of
/// image/00000/data             the first 64 GiB of the image
/// image/00001/data             the next, and so on
/// ```
/// A segment's file has a directory of its own, so that one tree never holds more chunks than fit into memory, and an unchanged segment
/// is the same tree in every backup: its times are fixed.
enum Trees {
    /// The most bytes that a tree may have before it is compressed.
    static let limit = 64 << 20
    static let recordName = "volume.json"
    static let imageName = "image"
    static let segmentFile = "data"
    /// The most bytes that the sealed tree of a segment, or of the list of segments, may take in a pack.
    static func largestSealed(_ shape: ImageShape) -> Int {
        let chunks = shape.segmentCount > 1 ? Int(shape.segmentSize) / shape.chunkSize : shape.segmentCount == 1 ? shape.chunkCount(0) : 0
        return ZstdCompressor.bound(max(chunks * 67, shape.segmentCount * 300) + 4096) + Sealer.overhead
    }

    /// The most bytes of `volume.json`.
    static let recordLimit = 1 << 20

    private static let directoryMode: Int64 = 1 << 31 | 0o700

    static func segmentName(_ index: Int) -> String {
        let digits = String(index)
        return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }

    private static func begin(_ name: String, _ kind: String, mode: Int64, time: String = "1970-01-01T00:00:00Z") -> String {
        """
        {"name":"\(name)","type":"\(kind)","mode":\(mode),"mtime":"\(time)","atime":"\(time)","ctime":"\(time)","uid":0,"gid":0,\
        "inode":0,"device_id":0,
        """
    }

    /// The tree of one segment: a file made of chunks.
    static func segment(size: UInt64, chunks: UnsafeBufferPointer<Digest>) -> [UInt8] {
        var text: [UInt8] = []
        text.reserveCapacity(400 + chunks.count * 67)
        text += "{\"nodes\":[".utf8
        text += begin(segmentFile, "file", mode: 0o600).utf8
        text += "\"links\":1,\"size\":\(size),\"content\":[".utf8
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 67) { entry in
            entry[0] = UInt8(ascii: "\"")
            entry[65] = UInt8(ascii: "\"")
            entry[66] = UInt8(ascii: ",")
            for chunk in chunks {
                chunk.writeHex(to: entry.baseAddress! + 1)
                text.append(contentsOf: entry)
            }
        }
        if !chunks.isEmpty { text.removeLast() }
        text += "]}]}\n".utf8
        return text
    }

    /// The tree of the directory `image`.
    static func image(segments: [Digest]) -> [UInt8] {
        var text = Array("{\"nodes\":[".utf8)
        for (index, segment) in segments.enumerated() {
            if index > 0 { text.append(UInt8(ascii: ",")) }
            text += begin(segmentName(index), "dir", mode: directoryMode).utf8
            text += "\"subtree\":\"\(segment.hex)\"}".utf8
        }
        text += "]}\n".utf8
        return text
    }

    /// The tree at the top of a backup.
    static func root(image: Digest, record: Digest, recordSize: Int, time: String) -> [UInt8] {
        var text = Array("{\"nodes\":[".utf8)
        text += begin(imageName, "dir", mode: directoryMode, time: time).utf8
        text += "\"subtree\":\"\(image.hex)\"},".utf8
        text += begin(recordName, "file", mode: 0o600, time: time).utf8
        text += "\"links\":1,\"size\":\(recordSize),\"content\":[\"\(record.hex)\"]}]}\n".utf8
        return text
    }
}

/// A node of a tree, with what we need of it.
struct TreeNode {
    var name = ""
    var type = ""
    var size: UInt64 = 0
    var subtree: Digest?

    /// Reads a tree node by node, anybody's: names with escapes are left empty.
    ///
    /// - Parameters:
    ///   - chunk: called for every chunk of every file, before `node` is called for it.
    static func scan(
        _ text: [UInt8], tree: Digest, chunk: (Digest) throws -> Void, node: (TreeNode) throws -> Void
    ) throws {
        try text.withUnsafeBytes { bytes in
            var scanner = JSONScanner(bytes)
            do {
                try scanner.object { scanner, member in
                    guard member.equals("nodes") else { return try scanner.skip() }
                    try scanner.arrayOrNull { try node(try read(&$0, chunk)) }
                }
                try scanner.end()
            } catch let fault as JSONScanner.Fault {
                throw RepositoryError.damaged("tree \(tree): \(fault)")
            }
        }
    }

    private static func read(_ scanner: inout JSONScanner, _ chunk: (Digest) throws -> Void) throws -> TreeNode {
        var node = TreeNode()
        try scanner.object { scanner, member in
            if member.equals("name") {
                node.name = try scanner.plainString() ?? ""
            } else if member.equals("type") {
                node.type = try scanner.plainString() ?? ""
            } else if member.equals("size") {
                node.size = try scanner.unsigned(atMost: .max)
            } else if member.equals("subtree") {
                if try !scanner.null() { node.subtree = try scanner.digest() }
            } else if member.equals("content") {
                try scanner.arrayOrNull { try chunk(try $0.digest()) }
            } else {
                try scanner.skip()
            }
        }
        return node
    }
}
