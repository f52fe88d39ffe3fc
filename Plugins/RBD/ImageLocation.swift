import CephClient

/// Where the Image service keeps an image in a Ceph cluster: `rbd://CLUSTER/POOL/IMAGE/SNAPSHOT`, each part percent-encoded.
struct ImageLocation {
    static let scheme = "rbd://"
    /// What the Image service calls the snapshot that is the image.
    private static let snapshotName = "snap"

    let fsid, pool, image, snapshot: String

    /// nil for what is no such location of an image with the id. The Image service names what it stores by ids: another name would be something
    /// else's, a volume's say, that whoever could tell the Image service of a location wants to have.
    init?(_ text: String, ofImage id: String) {
        guard text.utf8.starts(with: Self.scheme.utf8), text.utf8.count <= 1024 else { return nil }
        let parts = text.dropFirst(Self.scheme.count).utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { Self.decode($0) }
        guard parts.count == 4 else { return nil }
        for part in parts { guard let part, (try? Image.checkedName(part)) != nil else { return nil } }
        (fsid, pool, image, snapshot) = (parts[0] ?? "", parts[1] ?? "", parts[2] ?? "", parts[3] ?? "")
        guard !id.isEmpty, image.utf8.elementsEqual(id.utf8), snapshot == Self.snapshotName else { return nil }
    }

    /// nil for what is not encoded rightly, or holds a zero byte.
    private static func decode(_ text: Substring.UTF8View.SubSequence) -> String? {
        var bytes: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
            bytes.append(high << 4 | low)
        }
        guard !bytes.contains(0) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? { Character(UnicodeScalar(byte)).hexDigitValue.map { UInt8($0) } }
}
