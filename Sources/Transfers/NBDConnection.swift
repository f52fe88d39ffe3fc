import CDriver
import DriverHost
import Glibc
import Primitives

/// One client of the server: the negotiation, and its requests.
extension NBDServer {
    // MARK: protocol constants

    private enum Flag {
        static let hasFlags: UInt16 = 1
        static let readOnly: UInt16 = 1 << 1
        static let sendFlush: UInt16 = 1 << 2
        static let sendForceAccess: UInt16 = 1 << 3
        static let sendTrim: UInt16 = 1 << 5
        static let sendWriteZeroes: UInt16 = 1 << 6
        static let canMultiConnect: UInt16 = 1 << 8
    }

    private enum Code: UInt32 {
        case exportName = 1, abort, list, startTLS = 5, info, go, structuredReply, listMetaContext, setMetaContext
    }

    private enum Command: UInt16 { case read = 0, write, disconnect, flush, trim, cache, writeZeroes, blockStatus }

    /// NBD's own error numbers, independent of the platform's errno.
    private enum Problem: UInt32 { case permission = 1, io = 5, invalid = 22, noSpace = 28, unsupported = 95 }

    private struct Broken: Error {}
    private static let mostBytes = 32 << 20
    /// The largest request, as announced to clients.
    private var announced: UInt32 { UInt32(min(Self.mostBytes, handle.maximumSize)) }
    /// The largest request that is served: clients that did not ask for the sizes send what many servers take.
    var largest: UInt32 { UInt32(handle is any SharedNBDDevice ? min(Self.mostBytes, handle.maximumSize) : Self.mostBytes) }
    private static let contextID: UInt32 = 1
    /// Bytes whose extents are requested from the driver at a time, whatever range the client asks for.
    private static let window = (bytes: UInt64(1 << 30), extents: 1 << 16)

    // MARK: one client

    struct Connection {
        let descriptor: Int32
        let server: NBDServer
        /// For what is read and written, once the client has negotiated.
        var buffer = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        var isStructured = false
        var hasContext = false
        /// On the monotonic clock: when a client that has not negotiated is hung up on.
        private var deadline: Double?
        /// The cached extents of the range that was read last.
        private var extents: [Driver.Handle.Extent] = []

        init(descriptor: Int32, server: NBDServer) {
            self.descriptor = descriptor
            self.server = server
        }

        private var flags: UInt16 {
            var flags = Flag.hasFlags | Flag.sendFlush | Flag.sendForceAccess
            flags |= server.isWritable ? Flag.sendTrim | Flag.sendWriteZeroes : Flag.readOnly
            if server.handle is any SharedNBDDevice { flags |= Flag.canMultiConnect }
            return flags
        }

        /// Negotiates; true if the client enters the transmission phase. Who does not know what he wants, or does not say it in time, holds nobody
        /// up.
        mutating func negotiate(within seconds: Double?) throws -> Bool {
            guard let seconds else { return try negotiate() }
            deadline = Timestamp.monotonic() + seconds
            setTimeout(SO_SNDTIMEO, seconds)
            guard try negotiate() else { return false }
            // From then on a client may be silent as long as it likes.
            deadline = nil
            for option in [SO_RCVTIMEO, SO_SNDTIMEO] { setTimeout(option, 0) }
            return true
        }

        private func setTimeout(_ option: Int32, _ seconds: Double) {
            let microseconds = Int(seconds * 1e6)
            var time = timeval(tv_sec: microseconds / 1_000_000, tv_usec: microseconds % 1_000_000)
            setsockopt(descriptor, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }

        private mutating func negotiate() throws -> Bool {
            // NBDMAGIC, IHAVEOPT, fixed newstyle and no zeroes
            try send(Message().put64(0x4e42_444d_4147_4943).put64(0x4948_4156_454F_5054).put16(3))
            let wanted = try receive(4).big32(0)
            guard wanted & ~3 == 0 else { throw Broken() }
            while true {
                let head = try receive(16)
                guard head.big64(0) == 0x4948_4156_454F_5054, head.big32(12) <= 65_536 else { throw Broken() }
                let (option, data) = (head.big32(8), try receive(Int(head.big32(12))))
                switch Code(rawValue: option) {
                case .exportName:
                    // This option has no answer that refuses.
                    guard isExport(data) else { throw Broken() }
                    try send(Message().put64(server.size).put16(flags).put(wanted & 2 != 0 ? [] : [UInt8](repeating: 0, count: 124)))
                    return true
                case .abort:
                    try reply(option, 1)
                    return false
                case .list where server.exportName != nil:
                    // Who does not know its name is not told.
                    try reply(option, 1 << 31 | 2)
                case .list:
                    try reply(option, 2, Message().put32(0).bytes)
                    try reply(option, 1)
                case .info, .go:
                    guard data.count >= 6, data.count >= 6 + Int(data.big32(0)) else {
                        try reply(option, 1 << 31 | 3)
                        continue
                    }
                    guard isExport(Array(data[4..<4 + Int(data.big32(0))])) else {
                        try reply(option, 1 << 31 | 6)
                        continue
                    }
                    let sizes = (UInt32(server.handle.alignment), UInt32(server.handle.preferredSize))
                    try reply(option, 3, Message().put16(0).put64(server.size).put16(flags).bytes)
                    try reply(option, 3, Message().put16(3).put32(sizes.0).put32(max(sizes.0, sizes.1)).put32(server.announced).bytes)
                    try reply(option, 1)
                    if option == Code.go.rawValue { return true }
                case .structuredReply:
                    isStructured = true
                    try reply(option, 1)
                case .listMetaContext, .setMetaContext:
                    try contexts(option, data)
                default: try reply(option, 1 << 31 | 1)
                }
            }
        }

        /// Whether a name is the export's.
        private func isExport(_ name: [UInt8]) -> Bool {
            guard let wanted = server.exportName.map({ Array($0.utf8) }) else { return true }
            // The time does not tell how much of it is right.
            guard wanted.count == name.count else { return false }
            return zip(wanted, name).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
        }

        private mutating func contexts(_ option: UInt32, _ data: [UInt8]) throws {
            guard data.count >= 8, data.count >= 8 + Int(data.big32(0)) else { return try reply(option, 1 << 31 | 3) }
            var position = 4 + Int(data.big32(0))
            let count = data.big32(position)
            position += 4
            var isAsked = count == 0 && option == Code.listMetaContext.rawValue
            for _ in 0..<min(count, 64) {
                guard data.count >= position + 4, data.count >= position + 4 + Int(data.big32(position)) else {
                    return try reply(option, 1 << 31 | 3)
                }
                let length = Int(data.big32(position))
                let name = String(decoding: data[(position + 4)..<(position + 4 + length)], as: UTF8.self)
                position += 4 + length
                if name == "base:allocation" || (name == "base:" && option == Code.listMetaContext.rawValue) { isAsked = true }
            }
            if isAsked { try reply(option, 4, Message().put32(NBDServer.contextID).put(Array("base:allocation".utf8)).bytes) }
            if option == Code.setMetaContext.rawValue { hasContext = isAsked && isStructured }
            try reply(option, 1)
        }

        private func reply(_ option: UInt32, _ kind: UInt32, _ data: [UInt8] = []) throws {
            try send(Message().put64(0x3_e889_0455_65a9).put32(option).put32(kind).put32(UInt32(data.count)).put(data))
        }

        mutating func transmit() throws {
            while true {
                let head = try receive(28)
                guard head.big32(0) == 0x2560_9513 else { throw Broken() }
                let (flags, cookie) = (head.big16(4), head.big64(8))
                let (offset, length) = (head.big64(16), head.big32(24))
                guard let command = Command(rawValue: head.big16(6)) else {
                    try answer(cookie, .invalid)
                    continue
                }
                if command == .disconnect { return }
                if command == .write {
                    guard length <= server.largest else { throw Broken() }
                    try receive(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(length)]))
                }
                let isWithin = offset <= server.size && UInt64(length) <= server.size - offset
                guard command == .flush || (isWithin && length > 0 && (command != .read || length <= server.largest)) else {
                    try answer(cookie, command == .write && !isWithin ? .noSpace : .invalid)
                    continue
                }
                // A client that asked for the sizes does not send this.
                let isAligned = offset % server.handle.alignment == 0 && UInt64(length) % server.handle.alignment == 0
                guard isAligned || ![.read, .write, .writeZeroes].contains(command) else {
                    try answer(cookie, .invalid)
                    continue
                }
                guard server.isWritable || ![.write, .trim, .writeZeroes].contains(command) else {
                    try answer(cookie, .permission)
                    continue
                }
                try perform(command, cookie, offset, length, isForced: flags & 1 != 0, isOne: flags & 8 != 0)
            }
        }

        private mutating func perform(
            _ command: Command, _ cookie: UInt64, _ offset: UInt64, _ length: UInt32, isForced: Bool, isOne: Bool
        ) throws {
            if [.write, .writeZeroes, .trim].contains(command) { extents = [] }
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(Int(length), buffer.count)])
            var status: [UInt8]?
            do {
                switch command {
                case .read: try server.handle.read(into: piece, at: offset)
                case .write: try server.handle.write(UnsafeRawBufferPointer(piece), at: offset)
                case .writeZeroes: try server.handle.zero(offset: offset, length: UInt64(length))
                case .flush: try server.handle.flush()
                case .blockStatus:
                    guard hasContext else { return try answer(cookie, .invalid) }
                    status = try allocation(offset, length, isOne: isOne)
                // Only a hint.
                case .trim, .cache, .disconnect: break
                }
                if isForced, command == .write || command == .writeZeroes { try server.handle.flush() }
            } catch let failure as DriverFailure {
                return try answer(cookie, failure.code == .noSpace ? .noSpace : failure.code == .invalid ? .invalid : .io)
            }
            if command == .read {
                // One chunk with its offset and all the data, the last of its reply.
                let head =
                    isStructured
                    ? Message().put32(0x668e_33ef).put16(1).put16(1).put64(cookie).put32(length + 8).put64(offset)
                    : Message().put32(0x6744_6698).put32(0).put64(cookie)
                try send(head)
                try send(UnsafeRawBufferPointer(piece))
            } else if let status {
                try send(Message().put32(0x668e_33ef).put16(1).put16(5).put64(cookie).put32(UInt32(status.count)).put(status))
            } else {
                try answer(cookie, nil)
            }
        }

        /// Loads the extents at the offset into the cache, so that a client that asks for one extent at a time does not cause a driver call
        /// each time.
        private mutating func look(at offset: UInt64) throws {
            if let first = extents.first, let last = extents.last, offset >= first.offset, offset < last.offset + last.length { return }
            extents = try server.handle.extents(
                offset: offset, length: min(NBDServer.window.bytes, server.size - offset), most: NBDServer.window.extents)
            // The search below needs extents that begin at the offset, in order and without gaps.
            var end = offset
            for extent in extents {
                guard extent.offset == end, extent.length > 0, extent.length <= server.size - end else {
                    extents = []
                    throw DriverFailure(.error, "the driver's extents have gaps")
                }
                end += extent.length
            }
            guard !extents.isEmpty else { throw DriverFailure(.error, "the driver has no extents at \(offset)") }
        }

        /// The index of the extent that contains the position.
        private func index(holding offset: UInt64) -> Int {
            var low = 0
            var high = extents.count - 1
            while low < high {
                let middle = (low + high + 1) / 2
                if extents[middle].offset <= offset { low = middle } else { high = middle - 1 }
            }
            return low
        }

        /// - Parameter isOne: whether the client accepts only one extent.
        private mutating func allocation(_ offset: UInt64, _ length: UInt32, isOne: Bool) throws -> [UInt8] {
            try look(at: offset)
            var index = self.index(holding: offset)
            var message = Message()
            message.add32(NBDServer.contextID)
            var position = offset
            repeat {
                let extent = extents[index]
                let end = min(extent.offset + extent.length, offset + UInt64(length))
                let isZero = extent.flags & UInt32(CLINKER_EXTENT_ZERO) != 0
                let isHole = extent.flags & UInt32(CLINKER_EXTENT_HOLE) != 0
                message.add32(UInt32(clamping: end - position))
                message.add32((isHole ? 1 : 0) | (isZero ? 2 : 0))
                position = end
                index += 1
            } while !isOne && index < extents.count && position < offset + UInt64(length)
            return message.bytes
        }

        /// - Parameter error: nil for success.
        private func answer(_ cookie: UInt64, _ problem: Problem?) throws {
            guard isStructured else { return try send(Message().put32(0x6744_6698).put32(problem?.rawValue ?? 0).put64(cookie)) }
            guard let problem else { return try send(Message().put32(0x668e_33ef).put16(1).put16(0).put64(cookie).put32(0)) }
            try send(Message().put32(0x668e_33ef).put16(1).put16(1 << 15 | 1).put64(cookie).put32(6).put32(problem.rawValue).put16(0))
        }

        // MARK: bytes

        private func receive(_ count: Int) throws -> [UInt8] {
            var bytes = [UInt8](repeating: 0, count: count)
            try bytes.withUnsafeMutableBytes { try receive(into: $0) }
            return bytes
        }

        private func receive(into buffer: UnsafeMutableRawBufferPointer) throws {
            var done = 0
            while done < buffer.count {
                if let deadline {
                    let left = deadline - Timestamp.monotonic()
                    guard left >= 0.001 else { throw Broken() }
                    setTimeout(SO_RCVTIMEO, left)
                }
                let count = recv(descriptor, buffer.baseAddress! + done, buffer.count - done, 0)
                if count > 0 { done += count } else if count == 0 || errno != EINTR { throw Broken() }
            }
        }

        private func send(_ message: Message) throws { try message.bytes.withUnsafeBytes { try send($0) } }

        private func send(_ buffer: UnsafeRawBufferPointer) throws {
            var done = 0
            while done < buffer.count {
                let count = Glibc.send(descriptor, buffer.baseAddress! + done, buffer.count - done, Int32(MSG_NOSIGNAL))
                if count >= 0 { done += count } else if errno != EINTR { throw Broken() }
            }
        }
    }

    /// Big-endian bytes.
    private struct Message {
        var bytes: [UInt8] = []
        mutating func add32(_ value: UInt32) { withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) } }
        func put(_ more: [UInt8]) -> Message { Message(bytes: bytes + more) }
        func put16(_ value: UInt16) -> Message { put([UInt8(value >> 8), UInt8(value & 0xFF)]) }
        func put32(_ value: UInt32) -> Message { put16(UInt16(value >> 16)).put16(UInt16(value & 0xFFFF)) }
        func put64(_ value: UInt64) -> Message { put32(UInt32(value >> 32)).put32(UInt32(value & 0xFFFF_FFFF)) }
    }
}

extension [UInt8] {
    fileprivate func big16(_ offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }
    fileprivate func big32(_ offset: Int) -> UInt32 { UInt32(big16(offset)) << 16 | UInt32(big16(offset + 2)) }
    fileprivate func big64(_ offset: Int) -> UInt64 { UInt64(big32(offset)) << 32 | UInt64(big32(offset + 4)) }
}
