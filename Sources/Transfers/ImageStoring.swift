import CDriver
import DriverHost
import Glibc
import HTTPClient
import ImageFormats
import Primitives

/// The job that makes an image of a volume.
struct ImageStoring {
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

    /// Bytes that are read at a time, from a place on; fewer only at the end.
    private typealias Reading = (_ room: UnsafeMutableRawBufferPointer, _ offset: UInt64) throws -> Int

    func run() throws -> DriverValue {
        guard let format = ImageFormat(rawValue: order.diskFormat), format.isPlain || format.driver != nil else {
            throw DriverFailure(.invalid, "images of disk format \(order.diskFormat.prefix(64)) are not made")
        }
        let driver = try ends.driver("source")
        return try driver.withHandle(value["source"]?["object"] ?? .null, writable: false) { handle in
            let begunAt = Timestamp.monotonic()
            let size = try handle.size
            let (bytes, md5): (UInt64, String)
            if format.isPlain {
                (bytes, md5) = try upload(total: size, done: 0, Self.reading(handle, size))
            } else {
                let file = try ConversionFile(in: order.conversionDirectory, bytes: 0)
                try QemuImg(order: order, report: report, pace: pace, total: 2 * size).produce(format, in: file, from: handle)
                let length = file.size
                (bytes, md5) = try upload(total: size + length, done: size) { room, offset in try file.read(into: room, at: offset) }
            }
            return .members([
                "bytes": .integer(Int64(clamping: bytes)), "virtual_size": .integer(Int64(clamping: size)),
                "format": .string(format.rawValue), "md5": .string(md5), "seconds": .real(Timestamp.monotonic() - begunAt),
            ])
        }
    }

    /// Reads a volume in order; its holes are not read.
    private static func reading(_ handle: Driver.Handle, _ size: UInt64) -> Reading {
        let window: UInt64 = 1 << 30
        var extents: [Driver.Handle.Extent] = []
        var known: Range<UInt64> = 0..<0
        return { room, offset in
            guard offset < size else { return 0 }
            let count = min(UInt64(room.count), size - offset)
            if !known.contains(offset) {
                known = offset..<min(size, offset + window)
                extents = try handle.extents(offset: known.lowerBound, length: UInt64(known.count), most: 1 << 16)
                // A map with more parts is asked for again from there on.
                if let last = extents.last, extents.count >= 1 << 16 { known = offset..<(last.offset + last.length) }
            }
            while let first = extents.first, first.offset + first.length <= offset { extents.removeFirst() }
            if let extent = extents.first, extent.offset <= offset, offset + count <= extent.offset + extent.length,
                offset + count <= known.upperBound, extent.flags & UInt32(CLINKER_EXTENT_ZERO) != 0
            {
                memset(room.baseAddress!, 0, Int(count))
            } else {
                try handle.read(into: UnsafeMutableRawBufferPointer(rebasing: room[..<Int(count)]), at: offset)
            }
            return Int(count)
        }
    }

    /// Sends everything, anew at every attempt.
    private func upload(total: UInt64, done: UInt64, _ read: Reading) throws -> (bytes: UInt64, md5: String) {
        // What one attempt sent to the end, whatever the answer.
        var sent: (bytes: UInt64, md5: String)?
        while true {
            guard let (answer, whole) = try attempt(total: total, done: done, read) else { continue }
            sent = whole ?? sent
            if case .success(let answer) = answer, answer.status == 204 || answer.status == 200, let whole { return whole }
            if case .success(let answer) = answer, answer.status < 300 {
                throw DriverFailure(.error, "the image service answered with status \(answer.status) before it had all bytes")
            }
            // The service may have them all though its answer was lost; asked again it says that the image has data (409).
            if Self.isUncertain(answer, isSent: sent != nil) {
                switch try requests.awaitStored() {
                case .whole(let size, let checksum):
                    let mine = try sent ?? measure(read)
                    guard size == mine.bytes, checksum == nil || checksum == mine.md5 else {
                        throw DriverFailure(.error, "the image has data already, and they are not those of the volume")
                    }
                    return mine
                case .nothing:
                    try requests.again(DriverFailure(.retry, "the image service took all bytes and has none of them"))
                    continue
                case .unknown: break
                }
            }
            try requests.judge(answer)
        }
    }

    private typealias Outcome = Result<HTTPClient.Response, HTTPClient.Failure>

    private static func isUncertain(_ outcome: Outcome, isSent: Bool) -> Bool {
        switch outcome {
        case .success(let answer): answer.status == 409 || isSent && (answer.status == 408 || answer.status >= 500)
        case .failure: isSent
        }
    }

    /// What the volume's bytes are, without sending them.
    private func measure(_ read: Reading) throws -> (bytes: UInt64, md5: String) {
        let hash = try ImageHash("md5")
        let room = UnsafeMutableRawBufferPointer.allocate(byteCount: ImagePipe.pieceSize, alignment: 4096)
        defer { room.deallocate() }
        var position: UInt64 = 0
        while case let count = try read(room, position), count > 0 {
            hash.update(UnsafeRawBufferPointer(rebasing: room[..<count]))
            position += UInt64(count)
            report.life()
        }
        return (position, hash.finish())
    }

    /// Sends everything once.
    ///
    /// - Returns: the answer, and what was sent if that was everything; nil where there was no answer.
    private func attempt(total: UInt64, done: UInt64, _ read: Reading) throws -> (
        answer: Outcome, whole: (bytes: UInt64, md5: String)?
    )? {
        let hash = try ImageHash("md5")
        let pipe = ImagePipe(hashes: [{ hash.update($0) }])
        let sending = ImageSending(pipe) { [report] in report.progress(done + $0, of: total) }
        var request = requests.request("PUT")
        request.headers.append((name: "Content-Type", value: "application/octet-stream"))
        request.source = { sending.give($0) }
        let requests = requests
        let sent = request
        let outcome = Guarded<Outcome?>(nil)
        let ended = Semaphore()
        startThread("image-http") {
            let result = requests.send(sent)
            outcome.withLock { $0 = result }
            // Whatever it did not take is wanted no more.
            pipe.stop(Stopped())
            ended.post()
        }
        var position: UInt64 = 0
        do {
            while true {
                var count = 0
                let isWanted = try pipe.fill { room in
                    count = try read(room, position)
                    return count
                }
                position += UInt64(count)
                if count == 0 || !isWanted { break }
                pace.pass(UInt64(count)) { [report] in report.life() }
            }
            pipe.finish()
        } catch { pipe.stop(error) }
        ended.wait()
        pipe.awaitHashes()
        do { try pipe.check() } catch is Stopped {}
        return outcome.withLock { $0 }.map { ($0, sending.isComplete ? (position, hash.finish()) : nil) }
    }

    private struct Stopped: Error {}
}

/// Gives the pieces of a pipe to a request.
private final class ImageSending: @unchecked Sendable {
    private let pipe: ImagePipe
    private let onProgress: (UInt64) -> Void
    private var piece: ImagePipe.Piece?
    private var given = 0
    /// Whether all bytes were given.
    private(set) var isComplete = false

    init(_ pipe: ImagePipe, onProgress: @escaping (UInt64) -> Void) {
        self.pipe = pipe
        self.onProgress = onProgress
    }

    func give(_ room: UnsafeMutableRawBufferPointer) -> Int? {
        if piece == nil {
            piece = pipe.pieces.next()
            given = 0
        }
        guard let piece else {
            // The end, or that the volume could not be read.
            guard (try? pipe.check()) != nil else { return nil }
            isComplete = true
            return 0
        }
        let bytes = pipe.bytes(piece)
        let count = min(room.count, bytes.count - given)
        room.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[given..<(given + count)]))
        given += count
        if given == bytes.count {
            pipe.release(piece.slot)
            self.piece = nil
            onProgress(piece.offset + UInt64(piece.count))
        }
        return count
    }
}
