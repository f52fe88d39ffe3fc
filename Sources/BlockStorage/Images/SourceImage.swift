public import JSON

/// An image of the Image service of which volumes are made, as its v2 API describes it.
public struct SourceImage: Sendable {
    public let id: String
    public let status: String
    /// Bytes of its data.
    public let size: Int
    /// Bytes of the disk in it, where the Image service knows.
    public let virtualSize: Int?
    /// GiB that a volume must have at least.
    public let minDisk: Int
    public let diskFormat, containerFormat: String?
    public let checksum, hashAlgorithm, hashValue: String?
    /// When it was last changed.
    public let updatedAt: String?
    /// What a volume made of it has as its image metadata: its properties, and what else boots and describes it.
    public let metadata: JSONObject
    /// Its own properties, without what every image has.
    public let properties: JSONObject

    /// Members that every image has; all others are properties.
    private static let base: Set<String> = [
        "id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo", "os_hash_value", "owner", "size",
        "virtual_size", "container_format", "disk_format", "created_at", "updated_at", "tags", "direct_url", "min_ram", "min_disk", "self",
        "file", "stores", "schema", "locations",
    ]

    /// Whether no property can have the name.
    static func isBase(_ name: String) -> Bool { base.contains(name) }

    /// nil if the Image service's answer is no image.
    public init?(_ answer: JSON) {
        func text(_ name: String) -> String? { answer[name]?.string }
        func number(_ name: String) -> Int? { answer[name]?.integer.flatMap { Int(exactly: $0) }.flatMap { $0 >= 0 ? $0 : nil } }
        guard let members = answer.object, let id = text("id"), let status = text("status") else { return nil }
        // What is no number, or below zero, is no size.
        for name in ["size", "virtual_size", "min_disk", "min_ram"] {
            if let value = members[name], !value.isNull, number(name) == nil { return nil }
        }
        self.id = id
        self.status = status
        size = number("size") ?? 0
        virtualSize = number("virtual_size")
        minDisk = number("min_disk") ?? 0
        diskFormat = text("disk_format")
        containerFormat = text("container_format")
        checksum = text("checksum")
        hashAlgorithm = text("os_hash_algo")
        hashValue = text("os_hash_value")
        updatedAt = text("updated_at")
        properties = JSONObject(
            members.members.compactMap { member in
                guard !Self.base.contains(member.name), let value = member.value.string else { return nil }
                return (name: member.name, value: .string(value))
            })
        var metadata = properties
        metadata["image_id"] = .string(id)
        if let name = text("name"), !name.isEmpty { metadata["image_name"] = .string(name) }
        for name in ["checksum", "container_format", "disk_format"] { metadata[name] = text(name).map { .string($0) } }
        for name in ["min_disk", "min_ram", "size"] { metadata[name] = number(name).map { .string(String($0)) } }
        self.metadata = metadata
    }

    /// The snapshot in whose place the image stands: the Compute service makes such ones, without data, of instances whose disk is a volume.
    public var snapshotID: String? { bootDevice?["snapshot_id"]?.string }
    /// GiB of that snapshot.
    public var snapshotSize: Int? { bootDevice?["volume_size"]?.integer.flatMap { Int(exactly: $0) } }

    private var bootDevice: JSON? {
        guard let text = properties["block_device_mapping"]?.string, let devices = (try? JSON(parsing: text))?.array else { return nil }
        return devices.first { $0["source_type"] == "snapshot" && $0["boot_index"] == 0 }
    }

    /// Throws if a volume of so many GiB cannot be made of it.
    public func check(volumeSize: Int) throws(StorageError) {
        func gibibytes(_ bytes: Int) -> Int { bytes / (1 << 30) + (bytes % (1 << 30) > 0 ? 1 : 0) }
        guard status == "active" else { throw .invalidInput("Image \(id) is not active.") }
        guard gibibytes(size) <= volumeSize else {
            throw .invalidInput("Size of specified image \(gibibytes(size))GB is larger than volume size \(volumeSize)GB.")
        }
        guard minDisk <= volumeSize else {
            throw .invalidInput("Volume size \(volumeSize)GB cannot be smaller than the image minDisk size \(minDisk)GB.")
        }
        if let virtualSize, gibibytes(virtualSize) > volumeSize {
            throw StorageError(
                .invalid,
                "Image \(id) is unacceptable: Image virtual size is \(gibibytes(virtualSize))GB and doesn't fit in a volume of size "
                    + "\(volumeSize)GB.")
        }
    }

    /// Throws if it is larger than what a header of so many bytes leaves of so many GiB, as far as the Image service knows.
    func check(volumeSize: Int, behind headerBytes: Int) throws(StorageError) {
        let bytes = diskFormat == "raw" ? size : virtualSize ?? 0
        guard bytes <= volumeSize << 30 - headerBytes else {
            throw .invalidInput(
                "Image \(id) has \(bytes) bytes, and in an encrypted volume of \(volumeSize)GB a header takes \(headerBytes) bytes.")
        }
    }

    /// Throws if a volume has no room for what it will have of the image.
    func requireRoom() throws { _ = try kept.volumeMetadata(isVerified: true).stored("image_metadata") }

    /// What an operation keeps of it.
    var kept: KeptImage {
        var kept = KeptImage()
        kept.id = id
        kept.diskFormat = diskFormat ?? ""
        kept.containerFormat = containerFormat ?? ""
        kept.size = size
        kept.checksum = checksum
        kept.hashAlgorithm = hashAlgorithm
        kept.hashValue = hashValue
        kept.metadata = metadata
        kept.updatedAt = updatedAt
        kept.virtualSize = virtualSize
        return kept
    }
}

/// What looking for the image that a request names came to.
public enum ImageFinding: Sendable {
    case found(SourceImage)
    case refused(StorageError)

    /// What is said of an image that there is not, or that its caller may not see.
    public static let invisible = ImageFinding.refused(
        StorageError(.invalid, "Invalid image identifier or unable to access requested image."))

    func get() throws(StorageError) -> SourceImage {
        switch self {
        case .found(let image): return image
        case .refused(let error): throw error
        }
    }
}
