import Glibc
import Primitives

/// A file without a name that keeps bytes whose number is not known yet.
final class Spool {
    private let file: Int32
    private var size = 0

    init(in directory: String) throws(DriverFailure) {
        var template = Array("\(directory)/spool-XXXXXX".utf8CString)
        file = mkstemp(&template)
        guard file >= 0 else { throw Self.failure("cannot make a file in \(directory)") }
        _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        unlink(template)
    }

    deinit { close(file) }

    func append(_ bytes: UnsafeRawBufferPointer) throws(DriverFailure) {
        var done = 0
        while done < bytes.count {
            let count = write(file, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.failure("cannot keep \(bytes.count) bytes")
            }
            done += count
        }
        size += bytes.count
    }

    /// Lends everything that was appended.
    func withBytes(_ body: (UnsafeRawBufferPointer) throws(DriverFailure) -> Void) throws(DriverFailure) {
        guard size > 0 else { return try body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        guard let memory = mmap(nil, size, PROT_READ, MAP_SHARED, file, 0), memory != MAP_FAILED else {
            throw Self.failure("cannot map \(size) bytes")
        }
        defer { munmap(memory, size) }
        try body(UnsafeRawBufferPointer(start: memory, count: size))
    }

    private static func failure(_ what: String) -> DriverFailure {
        let code = errno
        return DriverFailure(code == ENOSPC || code == EDQUOT ? .noSpace : .error, SystemError(code, what).description)
    }
}
