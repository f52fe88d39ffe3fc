/// Of qcow2, versions 2 and 3 (QEMU's docs/interop/qcow2.txt).
func qcow2Size(_ file: any ImageFile) throws -> UInt64 {
    let head = try file.take(72, at: 0, "header")
    let version = head.big(4, 4)
    guard version == 2 || version == 3 else { throw ImageRefusal("the image is of qcow2's version \(version), which is not taken") }
    guard head.big(8, 8) == 0 else { throw ImageRefusal("the image has a backing file, and images with one are not taken") }
    let clusterBits = head.big(20, 4)
    guard (9...21).contains(clusterBits) else { throw ImageRefusal("the image's clusters of 2^\(clusterBits) bytes are absurd") }
    guard head.big(32, 4) == 0 else { throw ImageRefusal("the image is encrypted, and nobody asked for that") }
    let cluster: UInt64 = 1 << clusterBits
    let size = head.big(24, 8)
    guard size <= UInt64(Int64.max) - cluster else { throw ImageRefusal("the image's virtual size of \(size) bytes is absurd") }
    var headerLength: UInt64 = 72
    if version == 3 {
        let more = try file.take(104, at: 0, "header")
        headerLength = more.big(100, 4)
        guard headerLength >= 104, headerLength <= cluster, headerLength % 8 == 0 else {
            throw ImageRefusal("the image's header of \(headerLength) bytes is absurd")
        }
        try checkFeatures(more.big(72, 8))
        if more.big(72, 8) & 8 != 0 {
            let kind = headerLength > 104 ? try file.take(1, at: 104, "header")[0] : 0
            guard kind <= 1 else { throw ImageRefusal("the image's clusters are compressed in an unknown way (\(kind))") }
        }
        guard more.big(96, 4) <= 6 else { throw ImageRefusal("the image's reference counts of 2^\(more.big(96, 4)) bits are absurd") }
    }
    try checkExtensions(file, from: headerLength, to: cluster)
    // QEMU's own limits.
    let (l1Count, l1Offset) = (head.big(36, 4), head.big(40, 8))
    guard l1Count <= 4 << 20 else { throw ImageRefusal("the image's table of \(l1Count) tables is absurd") }
    let span = cluster * (cluster / 8)
    guard l1Count >= size / span + (size % span == 0 ? 0 : 1) else {
        throw ImageRefusal("the image's table of \(l1Count) tables is too small for its virtual size")
    }
    let counts = head.big(56, 4)
    guard counts <= (8 << 20) / cluster else { throw ImageRefusal("the image's reference counts of \(counts) clusters are absurd") }
    guard head.big(60, 4) <= 65_536 else { throw ImageRefusal("the image's \(head.big(60, 4)) snapshots of its own are absurd") }
    for (offset, length, what) in [(l1Offset, l1Count * 8, "table of tables"), (head.big(48, 8), counts * cluster, "reference counts")]
    where length > 0 {
        guard offset % cluster == 0, offset >= cluster else { throw ImageRefusal("the image's \(what) lies at \(offset)") }
        // The last one of a file may be shorter than its cluster.
        try file.requireInside(offset, what == "table of tables" ? length : 1, what)
    }
    return size
}

private func checkFeatures(_ incompatible: UInt64) throws(ImageRefusal) {
    guard incompatible & 4 == 0 else { throw ImageRefusal("the image keeps its data in another file, and such images are not taken") }
    guard incompatible & 2 == 0 else { throw ImageRefusal("the image says of itself that it is corrupt") }
    // Dirty counts, another compression, extended L2 entries.
    let unknown = incompatible & ~(1 | 8 | 16)
    guard unknown == 0 else { throw ImageRefusal("the image needs features that are not known here (\(unknown))") }
}

private func checkExtensions(_ file: any ImageFile, from start: UInt64, to end: UInt64) throws {
    var position = start
    var count = 0
    while position + 8 <= min(end, file.size) {
        count += 1
        guard count <= 256 else { throw ImageRefusal("the image has more than 256 header extensions") }
        let head = try file.take(8, at: position, "header extensions")
        switch head.big(0, 4) {
        case 0: return
        case 0x4441_5441: throw ImageRefusal("the image names another file for its data, and such images are not taken")
        case 0x0537_BE77: throw ImageRefusal("the image is encrypted, and nobody asked for that")
        default: break
        }
        let length = (head.big(4, 4) + 7) / 8 * 8
        guard length <= end - position - 8 else { throw ImageRefusal("the image's header extensions are longer than its first cluster") }
        position += 8 + length
    }
}
