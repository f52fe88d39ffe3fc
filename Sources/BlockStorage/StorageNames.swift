import Primitives
public import Settings

/// Names of storage objects in their backends.
public struct StorageNames: Sendable {
    private let volumeTemplate: String
    private let snapshotTemplate: String

    public init(_ settings: Settings) {
        volumeTemplate = settings[Options.volumeNameTemplate]
        snapshotTemplate = settings[Options.snapshotNameTemplate]
    }

    public func volume(_ id: String) -> String { Self.fill(volumeTemplate, id) }
    /// The id of the volume that the name stands for; nil if it is no name of ours.
    public func volumeID(_ name: String) -> String? { Self.id(name, volumeTemplate) }
    /// The same for a snapshot.
    public func snapshotID(_ name: String) -> String? { Self.id(name, snapshotTemplate) }

    private static func id(_ name: String, _ template: String) -> String? {
        let parts = template.split(separator: "%s", maxSplits: 1, omittingEmptySubsequences: false)
        let (prefix, suffix) = (parts.first ?? "", parts.count > 1 ? parts[1] : "")
        guard name.hasPrefix(prefix), name.hasSuffix(suffix), name.utf8.count >= prefix.utf8.count + suffix.utf8.count else { return nil }
        let id = String(name.dropFirst(prefix.count).dropLast(suffix.count))
        return UUID.isUUIDLike(id) ? id : nil
    }

    public func snapshot(_ id: String) -> String { Self.fill(snapshotTemplate, id) }

    private static func fill(_ template: String, _ id: String) -> String {
        var parts = template.split(separator: "%s", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        if parts.count < 2 { parts.append("") }
        return parts[0] + id + parts[1]
    }
}
