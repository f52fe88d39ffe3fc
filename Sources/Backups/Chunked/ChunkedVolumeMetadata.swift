import JSON

/// What a backup keeps of its volume's description: Cinder's form of version 2, as its driver base class writes it.
public struct ChunkedVolumeMetadata: Sendable, Equatable {
    /// The volume's fields by Cinder's names; `display_name`, `display_description` and `encryption_key_id` are restored.
    public var base: JSONObject
    /// The user's metadata; nil where there is none to restore.
    public var metadata: JSONObject?
    /// What an image that the volume was made of has left; nil where there is nothing.
    public var imageMetadata: JSONObject?

    public init(base: JSONObject, metadata: JSONObject? = nil, imageMetadata: JSONObject? = nil) {
        self.base = base
        self.metadata = metadata
        self.imageMetadata = imageMetadata
    }

    private static let (baseTag, metadataTag, imageTag) = ("volume-base-metadata", "volume-metadata", "volume-glance-metadata")

    /// The text of the member `volume_meta`.
    public var text: String {
        var object: JSONObject = ["version": 2]
        object[Self.baseTag] = .object(base)
        if let metadata, !metadata.isEmpty { object[Self.metadataTag] = .object(metadata) }
        if let imageMetadata, !imageMetadata.isEmpty { object[Self.imageTag] = .object(imageMetadata) }
        return PythonJSON.line(.object(object))
    }

    /// Reads the text of versions 1 and 2; the former never restores an encryption key.
    ///
    /// - Throws: a failure that names the member and the rule.
    public init(parsing text: String) throws(ChunkedFailure) {
        let json: JSON
        do { json = try JSON(parsing: text, limits: JSONLimits(bytes: ChunkedLimits.volumeMetadata)) } catch {
            throw .damaged("volume_meta is not JSON: \(error)")
        }
        guard json.object != nil else { throw .damaged("volume_meta is not an object") }
        guard let version = json["version"]?.integer, version == 1 || version == 2 else {
            throw .damaged("volume_meta: version must be 1 or 2")
        }
        func part(_ tag: String) throws(ChunkedFailure) -> JSONObject? {
            guard let value = json[tag], !value.isNull else { return nil }
            guard let object = value.object else { throw .damaged("volume_meta: \(tag) is not an object") }
            return object
        }
        base = try part(Self.baseTag) ?? [:]
        if version == 1 { base["encryption_key_id"] = nil }
        metadata = try part(Self.metadataTag)
        imageMetadata = try part(Self.imageTag)
        for (tag, object) in [(Self.metadataTag, metadata), (Self.imageTag, imageMetadata)] {
            for member in object?.members ?? [] where member.value.string == nil && !member.value.isNull {
                throw .damaged("volume_meta: \(tag): the value of \(PythonJSON.quoted(member.name)) is not a text")
            }
        }
    }
}
