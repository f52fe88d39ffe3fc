import JSON

/// Writes `<prefix>_sha256file`: the hash of every block of the volume, in their order, as they become known.
final class HashFileWriter {
    private let output: TextWriter
    private let backup: ChunkedBackup
    private(set) var count = 0

    init(_ backup: ChunkedBackup, blockSize: Int, to store: any ObjectStore) throws {
        self.backup = backup
        output = TextWriter(try store.write(backup.hashFileName))
        try output.append("{\n  \"backup_description\": \(PythonJSON.quoted(backup.description)),\n")
        try output.append("  \"backup_id\": \(PythonJSON.quoted(backup.id)),\n  \"backup_name\": \(PythonJSON.quoted(backup.name)),\n")
        try output.append("  \"chunk_size\": \(blockSize),\n  \"created_at\": \(PythonJSON.quoted(backup.createdAt)),\n")
        try output.append("  \"sha256s\": [")
    }

    func append(_ digest: Digest) throws {
        let isFirst = count == 0
        try output.append(isFirst ? 71 : 72) { text in
            var position = 0
            func put(_ characters: StaticString) {
                for index in 0..<characters.utf8CodeUnitCount { text[position + index] = characters.utf8Start[index] }
                position += characters.utf8CodeUnitCount
            }
            put(isFirst ? "\n    \"" : ",\n    \"")
            digest.writeHex(to: text + position)
            text[position + 64] = UInt8(ascii: "\"")
        }
        count += 1
    }

    func commit() throws {
        try output.append((count == 0 ? "]" : "\n  ]") + ",\n  \"version\": \"\(ChunkedMetadata.version)\",\n")
        try output.append("  \"volume_id\": \(PythonJSON.quoted(backup.volumeID))\n}")
        try output.commit()
    }

    func abandon() { output.abandon() }
}

/// Reads `<prefix>_sha256file` hash by hash.
final class HashFileReader {
    /// Bytes of the volume that one hash covers.
    private(set) var blockSize: UInt64 = 0
    private let stream: JSONStream
    private let backup: ChunkedBackup
    private var isInside = false
    private(set) var count: UInt64 = 0
    /// Whether the last hash was read.
    var isAtEnd: Bool { !isInside }

    /// Reads what comes before the hashes.
    ///
    /// - Throws: `ChunkedFailure` that names the member and the rule it breaks; `StoreFailure` `.notFound` if there is no such file.
    init(_ backup: ChunkedBackup, from store: any ObjectStore) throws {
        self.backup = backup
        stream = JSONStream(store, backup.hashFileName)
        var members = 0
        // Cinder writes the members sorted: what is needed to understand the hashes comes before them, the version after.
        try stream.beginObject()
        while true {
            members += 1
            guard members <= 100 else { throw stream.fault("more than 100 members") }
            let name = try stream.memberName()
            if name == "sha256s" { break }
            try readMember(name)
            guard try stream.more(before: "}") else { throw stream.fault("the member sha256s is missing") }
        }
        guard blockSize > 0 else { throw stream.fault("chunk_size is missing before sha256s") }
        isInside = try stream.beginArray()
        if !isInside { try finish() }
    }

    private func readMember(_ name: String) throws {
        switch name {
        case "version":
            let version = try stream.string(atMost: 100)
            guard version == ChunkedMetadata.version else { throw stream.fault("version \(version) is not known") }
        case "backup_id":
            let id = try stream.string(atMost: 255)
            guard id == backup.id else { throw stream.fault("backup_id is \(id), not \(backup.id)") }
        case "volume_id":
            let id = try stream.string(atMost: 255)
            guard id == backup.volumeID else { throw stream.fault("volume_id is \(id), not \(backup.volumeID)") }
        case "chunk_size":
            blockSize = try stream.integer("chunk_size", atMost: ChunkedLimits.block.upperBound)
            guard ChunkedLimits.block.contains(blockSize) else {
                throw stream.fault("chunk_size is \(blockSize), less than \(ChunkedLimits.block.lowerBound)")
            }
        default: try stream.skip()
        }
    }

    /// The next block's hash; nil after the last one.
    func next() throws -> Digest? {
        guard isInside else { return nil }
        let digest = try stream.digest()
        count += 1
        guard count <= ChunkedLimits.volume / blockSize + 1 else { throw stream.fault("sha256s has more members than a volume has blocks") }
        isInside = try stream.more(before: "]")
        if !isInside { try finish() }
        return digest
    }

    /// Reads what comes after the hashes.
    private func finish() throws {
        while try stream.more(before: "}") { try readMember(try stream.memberName()) }
        try stream.finish()
    }
}
