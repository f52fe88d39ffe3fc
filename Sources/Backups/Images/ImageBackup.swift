import JSON
import Primitives

/// A backup as Cinder's Ceph driver lays it out: a snapshot of an image in the backups' pool. A full backup has an image of its own; an
/// increment writes what changed into the image of what it rests on, and makes a snapshot of that. So every backup is whole by its snapshot
/// alone, and removing one touches no other.
public struct ImageBackup: Sendable, Equatable {
    public let id, volumeID: String
    /// Cinder's `service_metadata`: names the image. Cinder leaves it empty where the source was no image of Ceph.
    public let serviceMetadata: String
    /// As `2026-11-29T17:00:00.000000`.
    public let createdAt: String
    /// It is of a snapshot that a user named.
    public let isOfSnapshot: Bool

    public init(id: String, volumeID: String, serviceMetadata: String, createdAt: String, isOfSnapshot: Bool = false) {
        self.id = id
        self.volumeID = volumeID
        self.serviceMetadata = serviceMetadata
        self.createdAt = createdAt
        self.isOfSnapshot = isOfSnapshot
    }

    // MARK: names

    /// What Cinder notes of a new backup of a volume: the image of the full backup that it rests on, or its own.
    public static func serviceMetadata(volumeID: String, fullBackup id: String) -> String {
        "{\"base\": \"\(imageName(volumeID, id))\"}"
    }

    private static func imageName(_ volumeID: String, _ id: String) -> String { "volume-\(volumeID).backup.\(id)" }

    /// The image that `service_metadata` names; nil if it names none.
    ///
    /// - Throws: a failure for what is no image of this volume's backups: a record that somebody imported may say anything.
    func namedImage() throws(ImageBackupFailure) -> String? {
        guard !serviceMetadata.isEmpty else { return nil }
        guard let name = (try? JSON(parsing: serviceMetadata))?["base"]?.string else {
            throw .invalid("service_metadata of backup \(id) names no image: \"base\" is missing")
        }
        guard let parts = Self.parse(image: name), parts.volumeID == volumeID else {
            throw .invalid("service_metadata of backup \(id) names \(name), which is no image of backups of volume \(volumeID)")
        }
        return name
    }

    /// Names under which the image may lie, the likelier first: those of Cinder before Ocata are by the volume alone.
    func imageNames() throws(ImageBackupFailure) -> [String] {
        let shared = Self.imageName(volumeID, "base")
        let named = try namedImage() ?? Self.imageName(volumeID, id)
        return named == shared ? [named] : [named, shared]
    }

    /// The volume, and the full backup that an image was made for (nil: by the volume alone), of an image's name; nil if it is no backup's.
    static func parse(image name: String) -> (volumeID: String, backupID: String?)? {
        let words = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { String(Substring($0)) }
        guard words.count == 3, words[1] == "backup", words[0].hasPrefix("volume-") else { return nil }
        let volume = String(words[0].dropFirst(7))
        guard UUID.isUUIDLike(volume), words[2] == "base" || UUID.isUUIDLike(words[2]) else { return nil }
        return (volume, words[2] == "base" ? nil : words[2])
    }

    /// The backup that a snapshot was made for; nil if it is no backup's.
    static func backupID(ofSnapshot name: String) -> String? {
        let words = name.utf8.split(separator: UInt8(ascii: "."), maxSplits: 3, omittingEmptySubsequences: false)
        guard words.count == 4, words[0].elementsEqual("backup".utf8), words[2].elementsEqual("snap".utf8), !words[3].isEmpty else {
            return nil
        }
        let id = String(Substring(words[1]))
        return UUID.isUUIDLike(id) ? id : nil
    }

    /// The name of the backup's snapshot, of its image and of the volume where that is an image of Ceph, too: by equal names Cinder finds
    /// what changed between two of them.
    public var snapshotName: String { Self.snapshotName(id, createdAt: createdAt) }

    public static func snapshotName(_ id: String, createdAt: String) -> String {
        "backup.\(id).snap.\(Int(Timestamp.read(createdAt) ?? 0))"
    }

    /// The object with what is kept of the volume beside its bytes.
    var metadataName: String { "backup.\(id).meta" }

    /// Where it is noted that an attempt of this backup has found a missed change. It stays as long as the backup: nothing else in the store
    /// could tell whoever finds the backup whole.
    func missedChangeNote(in objects: any ObjectStore) -> MissedChangeNote {
        MissedChangeNote(store: objects, name: "clinker/\(id).missed-change")
    }

    // MARK: what is there

    /// Where a backup lies.
    struct Place: Equatable {
        let image: StoredImage
        /// nil: the image itself is the backup. Cinder makes such ones of what is no image of Ceph, and of snapshots.
        let snapshot: String?
    }

    /// nil: there is no such backup.
    func find(in store: any ImageStore) throws -> Place? {
        let isNamed = try namedImage() != nil
        for name in try imageNames() {
            guard let image = try store.image(name) else { continue }
            let own = image.snapshots.filter { Self.backupID(ofSnapshot: $0) == id }
            guard own.count <= 1 else { throw ImageBackupFailure(.damaged, "backup \(id) has \(own.count) snapshots in image \(name)") }
            if let snapshot = own.first { return Place(image: image, snapshot: snapshot) }
            // What only begins to be one is no backup: ours always name their image, and are whole by their snapshot.
            guard !isNamed, isCopyOfCinders(name) else { continue }
            if !image.snapshots.contains(where: { Self.backupID(ofSnapshot: $0) != nil }) {
                return Place(image: image, snapshot: nil)
            }
        }
        return nil
    }

    /// Whether an image without snapshots can be this backup, which names none: Cinder copies a snapshot into the image that is named by the
    /// volume alone, and a volume into the backup's own. Any other backup's would be taken for this one otherwise.
    private func isCopyOfCinders(_ name: String) -> Bool { isOfSnapshot == (Self.parse(image: name)?.backupID == nil) }

    /// The name of the backup's snapshot, whoever made it; nil if it has none.
    public func snapshotInImage(of store: any ImageStore) throws -> String? { try find(in: store)?.snapshot }

    /// The same of a backup that must be there.
    func place(in store: any ImageStore) throws -> Place {
        guard let place = try find(in: store) else {
            let names = try imageNames().joined(separator: " or ")
            throw ImageBackupFailure(.damaged, "the store has no snapshot of backup \(id): looked for it in image \(names)")
        }
        return place
    }
}

/// Why work on a backup in an image stopped.
public struct ImageBackupFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// What lies in the store is not what was written.
        case damaged
        /// A request that cannot be carried out.
        case invalid
        case cancelled
    }

    public let kind: Kind
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    static func invalid(_ description: String) -> ImageBackupFailure { ImageBackupFailure(.invalid, description) }
    static let cancelled = ImageBackupFailure(.cancelled, "cancelled")
}
