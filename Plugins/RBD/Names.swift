import CDriver
import CephClient
import CRBD
import DriverKit
import Glibc

/// The meaning of image and snapshot names, which are Cinder's.
enum Names {
    /// Suffix of a snapshot that is the parent of a volume's clone.
    static let cloneSnapshotSuffix = ".clone_snap"
    /// Suffix of a deleted volume that is kept because clones need its objects.
    static let deletedSuffix = ".deleted"
    /// Suffix of a full copy that is not complete.
    static let partialSuffix = ".partial"

    /// Whether the snapshot is one that Cinder's incremental backups keep; it is deleted with its volume.
    static func isOfBackup(_ snapshot: String) -> Bool {
        let words = snapshot.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        return words.count >= 4 && words[0].elementsEqual("backup".utf8) && words[1].count == 36 && words[2].elementsEqual("snap".utf8)
    }

    /// The length of the chain of clones from an image up to one that is not a clone of a volume.
    static func cloneDepth(of image: Image, atMost limit: Int) throws -> Int {
        var depth = 0
        var current = image
        while depth < limit, let parent = try current.parent, parent.snapshot.hasSuffix(cloneSnapshotSuffix),
            let next = try Image.find(image.cluster, parent.image, writable: false)
        {
            depth += 1
            current = next
        }
        return depth
    }
}

/// Recognizes volume names of `volume_name_template`: in the pool's trash they distinguish the service's images from others.
struct VolumeNames: Sendable {
    private let prefix: [UInt8]
    private let suffix: [UInt8]

    init(template: String) {
        let bytes = Array(template.utf8)
        let mark = bytes.indices.first { bytes[$0...].starts(with: "%s".utf8) } ?? bytes.count
        prefix = Array(bytes[..<mark])
        suffix = Array(bytes[mark...].dropFirst(2))
    }

    /// Whether the name is a volume's, with or without a suffix of this driver.
    func isVolume(_ name: String) -> Bool {
        ["", Names.deletedSuffix, Names.partialSuffix].contains { isVolume(name, then: Array($0.utf8)) }
    }

    private func isVolume(_ name: String, then end: [UInt8]) -> Bool {
        let bytes = Array(name.utf8)
        let count = prefix.count + 36 + suffix.count
        guard bytes.count == count + end.count, bytes.starts(with: prefix), bytes[count...].elementsEqual(end),
            bytes[..<count].suffix(suffix.count).elementsEqual(suffix)
        else { return false }
        return bytes[prefix.count..<prefix.count + 36].enumerated().allSatisfy { index, byte in
            [8, 13, 18, 23].contains(index)
                ? byte == UInt8(ascii: "-") : Character(UnicodeScalar(byte)).isHexDigit
        }
    }
}
