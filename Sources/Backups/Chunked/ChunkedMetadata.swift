import JSON

/// What `<prefix>_metadata` says of a backup.
public struct ChunkedMetadata: Sendable {
    public var backupID: String
    public var volumeID: String
    public var parentID: String?
    public var name: String?
    public var description: String?
    public var createdAt: String
    /// Cinder's JSON text with the volume's metadata (`ChunkedVolumeMetadata` reads it).
    public var volumeMetadata: String?
    /// JSON; Cinder's Swift and POSIX drivers have none.
    public var extraMetadata: String?
    /// Where the source had said that nothing had changed but something had, if that was found out. A member of our own, which Cinder does
    /// not read.
    public var missedChange: UInt64?
    /// Sorted by their offsets.
    var objects: [ChunkedObject] = []

    public var objectCount: Int { objects.count }

    static let version = "1.0.0"
    private static let missedChangeMember = "clinker_missed_change"

    /// Reads and checks it.
    ///
    /// - Throws: `ChunkedFailure` that names the member and the rule it breaks.
    static func read(_ backup: ChunkedBackup, from store: any ObjectStore) throws -> ChunkedMetadata {
        let stream = JSONStream(store, backup.metadataName)
        var metadata = ChunkedMetadata(backupID: "", volumeID: "", createdAt: "")
        var found = Set<String>()
        try stream.object { name in
            guard found.insert(name).inserted, found.count <= 100 else { throw stream.fault("the member \(name) is given twice") }
            switch name {
            case "version":
                let version = try stream.string(atMost: 100)
                guard version == Self.version else { throw stream.fault("version \(version) is not known, only \(Self.version)") }
            case "backup_id": metadata.backupID = try stream.string(atMost: 255)
            case "volume_id": metadata.volumeID = try stream.string(atMost: 255)
            case "parent_id": metadata.parentID = try stream.stringOrNull(atMost: 255)
            case "backup_name": metadata.name = try stream.stringOrNull(atMost: ChunkedLimits.text)
            case "backup_description": metadata.description = try stream.stringOrNull(atMost: ChunkedLimits.text)
            case "created_at": metadata.createdAt = try stream.stringOrNull(atMost: 255) ?? ""
            case "volume_meta": metadata.volumeMetadata = try stream.stringOrNull(atMost: ChunkedLimits.volumeMetadata)
            case "extra_metadata": metadata.extraMetadata = try stream.raw(atMost: ChunkedLimits.extraMetadata)
            case Self.missedChangeMember: metadata.missedChange = try stream.integer(name, atMost: ChunkedLimits.volume)
            case "objects": metadata.objects = try readObjects(stream, of: backup)
            default: try stream.skip()
            }
        }
        try stream.finish()
        for name in ["version", "backup_id", "volume_id", "objects"] where !found.contains(name) {
            throw ChunkedFailure.damaged("\(backup.metadataName): the member \(name) is missing")
        }
        try metadata.check(backup)
        return metadata
    }

    private static func readObjects(_ stream: JSONStream, of backup: ChunkedBackup) throws -> [ChunkedObject] {
        var objects: [ChunkedObject] = []
        try stream.array {
            guard objects.count < ChunkedLimits.objects else {
                throw stream.fault("objects has more than \(ChunkedLimits.objects) members")
            }
            var object: ChunkedObject?
            try stream.object { name in
                guard object == nil else { throw stream.fault("objects[\(objects.count)] has more than one member") }
                object = try readObject(stream, name, of: backup)
            }
            guard let object else { throw stream.fault("objects[\(objects.count)] has no member") }
            objects.append(object)
        }
        return objects
    }

    private static func readObject(_ stream: JSONStream, _ name: String, of backup: ChunkedBackup) throws -> ChunkedObject {
        guard name.utf8.starts(with: backup.prefix.utf8),
            let number = ChunkedBackup.number(ofSuffix: name.utf8.dropFirst(backup.prefix.utf8.count))
        else { throw stream.fault("\(PythonJSON.quoted(name)) is not a name of this backup's objects, \(backup.memberName(1))") }
        var (offset, length): (UInt64?, UInt64?) = (nil, nil)
        var compression: ChunkedCompression?
        var md5: MD5.Value?
        try stream.object { member in
            switch member {
            case "offset" where offset == nil: offset = try stream.integer("offset of \(name)", atMost: ChunkedLimits.volume)
            case "length" where length == nil: length = try stream.integer("length of \(name)", atMost: ChunkedLimits.objectLength)
            case "compression" where compression == nil:
                let text = try stream.string(atMost: 100)
                compression = ChunkedCompression(cinderName: text)
                guard compression != nil else { throw stream.fault("compression \(PythonJSON.quoted(text)) of \(name) is not known") }
            case "md5" where md5 == nil:
                md5 = MD5.Value(hex: try stream.string(atMost: 100))
                guard md5 != nil else { throw stream.fault("md5 of \(name) is not 32 hexadecimal digits in lower case") }
            case "offset", "length", "compression", "md5": throw stream.fault("\(member) of \(name) is given twice")
            default: try stream.skip()
            }
        }
        guard let offset, let length, let compression, let md5 else {
            throw stream.fault("\(name) lacks one of offset, length, compression and md5")
        }
        guard length > 0 else { throw stream.fault("length of \(name) is 0") }
        return ChunkedObject(number: number, offset: offset, length: length, compression: compression, md5: md5)
    }

    /// Sorts the objects; refuses what belongs to another backup, and objects that overlap or have one name.
    private mutating func check(_ backup: ChunkedBackup) throws(ChunkedFailure) {
        let file = backup.metadataName
        guard backupID == backup.id else { throw .damaged("\(file): backup_id is \(backupID), not \(backup.id)") }
        guard volumeID == backup.volumeID else { throw .damaged("\(file): volume_id is \(volumeID), not \(backup.volumeID)") }
        guard parentID == backup.parentID else {
            throw .damaged("\(file): parent_id is \(parentID ?? "null"), not \(backup.parentID ?? "null")")
        }
        objects.sort { $0.offset < $1.offset }
        for (before, object) in zip(objects, objects.dropFirst()) where before.end > object.offset {
            throw .damaged("\(file): \(backup.memberName(before.number)) and \(backup.memberName(object.number)) overlap in the volume")
        }
        let numbers = objects.map(\.number).sorted()
        for (before, number) in zip(numbers, numbers.dropFirst()) where before == number {
            throw .damaged("\(file): \(backup.memberName(number)) is given twice")
        }
    }

    /// Stores it: the backup is there from now on.
    func write(_ backup: ChunkedBackup, to store: any ObjectStore) throws {
        let output = TextWriter(try store.write(backup.metadataName))
        defer { output.abandon() }
        try output.append("{\n  \"backup_description\": \(PythonJSON.quoted(description)),\n")
        try output.append("  \"backup_id\": \(PythonJSON.quoted(backupID)),\n  \"backup_name\": \(PythonJSON.quoted(name)),\n")
        if let missedChange { try output.append("  \"\(Self.missedChangeMember)\": \(missedChange),\n") }
        try output.append("  \"created_at\": \(PythonJSON.quoted(createdAt)),\n")
        if let extraMetadata { try output.append("  \"extra_metadata\": \(extraMetadata),\n") }
        try output.append("  \"objects\": [")
        for (index, object) in objects.enumerated() {
            try output.append(index == 0 ? "\n" : ",\n")
            try output.append("    {\n      \(PythonJSON.quoted(backup.memberName(object.number))): {\n")
            try output.append("        \"compression\": \"\(object.compression.rawValue)\",\n        \"length\": \(object.length),\n")
            try output.append("        \"md5\": \"\(object.md5.hex)\",\n        \"offset\": \(object.offset)\n      }\n    }")
        }
        try output.append((objects.isEmpty ? "]" : "\n  ]") + ",\n  \"parent_id\": \(PythonJSON.quoted(parentID)),\n")
        try output.append("  \"version\": \"\(Self.version)\",\n  \"volume_id\": \(PythonJSON.quoted(volumeID)),\n")
        try output.append("  \"volume_meta\": \(PythonJSON.quoted(volumeMetadata))\n}")
        try output.commit()
    }
}
