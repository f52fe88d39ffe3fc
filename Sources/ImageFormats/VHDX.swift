/// Of vhdx files (Microsoft's MS-VHDX).
func vhdxDisk(_ file: any ImageFile) throws -> (size: UInt64, blocks: BlockTable) {
    let regions = try file.take(65_536, at: 192 << 10, "region table")
    guard regions.starts(with: "regi".utf8), regions.little(8, 4) <= 2047 else { throw ImageRefusal("the image has no region table") }
    var metadata: UInt64?
    var blocks: (offset: UInt64, length: UInt64)?
    for index in 0..<Int(regions.little(8, 4)) {
        let entry = 16 + index * 32
        switch regions.guid(entry) {
        case "8b7ca20647904b9ab8fe575f050f886e":
            guard metadata == nil else { throw ImageRefusal("the image has two metadata regions") }
            metadata = regions.little(entry + 16, 8)
        case "2dc27766f62342009d64115e9bfd4a08":
            guard blocks == nil else { throw ImageRefusal("the image has two tables of blocks") }
            let found = (offset: regions.little(entry + 16, 8), length: regions.little(entry + 24, 4))
            try file.requireInside(found.offset, found.length, "table of blocks")
            blocks = found
        default:
            guard regions.little(entry + 28, 4) & 1 == 0 else { throw ImageRefusal("the image needs a region that is not known here") }
        }
    }
    guard let metadata else { throw ImageRefusal("the image has no metadata") }
    guard let blocks else { throw ImageRefusal("the image has no table of blocks") }
    let table = try file.take(65_536, at: metadata, "metadata")
    guard table.starts(with: "metadata".utf8), table.little(10, 2) <= 2047 else { throw ImageRefusal("the image has no metadata") }
    var size, block, sector: UInt64?
    for index in 0..<Int(table.little(10, 2)) {
        let entry = 32 + index * 32
        let (offset, isTooFar) = metadata.addingReportingOverflow(table.little(entry + 16, 4))
        guard !isTooFar else { throw ImageRefusal("the image's metadata lie behind its end") }
        switch table.guid(entry) {
        case "2fa54224cd1b4876b2115dbed83bf4b8":
            guard size == nil else { throw ImageRefusal("the image has two virtual sizes") }
            size = try file.take(8, at: offset, "virtual size").little(0, 8)
        case "caa16737fa364d43b3b633f0aa44e76b":
            let parameters = try file.take(8, at: offset, "parameters")
            guard parameters.little(4, 4) & 2 == 0 else { throw ImageRefusal("the image has a parent, and images with one are not taken") }
            let found = parameters.little(0, 4)
            guard (1 << 20...256 << 20).contains(found), found.nonzeroBitCount == 1 else {
                throw ImageRefusal("the image's blocks of \(found) bytes are absurd")
            }
            guard block == nil else { throw ImageRefusal("the image has two sizes of blocks") }
            block = found
        case "8141bf1da96f4709ba47f233a8faab5f":
            let found = try file.take(4, at: offset, "sector size").little(0, 4)
            guard found == 512 || found == 4096 else { throw ImageRefusal("the image's sectors of \(found) bytes are absurd") }
            guard sector == nil else { throw ImageRefusal("the image has two sizes of sectors") }
            sector = found
        case "a8d35f2db30b454dabf7d3d84834ab0c":
            throw ImageRefusal("the image has a parent, and images with one are not taken")
        default: break
        }
    }
    guard let size else { throw ImageRefusal("the image has no virtual size") }
    // The format's own limit.
    guard size <= 64 << 40 else { throw ImageRefusal("the image's virtual size of \(size) bytes is absurd") }
    guard let block, let sector else { throw ImageRefusal("the image does not say how large its blocks and sectors are") }
    // After the blocks of 2^23 sectors comes the entry of a bitmap, which only images with a parent have.
    let content = BlockTable(
        offset: blocks.offset, entrySize: 8, isBig: false, block: block, size: size, chunk: (sector << 23) / block
    ) { $0 & 7 == 6 || $0 & 7 == 7 ? $0 & ~0xF_FFFF : nil }
    guard content.entries * 8 <= blocks.length else {
        throw ImageRefusal("the image's table of \(blocks.length / 8) blocks is too small for its virtual size")
    }
    return (size, content)
}
