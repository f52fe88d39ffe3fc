import Glibc
import Processes
import TestSupport

@testable import Backups

/// Debian's restic on a repository's directory: the judge of what we write.
struct Restic {
    let directory: String
    var password = "secret"

    static let isInstalled = access("/usr/bin/restic", X_OK) == 0

    struct Result {
        var status: Int32
        var output: String
    }

    /// Runs restic to its end.
    func callAsFunction(_ arguments: String..., input: String? = nil, output: String? = nil) throws -> Result {
        let log = temporaryDirectory("restic") + "/log"
        let file = open(log, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        let out = output.map { open($0, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600) } ?? dup(file)
        let standardInput = open(input ?? "/dev/null", O_RDONLY | O_CLOEXEC)
        defer { for each in [file, out, standardInput] { close(each) } }
        let pid = try spawn(
            "/usr/bin/env",
            ["RESTIC_PASSWORD=" + password, "HOME=/tmp", "restic", "--no-cache", "-r", directory] + arguments,
            descriptors: [(source: standardInput, target: 0), (source: out, target: 1), (source: file, target: 2)])
        let status = reap(pid)
        return Result(status: status, output: String(decoding: try readFile(log), as: UTF8.self))
    }
}

/// A whole file.
func readFile(_ path: String) throws -> [UInt8] {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw StoreFailure.last("cannot open \(path)") }
    defer { close(file) }
    var info = stat()
    fstat(file, &info)
    let count = Int(info.st_size)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        while filled < count {
            let got = read(file, buffer.baseAddress! + filled, count - filled)
            guard got > 0 else { return }
            filled += got
        }
    }
}

/// Writes a whole file anew.
func writeFile(_ path: String, _ bytes: [UInt8]) {
    let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    _ = bytes.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
    close(file)
}
