import CRabbitMQ
import Glibc
import Primitives

/// One connection to one broker. It belongs to one thread, which it may block.
final class BrokerConnection {
    enum Event {
        case nothing, other
        case confirmed(tag: UInt64, multiple: Bool)
        case nacked(tag: UInt64, multiple: Bool)
        case returned(id: String, reason: String)
        case blocked(String), unblocked
        case failed(BrokerFailure)
    }

    let name: String
    private let connection: OpaquePointer
    private let settings: BrokerSettings
    private var declaredExchange = false
    private var queues: Set<String> = []
    private var nextTag: UInt64 = 1
    /// What was declared by somebody else in another way, and is used as it is.
    private(set) var foreign: [String] = []

    init(_ host: TransportURL.Host, _ settings: BrokerSettings) throws(BrokerFailure) {
        self.settings = settings
        let port = host.port ?? (settings.tls == nil ? 5672 : 5671)
        name = host.name.utf8.contains(UInt8(ascii: ":")) ? "[\(host.name)]:\(port)" : "\(host.name):\(port)"
        guard let connection = amqp_new_connection() else { throw BrokerFailure(.unreachable, "\(name): out of memory") }
        self.connection = connection
        // From here on `deinit` frees it, whether this succeeds or not.
        try open(host, port)
    }

    deinit { amqp_destroy_connection(connection) }

    private func open(_ host: TransportURL.Host, _ port: Int) throws(BrokerFailure) {
        var patience = Self.interval(settings.connectPatience)
        amqp_set_handshake_timeout(connection, &patience)
        amqp_set_rpc_timeout(connection, &patience)
        let socket: OpaquePointer?
        if let tls = settings.tls {
            socket = amqp_ssl_socket_new(connection)
            if let socket { try secure(socket, tls) }
        } else {
            socket = amqp_tcp_socket_new(connection)
        }
        guard let socket else { throw BrokerFailure(.unreachable, "\(name): no socket can be made") }
        let status = amqp_socket_open_noblock(socket, host.name, Int32(port), &patience)
        guard status == 0 else {
            let isCertificate = [AMQP_STATUS_SSL_PEER_VERIFY_FAILED.rawValue, AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED.rawValue]
                .contains(status)
            let hint = isCertificate ? " (authorities: \(settings.tls?.authorities ?? "none"), [oslo_messaging_rabbit] ssl_ca_file)" : ""
            throw BrokerFailure(isCertificate ? .refused : .unreachable, "\(name): \(Self.words(status))\(hint)")
        }
        let reply = clinker_amqp_login(
            connection, settings.url.virtualHost, Int32(clamping: settings.heartbeat), settings.login == .external ? 1 : 0,
            host.user ?? "guest", host.password?.reveal() ?? "guest", settings.connectionName)
        try check(reply, .refused, "login as \(host.user ?? "guest") to virtual host \(settings.url.virtualHost)")
        try openChannel()
    }

    private func secure(_ socket: OpaquePointer, _ tls: BrokerSettings.TLS) throws(BrokerFailure) {
        guard amqp_ssl_socket_set_cacert(socket, tls.authorities) == 0 else {
            throw BrokerFailure(.refused, "\(name): the authorities in \(tls.authorities) cannot be read")
        }
        if let certificate = tls.certificate {
            guard amqp_ssl_socket_set_key(socket, certificate, tls.key ?? certificate) == 0 else {
                throw BrokerFailure(.refused, "\(name): the certificate \(certificate) or its key cannot be read")
            }
        }
        amqp_ssl_socket_set_verify_peer(socket, 1)
        amqp_ssl_socket_set_verify_hostname(socket, tls.checksName ? 1 : 0)
        _ = amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST)
    }

    private func openChannel() throws(BrokerFailure) {
        amqp_channel_open(connection, 1)
        try check(amqp_get_rpc_reply(connection), .refused, "channel")
        amqp_confirm_select(connection, 1)
        try check(amqp_get_rpc_reply(connection), .refused, "confirms")
        nextTag = 1
    }

    // MARK: declaring

    /// Makes sure that the exchange is there, and the queue that oslo's notifiers declare too: what is sent before anybody listens
    /// waits in it.
    func declare(queue: String) throws(BrokerFailure) {
        guard !queues.contains(queue) else { return }
        let durable: Int32 = settings.isDurable || settings.quorum != nil ? 1 : 0
        let autoDelete: Int32 = settings.deletesUnused ? 1 : 0
        if !declaredExchange {
            try declareOrUse("exchange \(settings.exchange)") { passive in
                clinker_amqp_declare_exchange(connection, settings.exchange, passive ? 1 : 0, durable, autoDelete)
            }
            declaredExchange = true
        }
        try declareOrUse("queue \(queue)") { passive in
            var how = clinker_amqp_queue()
            how.passive = passive ? 1 : 0
            how.durable = durable
            how.auto_delete = autoDelete
            how.mirrored = settings.isMirrored ? 1 : 0
            if let quorum = settings.quorum {
                how.quorum = 1
                how.delivery_limit = Int32(clamping: quorum.deliveryLimit)
                how.memory_length = Int32(clamping: quorum.memoryLength)
                how.memory_bytes = Int32(clamping: quorum.memoryBytes)
            }
            return clinker_amqp_declare_queue(connection, queue, how)
        }
        try check(
            clinker_amqp_bind(connection, queue, settings.exchange), .undeclared, "binding of queue \(queue) to \(settings.exchange)")
        queues.insert(queue)
    }

    /// Somebody removed the queue, or its binding.
    func forget(queue: String) { queues.remove(queue) }

    /// What another program declared otherwise (durable, for example) is used as it is: it is the one that others listen to.
    private func declareOrUse(_ what: String, _ declare: (_ passive: Bool) -> amqp_rpc_reply_t) throws(BrokerFailure) {
        let (code, text) = Self.problem(declare(false))
        guard code != 0 else { return }
        guard code == 406 else { throw BrokerFailure(code == 1 ? .lost : .undeclared, "\(name): \(what): \(Self.numbered(code, text))") }
        clinker_amqp_channel_closed(connection)
        try openChannel()
        try check(declare(true), .undeclared, what)
        foreign.append("\(what) is used as it is: \(text)")
    }

    // MARK: messages

    /// Sends a message and returns the number that its confirmation will bear.
    func publish(id: String, key: String, body: String) throws(BrokerFailure) -> UInt64 {
        var body = body
        let status = body.withUTF8 { clinker_amqp_publish(connection, settings.exchange, key, id, $0.baseAddress, $0.count) }
        guard status == 0 else { throw BrokerFailure(.lost, "\(name): \(Self.words(status))") }
        defer { nextTag += 1 }
        return nextTag
    }

    /// What the broker says next, waited for at most so long. To be called again and again, for heartbeats.
    func next(within seconds: Double) -> Event {
        var event = clinker_amqp_event()
        clinker_amqp_next(connection, Int32(max(0, min(seconds, 3600)) * 1000), &event)
        let text = Self.string(&event.text)
        switch clinker_amqp_kind(UInt32(bitPattern: event.kind)) {
        case CLINKER_AMQP_NOTHING: return .nothing
        case CLINKER_AMQP_ACK: return .confirmed(tag: event.tag, multiple: event.multiple != 0)
        case CLINKER_AMQP_NACK: return .nacked(tag: event.tag, multiple: event.multiple != 0)
        case CLINKER_AMQP_RETURN: return .returned(id: Self.string(&event.id), reason: Self.numbered(event.code, text))
        case CLINKER_AMQP_BLOCKED: return .blocked(text)
        case CLINKER_AMQP_UNBLOCKED: return .unblocked
        case CLINKER_AMQP_CLOSED:
            return .failed(BrokerFailure(event.code == 403 ? .refused : .lost, "\(name): \(Self.numbered(event.code, text))"))
        case CLINKER_AMQP_FAILED: return .failed(BrokerFailure(.lost, "\(name): \(text)"))
        default: return .other
        }
    }

    /// To be waited for by `poll`.
    var descriptor: Int32 { amqp_get_sockfd(connection) }

    /// Says goodbye; a broker that does not answer is not waited for long.
    func close() {
        var patience = Self.interval(1)
        amqp_set_rpc_timeout(connection, &patience)
        _ = amqp_connection_close(connection, 200)
    }

    // MARK: replies

    private func check(_ reply: amqp_rpc_reply_t, _ kind: BrokerFailure.Kind, _ what: String) throws(BrokerFailure) {
        let (code, text) = Self.problem(reply)
        guard code != 0 else { return }
        throw BrokerFailure(code == 1 && kind != .refused ? .lost : kind, "\(name): \(what): \(Self.numbered(code, text))")
    }

    private static func problem(_ reply: amqp_rpc_reply_t) -> (code: Int32, text: String) {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { buffer in
            guard let base = buffer.baseAddress else { return (1, "") }
            let code = clinker_amqp_problem(reply, base, buffer.count)
            return (code, code == 0 ? "" : clean(String(cString: base)))
        }
    }

    private static func numbered(_ code: Int32, _ text: String) -> String {
        // RabbitMQ's words begin with the name of the code.
        code > 1 ? "\(code) \(text)" : text
    }

    private static func words(_ status: Int32) -> String { amqp_error_string2(status).map { String(cString: $0) } ?? "error \(status)" }

    private static func string<T>(_ tuple: inout T) -> String {
        withUnsafeBytes(of: &tuple) { bytes in
            clean(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
        }
    }

    /// A broker's words on one line.
    private static func clean(_ text: String) -> String {
        String(decoding: text.utf8.map { $0 < 0x20 || $0 == 0x7F ? 0x20 : $0 }, as: UTF8.self)
    }

    private static func interval(_ seconds: Double) -> timeval {
        timeval(tv_sec: Int(seconds), tv_usec: Int((seconds - seconds.rounded(.down)) * 1e6))
    }
}
