import CZlib
import Glibc
import Primitives

/// Which chunks an attempt of a backup has read, and their ids, in a file of this machine: whoever continues it reads none of those again
/// whose blobs the repository has. It may vanish: then they are read again. Any thread.
///
/// A header that says how the image is cut, then entries, each with a checksum: what was cut off or lost by the file system ends it.
final class ReadJournal: Sendable {
    private struct Entry {
        var segment, chunk: UInt32
        var id: Digest
        var checksum: UInt32
        var unused: UInt32 = 0

        init(_ segment: Int, _ chunk: Int, _ id: Digest) {
            (self.segment, self.chunk, self.id) = (UInt32(segment), UInt32(chunk), id)
            checksum = 0
            checksum = sum
        }

        var sum: UInt32 {
            var entry = self
            entry.checksum = 0
            // Begun with 1, so that zeroes are no entry.
            return withUnsafeBytes(of: &entry) {
                UInt32(truncatingIfNeeded: crc32(1, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32($0.count)))
            }
        }
    }

    private struct State {
        /// Entries of one segment, one after the other in the file.
        var runs: [(segment: UInt32, range: Range<Int>)] = []
        var count = 0
        var unwritten: [Entry] = []
        var writtenAt = Timestamp.monotonic()
        /// A journal that cannot be written keeps no backup from being made.
        var isBroken = false
    }

    private let file: OwnedFile
    private let path: String
    private let state: Guarded<State>
    private static let magic: UInt64 = 0x636c_6b6a_726e_6c31
    private static let headerSize = 64
    private static let entrySize = MemoryLayout<Entry>.stride
    private static let suffix = ".journal"
    /// What is lost at most if the process is killed.
    private static let unwrittenLimit = 64
    private static let unwrittenSeconds = 1.0
    /// Journals of attempts that nobody has continued for so many seconds are removed.
    private static let age = 7 * 86_400

    /// - Parameters:
    ///   - directory: that of the repository's cache.
    ///   - continues: whether what an earlier attempt noted is used.
    /// - Returns: nil if there can be none.
    init?(_ directory: String, backup: String, _ shape: ImageShape, continues: Bool) {
        Self.removeOld(directory)
        path = Self.path(directory, backup)
        let descriptor = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | (continues ? 0 : O_TRUNC), 0o600)
        guard descriptor >= 0 else { return nil }
        let file = OwnedFile(descriptor)
        self.file = file
        var header = [UInt64](repeating: 0, count: Self.headerSize / 8)
        header[0] = Self.magic
        (header[1], header[2], header[3]) = (shape.size, UInt64(shape.chunkSize), shape.segmentSize)
        var found = [UInt64](repeating: 0, count: header.count)
        var state = State()
        if found.withUnsafeMutableBytes({ file.read(at: 0, into: $0) }), found == header {
            Self.scan(file, shape, &state)
            guard ftruncate(descriptor, off_t(Self.headerSize + state.count * Self.entrySize)) == 0 else { return nil }
        } else {
            guard ftruncate(descriptor, 0) == 0, (try? header.withUnsafeBytes({ try file.append($0) })) != nil else { return nil }
        }
        self.state = Guarded(state)
    }

    private static func path(_ directory: String, _ backup: String) -> String { directory + "/" + backup + suffix }

    /// Removes what an attempt noted.
    static func remove(_ directory: String, backup: String) { unlink(path(directory, backup)) }

    private static func removeOld(_ directory: String) {
        guard let listing = opendir(directory) else { return }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            var info = stat()
            guard name.hasSuffix(suffix), stat(directory + "/" + name, &info) == 0, time(nil) - info.st_mtim.tv_sec > age else { continue }
            unlink(directory + "/" + name)
        }
    }

    private static func scan(_ file: OwnedFile, _ shape: ImageShape, _ state: inout State) {
        let total = Int(clamping: file.size) / entrySize
        while state.count < total {
            guard let entries = read(file, state.count..<min(total, state.count + 1024)) else { return }
            for entry in entries {
                guard entry.checksum == entry.sum, entry.segment < shape.segmentCount,
                    entry.chunk < shape.chunkCount(Int(entry.segment))
                else { return }
                note(entry, &state)
            }
            guard !entries.isEmpty else { return }
        }
    }

    private static func note(_ entry: Entry, _ state: inout State) {
        if let last = state.runs.last, last.segment == entry.segment {
            state.runs[state.runs.count - 1].range = last.range.lowerBound..<state.count + 1
        } else {
            state.runs.append((entry.segment, state.count..<state.count + 1))
        }
        state.count += 1
    }

    /// The entries as far as the file has them; nil if it cannot be read.
    private static func read(_ file: OwnedFile, _ range: Range<Int>) -> [Entry]? {
        let start = UInt64(headerSize + range.lowerBound * entrySize)
        let end = min(file.size, UInt64(headerSize + range.upperBound * entrySize))
        let count = end > start ? Int(end - start) / entrySize : 0
        var entries = [Entry](repeating: Entry(0, 0, .zero), count: count)
        return entries.withUnsafeMutableBytes { file.read(at: start, into: $0) } ? entries : nil
    }

    /// Says that a chunk was read.
    func note(_ chunk: Int, of segment: Int, _ id: Digest) {
        state.withLock { state in
            state.unwritten.append(Entry(segment, chunk, id))
            let isOld = Timestamp.monotonic() - state.writtenAt > Self.unwrittenSeconds
            if state.unwritten.count >= Self.unwrittenLimit || isOld { write(&state) }
        }
    }

    func flush() { state.withLock { write(&$0) } }

    private func write(_ state: inout State) {
        if !state.isBroken, (try? state.unwritten.withUnsafeBytes { try file.append($0) }) != nil {
            for entry in state.unwritten { Self.note(entry, &state) }
        } else {
            state.isBroken = true
        }
        state.unwritten.removeAll(keepingCapacity: true)
        state.writtenAt = Timestamp.monotonic()
    }

    /// The chunks of a segment that were read, with their ids.
    func chunks(of segment: Int) -> [Int: Digest] {
        state.withLock { state in
            write(&state)
            var found: [Int: Digest] = [:]
            for run in state.runs where run.segment == UInt32(segment) {
                for entry in Self.read(file, run.range) ?? [] where entry.checksum == entry.sum { found[Int(entry.chunk)] = entry.id }
            }
            return found
        }
    }

    /// The backup is made.
    func remove() { unlink(path) }
}
