/// Of VirtualBox's vdi files, version 1.1.
func vdiDisk(_ file: any ImageFile) throws -> (size: UInt64, blocks: BlockTable) {
    let head = try file.take(512, at: 0, "header")
    guard head.little(68, 4) == 0x0001_0001 else { throw ImageRefusal("the image is of a version of vdi that is not taken") }
    let kind = head.little(76, 4)
    guard kind == 1 || kind == 2 else {
        throw ImageRefusal(
            kind == 4 ? "the image has a parent, and images with one are not taken" : "the image's kind \(kind) is not one of vdi's")
    }
    // The ids of what it is linked to, and of its parent.
    guard head[0x1A8..<0x1C8].allSatisfy({ $0 == 0 }) else {
        throw ImageRefusal("the image has a parent, and images with one are not taken")
    }
    let (size, block, blocks) = (head.little(0x170, 8), head.little(0x178, 4), head.little(0x180, 4))
    guard block == 1 << 20 else { throw ImageRefusal("the image's blocks of \(block) bytes are absurd") }
    guard size <= blocks * block else { throw ImageRefusal("the image's table of \(blocks) blocks is too small for its virtual size") }
    // QEMU's own limit.
    guard blocks <= 0x3FFF_FFFF else { throw ImageRefusal("the image's table of \(blocks) blocks is absurd") }
    let (table, data) = (head.little(0x154, 4), head.little(0x158, 4))
    try file.requireInside(table, blocks * 4, "table of blocks")
    // The two highest numbers stand for blocks that were never written, and for those that were given up.
    let place = BlockTable(offset: table, entrySize: 4, isBig: false, block: block, size: size) {
        $0 < 0xFFFF_FFFE ? data + $0 * block : nil
    }
    return (size, place)
}
