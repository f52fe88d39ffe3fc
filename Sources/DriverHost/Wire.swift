import Glibc
import Primitives
import Processes

/// A frame of the protocol between the core and a driver host, over a socket pair. Each frame has a length (4 bytes, little-endian, of
/// what follows), a kind (1 byte), the call's id (8 bytes) and a value.
///
///     core -> host   open {wire, plugin, options...}     host -> core   opened {name, version, ...} | failed {code, message}
///                    call {method, arguments}                           result {value} | failed {code, message}
///                    cancel                                             progress {done, total}, log {level, message}
///
/// When either end closes, the other one ends all calls.
package struct Frame: Sendable {
    /// Version of the protocol. Both ends are the same program, so a difference is an error.
    package static let version: Int64 = 1
    static let maximum = 16 << 20

    package enum Kind: UInt8, Sendable { case open = 1, opened, call, cancel, result, failed, progress, log }

    package let kind: Kind
    package let id: UInt64
    package let value: DriverValue

    package init(kind: Kind, id: UInt64, value: DriverValue) {
        self.kind = kind
        self.id = id
        self.value = value
    }
}

/// One end of the connection. Any thread may send; one thread receives.
package final class Wire: Sendable {
    private let descriptor: Int32
    private let sending = Guarded<Bool>(true)
    private let received = Guarded(ReceiveBuffer())

    /// Takes the descriptor over. It is closed in `deinit` only: descriptor numbers are reused, and a late sender must not write to another
    /// host's connection.
    package init(_ descriptor: Int32) { self.descriptor = descriptor }
    deinit { close(descriptor) }

    /// Shuts the connection down; both ends see its end.
    package func hangUp() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Shuts down when a child process ends, since programs that it forked may keep its end open. Frames sent before are still received.
    package func hangUp(atEndOf child: pid_t) {
        startThread("wire-\(child)") { [self] in
            awaitEnd(of: child)
            hangUp()
        }
    }

    /// - Returns: false if the other end is gone.
    @discardableResult
    package func send(_ frame: Frame) -> Bool {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(256)
        DriverValue.append(UInt32(0), to: &bytes)
        bytes.append(frame.kind.rawValue)
        DriverValue.append(frame.id, to: &bytes)
        frame.value.encode(into: &bytes)
        guard bytes.count - 4 <= Frame.maximum else {
            // A frame that is too large would end the connection and every call; a failure is sent instead.
            guard frame.kind == .result else { return false }
            let words = "an answer of \(bytes.count) bytes: at most \(Frame.maximum) are taken"
            return send(
                Frame(
                    kind: .failed, id: frame.id,
                    value: .members(["code": .integer(Int64(DriverFailure.Code.error.rawValue)), "message": .string(words)])))
        }
        let length = UInt32(bytes.count - 4)
        withUnsafeBytes(of: length.littleEndian) { for index in 0..<4 { bytes[index] = $0[index] } }
        return sending.withLock { open in
            guard open else { return false }
            var done = 0
            bytes.withUnsafeBytes { raw in
                while done < raw.count {
                    let count = Glibc.send(descriptor, raw.baseAddress! + done, raw.count - done, Int32(MSG_NOSIGNAL))
                    if count >= 0 {
                        done += count
                    } else if errno != EINTR {
                        open = false
                        return
                    }
                }
            }
            return open
        }
    }

    /// Waits for the next frame; nil when the other end is gone.
    ///
    /// - Throws: `WireError` for bytes that are not a frame.
    package func receive() throws -> Frame? {
        try received.withLock { received in
            guard received.fill(4, from: descriptor) else { return nil }
            let length = received.withBytes(4) { Int(UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self))) }
            guard length >= 9, length <= Frame.maximum else { throw WireError("a frame of \(length) bytes") }
            guard received.fill(4 + length, from: descriptor) else { return nil }
            defer { received.drop(4 + length) }
            return try received.withBytes(4 + length) { bytes in
                guard let kind = Frame.Kind(rawValue: bytes[4]) else { throw WireError("a frame of unknown kind \(bytes[4])") }
                let id = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 5, as: UInt64.self))
                return Frame(kind: kind, id: id, value: try DriverValue(decoding: UnsafeRawBufferPointer(rebasing: bytes[13...])))
            }
        }
    }
}

/// What was received and not yet taken: a frame mostly comes whole, by one call of the system.
private struct ReceiveBuffer {
    private static let usual = 4096
    private var memory = [UInt8](repeating: 0, count: usual)
    private var start = 0
    private var end = 0

    /// Receives until there are `count` bytes; false if the other end is gone before.
    mutating func fill(_ count: Int, from descriptor: Int32) -> Bool {
        if start + count > memory.count {
            var larger = [UInt8](repeating: 0, count: max(count, Self.usual))
            larger.replaceSubrange(0..<end - start, with: memory[start..<end])
            (memory, start, end) = (larger, 0, end - start)
        }
        while end - start < count {
            let got = memory.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + end, $0.count - end, 0) }
            if got > 0 { end += got } else if got == 0 || errno != EINTR { return false }
        }
        return true
    }

    /// The first `count` of the bytes.
    func withBytes<T>(_ count: Int, _ body: (UnsafeRawBufferPointer) throws -> T) rethrows -> T {
        try memory.withUnsafeBytes { try body(UnsafeRawBufferPointer(rebasing: $0[start..<start + count])) }
    }

    /// Takes them away.
    mutating func drop(_ count: Int) {
        start += count
        if start == end { (start, end) = (0, 0) }
        // The memory of a long frame is not kept.
        if start == end, memory.count > Self.usual { memory = [UInt8](repeating: 0, count: Self.usual) }
    }
}
