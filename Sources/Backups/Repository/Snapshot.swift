import JSON
import Primitives

/// A backup as the repository lists it: an object below `snapshots/`.
public struct RepositorySnapshot: Sendable, Equatable {
    /// The object's name.
    public let id: Digest
    /// Seconds since 1970.
    public let time: Double
    /// The backup, the project and the volume that it is of; nil in snapshots that somebody made with restic.
    public let backupID, projectID, volumeID: String?
    /// The snapshot that this one was compared with when it was made; it is not needed to read this one.
    public let parent: Digest?
    /// The tree at the top.
    let tree: Digest

    static func json(
        time: String, tree: Digest, parent: Digest?, volumeID: String, backupID: String, projectID: String, hostname: String
    ) -> JSON {
        var json = JSONObject()
        json["time"] = .string(time)
        if let parent { json["parent"] = .string(parent.hex) }
        json["tree"] = .string(tree.hex)
        json["paths"] = [.string("/volumes/" + volumeID)]
        json["hostname"] = .string(hostname)
        json["username"] = "clinker"
        json["uid"] = 0
        json["gid"] = 0
        json["tags"] = [.string("backup=" + backupID), .string("project=" + projectID)]
        return .object(json)
    }

    init(id: Digest, parsing json: JSON) throws {
        self.id = id
        guard let tree = json["tree"]?.string.flatMap({ Digest(hex: $0) }) else {
            throw RepositoryError.damaged("snapshot \(id) names no tree")
        }
        self.tree = tree
        time = json["time"]?.string.flatMap { Timestamp.read($0) } ?? 0
        parent = json["parent"]?.string.flatMap { Digest(hex: $0) }
        func tag(_ prefix: String) -> String? {
            for tag in json["tags"]?.array ?? [] {
                if let text = tag.string, text.begins(prefix) { return String(text.dropFirst(prefix.count)) }
            }
            return nil
        }
        backupID = tag("backup=")
        projectID = tag("project=")
        let paths = json["paths"]?.array ?? []
        let path = paths.count == 1 ? paths[0].string : nil
        volumeID = path.flatMap { $0.begins("/volumes/") ? String($0.dropFirst("/volumes/".count)) : nil }
    }
}

/// `volume.json`: what a backup is of, so that a lost database can be rebuilt from the repository.
public struct VolumeRecord: Sendable, Equatable {
    static let version: Int64 = 1

    public var backupID, projectID, volumeID: String
    /// Bytes of the image.
    public var size: UInt64
    /// When the backup was begun, in UTC.
    public var createdAt: String
    /// Where the source had said that nothing had changed but something had, if that was found out: this backup was read whole.
    public var missedChange: UInt64?
    /// What the caller wants to find again: the volume's metadata and the backup's own row.
    public var details: JSON
    /// How the image is cut.
    let chunkSize: Int
    let segmentSize: UInt64

    var json: JSON {
        var json: JSONObject = [
            "clinker": .integer(Self.version), "backup_id": .string(backupID), "project_id": .string(projectID),
            "volume_id": .string(volumeID), "size": .integer(Int64(clamping: size)), "chunk_size": JSON(chunkSize),
            "segment_size": .integer(Int64(clamping: segmentSize)), "created_at": .string(createdAt), "details": details,
        ]
        if let missedChange { json["missed_change"] = .integer(Int64(clamping: missedChange)) }
        return .object(json)
    }

    init(
        backupID: String, projectID: String, volumeID: String, size: UInt64, createdAt: String, missedChange: UInt64? = nil,
        details: JSON, chunkSize: Int, segmentSize: UInt64
    ) {
        self.backupID = backupID
        self.projectID = projectID
        self.volumeID = volumeID
        self.size = size
        self.createdAt = createdAt
        self.missedChange = missedChange
        self.details = details
        self.chunkSize = chunkSize
        self.segmentSize = segmentSize
    }

    init(parsing text: [UInt8], snapshot: Digest) throws {
        func damaged(_ what: String) -> RepositoryError { .damaged("volume.json of snapshot \(snapshot) \(what)") }
        let json: JSON
        do { json = try JSON(parsing: text, limits: JSONLimits(bytes: Trees.recordLimit)) } catch { throw damaged("is not JSON: \(error)") }
        guard let version = json["clinker"]?.integer else { throw damaged("has no version") }
        guard version == Self.version else {
            throw RepositoryError(.unsupported, "volume.json of snapshot \(snapshot) has version \(version)")
        }
        guard let backupID = json["backup_id"]?.string, let projectID = json["project_id"]?.string,
            let volumeID = json["volume_id"]?.string, let size = json["size"]?.integer, let createdAt = json["created_at"]?.string,
            let chunkSize = json["chunk_size"]?.integer, let segmentSize = json["segment_size"]?.integer
        else { throw damaged("lacks a member") }
        guard size >= 0, RepositoryConfig.fault(inChunkSize: Int(clamping: chunkSize)) == nil else {
            throw damaged("has an impossible size")
        }
        guard segmentSize > 0, segmentSize <= 1 << 40, segmentSize % chunkSize == 0, segmentSize / chunkSize <= 1 << 18,
            size / segmentSize < 100_000
        else { throw damaged("has an impossible segment size") }
        self.init(
            backupID: backupID, projectID: projectID, volumeID: volumeID, size: UInt64(size), createdAt: createdAt,
            missedChange: json["missed_change"]?.integer.flatMap { UInt64(exactly: $0) }, details: json["details"] ?? .null,
            chunkSize: Int(chunkSize), segmentSize: UInt64(segmentSize))
    }
}

/// How an image is cut into segments and chunks.
struct ImageShape: Equatable, Sendable {
    var size: UInt64
    var chunkSize: Int
    var segmentSize: UInt64

    var segmentCount: Int { Int((size + segmentSize - 1) / segmentSize) }

    func segment(_ index: Int) -> Range<UInt64> {
        let start = UInt64(index) * segmentSize
        return start..<min(size, start + segmentSize)
    }

    func chunkCount(_ segment: Int) -> Int {
        let range = self.segment(segment)
        return Int((range.upperBound - range.lowerBound + UInt64(chunkSize) - 1) / UInt64(chunkSize))
    }

    /// The part of the image that a chunk of a segment holds; the last of the image may be shorter than the others.
    func chunk(_ chunk: Int, of segment: Int) -> Range<UInt64> {
        let start = UInt64(segment) * segmentSize + UInt64(chunk) * UInt64(chunkSize)
        return start..<min(size, start + UInt64(chunkSize))
    }
}
