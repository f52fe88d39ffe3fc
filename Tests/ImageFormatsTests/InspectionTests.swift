import Glibc
import Processes
import TestSupport
import Testing

@testable import ImageFormats

/// Files that qemu-img made, and what is changed in them by who means harm.
@Suite("Inspection of images")
struct InspectionTests {
    struct Bytes: ImageFile {
        var bytes: [UInt8]
        var size: UInt64 { UInt64(bytes.count) }
        func read(_ count: Int, at offset: UInt64) throws -> [UInt8] { Array(bytes.dropFirst(Int(offset)).prefix(count)) }

        mutating func put(_ value: UInt64, _ count: Int, at offset: Int, isBig: Bool = true) {
            for index in 0..<count {
                bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (isBig ? count - 1 - index : index)))
            }
        }
        mutating func replace(_ old: String, with new: String) throws {
            let (old, new) = (Array(old.utf8), Array(new.utf8))
            try #require(old.count == new.count)
            let place = try #require((0...(bytes.count - old.count)).first { bytes[$0..<($0 + old.count)].elementsEqual(old) })
            bytes.replaceSubrange(place..<(place + old.count), with: new)
        }
    }

    private let directory = temporaryDirectory("formats")
    private static let size: UInt64 = 32 << 20
    private static let types = ["monolithicSparse", "streamOptimized"]

    private func run(_ arguments: [String]) throws {
        let status = try status(of: arguments)
        try #require(status == 0, "qemu-img \(arguments): \(describe(exit: status))")
    }

    private func status(of arguments: [String]) throws -> Int32 { reap(try spawn("/usr/bin/qemu-img", arguments, descriptors: [])) }

    private func make(_ driver: String, _ options: String? = nil, convert: Bool = false) throws -> Bytes {
        let path = directory + "/image"
        let rest = options.map { ["-o", $0] } ?? []
        if convert {
            try run(["create", "-q", "-f", "raw", directory + "/raw", "\(Self.size)"])
            try run(["convert", "-f", "raw", "-O", driver] + rest + [directory + "/raw", path])
        } else {
            try run(["create", "-q", "-f", driver] + rest + [path, "\(Self.size)"])
        }
        return try read(path)
    }

    private func read(_ path: String) throws -> Bytes {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
        return Bytes(bytes: bytes)
    }

    private func inspect(_ file: Bytes, _ declared: ImageFormat, types: [String] = types, volume: UInt64 = size + (1 << 20)) throws
        -> ImageInspection
    {
        try ImageInspection(of: file, declared: declared, rules: .init(volumeSize: volume, vmdkTypes: types))
    }

    private func refusal(_ file: Bytes, _ declared: ImageFormat, types: [String] = types, volume: UInt64 = size + (1 << 20)) -> String {
        do { return "taken: \(try inspect(file, declared, types: types, volume: volume))" } catch { return "\(error)" }
    }

    @Test("What qemu-img makes is taken, with its virtual size")
    func taken() throws {
        for (driver, format, options) in [
            ("qcow2", ImageFormat.qcow2, "compat=0.10"), ("qcow2", .qcow2, "compat=1.1"), ("qcow2", .qcow2, "extended_l2=on"),
            ("qcow2", .qcow2, "compression_type=zstd"), ("qcow2", .qcow2, "cluster_size=512"), ("vmdk", .vmdk, nil),
            ("vhdx", .vhdx, nil), ("vdi", .vdi, nil), ("vdi", .vdi, "static=on"), ("parallels", .ploop, nil),
            ("vpc", .vhd, "force_size=on"), ("vpc", .vhd, "force_size=on,subformat=fixed"),
        ] {
            let found = try inspect(try make(driver, options), format)
            #expect(found.format == format && found.virtualSize == Self.size, "\(driver) \(options ?? "")")
        }
        #expect(try inspect(try make("vmdk", "subformat=streamOptimized", convert: true), .vmdk).virtualSize == Self.size)
        // By its geometry, as QEMU counts.
        #expect(try inspect(try make("vpc"), .vhd).virtualSize == 65_552 * 512)
    }

    @Test("A disk that is larger than the volume is refused, and so are sizes that are absurd")
    func sizes() throws {
        for (driver, format) in [("qcow2", ImageFormat.qcow2), ("vmdk", .vmdk), ("vhdx", .vhdx), ("vdi", .vdi), ("parallels", .ploop)] {
            #expect(
                refusal(try make(driver), format, volume: Self.size - 1)
                    == "the image's virtual size is 33554432 bytes, and the volume has only 33554431")
        }
        var file = try make("qcow2")
        file.put(10 << 60, 8, at: 24)
        #expect(refusal(file, .qcow2) == "the image's virtual size of 11529215046068469760 bytes is absurd")
        file.put(7 << 60, 8, at: 24)
        #expect(refusal(file, .qcow2).contains("too small for its virtual size"))
        file = try make("vmdk")
        file.put(UInt64.max / 512, 8, at: 12, isBig: false)
        #expect(refusal(file, .vmdk).hasSuffix("is absurd"))
    }

    @Test("What is declared is what is found: no format hides in another")
    func declarations() throws {
        let qcow2 = try make("qcow2")
        #expect(refusal(qcow2, .raw) == "disk format declared raw, found qcow2")
        #expect(refusal(qcow2, .vmdk) == "disk format declared vmdk, found qcow2")
        #expect(refusal(Bytes(bytes: [UInt8](repeating: 0, count: 65_536)), .qcow2) == "disk format declared qcow2, found raw")
        for driver in ["vmdk", "vpc", "vhdx", "vdi", "parallels", "qed", "qcow"] {
            #expect(refusal(try make(driver), .raw).hasPrefix("disk format declared raw, found "), "\(driver)")
        }
        #expect(refusal(try make("vpc", "subformat=fixed"), .raw) == "disk format declared raw, found vhd")
        var iso = Bytes(bytes: [UInt8](repeating: 0, count: 65_536))
        iso.bytes.replaceSubrange(32_769..<32_774, with: "CD001".utf8)
        #expect(try inspect(iso, .iso).format == .iso)
        #expect(try inspect(iso, .raw).format == .iso)
        iso.bytes.replaceSubrange(0..<4, with: qcow2.bytes[..<4])
        iso.bytes[7] = 3
        #expect(refusal(iso, .iso) == "disk format declared iso, found the marks of qcow2 and iso")
        #expect(refusal(iso, .raw).hasPrefix("disk format declared raw, found the marks of"))
        #expect(refusal(iso, .qcow2).hasPrefix("disk format declared qcow2, found the marks of"))
    }

    @Test(
        "qcow2: a file that ends before what it names is truncated, wherever that is",
        arguments: [nil, "compat=0.10", "cluster_size=512", "extended_l2=on,cluster_size=128k", "-c"])
    func truncated(options: String?) throws {
        // Random, then a hole, then text, which becomes smaller; its end is no end of a cluster.
        var raw = (0..<300_000).map { _ in UInt8.random(in: 0...255) }
        raw += [UInt8](repeating: 0, count: 3 << 20) + Array(repeating: Array("some text, ".utf8), count: 30_000).joined()
        raw += [UInt8](repeating: 7, count: 512 - raw.count % 512)
        try write(raw, "raw")
        let options = options.map { $0 == "-c" ? [$0] : ["-o", $0] } ?? []
        try run(["convert", "-f", "raw", "-O", "qcow2"] + options + [directory + "/raw", directory + "/image"])
        let whole = try read(directory + "/image")
        #expect(try inspect(whole, .qcow2).virtualSize == UInt64(raw.count))
        // The last cluster may be shorter; half of the file is gone in the worst case, one cluster in the best.
        for left in [whole.bytes.count / 2, whole.bytes.count - (2 << 20), whole.bytes.count - (160 << 10)] where left > 0 {
            #expect(refusal(Bytes(bytes: Array(whole.bytes.prefix(left))), .qcow2).contains("truncated"), "\(options) \(left)")
        }
    }

    /// Subformats whose files keep content here and there.
    struct Cut: Sendable {
        let driver: String
        let format: ImageFormat
        var options: String?
    }

    private static let cuts = [
        Cut(driver: "vmdk", format: .vmdk), Cut(driver: "vmdk", format: .vmdk, options: "subformat=streamOptimized"),
        Cut(driver: "vpc", format: .vhd, options: "force_size=on"), Cut(driver: "vpc", format: .vhd),
        Cut(driver: "vhdx", format: .vhdx), Cut(driver: "vhdx", format: .vhdx, options: "block_size=1M"),
        Cut(driver: "vhdx", format: .vhdx, options: "subformat=fixed"), Cut(driver: "vdi", format: .vdi),
        Cut(driver: "vdi", format: .vdi, options: "static=on"), Cut(driver: "parallels", format: .ploop),
    ]

    @Test("A file that is cut anywhere is refused, or lacks nothing", arguments: cuts)
    func cut(_ cut: Cut) throws {
        var random = Seeded(11)
        // Random, a hole, and what becomes smaller, up to the end, which is no end of a block.
        var raw = (0..<300_000).map { _ in UInt8.random(in: 0...255, using: &random) } + [UInt8](repeating: 0, count: 5 << 20)
        raw += Array(repeating: Array("some text, ".utf8), count: 100_000).joined()
        raw += (0..<20_000).map { _ in UInt8.random(in: 0...255, using: &random) }
        raw += [UInt8](repeating: 7, count: 512 - raw.count % 512)
        try write(raw, "raw")
        let options = cut.options.map { ["-o", $0] } ?? []
        try run(["convert", "-f", "raw", "-O", cut.driver] + options + [directory + "/raw", directory + "/image"])
        let whole = try read(directory + "/image")
        /// nil: qemu-img refuses it.
        func content(_ file: Bytes) throws -> [UInt8]? {
            try write(file.bytes, "cut")
            let status = try status(of: ["convert", "-f", cut.driver, "-O", "raw", directory + "/cut", directory + "/content"])
            return status == 0 ? try read(directory + "/content").bytes : nil
        }
        let sound = try #require(try content(whole))
        #expect(isSame(Array(sound.prefix(raw.count)), raw))
        #expect(try inspect(whole, cut.format).virtualSize == UInt64(sound.count))
        var refused = 0
        let count = whole.bytes.count
        let places = [1, 512, 513, 1024, 4096].map { count - $0 } + (0..<15).map { _ in .random(in: 0..<count, using: &random) }
        for left in places {
            let part = Bytes(bytes: Array(whole.bytes.prefix(left)))
            // By the inspection, or by qemu-img itself: what nobody refuses lacks nothing.
            if (try? inspect(part, cut.format)) != nil, let made = try content(part) {
                #expect(isSame(made, sound), "\(cut) cut at \(left) of \(count)")
            } else {
                refused += 1
            }
        }
        #expect(refused > 3, "\(cut): \(refused)")
    }

    /// Compared at once, since there are megabytes of them.
    private func isSame(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        first.count == second.count && memcmp(first, second, first.count) == 0
    }

    private func write(_ bytes: [UInt8], _ name: String) throws {
        let file = open(directory + "/" + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(file) }
        try #require(Glibc.write(file, bytes, bytes.count) == bytes.count)
    }

    @Test("A block whose entry leads behind the end is named; so are tables that are")
    func behindTheEnd() throws {
        /// A file whose first entry of a table is changed.
        func changed(_ driver: String, _ format: ImageFormat, _ entry: UInt64, _ bytes: Int, isBig: Bool, at offset: (Bytes) -> Int) throws
            -> String
        {
            var file = try make(driver, driver == "vpc" ? "force_size=on" : nil)
            file.put(entry, bytes, at: offset(file), isBig: isBig)
            return refusal(file, format)
        }
        let block = "the image's block 0 lies behind its end: it is truncated"
        #expect(try changed("vpc", .vhd, 0x1000_0000, 4, isBig: true) { _ in 1536 } == block)
        #expect(try changed("vdi", .vdi, 77, 4, isBig: false) { Int($0.bytes.little(0x154, 4)) } == block)
        #expect(try changed("parallels", .ploop, 77, 4, isBig: false) { _ in 64 } == block)
        let table = { (file: Bytes) in Int(file.bytes.little(56, 8)) * 512 }
        #expect(
            try changed("vmdk", .vmdk, 0xFFFF_FFFF, 4, isBig: false, at: table)
                == "the image's table 0 of grains lies behind its end: it is truncated")
        #expect(
            try changed("vmdk", .vmdk, 0xFFFF_FFFF, 4, isBig: false) { Int($0.bytes.little(table($0), 4)) * 512 }
                == "the image's grain 0 lies behind its end: it is truncated")
        #expect(try changed("vmdk", .vmdk, 1 << 50, 8, isBig: false) { _ in 56 }.contains("table of tables lies behind"))
        #expect(try changed("vmdk", .vmdk, UInt64.max - 1, 8, isBig: false) { _ in 56 }.contains("absurd"))
        func regionOfBlocks(_ file: Bytes) -> Int {
            let entries = [196_624, 196_656]
            let entry = entries.first { file.bytes.guid($0).hasPrefix("2dc27766") } ?? 0
            return Int(file.bytes.little(entry + 16, 8))
        }
        let entries: [UInt64] = [UInt64.max & ~7 | 6, 1 << 40 | 6]
        for entry in entries {
            #expect(try changed("vhdx", .vhdx, entry, 8, isBig: false, at: regionOfBlocks) == block)
        }
    }

    @Test("vmdk: one table that is named for all of the disk is not read over and over")
    func repeatedGrains() throws {
        var file = try make("vmdk")
        // Grains of one sector, tables of one entry: as many tables as the disk has sectors.
        file.put(1, 8, at: 20, isBig: false)
        file.put(1, 4, at: 44, isBig: false)
        let table = file.bytes.count / 512 + 1
        file.put(UInt64(table), 8, at: 56, isBig: false)
        let count = Int(Self.size / 512)
        file.bytes += [UInt8](repeating: 0, count: table * 512 + count * 4 - file.bytes.count)
        for index in 0..<count { file.put(UInt64(table), 4, at: table * 512 + 4 * index, isBig: false) }
        #expect(refusal(file, .vmdk).contains("named twice"))
    }

    @Test("qcow2: a table that is named a million times is read once")
    func repeatedTable() throws {
        var file = try make("qcow2", "cluster_size=512")
        let table = file.bytes.count / 512 * 512 + 512
        file.bytes += [UInt8](repeating: 0, count: table + 512 - file.bytes.count)
        let first = Int(file.bytes.big(40, 8))
        for index in 0..<Int(file.bytes.big(36, 4)) { file.put(UInt64(table) | 1 << 63, 8, at: first + 8 * index) }
        #expect(try inspect(file, .qcow2).virtualSize == Self.size)
        file.put(UInt64(table + 4096), 8, at: table + 504)
        #expect(refusal(file, .qcow2).contains("truncated"))
    }

    @Test("qcow2: no backing file, no data file, no encryption, no unknown feature, no absurd table")
    func qcow2() throws {
        try run(["create", "-q", "-f", "raw", directory + "/base", "\(Self.size)"])
        #expect(refusal(try make("qcow2", "backing_file=\(directory)/base,backing_fmt=raw"), .qcow2).contains("backing file"))
        #expect(refusal(try make("qcow2", "data_file=\(directory)/data"), .qcow2).contains("in another file"))
        let sound = try make("qcow2")
        func changed(_ value: UInt64, _ count: Int, at offset: Int) -> String {
            var file = sound
            file.put(value, count, at: offset)
            return refusal(file, .qcow2)
        }
        #expect(changed(1, 4, at: 32).contains("encrypted"))
        #expect(changed(2, 8, at: 72).contains("corrupt"))
        #expect(changed(1 << 40, 8, at: 72).contains("features that are not known"))
        #expect(changed(63, 4, at: 20).contains("clusters"))
        #expect(changed(8, 4, at: 20).contains("clusters"))
        #expect(changed(0xFFFF_FFFF, 4, at: 36).contains("absurd"))
        #expect(changed(0xFFFF_FFFF, 4, at: 56).contains("absurd"))
        #expect(changed(1 << 62, 8, at: 40).contains("truncated"))
        #expect(changed(UInt64.max, 8, at: 40).contains("lies at"))
        #expect(changed(7, 4, at: 96).contains("absurd"))
        #expect(changed(0xFFFF_FFF8, 4, at: 100).contains("header"))
        #expect(changed(4, 4, at: 4).contains("version 4"))
        // The name of a data file, in an extension behind the header.
        var file = sound
        file.put(0x4441_5441, 4, at: 112)
        file.put(8, 4, at: 116)
        #expect(refusal(file, .qcow2).contains("names another file"))
        #expect(refusal(Bytes(bytes: Array(sound.bytes.prefix(100))), .qcow2).contains("truncated"))
    }

    @Test("vmdk: nothing but sparse data in the file itself, of the types that are taken")
    func vmdk() throws {
        let sound = try make("vmdk")
        #expect(refusal(sound, .vmdk, types: ["streamOptimized"]) == "vmdk images of type monolithicSparse are not taken")
        var file = sound
        try file.replace("createType=\"monolithicSparse\"", with: "createType=\"monolithicFlat\"  ")
        #expect(refusal(file, .vmdk, types: ["monolithicFlat"]).contains("in other files"))
        file = sound
        try file.replace("\"image\"", with: "\"/etc/\"")
        #expect(refusal(file, .vmdk).contains("names a path"))
        file = sound
        try file.replace(" SPARSE ", with: " FLAT   ")
        #expect(refusal(file, .vmdk).contains("not sparse"))
        file = sound
        try file.replace("parentCID=ffffffff", with: "parentCID=00000001")
        #expect(refusal(file, .vmdk).contains("parent"))
        file = sound
        file.bytes.replaceSubrange(9000..<9018, with: "parentFileNameHint".utf8)
        #expect(refusal(file, .vmdk).contains("parent"))
        file = sound
        file.put(0, 8, at: 12, isBig: false)
        #expect(refusal(file, .vmdk).contains("no size"))
        for kind in ["monolithicFlat", "twoGbMaxExtentSparse"] {
            #expect(refusal(try make("vmdk", "subformat=\(kind)"), .vmdk, types: [kind]).contains("only a descriptor"))
        }
        let stream = try make("vmdk", "subformat=streamOptimized", convert: true)
        // As writers of streams do: the header at the end is the one that counts.
        file = stream
        file.put(UInt64.max, 8, at: 56, isBig: false)
        #expect(refusal(file, .vmdk).contains("truncated"))
        var footer = Bytes(bytes: [UInt8](repeating: 0, count: 512) + stream.bytes[..<512] + [UInt8](repeating: 0, count: 512))
        #expect(try inspect(Bytes(bytes: file.bytes + footer.bytes), .vmdk).virtualSize == Self.size)
        footer.put(1, 8, at: 512 + 12, isBig: false)
        #expect(refusal(Bytes(bytes: file.bytes + footer.bytes), .vmdk).contains("different sizes"))
    }

    @Test("vhd, vhdx and vdi: no parent, and tables that are there")
    func others() throws {
        var file = try make("vpc", "force_size=on")
        let sound = file
        file.put(4, 4, at: 60)
        #expect(refusal(file, .vhd).contains("parent"))
        file = sound
        file.put(UInt64.max, 8, at: 16)
        #expect(refusal(file, .vhd).contains("truncated"))
        file = sound
        file.put(0x7FFF_0000_0000_0000, 8, at: 48)
        #expect(refusal(file, .vhd).contains("too small"))
        file = try make("vdi")
        file.put(4, 4, at: 76, isBig: false)
        #expect(refusal(file, .vdi).contains("parent"))
        file = try make("vdi")
        file.bytes[0x1B8] = 1
        #expect(refusal(file, .vdi).contains("parent"))
        file = try make("vhdx")
        let parameters = try #require(
            (0..<file.bytes.count - 16).first { file.bytes[$0..<($0 + 4)].elementsEqual([0x37, 0x67, 0xA1, 0xCA]) })
        let table = try #require((0..<file.bytes.count - 8).first { file.bytes[$0..<($0 + 8)].elementsEqual("metadata".utf8) })
        let offset = (0..<4).reduce(0) { $0 | Int(file.bytes[parameters + 16 + $1]) << (8 * $1) }
        file.bytes[table + offset + 4] |= 2
        #expect(refusal(file, .vhdx).contains("parent"))
        #expect(refusal(Bytes(bytes: Array(try make("vhdx").bytes.prefix(200_000))), .vhdx).contains("truncated"))
    }

    @Test("Whatever is changed in a header, an inspection ends, and finds no disk that is larger than the volume")
    func mutations() throws {
        var random = Seeded(7)
        for (driver, format) in [
            ("qcow2", ImageFormat.qcow2), ("vmdk", .vmdk), ("vpc", .vhd), ("vdi", .vdi), ("parallels", .ploop), ("vhdx", .vhdx),
        ] {
            let sound = try make(driver, driver == "vpc" ? "force_size=on" : nil)
            // Where each of them has its numbers.
            let places = format == .vhdx ? [196_608..<196_736, 1_048_576..<3_145_728] : [0..<512]
            for _ in 0..<(format == .vhdx ? 20 : 300) {
                var file = sound
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    let place = places.randomElement(using: &random) ?? 0..<1
                    let offset = Int.random(in: place.clamped(to: 0..<(file.bytes.count - 8)), using: &random)
                    let values: [UInt64] = [0, 1, UInt64.max, UInt64.max >> 1, 1 << 63, random.next()]
                    file.put(values.randomElement(using: &random) ?? 0, [1, 2, 4, 8].randomElement(using: &random) ?? 1, at: offset)
                }
                if let found = try? inspect(file, format) { #expect(found.virtualSize <= Self.size + (1 << 20)) }
            }
        }
    }
}
