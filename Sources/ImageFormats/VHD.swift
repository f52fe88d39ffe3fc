/// Of vhd files, fixed and dynamic (Microsoft's "Virtual Hard Disk Image Format").
func vhdDisk(_ file: any ImageFile) throws -> (size: UInt64, blocks: BlockTable?) {
    let head = try file.take(512, at: 0, "header")
    let isAtBeginning = head.starts(with: "conectix".utf8)
    let footer = isAtBeginning ? head : try file.take(512, at: file.size < 512 ? 0 : file.size - 512, "footer")
    guard footer.starts(with: "conectix".utf8) else { throw ImageRefusal("the image has no footer: it is truncated") }
    let kind = footer.big(60, 4)
    guard kind != 4 else { throw ImageRefusal("the image has a parent, and images with one are not taken") }
    guard kind == (isAtBeginning ? 3 : 2) else {
        throw ImageRefusal("the image's kind \(kind) is not one of vhd's, or not where it should be")
    }
    let size = try vhdDiskSize(footer)
    guard isAtBeginning else {
        guard size <= file.size - 512 else { throw ImageRefusal("the image's virtual size is more than it holds: it is truncated") }
        return (size, nil)
    }
    let dynamic = try file.take(1024, at: footer.big(16, 8), "dynamic header")
    guard dynamic.starts(with: "cxsparse".utf8) else { throw ImageRefusal("the image has no dynamic header") }
    let (table, entries, block) = (dynamic.big(16, 8), dynamic.big(28, 4), dynamic.big(32, 4))
    guard block >= 512, block.nonzeroBitCount == 1 else { throw ImageRefusal("the image's blocks of \(block) bytes are absurd") }
    guard entries <= 16 << 20 else { throw ImageRefusal("the image's table of \(entries) blocks is absurd") }
    guard entries >= size / block + (size % block == 0 ? 0 : 1) else {
        throw ImageRefusal("the image's table of \(entries) blocks is too small for its virtual size")
    }
    try file.requireInside(table, entries * 4, "table of blocks")
    // Before each block lies a bitmap of its sectors, in whole sectors.
    let bitmap = (block / 4096 + 511) / 512 * 512
    let blocks = BlockTable(offset: table, entrySize: 4, isBig: true, block: block, size: size, lead: bitmap) {
        $0 == 0xFFFF_FFFF ? nil : $0 * 512
    }
    return (size, blocks)
}

/// Bytes of the disk as QEMU counts them: by its geometry, unless who made it counts otherwise.
private func vhdDiskSize(_ footer: [UInt8]) throws(ImageRefusal) -> UInt64 {
    let geometry = footer.big(56, 2) * footer.big(58, 1) * footer.big(59, 1)
    let creator = Array(footer[28..<32])
    let countsBytes = ["win ", "qem2", "d2v ", "tap\0"].contains { creator.elementsEqual($0.utf8) } || geometry == 65_535 * 16 * 255
    let size = countsBytes ? footer.big(48, 8) : geometry * 512
    guard size <= UInt64(Int64.max) - (1 << 32) else { throw ImageRefusal("the image's virtual size of \(size) bytes is absurd") }
    return size
}
