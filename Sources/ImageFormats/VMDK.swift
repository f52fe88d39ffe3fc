/// Of vmdk files that hold their data themselves: one sparse extent with the descriptor in it (VMware's "Virtual Disk Format 1.1").
func vmdkDisk(_ file: any ImageFile, _ types: [String]) throws -> (size: UInt64, content: VMDKContent) {
    guard try file.read(4, at: 0).elementsEqual("KDMV".utf8) else {
        throw ImageRefusal("the image is only a descriptor of other files, or of an old kind: such vmdk images are not taken")
    }
    let head = try file.take(512, at: 0, "header")
    let capacity = try vmdkCapacity(head)
    var counting = head
    // In front of the data: the header has its counterpart at the end.
    if head.little(56, 8) == UInt64.max {
        guard file.size >= 2048 else { throw ImageRefusal("the image ends before its footer: it is truncated") }
        let footer = try file.take(1536, at: file.size / 512 * 512 - 1536, "footer")
        guard footer[512...].starts(with: "KDMV".utf8) else { throw ImageRefusal("the image has no footer: it is truncated") }
        guard try vmdkCapacity(Array(footer[512..<1024])) == capacity else {
            throw ImageRefusal("the image's header and its footer tell different sizes")
        }
        counting = Array(footer[512..<1024])
    }
    // QEMU looks for it there, whatever the header says.
    guard head.little(28, 8) == 1 else { throw ImageRefusal("the image's descriptor is not behind its header") }
    let length = min(max(head.little(36, 8), 1), 20)
    let text = try file.read(20 * 512, at: 512)
    try checkDescriptor(Array(text.prefix(Int(length) * 512)), types)
    // However long the header says that it is.
    guard !contains(text, "parentFileNameHint") else { throw ImageRefusal("the image has a parent, and images with one are not taken") }
    return (capacity, VMDKContent(file, counting))
}

/// Bytes of the disk, of a header that is sound.
private func vmdkCapacity(_ head: [UInt8]) throws(ImageRefusal) -> UInt64 {
    guard (1...3).contains(head.little(4, 4)) else {
        throw ImageRefusal("the image is of vmdk's version \(head.little(4, 4)), which is not taken")
    }
    let capacity = head.little(12, 8)
    guard capacity > 0 else { throw ImageRefusal("the image's header has no size: it is only a descriptor of other files") }
    let (grain, entries) = (head.little(20, 8), head.little(44, 4))
    guard grain > 0, grain <= 1 << 21, grain.nonzeroBitCount == 1 else {
        throw ImageRefusal("the image's grains of \(grain) sectors are absurd")
    }
    guard entries > 0, entries <= 512 else { throw ImageRefusal("the image's tables of \(entries) grains are absurd") }
    let span = grain * entries
    // QEMU's own limit.
    guard (capacity - 1) / span + 1 <= 512 << 20 / 4 else { throw ImageRefusal("the image's table of tables is absurd") }
    return try bytes(ofSectors: capacity, "virtual size")
}

private func checkDescriptor(_ bytes: [UInt8], _ types: [String]) throws(ImageRefusal) {
    let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    var type: String?
    var extents = 0
    for line in text.split(whereSeparator: { $0 == "\n" || $0 == "\r" || $0 == "\r\n" }) {
        let line = line.drop { $0 == " " || $0 == "\t" }
        if line.hasPrefix("#") { continue }
        let words = line.split(separator: " ", maxSplits: 3)
        if let access = words.first, access == "RW" || access == "RDONLY" || access == "NOACCESS" {
            extents += 1
            guard words.count == 4, words[2] == "SPARSE" else {
                throw ImageRefusal("the image's data lies in an extent that is not sparse, and so in another file")
            }
            guard !words[3].utf8.contains(UInt8(ascii: "/")), !words[3].utf8.contains(UInt8(ascii: "\\")) else {
                throw ImageRefusal("the image's descriptor names a path, and such images are not taken")
            }
            continue
        }
        guard let equals = line.firstIndex(of: "=") else { continue }
        let name = line[..<equals].filter { $0 != " " && $0 != "\t" }
        let value = line[line.index(after: equals)...].filter { $0 != "\"" && $0 != " " && $0 != "\t" }
        switch name {
        case "createType":
            guard type == nil else { throw ImageRefusal("the image's descriptor has two types") }
            type = value
        case "parentCID":
            guard value.lowercased() == "ffffffff" else {
                throw ImageRefusal("the image has a parent, and images with one are not taken")
            }
        default: break
        }
    }
    guard let type else { throw ImageRefusal("the image's descriptor has no type") }
    guard types.contains(type) else { throw ImageRefusal("vmdk images of type \(type.prefix(64)) are not taken") }
    guard type == "monolithicSparse" || type == "streamOptimized" else {
        throw ImageRefusal("vmdk images of type \(type.prefix(64)) keep their data in other files, and are not taken")
    }
    guard extents == 1 else { throw ImageRefusal("the image's descriptor names \(extents) extents, not one") }
}

private func contains(_ bytes: [UInt8], _ text: String) -> Bool {
    let wanted = Array(text.utf8)
    guard bytes.count >= wanted.count else { return false }
    return (0...(bytes.count - wanted.count)).contains { bytes[$0] == wanted[0] && bytes[$0..<($0 + wanted.count)].elementsEqual(wanted) }
}
