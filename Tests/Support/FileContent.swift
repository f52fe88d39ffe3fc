import CLinux
import Glibc
import Primitives

/// What two files hold, byte for byte. Holes of both are not read: a volume of a gigabyte is mostly one.
public enum FileContent {
    /// Where the two differ, or nil. `length`: as much of them is compared, or all, and then their sizes must be the same.
    public static func difference(_ first: String, _ second: String, length: Int? = nil) throws -> String? {
        let files = try [first, second].map { path in
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { throw SystemError.last("cannot open \(path)") }
            return file
        }
        defer { files.forEach { close($0) } }
        let sizes = files.map { Int(lseek($0, 0, SEEK_END)) }
        if length == nil, sizes[0] != sizes[1] { return "\(first) has \(sizes[0]) bytes, \(second) has \(sizes[1])" }
        let end = length ?? sizes[0]
        if let short = sizes.first(where: { $0 < end }) { return "one of \(first) and \(second) has only \(short) bytes" }
        let pieces = [0, 1].map { _ in UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096) }
        defer { pieces.forEach { $0.deallocate() } }
        var offset = 0
        while let start = try files.compactMap({ try nextData(of: $0, from: offset) }).min(), start < end {
            let count = min(1 << 20, end - start)
            for (file, piece) in zip(files, pieces) {
                guard pread(file, piece.baseAddress!, count, off_t(start)) == count else { throw SystemError.last("cannot read") }
            }
            if memcmp(pieces[0].baseAddress!, pieces[1].baseAddress!, count) != 0 {
                let index = (0..<count).first { pieces[0][$0] != pieces[1][$0] } ?? 0
                return "\(first) and \(second) differ at byte \(start + index)"
            }
            offset = start + count
        }
        return nil
    }

    /// Where the next byte lies that is in no hole, or nil behind the last.
    private static func nextData(of file: Int32, from offset: Int) throws -> Int? {
        let place = lseek(file, off_t(offset), Int32(CLINKER_SEEK_DATA))
        if place >= 0 { return Int(place) }
        let code = errno
        guard code == ENXIO else { throw SystemError(code, "cannot look for data") }
        return nil
    }
}
