import CLinux
import DriverHost
import Glibc
public import ImageFormats
public import Primitives
import Processes

/// How a new volume is prepared for hosts whose hypervisor decrypts what lies in it: by a LUKS header at its beginning, which the key opens.
public struct LUKSOrder: Sendable {
    private let cipher, mode, vector: String
    private let passphrase: Secret

    /// - Parameter passphrase: what opens the header.
    public init(_ format: LUKSFormat, passphrase: Secret) {
        (cipher, mode, vector) = (format.cipher, format.mode, format.vector)
        self.passphrase = passphrase
    }

    var value: DriverValue {
        .members([
            "cipher": .string(cipher), "mode": .string(mode), "vector": .string(vector), "passphrase": .secret(passphrase.reveal()),
        ])
    }

    init?(_ value: DriverValue) {
        guard let cipher = value["cipher"]?.string, let mode = value["mode"]?.string, let vector = value["vector"]?.string,
            let passphrase = value["passphrase"]?.string
        else { return nil }
        self.cipher = cipher
        self.mode = mode
        self.vector = vector
        self.passphrase = Secret(passphrase)
    }

    // MARK: the header

    /// Milliseconds that deriving a key from the passphrase takes. It has the key's own bits, which nobody guesses however fast.
    private static let derivation = 10
    /// Largest header in bytes that is believed.
    private static let largest = 16 << 20

    /// A new LUKS header as qemu-img makes it: all that lies before the content, whatever the volume's size. Nothing of it touches a disk, and
    /// the passphrase goes through a pipe.
    func makeHeader() throws -> [UInt8] {
        for _ in 1..<Self.attempts {
            if let header = try attempt().header { return header }
        }
        let (header, status) = try attempt()
        guard let header else { throw DriverFailure(.error, "qemu-img made no LUKS header: \(describe(exit: status))") }
        return header
    }

    /// qemu-img measures how fast the machine is, and gives up where it is too busy to tell.
    private static let attempts = 10

    /// The header, or with which status qemu-img ended without one.
    private func attempt() throws -> (header: [UInt8]?, status: Int32) {
        let image = clinker_memory_file("luks")
        guard image >= 0 else { throw DriverFailure(.error, "\(SystemError.last("no memory for a LUKS header"))") }
        defer { close(image) }
        let secret = try passphrasePipe()
        defer { close(secret) }
        let options =
            "key-secret=key,cipher-alg=\(cipher),cipher-mode=\(mode),ivgen-alg=\(vector),hash-alg=sha256,iter-time=\(Self.derivation)"
        var limits = QemuProgram.Limits()
        limits.fileBytes = UInt64(Self.largest)
        let status = reap(
            try QemuProgram(limits).start(
                ["create", "-q", "-f", "luks", "--object", "secret,id=key,file=/dev/fd/3", "-o", options, "/dev/fd/4", "0"],
                descriptors: [(source: secret, target: 3), (source: image, target: 4)]))
        guard status == 0 else { return (nil, status) }
        var info = stat()
        guard fstat(image, &info) == 0, info.st_size > 0, info.st_size <= Self.largest else {
            throw DriverFailure(.error, "qemu-img made a LUKS header of \(info.st_size) bytes")
        }
        var header = [UInt8](repeating: 0, count: Int(info.st_size))
        guard pread(image, &header, header.count, 0) == header.count, header.starts(with: Array("LUKS".utf8)) else {
            throw DriverFailure(.error, "qemu-img made no LUKS header")
        }
        return (header, status)
    }

    /// A pipe's end from which the passphrase is read.
    func passphrasePipe() throws -> Int32 {
        var pipe: [Int32] = [0, 0]
        guard pipe2(&pipe, O_CLOEXEC) == 0 else { throw DriverFailure(.error, "\(SystemError.last("no pipe for a passphrase"))") }
        let text = Array(passphrase.reveal().utf8)
        // It holds it all: the reader need not be there.
        let isSent = write(pipe[1], text, text.count) == text.count
        close(pipe[1])
        guard isSent else {
            close(pipe[0])
            throw DriverFailure(.error, "a passphrase could not be handed on")
        }
        return pipe[0]
    }

    /// Puts a new header at the beginning of what the handle is of.
    func prepare(_ handle: Driver.Handle) throws { try Self.put(try makeHeader(), on: handle) }

    /// Puts a header at the beginning of what the handle is of; the content lies behind it.
    static func put(_ header: [UInt8], on handle: Driver.Handle) throws {
        var header = header
        let alignment = Int(clamping: handle.alignment)
        if header.count % alignment != 0 { header += [UInt8](repeating: 0, count: alignment - header.count % alignment) }
        guard try handle.size > UInt64(header.count) else { throw DriverFailure(.invalid, "the volume has no room behind a LUKS header") }
        try header.withUnsafeBytes { try handle.write($0, at: 0) }
        try handle.flush()
    }
}
