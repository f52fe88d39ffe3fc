import CLinux
import DriverHost
import Glibc
import ImageFormats
import Primitives

/// A file without a name in the directory for conversions: however its process ends, nothing of it is left.
final class ConversionFile: ImageFile, Sendable {
    let descriptor: Int32
    private let directory: String

    /// - Parameter bytes: that will be needed, as far as it is known.
    init(in directory: String, bytes: UInt64) throws {
        self.directory = directory
        mkdir(directory, 0o700)
        let made = open(directory, O_RDWR | O_CLOEXEC | Self.unnamed, 0o600)
        descriptor = made >= 0 ? made : try Self.named(directory)
        var room = statvfs()
        if fstatvfs(descriptor, &room) == 0, UInt64(room.f_bavail) * UInt64(room.f_frsize) < bytes {
            throw DriverFailure(
                .noSpace,
                "image_conversion_dir (\(directory)) has \(UInt64(room.f_bavail) * UInt64(room.f_frsize)) bytes left, and \(bytes) are needed"
            )
        }
    }

    /// O_TMPFILE, which Swift's Glibc module does not show.
    private static let unnamed: Int32 = 0o20_000_000 | O_DIRECTORY

    /// Where the filesystem knows no files without names: its name is gone at once.
    private static func named(_ directory: String) throws -> Int32 {
        let path = directory + "/clinker-" + UUID.random()
        let made = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard made >= 0 else {
            let failure = SystemError.last("cannot make a file in image_conversion_dir (\(directory))")
            throw DriverFailure(failure.code == ENOSPC ? .noSpace : .badConfiguration, "\(failure)")
        }
        unlink(path)
        return made
    }

    deinit { close(descriptor) }

    /// What a process calls it that gets the descriptor under a number.
    static func path(ofDescriptor number: Int32) -> String { "/proc/self/fd/\(number)" }

    var size: UInt64 {
        var info = stat()
        return fstat(descriptor, &info) == 0 ? UInt64(clamping: info.st_size) : 0
    }

    func read(_ count: Int, at offset: UInt64) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = try bytes.withUnsafeMutableBytes { try read(into: $0, at: offset) }
        return Array(bytes.prefix(got))
    }

    /// How many bytes there are; fewer than asked for only at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
        var done = 0
        while done < buffer.count {
            guard let place = Int(exactly: offset), let base = buffer.baseAddress else { break }
            let count = pread(descriptor, base + done, buffer.count - done, off_t(place + done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw failure("cannot read") }
            if count == 0 { break }
            done += count
        }
        return done
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = pwrite(descriptor, base + done, bytes.count - done, off_t(clamping: offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw failure("cannot write") }
            done += count
        }
    }

    private func failure(_ what: String) -> DriverFailure {
        let failure = SystemError.last("\(what) a file in image_conversion_dir (\(directory))")
        return DriverFailure([ENOSPC, EDQUOT, EFBIG].contains(failure.code) ? .noSpace : .error, "\(failure)")
    }
}
