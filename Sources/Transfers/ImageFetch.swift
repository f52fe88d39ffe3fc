import DriverHost
import Glibc
import ImageFormats
import Primitives

/// The job that brings an image into a volume. It reports success only when every byte is verified, converted where it must be, and on
/// stable storage.
struct ImageFetch {
    private let value: DriverValue
    private let order: ImageOrder
    private let ends: TransferEnds
    private let report: ImageReport
    private let requests: ImageRequests
    private let pace: TransferPace

    init(_ value: DriverValue, _ wire: Wire, _ tokens: ImageTokens) throws {
        self.value = value
        order = try ImageOrder(value["image"] ?? .null)
        ends = TransferEnds(value, wire)
        let report = ImageReport(wire)
        self.report = report
        requests = ImageRequests(order, tokens) { report.life() }
        pace = TransferPace(bytesPerSecond: Int(value["bytes_per_second"]?.integer ?? 0))
    }

    func run() throws -> DriverValue {
        let declared = try declaredFormat()
        let hashes = try ImageVerification(order)
        let driver = try ends.driver("target")
        return try driver.withHandle(value["target"]?["object"] ?? .null, writable: true) { handle in
            let begunAt = Timestamp.monotonic()
            let isStreamed = declared.isPlain && order.encryption == nil
            let result = isStreamed ? try stream(declared, hashes, into: handle) : try convert(declared, hashes, into: handle)
            return result.adding("md5", hashes.md5.map { .string($0) }).adding("hash", hashes.hash.map { .string($0) })
                .adding("seconds", .real(Timestamp.monotonic() - begunAt))
        }
    }

    private func declaredFormat() throws -> ImageFormat {
        guard
            order.containerFormat == "bare" || order.containerFormat == "ami" || order.containerFormat == "ari"
                || order.containerFormat == "aki"
        else { throw DriverFailure(.invalid, "images in a container of format \(order.containerFormat.prefix(64)) are not taken") }
        guard order.allowedFormats.contains(order.diskFormat), let format = ImageFormat(rawValue: order.diskFormat),
            format.isPlain || format.driver != nil
        else { throw DriverFailure(.invalid, "images of disk format \(order.diskFormat.prefix(64)) are not taken") }
        return format
    }

    /// Brings the image into a pipe while the caller's thread empties it.
    ///
    /// - Parameter most: bytes that an image without a size may have.
    private func download(
        _ declared: ImageFormat, _ hashes: ImageVerification, most: UInt64, total: UInt64, _ empty: (ImagePipe) throws -> Void
    ) throws -> (bytes: UInt64, found: [ImageFormat]) {
        let pipe = ImagePipe(hashes: hashes.users)
        let download = ImageDownload(
            requests, most: order.size.map { UInt64($0) } ?? most, pace: pace)
        let look = ImageLook(declared)
        pipe.onPiece = { try look.see($0) }
        let ended = Semaphore()
        let report = report
        startThread("image-http") {
            do {
                try download.run { bytes in
                    report.progress(download.position, of: total)
                    return pipe.append(bytes)
                }
                pipe.finish()
            } catch { pipe.stop(error) }
            ended.post()
        }
        defer {
            ended.wait()
            pipe.awaitHashes()
        }
        do { try empty(pipe) } catch {
            pipe.stop(error)
            throw error
        }
        try pipe.check()
        return (download.position, look.found)
    }

    /// The file's bytes are the disk's.
    private func stream(_ declared: ImageFormat, _ hashes: ImageVerification, into handle: Driver.Handle) throws -> DriverValue {
        let room = try handle.size
        if let size = order.size, UInt64(size) > room {
            throw DriverFailure(.invalid, "the image has \(size) bytes, and the volume has only \(room)")
        }
        let (bytes, found) = try download(declared, hashes, most: room, total: UInt64(order.size ?? order.volumeBytes)) { pipe in
            try ImageWriter(handle, targetIsZero: order.targetIsZero, from: pipe).run()
        }
        try hashes.verify()
        let format: ImageFormat
        do { format = try declared.check(found) } catch { throw DriverFailure(.invalid, error.description) }
        return .members([
            "bytes": .integer(Int64(clamping: bytes)), "virtual_size": .integer(Int64(clamping: bytes)), "format": .string(format.rawValue),
        ])
    }

    /// The file lands in the directory for conversions, and is inspected before qemu-img sees it.
    private func convert(_ declared: ImageFormat, _ hashes: ImageVerification, into handle: Driver.Handle) throws -> DriverValue {
        let room = try handle.size
        let size = UInt64(order.size ?? 0)
        let file = try ConversionFile(in: order.conversionDirectory, bytes: size)
        let (bytes, _) = try download(declared, hashes, most: room + room / 4 + (64 << 20), total: size + room) { pipe in
            while let piece = pipe.pieces.next() {
                try file.write(UnsafeRawBufferPointer(pipe.bytes(piece)), at: piece.offset)
                pipe.release(piece.slot)
            }
        }
        try hashes.verify()
        let header = try order.encryption?.makeHeader()
        let whole = min(room, UInt64(order.volumeBytes))
        guard UInt64(header?.count ?? 0) < whole || header == nil else {
            throw DriverFailure(.invalid, "the volume has no room behind a LUKS header")
        }
        // Nothing of the volume is touched for an image that cannot become one.
        let (format, virtualSize) = try inspect(file, declared, room: whole - UInt64(header?.count ?? 0))
        if let header { try LUKSOrder.put(header, on: handle) }
        try QemuImg(order: order, report: report, pace: pace, done: bytes, total: bytes + virtualSize).convert(file, format, into: handle)
        let alignment = handle.alignment
        let end = (virtualSize + alignment - 1) / alignment * alignment
        // What lies behind an image in an encrypted volume is what decrypting makes of it, as in one without an image.
        if !order.targetIsZero, order.encryption == nil, end < room { try handle.zero(offset: end, length: room - end) }
        try handle.flush()
        return .members([
            "bytes": .integer(Int64(clamping: bytes)), "virtual_size": .integer(Int64(clamping: virtualSize)),
            "format": .string(format.rawValue),
        ])
    }

    /// What the file is, and the bytes of the disk in it. Throws where it is nothing that qemu-img may see.
    private func inspect(_ file: ConversionFile, _ declared: ImageFormat, room: UInt64) throws -> (ImageFormat, UInt64) {
        guard !declared.isPlain else {
            guard file.size <= room else {
                throw DriverFailure(.invalid, "the image has \(file.size) bytes, and the encrypted volume has only room for \(room)")
            }
            return (declared, file.size)
        }
        do {
            let inspection = try ImageInspection(
                of: file, declared: declared, rules: .init(volumeSize: room, vmdkTypes: order.vmdkTypes))
            return (inspection.format, inspection.virtualSize)
        } catch let refusal as ImageRefusal { throw DriverFailure(.invalid, refusal.description) }
    }
}

/// Looks at the beginning of an image before anybody gets a byte of it, and at its end.
private final class ImageLook: @unchecked Sendable {
    private let declared: ImageFormat
    private var head: [UInt8] = []
    private var tail: [UInt8] = []
    private var isFirst = true

    init(_ declared: ImageFormat) { self.declared = declared }

    /// In order, on one thread.
    func see(_ bytes: UnsafeRawBufferPointer) throws {
        if isFirst {
            isFirst = false
            head = Array(bytes.prefix(ImageFormat.headBytes))
            // Of a fixed vhd only the end is known by its mark.
            if declared != .vhd {
                do { _ = try declared.check(ImageFormat.found(head: head)) } catch { throw DriverFailure(.invalid, error.description) }
            }
        }
        tail = Array((tail + bytes.suffix(ImageFormat.tailBytes)).suffix(ImageFormat.tailBytes))
    }

    /// When all bytes were seen.
    var found: [ImageFormat] { ImageFormat.found(head: head, tail: tail) }
}

/// The hashes and the signature that an image's bytes must have.
struct ImageVerification: Sendable {
    private let expected: [(hash: ImageHash, value: String, name: String)]
    private let signature: ImageSignature?
    private let results = Guarded<[String: String]>([:])

    init(_ order: ImageOrder) throws {
        var expected: [(hash: ImageHash, value: String, name: String)] = []
        if let md5 = order.md5, !md5.isEmpty { expected.append((try ImageHash("md5"), md5.lowercased(), "checksum")) }
        if let algorithm = order.hashAlgorithm, let value = order.hashValue, !value.isEmpty {
            expected.append((try ImageHash(algorithm), value.lowercased(), "os_hash_value (\(algorithm))"))
        }
        self.expected = expected
        signature = try order.signature.map { try ImageSignature($0) }
    }

    /// Each gets all bytes in order, on a thread of its own.
    var users: [@Sendable (UnsafeRawBufferPointer) -> Void] {
        var users: [@Sendable (UnsafeRawBufferPointer) -> Void] = []
        for (hash, _, _) in expected { users.append { hash.update($0) } }
        if let signature { users.append { signature.update($0) } }
        return users
    }

    /// Once, when all bytes are hashed.
    func verify() throws {
        for (hash, value, name) in expected {
            let found = hash.finish()
            guard found == value else {
                throw DriverFailure(.invalid, "the image's data are not those of its \(name): they have \(found), not \(value.prefix(128))")
            }
            results.withLock { $0[hash.name] = found }
            if name != "checksum" { results.withLock { $0["multihash"] = found } }
        }
        if let signature, !signature.finish() { throw SignatureRefusal.mismatch.failure() }
    }

    var md5: String? { results.withLock { $0["md5"] } }
    var hash: String? { results.withLock { $0["multihash"] } }
}
