import CLinux
import CMicroHTTPD  // Also declares the flags of send: under whole-module optimization they may be resolved through it.
import Glibc
import Primitives
import Synchronization

/// The sockets of streams, and the one thread that writes to all of them. libmicrohttpd keeps a buffer of 24 KiB per open connection; a
/// stream here costs its socket and less than a kilobyte.
final class StreamConnections: Sendable {
    /// Used by the thread alone, except `isDue`, which the list's lock protects.
    private final class Connection: @unchecked Sendable {
        let descriptor: Int32
        let address: String
        let isChunked: Bool
        /// What libmicrohttpd encrypts and sends; nil if the socket is written to.
        let pipe: LibraryPipe?
        /// nil once the connection is closed, which breaks the reference cycle between the stream and its wake-up closure.
        var stream: (any HTTPStream)?
        /// Bytes that the socket has not accepted yet.
        var rest: [UInt8] = []
        var isDue = true

        init(_ descriptor: Int32, _ stream: any HTTPStream, _ pipe: LibraryPipe?, address: String, isChunked: Bool) {
            self.descriptor = descriptor
            self.stream = stream
            self.address = address
            self.isChunked = isChunked
            self.pipe = pipe
        }
    }

    private struct State {
        var open: [Int32: Connection] = [:]
        /// Those of them that libmicrohttpd sends.
        var inLibrary = 0
        var perAddress: [String: Int] = [:]
        var due: [Connection] = []
        var isEnding = false
        var hasEnded = false
    }

    /// The number of pieces written to one connection before the next one has its turn.
    private static let turn = 16
    /// The number of searching streams served before those that have data have their turn.
    private static let searches = 4
    private static let pieceSize = 16 * 1024
    /// Space for a chunk's length in hexadecimal digits and its line end.
    private static let headSize = 10

    private let state = Guarded(State())
    private let poll: Poll
    private let ended = Semaphore()
    private let limit: Int
    private let limitPerAddress: Int
    private let sendTimeout: Int

    /// - Parameters:
    ///   - limit: the largest number of streams.
    ///   - limitPerAddress: the largest number from one address; 0 for no limit.
    ///   - sendTimeout: seconds after which a client that accepts no bytes is disconnected.
    init(limit: Int, limitPerAddress: Int, sendTimeout: Int) throws(SystemError) {
        self.limit = limit
        self.limitPerAddress = limitPerAddress
        self.sendTimeout = sendTimeout
        poll = try Poll("the streams could not be started")
        startThread("streams") { [self] in serve() }
    }

    /// The number of streams whose connections are not libmicrohttpd's any more.
    var count: Int { state.withLock { $0.open.count - $0.inLibrary } }

    /// Takes over a connected socket whose response head has been sent, and writes the stream's content to it until either ends.
    ///
    /// - Parameter pipe: takes the content instead of the socket, which is then only watched.
    /// - Returns: false if there are too many streams; then the caller keeps the descriptor and the stream.
    func take(_ descriptor: Int32, _ stream: any HTTPStream, through pipe: LibraryPipe? = nil, address: String, isChunked: Bool) -> Bool {
        var on: Int32 = 1
        var off: Int32 = 0
        var patience = UInt32(clamping: sendTimeout * 1000)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_CORK, &off, 4)
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &patience, 4)
        let connection = Connection(descriptor, stream, pipe, address: address, isChunked: isChunked)
        pipe?.onChange = { [self, weak connection] in if let connection { wake(connection) } }
        let events = (pipe == nil ? EPOLLOUT.rawValue : 0) | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        let isTaken = state.withLock { state in
            let alike = state.perAddress[address] ?? 0
            guard !state.isEnding, state.open.count < limit, limitPerAddress == 0 || alike < limitPerAddress else { return false }
            guard poll.add(descriptor, events) else { return false }
            state.open[descriptor] = connection
            if pipe != nil { state.inLibrary += 1 }
            state.perAddress[address] = alike + 1
            state.due.append(connection)
            return true
        }
        if isTaken { poll.ring() }
        return isTaken
    }

    /// Writes the remaining content of the streams, closes every connection and ends the thread.
    func stop() {
        state.withLock { $0.isEnding = true }
        poll.ring()
        ended.wait()
    }

    private func wake(_ connection: Connection) {
        let isFirst = state.withLock { state in
            guard !connection.isDue, !state.hasEnded else { return false }
            connection.isDue = true
            state.due.append(connection)
            return state.due.count == 1
        }
        if isFirst { poll.ring() }
    }

    private func serve() {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.headSize + Self.pieceSize + 2, alignment: 16)
        defer { buffer.deallocate() }
        var events = [epoll_event](repeating: epoll_event(), count: 256)
        // Searching streams have turns, a few between two rounds of the others.
        var searching: [Connection] = []
        while true {
            poll.wait(&events, looksOnly: !searching.isEmpty) { event in
                guard let connection = state.withLock({ $0.open[event.data.fd] }) else { return }
                if event.events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue) != 0 {
                    connection.pipe?.finish(isBroken: true)
                    end(connection)
                } else if !connection.rest.isEmpty {
                    wake(connection)
                }
            }
            let (due, isEnding) = state.withLock { state in
                for connection in state.due { connection.isDue = false }
                defer { state.due = [] }
                return (state.due, state.isEnding)
            }
            for connection in due where push(connection, buffer) { searching.append(connection) }
            if isEnding { break }
            let turn = searching.prefix(Self.searches)
            searching.removeFirst(turn.count)
            for connection in turn where push(connection, buffer) { searching.append(connection) }
        }
        let left = state.withLock { state in
            state.hasEnded = true
            state.due = []
            return Array(state.open.values)
        }
        for connection in left { end(connection) }
        ended.post()
    }

    /// Whether the stream is still searching.
    private func push(_ connection: Connection, _ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        for _ in 0..<Self.turn {
            guard let stream = connection.stream else { return false }
            if let pipe = connection.pipe, pipe.isEnded {
                end(connection)
                return false
            }
            if !connection.rest.isEmpty {
                let rest = connection.rest
                connection.rest = []
                guard rest.withUnsafeBytes({ send($0, connection) }) else { return false }
                continue
            }
            let piece = stream.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[Self.headSize..<(Self.headSize + Self.pieceSize)]),
                park: { { [self] in wake(connection) } })
            switch piece {
            case .bytes(let count):
                guard send(frame(buffer, count, connection.isChunked), connection) else { return false }
            case .later: return false
            case .searching: return true
            case .end:
                if connection.isChunked { _ = Array("0\r\n\r\n".utf8).withUnsafeBytes { send($0, connection) } }
                end(connection)
                return false
            }
        }
        wake(connection)
        return false
    }

    /// Adds chunk framing (RFC 9112, 7.1) to `count` bytes of content in the buffer.
    private func frame(_ buffer: UnsafeMutableRawBufferPointer, _ count: Int, _ isChunked: Bool) -> UnsafeRawBufferPointer {
        let content = Self.headSize..<(Self.headSize + count)
        guard isChunked else { return UnsafeRawBufferPointer(rebasing: buffer[content]) }
        let head = Array((String(count, radix: 16) + "\r\n").utf8)
        let start = Self.headSize - head.count
        UnsafeMutableRawBufferPointer(rebasing: buffer[start..<Self.headSize]).copyBytes(from: head)
        buffer[content.upperBound] = UInt8(ascii: "\r")
        buffer[content.upperBound + 1] = UInt8(ascii: "\n")
        return UnsafeRawBufferPointer(rebasing: buffer[start..<(content.upperBound + 2)])
    }

    /// Sends as much as the socket accepts and keeps the rest. Closes a broken connection. Returns true if everything was sent.
    private func send(_ bytes: UnsafeRawBufferPointer, _ connection: Connection) -> Bool {
        if let pipe = connection.pipe {
            if pipe.put(bytes) { return true }
            connection.rest = Array(bytes)
            return false
        }
        var sent = 0
        while sent < bytes.count {
            let count = Glibc.send(
                connection.descriptor, bytes.baseAddress! + sent, bytes.count - sent, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
            let code = errno
            if count > 0 {
                sent += count
            } else if code == EAGAIN {
                connection.rest = Array(bytes[sent...])
                return false
            } else if code != EINTR {
                end(connection)
                return false
            }
        }
        return true
    }

    private func end(_ connection: Connection) {
        guard let stream = connection.stream else { return }
        connection.stream = nil
        connection.rest = []
        state.withLock { state in
            state.open[connection.descriptor] = nil
            if connection.pipe != nil { state.inLibrary -= 1 }
            let alike = (state.perAddress[connection.address] ?? 1) - 1
            state.perAddress[connection.address] = alike > 0 ? alike : nil
        }
        // A duplicate's end does not end the interest in the socket, which libmicrohttpd keeps.
        if connection.pipe != nil { poll.remove(connection.descriptor) }
        connection.pipe?.finish(isBroken: false)
        close(connection.descriptor)
        stream.closed()
    }
}
