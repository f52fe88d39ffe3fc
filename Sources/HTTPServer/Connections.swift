import CMicroHTTPD
import Glibc
import Primitives
import Synchronization

/// The open connections of a server with the phase of each and its start. libmicrohttpd's own time-out restarts with every byte; the
/// limits here do not, so that a client that sends single bytes cannot keep a connection open forever.
final class Connections: Sendable {
    enum Phase: Int { case fresh, receiving, answering, idle, handshaking }

    /// Why the server closed a connection.
    enum Reason: String, CaseIterable { case slow, idle, crowded, handshake }

    final class Connection: @unchecked Sendable {
        fileprivate let descriptor: Int32
        /// The phase in the three lowest bits, and above them the start in milliseconds of the monotonic clock: one store changes both.
        private let state: Atomic<Int>
        private let isRefused = Atomic<Bool>(false)
        /// Lists of the last request's headers and of its response's: the next one's take over their memory. Used by the thread that serves
        /// the connection alone.
        @exclusivity(unchecked) private var lastHeaders: [RequestHead.Header] = []
        @exclusivity(unchecked) private var lastResponseHeaders: [(name: String, value: String)] = []

        /// What its TLS session was set up with; nil without TLS. Used by the thread that serves the connection alone, as the next one.
        @exclusivity(unchecked) var credentials: TLSCredentials?
        /// The client's address until the handshake has ended.
        @exclusivity(unchecked) var handshake: HandshakeLimit.Address?

        /// Receives that address when it has.
        @exclusivity(unchecked) var onHandshake: (@Sendable (HandshakeLimit.Address) -> Void)?

        /// The handshake is over, one way or the other.
        func finishHandshake() {
            guard let address = handshake else { return }
            handshake = nil
            onHandshake?(address)
            onHandshake = nil
            enter(.fresh, at: Timestamp.monotonic())
        }

        fileprivate init(descriptor: Int32, phase: Phase) {
            self.descriptor = descriptor
            state = Atomic(Self.pack(phase, Timestamp.monotonic()))
        }

        private static func pack(_ phase: Phase, _ now: Double) -> Int { Int(now * 1000) << 3 | phase.rawValue }

        /// Its last request is answered before all of it was read, and the connection closed: the client may still be sending.
        func refuse() { isRefused.store(true, ordering: .relaxed) }
        var mayStillReceive: Bool { isRefused.load(ordering: .relaxed) }

        /// The exchange of the last request, for the next one. Used by the same thread alone.
        @exclusivity(unchecked) private var lastExchange: Exchange?

        func keep(_ exchange: Exchange, headers: [RequestHead.Header]) {
            lastExchange = exchange
            lastHeaders = headers
        }

        /// nil if there is none that nobody else uses.
        func takeExchange() -> Exchange? {
            defer { lastExchange = nil }
            return isKnownUniquelyReferenced(&lastExchange) ? lastExchange : nil
        }

        func keep(responseHeaders: [(name: String, value: String)]) { lastResponseHeaders = responseHeaders }

        func takeResponseHeaders() -> [(name: String, value: String)] {
            // Only now: the response that they were of is gone, so that the memory is this list's alone.
            lastResponseHeaders.removeAll(keepingCapacity: true)
            defer { lastResponseHeaders = [] }
            return lastResponseHeaders
        }

        func takeHeaders() -> [RequestHead.Header] {
            defer { lastHeaders = [] }
            return lastHeaders
        }

        func enter(_ phase: Phase, at now: Double) { state.store(Self.pack(phase, now), ordering: .relaxed) }

        fileprivate var now: (phase: Phase, since: Double) {
            let packed = state.load(ordering: .relaxed)
            return (Phase(rawValue: packed & 7) ?? .idle, Double(packed >> 3) / 1000)
        }
    }

    private let open = Guarded<[ObjectIdentifier: Connection]>([:])
    private let closed = Guarded<[Reason: Int]>([:])
    private let limit: Int
    private let requestTimeout: Double
    private let idleTimeout: Double
    private let handshakeTimeout: Double

    init(limit: Int, requestTimeout: Int, idleTimeout: Int, handshakeTimeout: Int) {
        self.limit = limit
        self.requestTimeout = Double(requestTimeout)
        self.idleTimeout = Double(idleTimeout)
        self.handshakeTimeout = Double(handshakeTimeout)
    }

    var count: Int { open.withLock { $0.count } }
    /// The number of connections whose client has closed its end while its request is being answered.
    var abandoned: Int {
        open.withLock { open in open.values.count { $0.now.phase == .answering && Peer.hasClosed($0.descriptor) } }
    }
    var closedEarly: [Reason: Int] { closed.withLock { $0 } }

    /// The record that was kept for a connection of libmicrohttpd.
    static func record(of connection: OpaquePointer) -> Connection? {
        clinker_connection_context(connection).map { Unmanaged<Connection>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Adds a connection; the caller keeps it until `remove`.
    func add(descriptor: Int32, phase: Phase = .fresh) -> Connection {
        let connection = Connection(descriptor: descriptor, phase: phase)
        open.withLock { $0[ObjectIdentifier(connection)] = connection }
        return connection
    }

    /// Must be called before the descriptor is closed; the lock keeps other threads from using it.
    func remove(_ connection: Connection) { open.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(connection)) } }

    /// Closes connections whose time is over and, when the limit is nearly reached, idle ones, the longest idle first.
    ///
    /// - Parameter others: the number of connections that are not in this list but count towards the limit.
    func sweep(besides others: Int, at now: Double = Timestamp.monotonic()) {
        open.withLock { open in
            var ended: [Reason: Int] = [:]
            var idle: [(since: Double, connection: Connection)] = []
            for connection in open.values {
                let (phase, since) = connection.now
                let age = now - since
                switch phase {
                case .fresh, .receiving:
                    if age > requestTimeout {
                        Self.end(connection, .slow, &ended)
                    } else if phase == .fresh {
                        idle.append((since, connection))
                    }
                case .idle:
                    if age > idleTimeout { Self.end(connection, .idle, &ended) } else { idle.append((since, connection)) }
                case .handshaking:
                    if age > handshakeTimeout { Self.end(connection, .handshake, &ended) } else { idle.append((since, connection)) }
                case .answering: break
                }
            }
            let count = open.count + others
            if count * 10 > limit * 9 {
                idle.sort { $0.since < $1.since }
                for (_, connection) in idle.prefix(max(0, count - limit * 8 / 10)) { Self.end(connection, .crowded, &ended) }
            }
            if !ended.isEmpty { closed.withLock { $0.merge(ended) { $0 + $1 } } }
        }
    }

    /// shutdown, not close: libmicrohttpd owns the descriptor, sees the end of the stream and closes it.
    private static func end(_ connection: Connection, _ reason: Reason, _ ended: inout [Reason: Int]) {
        shutdown(connection.descriptor, Int32(SHUT_RDWR))
        ended[reason, default: 0] += 1
    }
}
