/// Of Parallels' images, version 2 (QEMU's docs/interop/parallels.txt).
func ploopDisk(_ file: any ImageFile) throws -> (size: UInt64, blocks: BlockTable) {
    let head = try file.take(64, at: 0, "header")
    guard head.little(16, 4) == 2 else { throw ImageRefusal("the image is of a version of ploop that is not taken") }
    let isOld = head.starts(with: "WithoutFreeSpace".utf8)
    let sectors = isOld ? head.little(36, 4) : head.little(36, 8)
    let (track, entries) = (head.little(28, 4), head.little(32, 4))
    guard track > 0, track <= 1 << 21 else { throw ImageRefusal("the image's blocks of \(track) sectors are absurd") }
    guard entries <= 128 << 20 else { throw ImageRefusal("the image's table of \(entries) blocks is absurd") }
    guard entries >= sectors / track + (sectors % track == 0 ? 0 : 1) else {
        throw ImageRefusal("the image's table of \(entries) blocks is too small for its virtual size")
    }
    try file.requireInside(64, entries * 4, "table of blocks")
    let size = try bytes(ofSectors: sectors, "virtual size")
    // Numbers of sectors in old files, of blocks in others.
    let unit = isOld ? 512 : track * 512
    let blocks = BlockTable(offset: 64, entrySize: 4, isBig: false, block: track * 512, size: size) { $0 == 0 ? nil : $0 * unit }
    return (size, blocks)
}
