public import JSON

// What operations with images store.

/// What an operation keeps of the image that it reads.
public struct KeptImage: JSONConvertible {
    public static let members = [
        JSONMember("id", \Self.id), JSONMember("disk_format", \Self.diskFormat), JSONMember("container_format", \Self.containerFormat),
        JSONMember("size", \Self.size), JSONMember("checksum", \Self.checksum), JSONMember("hash_algorithm", \Self.hashAlgorithm),
        JSONMember("hash_value", \Self.hashValue), JSONMember("metadata", \Self.metadata),
        JSONMember("updated_at", \Self.updatedAt), JSONMember("virtual_size", \Self.virtualSize),
    ]
    public var id = ""
    public var diskFormat = ""
    public var containerFormat = ""
    /// Bytes
    public var size = 0
    public var checksum: String?
    public var hashAlgorithm: String?
    public var hashValue: String?
    /// What the Image service says of it, as image metadata has it.
    public var metadata: JSONObject = [:]
    /// When it was last changed, as the Image service said it.
    public var updatedAt: String?
    /// Bytes of the disk in it, where the Image service knows.
    public var virtualSize: Int?
    public init() {}

    /// What a volume gets of it as its image metadata. That its signature is right is said by who has seen it, never by the image itself.
    func volumeMetadata(isVerified: Bool) -> JSONObject {
        var result = metadata
        result["signature_verified"] = isVerified ? "True" : nil
        return result
    }
}

/// Arguments of an operation that makes a new volume with an image in it.
public protocol ImageVolumeArguments: PlacedVolumeArguments {
    var image: KeptImage { get set }
}

public struct CreateVolumeFromImageArguments: ImageVolumeArguments {
    public static let flow = FlowID("volume.create_from_image", version: 2)
    public static let members = [
        JSONMember("image", \Self.image), JSONMember("zones", \Self.zones), JSONMember("scheduler_hints", \Self.schedulerHints),
        JSONMember("hints_of_all_projects", \Self.hintsOfAllProjects),
    ]
    public var image = KeptImage()
    public var zones: [String] = []
    public var schedulerHints: JSONObject?
    public var hintsOfAllProjects = false
    public init() {}

    init(of image: SourceImage, placedAs arguments: CreateVolumeArguments) {
        self.image = image.kept
        place(as: arguments)
    }
}

public struct CreateVolumeFromImageState: PlacementState {
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("attempted", \Self.attempted),
        JSONMember("reports_awaited", \Self.reportsAwaited), JSONMember("capacity_read", \Self.capacityRead),
        JSONMember("source_volid", \Self.sourceVolumeID), JSONMember("location", \Self.location), JSONMember("is_whole", \Self.isWhole),
    ]
    /// The pool of which capacity is claimed.
    public var host: String?
    /// Backends that were placed on and failed, as `node@backend`.
    public var attempted: [String] = []
    public var reportsAwaited = false
    public var capacityRead = false
    /// The volume on the same backend that holds the image.
    public var sourceVolumeID: String?
    /// Where in the same storage the image lies.
    public var location: String?
    /// Whether the volume was made with the image in it.
    public var isWhole = false
    public init() {}
}

/// Makes a volume of the image cache, and writes an image to it.
public struct CacheImageArguments: FlowArguments {
    public static let flow = FlowID("volume.cache_image")
    public static let members = [JSONMember("image", \Self.image), JSONMember("host", \Self.host)]
    public var image = KeptImage()
    /// The pool, as `node@backend#pool`.
    public var host = ""
    public init() {}
    init(_ image: KeptImage, at host: String) {
        self.image = image
        self.host = host
    }
}

public struct CacheImageState: PlacementState {
    public static let members = [
        JSONMember("host", \Self.host), JSONMember("reports_awaited", \Self.reportsAwaited),
        JSONMember("capacity_read", \Self.capacityRead),
    ]
    /// The pool of which capacity is claimed.
    public var host: String?
    public var reportsAwaited = false
    public var capacityRead = false
    public init() {}
}

public struct CreateEncryptedFromImageArguments: ImageVolumeArguments {
    public static let flow = FlowID("volume.create_encrypted_from_image")
    public static let members = [
        JSONMember("image", \Self.image), JSONMember("image_key_id", \Self.imageKeyID), JSONMember("zones", \Self.zones),
        JSONMember("scheduler_hints", \Self.schedulerHints), JSONMember("hints_of_all_projects", \Self.hintsOfAllProjects),
    ]
    public var image = KeptImage()
    /// The key that the image is encrypted by; nil where it is not.
    public var imageKeyID: String?
    public var zones: [String] = []
    public var schedulerHints: JSONObject?
    public var hintsOfAllProjects = false
    public init() {}

    init(of image: SourceImage, keyID: String?, placedAs arguments: CreateVolumeArguments) {
        self.image = image.kept
        imageKeyID = keyID
        place(as: arguments)
    }
}

/// Sends a volume's bytes to an image, which there is already.
public struct UploadVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.upload")
    public static let members = [
        JSONMember("image_id", \Self.imageID), JSONMember("disk_format", \Self.diskFormat),
        JSONMember("container_format", \Self.containerFormat),
    ]
    public var imageID = ""
    public var diskFormat = ""
    public var containerFormat = ""
    public init() {}
    public init(imageID: String, diskFormat: String, containerFormat: String) {
        self.imageID = imageID
        self.diskFormat = diskFormat
        self.containerFormat = containerFormat
    }
}

/// Sends the bytes of a volume that may be in use to an image, which there is already: those of a snapshot, where somebody writes to it.
public struct UploadAttachedVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.upload_attached")
    public static let members = [
        JSONMember("image_id", \Self.imageID), JSONMember("disk_format", \Self.diskFormat),
        JSONMember("container_format", \Self.containerFormat), JSONMember("snapshot_id", \Self.snapshotID),
    ]
    public var imageID = ""
    public var diskFormat = ""
    public var containerFormat = ""
    /// The id that the snapshot gets.
    public var snapshotID = ""
    public init() {}
    init(_ image: NewImage, snapshotID: String) {
        (imageID, diskFormat, containerFormat) = (image.id, image.diskFormat, image.containerFormat)
        self.snapshotID = snapshotID
    }
}

/// Writes an image over a volume.
public struct ReimageVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.reimage")
    public static let members = [JSONMember("image", \Self.image)]
    public var image = KeptImage()
    public init() {}
    init(of image: SourceImage) { self.image = image.kept }
}

/// Writes an image over an encrypted volume.
public struct ReimageEncryptedVolumeArguments: FlowArguments {
    public static let flow = FlowID("volume.reimage_encrypted")
    public static let members = [JSONMember("image", \Self.image), JSONMember("image_key_id", \Self.imageKeyID)]
    public var image = KeptImage()
    /// The key that the image is encrypted by; nil where it is not.
    public var imageKeyID: String?
    public init() {}
    init(of image: SourceImage, keyID: String?) {
        self.image = image.kept
        imageKeyID = keyID
    }
}

public struct ReimageEncryptedVolumeState: JSONConvertible {
    public static let members = [JSONMember("is_written", \Self.isWritten)]
    /// The volume holds the image, and has its key.
    public var isWritten = false
    public init() {}
}
