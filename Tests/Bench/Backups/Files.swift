import Backups
import Glibc
import Primitives

/// A file as a volume that is backed up; where it changed since the parent is told by a list of ranges.
final class FileSource: BlockSource, @unchecked Sendable {
    private let file: Int32
    let size: UInt64
    private let changed: [Range<UInt64>]?

    /// - Parameter ranges: a file with an offset and a length in every line, ascending; nil if nothing is known.
    init(_ path: String, ranges: String?) throws {
        file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw SystemError.last("cannot open \(path)") }
        var info = stat()
        guard fstat(file, &info) == 0 else { throw SystemError.last("cannot look at \(path)") }
        size = UInt64(info.st_size)
        changed = try ranges.map { path in
            try text(of: path).split(separator: "\n").map { line in
                let words = line.split(separator: " ").compactMap { UInt64($0) }
                guard words.count == 2 else { throw UsageError("\(path): expected an offset and a length: \(line)") }
                return words[0]..<words[0] + words[1]
            }
        }
    }

    deinit { close(file) }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        var done = 0
        while done < buffer.count {
            let count = pread(file, buffer.baseAddress! + done, buffer.count - done, off_t(offset) + off_t(done))
            guard count > 0 else { throw SystemError.last("cannot read the image") }
            done += count
        }
    }

    func data(in range: Range<UInt64>) throws -> [Range<UInt64>] {
        // SEEK_DATA and SEEK_HOLE.
        let (seekData, seekHole): (Int32, Int32) = (3, 4)
        var found: [Range<UInt64>] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let start = lseek(file, off_t(position), seekData)
            guard start >= 0, UInt64(start) < range.upperBound else { break }
            let end = lseek(file, start, seekHole)
            guard end > start else { throw SystemError.last("cannot look for data in the image") }
            found.append((UInt64(start)..<UInt64(end)).clamped(to: range))
            position = UInt64(end)
        }
        return found
    }

    func changes(in range: Range<UInt64>) throws -> [Range<UInt64>]? {
        changed.map { $0.map { $0.clamped(to: range) }.filter { !$0.isEmpty } }
    }
}

/// A new file as a volume that is restored to.
final class FileTarget: BlockTarget, @unchecked Sendable {
    private let file: Int32
    let size: UInt64
    let isZero = true

    init(_ path: String, size: UInt64) throws {
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0, ftruncate(file, off_t(size)) == 0 else { throw SystemError.last("cannot make \(path)") }
        self.size = size
    }

    deinit { close(file) }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < bytes.count {
            let count = pwrite(file, bytes.baseAddress! + done, bytes.count - done, off_t(offset) + off_t(done))
            guard count > 0 else { throw SystemError.last("cannot write the target") }
            done += count
        }
    }

    func zero(_ range: Range<UInt64>) throws {}
    func flush() throws { guard fsync(file) == 0 else { throw SystemError.last("cannot write the target") } }
}

struct UsageError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

private func text(of path: String) throws -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw SystemError.last("cannot open \(path)") }
    defer { close(file) }
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = read(file, &piece, piece.count)
        guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
        bytes += piece[..<count]
    }
}
