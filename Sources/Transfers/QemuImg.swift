import CLinux
import DriverHost
import Glibc
import ImageFormats
import Primitives
import Processes

/// Runs qemu-img on one file and one volume. It opens nothing that we did not give it: the file is a descriptor, the volume an NBD socket,
/// both drivers are named, and nothing is probed or taken as backing. It has limits of memory, CPU time and file size, an empty
/// environment, and ends with the thread that started it. It stays in the transfer's process group, with which it is killed and awaited.
struct QemuImg {
    let order: ImageOrder
    let report: ImageReport
    var pace = TransferPace(bytesPerSecond: 0)
    /// Bytes that were done before, and that there are in all.
    var done: UInt64 = 0
    var total: UInt64 = 0
    /// What the programs run under: a tracer of tests.
    var tracer: [String] = []

    /// The numbers that the child has them under.
    private static let fileNumber: Int32 = 3
    private static let socketNumber: Int32 = 4
    private static let secretNumber: Int32 = 5
    private static let device = "file.driver=nbd,file.server.type=fd,file.server.str=\(socketNumber)"
    private static let volume = "driver=raw,\(device)"

    /// Bytes of a volume whose encryption may take a second of processor time: slow machines do several times as many.
    private static let encryptedBytes = 16 << 20

    /// Seconds of processor time: those for the conversion, and behind them those that encrypting takes, which depends on the volume's size
    /// alone, as for an image that is raw and not converted at all; 0 for no limit.
    private func seconds(isEncrypted: Bool) -> Int {
        guard isEncrypted, order.conversionSeconds > 0 else { return order.conversionSeconds }
        return order.conversionSeconds + order.volumeBytes / Self.encryptedBytes + 1
    }

    /// Writes the disk of an image into a volume: into what its LUKS header encrypts, where the order says so.
    func convert(_ file: ConversionFile, _ format: ImageFormat, into handle: Driver.Handle) throws {
        guard let driver = format.driver ?? (format.isPlain ? "raw" : nil) else {
            throw DriverFailure(.invalid, "images of format \(format.rawValue) are not converted")
        }
        // No other option or protocol can be in it: all words are ours.
        let backing = driver == "qcow2" ? #""backing":null,"# : ""
        let source =
            #"json:{"driver":"\#(driver)",\#(backing)"read-only":true,"file":{"driver":"file","filename":"\#(ConversionFile.path(ofDescriptor: Self.fileNumber))","read-only":true}}"#
        let words = ["convert", "-n", "-W", "-m", "8"]
        guard let luks = order.encryption else {
            return try run(
                words + (order.targetIsZero ? ["--target-is-zero"] : []) + ["--target-image-opts", source, Self.volume], file, handle,
                isWritable: true, fileBytes: 0)
        }
        let secret = try luks.passphrasePipe()
        defer { close(secret) }
        // Zeroes are written, too: what nobody wrote reads as anything.
        try run(
            words + [
                "--object", "secret,id=key,file=/dev/fd/\(Self.secretNumber)", "--target-image-opts", source,
                "driver=luks,key-secret=key,\(Self.device)",
            ], file, handle, secret: secret, isWritable: true, fileBytes: 0)
    }

    /// Writes a volume's bytes into a file of a format.
    func produce(_ format: ImageFormat, in file: ConversionFile, from handle: Driver.Handle) throws {
        guard let driver = format.driver else { throw DriverFailure(.invalid, "images of format \(format.rawValue) are not made") }
        // Otherwise the size is rounded up to a geometry.
        let options = format == .vhd ? ["-o", "force_size=on"] : []
        let size = try handle.size
        try run(
            ["convert", "-W", "-m", "8", "-O", driver] + options
                + ["--image-opts", Self.volume, ConversionFile.path(ofDescriptor: Self.fileNumber)], file, handle, isWritable: false,
            fileBytes: size + size / 4 + (64 << 20))
    }

    private func run(
        _ arguments: [String], _ file: ConversionFile, _ handle: Driver.Handle, secret: Int32? = nil, isWritable: Bool, fileBytes: UInt64
    ) throws {
        let seconds = seconds(isEncrypted: secret != nil)
        let device = WatchedDevice(handle, pace)
        let server = try NBDServer(device: device, writable: isWritable)
        let (mine, theirs) = try socketPair()
        var errors: [Int32] = [0, 0]
        guard pipe2(&errors, O_CLOEXEC) == 0 else {
            let failure = SystemError.last("cannot make a pipe")
            close(mine)
            close(theirs)
            throw DriverFailure(.retry, "\(failure)")
        }
        let pid: pid_t
        do {
            defer {
                close(theirs)
                close(errors[1])
            }
            var program = QemuProgram(.init(addressSpace: order.conversionAddressSpace, seconds: seconds, fileBytes: fileBytes))
            program.tracer = tracer
            pid = try program.start(
                arguments,
                descriptors: [(source: file.descriptor, target: Self.fileNumber), (source: theirs, target: Self.socketNumber)]
                    + (secret.map { [(source: $0, target: Self.secretNumber)] } ?? []),
                errors: errors[1])
        } catch {
            close(mine)
            close(errors[0])
            throw error
        }
        let lines = Guarded("")
        let isSilent = Guarded(false)
        let ended = Semaphore()
        let reader = errors[0]
        startThread("qemu-errors") {
            lines.withLock { $0 = Self.text(of: reader) }
            close(reader)
            ended.post()
        }
        let isOver = Semaphore()
        startThread("qemu-watch") { [self] in
            watch(pid, device, isOver, isSilent)
            ended.post()
        }
        // It begins when the machine lets it: what gets nowhere `watch` ends.
        server.serve(client: mine, isOurs: true)
        close(mine)
        // Without reaping it: its number stays its own while the other thread may kill it.
        awaitEnd(of: pid)
        isOver.post()
        ended.wait()
        ended.wait()
        let status = reap(pid)
        if let failure = device.failure { throw failure }
        guard status != 0 else { return }
        if isSilent.withLock({ $0 }) { throw DriverFailure(.retry, "qemu-img got nowhere for \(order.timeout) seconds, and was killed") }
        throw failure(status, lines.withLock { $0 }, seconds: seconds, isWritable: isWritable)
    }

    /// Tells the core that the work lives, and kills what gets nowhere. A driver that hangs is the core's to find.
    private func watch(_ pid: pid_t, _ device: WatchedDevice, _ isOver: Primitives.Semaphore, _ isSilent: Guarded<Bool>) {
        while !isOver.wait(seconds: 0.05) {
            let state = device.state.withLock { $0 }
            if state.isInCall { continue }
            report.progress(done + state.bytes, of: total)
            report.life()
            // What it wrote is put on stable storage in the end, which takes its time without a request.
            let patience = Double(order.timeout) * (state.bytes > 0 ? 10 : 1)
            guard Timestamp.monotonic() - state.lastAt > patience else { continue }
            isSilent.withLock { $0 = true }
            kill(pid, SIGKILL)
            return
        }
    }

    private func failure(_ status: Int32, _ lines: String, seconds: Int, isWritable: Bool) -> DriverFailure {
        let signal = status & 0x7F
        if signal == SIGKILL { return DriverFailure(.retry, "qemu-img was killed") }
        if signal == SIGXCPU {
            return DriverFailure(
                .invalid, "the conversion took more than \(seconds) seconds of CPU time (image_conversion_cpu_limit)")
        }
        if lines.contains("Cannot allocate memory") || lines.contains("failed to allocate") || signal == SIGABRT || signal == SIGTRAP {
            return DriverFailure(
                .invalid,
                "the conversion needs more than \(order.conversionAddressSpace) bytes of memory (image_conversion_address_space_limit)")
        }
        if lines.contains("No space left on device") {
            return DriverFailure(.noSpace, "image_conversion_dir (\(order.conversionDirectory)) is full")
        }
        let words = lines.isEmpty ? describe(exit: status) : lines
        return DriverFailure(isWritable ? .invalid : .error, "qemu-img cannot convert the image: \(words)")
    }

    /// The first bytes of what comes; the rest is read, too, so that nobody waits.
    private static func text(of descriptor: Int32) -> String {
        var kept: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            kept += buffer.prefix(min(count, max(0, 2000 - kept.count)))
        }
        let text = String(decoding: kept, as: UTF8.self).split(whereSeparator: \.isNewline).joined(separator: "; ")
        // Not its own word for the file.
        return text.replacingPath(ConversionFile.path(ofDescriptor: fileNumber), with: "the image")
    }
}

extension String {
    fileprivate func replacingPath(_ path: String, with words: String) -> String {
        var result = ""
        var rest = Substring(self)
        while let range = rest.firstRange(of: path) {
            result += rest[..<range.lowerBound] + words
            rest = rest[range.upperBound...]
        }
        return result + rest
    }
}

/// A volume that qemu-img uses: what happened last, and what failed first.
private final class WatchedDevice: NBDDevice, @unchecked Sendable {
    struct State {
        var lastAt = Timestamp.monotonic()
        var isInCall = false
        var bytes: UInt64 = 0
        var failure: DriverFailure?
    }
    let state = Guarded(State())
    private let handle: Driver.Handle
    private let pace: TransferPace

    init(_ handle: Driver.Handle, _ pace: TransferPace) {
        self.handle = handle
        self.pace = pace
    }

    var failure: DriverFailure? { state.withLock { $0.failure } }

    private func call<T>(_ bytes: UInt64, isPaced: Bool = true, _ body: () throws -> T) throws -> T {
        state.withLock { $0.isInCall = true }
        defer {
            state.withLock {
                $0.isInCall = false
                $0.lastAt = Timestamp.monotonic()
                $0.bytes += bytes
            }
            // That it waits here is no silence of qemu-img's.
            if isPaced { pace.pass(bytes) { state.withLock { $0.lastAt = Timestamp.monotonic() } } }
        }
        do { return try body() } catch {
            let failure = error as? DriverFailure ?? DriverFailure(.error, "\(error)")
            state.withLock { if $0.failure == nil { $0.failure = failure } }
            throw failure
        }
    }

    var size: UInt64 { get throws { try handle.size } }
    var alignment: UInt64 { handle.alignment }
    var preferredSize: Int { handle.preferredSize }
    var maximumSize: Int { handle.maximumSize }
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try call(UInt64(buffer.count)) { try handle.read(into: buffer, at: offset) }
    }
    func write(_ buffer: UnsafeRawBufferPointer, at offset: UInt64) throws {
        try call(UInt64(buffer.count)) { try handle.write(buffer, at: offset) }
    }
    func zero(offset: UInt64, length: UInt64) throws {
        try call(length, isPaced: false) { try handle.zero(offset: offset, length: length) }
    }
    func flush() throws { try call(0) { try handle.flush() } }
    func extents(offset: UInt64, length: UInt64, most: Int) throws -> [Driver.Handle.Extent] {
        try call(0) { try handle.extents(offset: offset, length: length, most: most) }
    }
}
