/// What is found in the header of an image: it needs no other file, asks for nothing unknown, and fits.
public struct ImageInspection: Sendable, Equatable {
    public let format: ImageFormat
    /// Bytes of the disk.
    public let virtualSize: UInt64

    /// What a file may be.
    public struct Rules: Sendable {
        /// Bytes of the volume that it becomes.
        public var volumeSize: UInt64
        /// The `createType`s of vmdk files that are taken.
        public var vmdkTypes: [String]
        public init(volumeSize: UInt64, vmdkTypes: [String]) {
            self.volumeSize = volumeSize
            self.vmdkTypes = vmdkTypes
        }
    }

    /// Inspects a whole file. Its reads are bounded, whatever its header says: of tables, where the format has them, by what the file has.
    ///
    /// - Throws: `ImageRefusal`, or what the file's reads throw.
    public init(of file: any ImageFile, declared: ImageFormat, rules: Rules) throws {
        let head = try file.read(Int(min(file.size, UInt64(ImageFormat.headBytes))), at: 0)
        let tailSize = UInt64(ImageFormat.tailBytes)
        let tail = file.size > tailSize ? try file.read(Int(tailSize), at: file.size - tailSize) : []
        format = try declared.check(ImageFormat.found(head: head, tail: tail))
        var (blocks, grains): (BlockTable?, VMDKContent?)
        switch format {
        case .qcow2: virtualSize = try qcow2Size(file)
        case .vmdk: (virtualSize, grains) = try vmdkDisk(file, rules.vmdkTypes)
        case .vhd: (virtualSize, blocks) = try vhdDisk(file)
        case .vhdx: (virtualSize, blocks) = try vhdxDisk(file)
        case .vdi: (virtualSize, blocks) = try vdiDisk(file)
        case .ploop: (virtualSize, blocks) = try ploopDisk(file)
        case .raw, .luks, .iso, .ami, .ari, .aki: virtualSize = file.size
        case .qcow, .qed, .bochs: throw ImageRefusal("images of format \(format.rawValue) are not taken")
        }
        guard virtualSize <= rules.volumeSize else {
            throw ImageRefusal("the image's virtual size is \(virtualSize) bytes, and the volume has only \(rules.volumeSize)")
        }
        // Nothing that lies behind the file's end is read as zeroes.
        if format == .qcow2 { try Qcow2Content(file).requireAll() }
        try blocks?.requireAll(in: file)
        try grains?.requireAll()
    }
}
