import Primitives
public import Settings

/// Names of storage objects in their backends.
public struct StorageNames: Sendable {
    /// What stands around the id.
    private struct Template: Sendable {
        let prefix, suffix: String

        init(_ text: String) {
            let parts = text.split(separator: "%s", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            prefix = parts.first ?? ""
            suffix = parts.count > 1 ? parts[1] : ""
        }

        func fill(_ id: String) -> String { prefix + id + suffix }
    }
    private let volumeTemplate: Template
    private let snapshotTemplate: Template

    public init(_ settings: Settings) {
        volumeTemplate = Template(settings[Options.storage.volumeNameTemplate])
        snapshotTemplate = Template(settings[Options.storage.snapshotNameTemplate])
    }

    public func volume(_ id: String) -> String { volumeTemplate.fill(id) }
    /// The id of the volume that the name stands for; nil if it is no name of ours.
    public func volumeID(_ name: String) -> String? { Self.id(name, volumeTemplate) }
    /// The same for a snapshot.
    public func snapshotID(_ name: String) -> String? { Self.id(name, snapshotTemplate) }

    /// The same for a name that goes on, behind a dot, with what the object is to the volume: a driver's own word (`.partial`,
    /// `.deleted`), or a file of its chain.
    func volumeIDAtBeginning(of name: String) -> String? { Self.idAtBeginning(of: name, volumeTemplate) }
    func snapshotIDAtBeginning(of name: String) -> String? { Self.idAtBeginning(of: name, snapshotTemplate) }

    private static func idAtBeginning(of name: String, _ template: Template) -> String? {
        if let id = id(name, template) { return id }
        let length = template.fill("").utf8.count + 36
        let bytes = Array(name.utf8)
        guard bytes.count > length, bytes[length] == UInt8(ascii: ".") else { return nil }
        return String(validating: bytes[..<length], as: UTF8.self).flatMap { id($0, template) }
    }

    private static func id(_ name: String, _ template: Template) -> String? {
        let (prefix, suffix) = (template.prefix, template.suffix)
        guard name.hasPrefix(prefix), name.hasSuffix(suffix), name.utf8.count >= prefix.utf8.count + suffix.utf8.count else { return nil }
        let id = String(name.dropFirst(prefix.count).dropLast(suffix.count))
        return UUID.isUUIDLike(id) ? id : nil
    }

    /// The name of a snapshot by its id. That of a backup in an image of Ceph is known by its name alone, which is Cinder's.
    public func snapshot(_ id: String) -> String { id.hasPrefix("backup.") ? id : snapshotTemplate.fill(id) }

    /// The name of a snapshot that a driver lists by its id, or by its name.
    public func snapshot(listed id: String?, _ name: String?) -> String? { id.map { snapshot($0) } ?? name }
}
