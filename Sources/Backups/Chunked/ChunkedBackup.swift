import Primitives

/// A backup in Cinder's chunked format: who it is and where its objects lie. The format is that of Cinder 29's drivers for POSIX, NFS,
/// S3 and Swift, read and written byte for byte as they do.
///
/// A backup's objects are named `<prefix>-00001` and so on; beside them lie `<prefix>_metadata`, written last, which lists them, and
/// `<prefix>_sha256file`, the hash of every block of the volume, against which the next increment is made.
public struct ChunkedBackup: Sendable, Equatable {
    public var id: String
    public var volumeID: String
    /// The backup that this one is an increment of; nil for a full one.
    public var parentID: String?
    /// A folder or bucket: the first part of the names of the store's objects. Empty where the store itself is the bucket.
    public var container: String
    /// Cinder's `service_metadata`: the beginning of the names of its objects.
    public var prefix: String
    public var name: String?
    public var description: String?
    /// As Cinder prints its column: `2026-11-29 17:00:00+00:00`.
    public var createdAt: String

    public init(
        id: String, volumeID: String, parentID: String? = nil, container: String, prefix: String, name: String? = nil,
        description: String? = nil, createdAt: String
    ) {
        self.id = id
        self.volumeID = volumeID
        self.parentID = parentID
        self.container = container
        self.prefix = prefix
        self.name = name
        self.description = description
        self.createdAt = createdAt
    }

    /// The container that Cinder's drivers for POSIX, NFS and GlusterFS choose where the user named none.
    public static func folder(of id: String) -> String {
        let bytes = Array(id.utf8)
        func part(_ range: Range<Int>) -> String { String(decoding: bytes[range.clamped(to: 0..<bytes.count)], as: UTF8.self) }
        return part(0..<2) + "/" + part(2..<4) + "/" + id
    }

    /// The prefix in folders (POSIX, NFS, GlusterFS).
    ///
    /// - Parameter timestamp: UTC, as `20261129170000`.
    public static func folderPrefix(id: String, volumeID: String, timestamp: String) -> String {
        "volume_\(volumeID)_\(timestamp)_backup_\(id)"
    }

    /// The prefix in buckets (S3, Swift, GCS).
    ///
    /// - Parameter timestamp: UTC, as `20261129170000`.
    public static func bucketPrefix(id: String, volumeID: String, timestamp: String, availabilityZone: String) -> String {
        "volume_\(volumeID)/\(timestamp)/az_\(availabilityZone)_backup_\(id)"
    }

    private var folder: String { container.isEmpty ? "" : container + "/" }
    /// The beginning of the names of its objects in the store.
    var wholePrefix: String { folder + prefix }
    var metadataName: String { wholePrefix + Self.metadataSuffix }
    var hashFileName: String { wholePrefix + Self.hashFileSuffix }
    static let metadataSuffix = "_metadata", hashFileSuffix = "_sha256file", missedChangeSuffix = "_missed_change"

    /// Cinder restores no backup beside whose objects there is another: it is there only as long as the backup is not complete.
    func missedChangeNote(in store: any ObjectStore) -> MissedChangeNote {
        MissedChangeNote(store: store, name: wholePrefix + Self.missedChangeSuffix)
    }

    /// An object's name as the metadata has it.
    func memberName(_ number: Int) -> String {
        let digits = String(number)
        return prefix + "-" + String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
    }

    func objectName(_ number: Int) -> String { folder + memberName(number) }

    /// The number in an object's name after the prefix; nil if it is no name of this backup's objects.
    static func number(ofSuffix suffix: Substring.UTF8View) -> Int? {
        guard suffix.first == UInt8(ascii: "-") else { return nil }
        let digits = suffix.dropFirst()
        guard digits.count >= 5, digits.count <= 18, digits.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
            digits.count == 5 || digits.first != UInt8(ascii: "0")
        else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }

    /// Refuses an identity whose names would lead elsewhere.
    func check() throws(ChunkedFailure) {
        for (what, text) in [("id", id), ("volume_id", volumeID), ("parent_id", parentID ?? "-")] where !isID(text) {
            throw .invalid("\(what) of a backup must be 1 to 255 letters, digits, - and _")
        }
        guard !prefix.isEmpty, ObjectPath.isValid(prefix) else { throw .invalid("service_metadata is not a prefix of objects' names") }
        guard hasContainer else { throw .invalid("container: \(ObjectPath.containerRule)") }
    }

    /// Whether there can be objects in its container.
    var hasContainer: Bool { container.isEmpty || ObjectPath.isValid(container) }

    private func isID(_ text: String) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}
