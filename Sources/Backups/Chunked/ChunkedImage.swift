import Glibc
import Primitives

/// The image of a chain of chunked backups, readable at any place at once, without restoring it: for a block server. Any thread may read.
///
/// An object can only be decompressed from its beginning. The first read in one decompresses all of it into a temporary file without a
/// name while its hash is computed, and nothing is answered before the hash was found right. The objects read last are kept.
public final class ChunkedImage: BlockSource {
    /// A part of the volume, and the object of which it is.
    private struct Part {
        var range: Range<UInt64>
        var unit: Int
    }

    public let size: UInt64
    private let chain: [ChunkedBackup]
    private let store: any ObjectStore
    private let units: [RestorePlan.Unit]
    /// Ascending; they fill the image.
    private let parts: [Part]
    private let cache: SpoolCache

    fileprivate init(_ chain: [ChunkedBackup], in store: any ObjectStore, temporaryDirectory: String) throws {
        (self.chain, self.store) = (chain, store)
        let newest = chain[chain.count - 1]
        let layers = try chain.map { try ChunkedReader.metadata($0, store).objects }
        let plan = try RestorePlan(layers, includesReplaced: false, last: newest.metadataName)
        size = plan.size
        units = plan.units
        var parts: [Part] = []
        parts.reserveCapacity(plan.parts.count)
        for (number, unit) in plan.units.enumerated() {
            for part in plan.parts[unit.parts] { parts.append(Part(range: part, unit: number)) }
        }
        self.parts = parts.sorted { $0.range.lowerBound < $1.range.lowerBound }
        cache = SpoolCache(temporaryDirectory)
    }

    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        guard offset <= size, UInt64(buffer.count) <= size - offset else {
            throw ChunkedFailure.invalid("\(buffer.count) bytes at \(offset) are not inside the image of \(size) bytes")
        }
        var position = offset
        var rest = buffer
        while !rest.isEmpty {
            let part = parts[index(holding: position)]
            let count = Int(min(UInt64(rest.count), part.range.upperBound - position))
            let target = UnsafeMutableRawBufferPointer(rebasing: rest[..<count])
            let object = units[part.unit].object
            try cache.withObject(part.unit, make: { try spool(part.unit, into: $0) }) { file in
                var done = 0
                while done < count {
                    let read = pread(
                        file, target.baseAddress! + done, count - done, off_t(position - object.offset) + off_t(done))
                    if read < 0, errno == EINTR { continue }
                    guard read > 0 else {
                        throw ChunkedFailure(.device, "a temporary file cannot be read: \(read < 0 ? SystemError.text(errno) : "it ends")")
                    }
                    done += read
                }
            }
            position += UInt64(count)
            rest = UnsafeMutableRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Where zeroes are is only known of what was read: everything may be data.
    public func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        let range = range.clamped(to: 0..<size)
        return range.isEmpty ? [] : [range]
    }

    public func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? { nil }

    private func index(holding offset: UInt64) -> Int {
        var (low, high) = (0, parts.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if parts[middle].range.lowerBound <= offset { low = middle } else { high = middle - 1 }
        }
        return low
    }

    /// Decompresses an object into a file. Zeroes stay holes.
    ///
    /// - Returns: the bytes that the file takes.
    private func spool(_ number: Int, into file: Int32) throws -> Int {
        let unit = units[number]
        let object = unit.object
        let name = chain[unit.layer].objectName(object.number)
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer {
            input.deallocate()
            piece.deallocate()
        }
        let reader = PlainReader(store, name, object, buffer: input)
        let md5 = MD5()
        var done: UInt64 = 0
        var written = 0
        guard ftruncate(file, off_t(object.length)) == 0 else { throw Self.spoolFailure() }
        while done < object.length {
            let bytes = UnsafeMutableRawBufferPointer(rebasing: piece[..<Int(min(UInt64(piece.count), object.length - done))])
            try reader.read(into: bytes)
            let plain = UnsafeRawBufferPointer(bytes)
            md5.update(plain)
            if !isZero(plain) {
                var place = 0
                while place < plain.count {
                    let count = pwrite(file, plain.baseAddress! + place, plain.count - place, off_t(done) + off_t(place))
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { throw Self.spoolFailure() }
                    place += count
                }
                written += plain.count
            }
            done += UInt64(bytes.count)
        }
        try reader.finish()
        guard md5.finish() == object.md5 else { throw ChunkedFailure.damaged("\(name): its MD5 is not the recorded one") }
        return written
    }

    private static func spoolFailure() -> ChunkedFailure {
        ChunkedFailure(.device, "a temporary file cannot be written: \(SystemError.text(errno))")
    }
}

extension ChunkedBackup {
    /// Opens the image of the last backup of a chain for reading at any place.
    ///
    /// - Parameter temporaryDirectory: for decompressed objects, in files without names: 1 GiB, and one object.
    public static func image(of chain: [ChunkedBackup], in store: any ObjectStore, temporaryDirectory: String = "/tmp")
        throws(ChunkedFailure) -> ChunkedImage
    {
        do {
            try check(chain)
            return try ChunkedImage(chain, in: store, temporaryDirectory: temporaryDirectory)
        } catch { throw ChunkedFailure.of(error) }
    }
}

/// Decompressed objects in files without names, the ones used last within a limit of bytes.
private final class SpoolCache: Sendable {
    /// One object: who comes first makes it, the others wait.
    private final class Entry: Sendable {
        struct State {
            var file: Int32 = -1
            var isGood = false
        }
        let state = Guarded(State())
        deinit {
            let file = state.withLock { $0.file }
            if file >= 0 { close(file) }
        }
    }

    private struct State {
        /// The one used last at the end.
        var entries: [(number: Int, entry: Entry, bytes: Int)] = []
    }

    private let state = Guarded(State())
    private let directory: String
    private static let bytesLimit = 1 << 30
    private static let countLimit = 256

    init(_ directory: String) { self.directory = directory }

    /// Calls the body with the file of an object. What could not be made is made anew the next time.
    func withObject(_ number: Int, make: (Int32) throws -> Int, _ body: (Int32) throws -> Void) throws {
        let entry = state.withLock { state -> Entry in
            if let place = state.entries.lastIndex(where: { $0.number == number }) {
                let found = state.entries.remove(at: place)
                state.entries.append(found)
                return found.entry
            }
            let entry = Entry()
            state.entries.append((number, entry, 0))
            return entry
        }
        let file = try entry.state.withLock { found -> Int32 in
            if found.isGood { return found.file }
            if found.file < 0 { found.file = try temporaryFile() }
            guard ftruncate(found.file, 0) == 0 else { throw SystemError.last("a temporary file cannot be emptied") }
            let bytes = try make(found.file)
            found.isGood = true
            trim(number, bytes)
            return found.file
        }
        // The entry is held: its file stays open.
        try body(file)
        withExtendedLifetime(entry) {}
    }

    /// Lets go of the objects used longest ago, but not of the one just made.
    private func trim(_ number: Int, _ bytes: Int) {
        state.withLock { state in
            for index in state.entries.indices where state.entries[index].number == number { state.entries[index].bytes = bytes }
            var total = state.entries.reduce(0) { $0 + $1.bytes }
            while total > Self.bytesLimit || state.entries.count > Self.countLimit,
                let place = state.entries.firstIndex(where: { $0.number != number })
            {
                total -= state.entries[place].bytes
                state.entries.remove(at: place)
            }
        }
    }

    private func temporaryFile() throws -> Int32 {
        var template = Array("\(directory)/clinker-image-XXXXXX".utf8CString)
        let file = mkstemp(&template)
        guard file >= 0 else { throw SystemError.last("no temporary file can be made in \(directory)") }
        _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        unlink(template)
        return file
    }
}
