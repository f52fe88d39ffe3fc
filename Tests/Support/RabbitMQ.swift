import CRabbitMQ
import Glibc
import Primitives
import Processes

/// A RabbitMQ on loopback (Tests/Storage/rabbit), which ends with its directory.
public final class RabbitMQ: @unchecked Sendable {
    public struct Failure: Error, CustomStringConvertible { public let description: String }

    public static let isInstalled = access("/usr/lib/rabbitmq/bin/rabbitmq-server", F_OK) == 0

    public let port: Int
    private let directory: String
    private let script: String
    private let program: ServerProgram

    /// The directory that holds Tests/Storage.
    public static func root(near file: String = #filePath) -> String {
        var root = file
        while !root.isEmpty, access(root + "/Tests/Storage/rabbit", X_OK) != 0 {
            root = root.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }
        }
        return root
    }

    /// - Parameters:
    ///   - file: a source file of the tests.
    ///   - tls: a directory with ca.pem, server.pem and server.key, for TLS at `port + 3`.
    public init(near file: String = #filePath, tls: String? = nil) throws {
        let root = Self.root(near: file)
        script = root + "/Tests/Storage/rabbit"
        directory = temporaryDirectory("rabbit", elseRemovesIt: true)
        port = Int(try Loopback.freePort()) % 20_000 + 10_000
        program = try ServerProgram(
            "rabbit",
            ["/usr/bin/env"] + (tls.map { ["RABBIT_TLS=\($0)"] } ?? []) + [root + "/Tests/Storage/serve", "rabbit", directory, "\(port)"],
            in: directory, seconds: 120)
    }

    public func url(_ user: String = "openstack:secret") -> String { "rabbit://\(user)@127.0.0.1:\(port)/" }

    public func start() throws { try run("start") }
    public func stop() throws { try run("stop") }
    /// Ends it as a power cut would.
    public func kill() throws { try run("kill") }
    /// It stops answering, and keeps its connections.
    public func pause() throws { try run("pause") }
    public func resume() throws { try run("resume") }
    /// A command of `rabbitmqctl`.
    public func control(_ arguments: String...) throws { try run("ctl", arguments) }

    private func run(_ act: String, _ arguments: [String] = []) throws {
        let output = open(directory + "/output", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        let nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer {
            close(output)
            close(nothing)
        }
        let pid = try spawn(
            script, [act, directory, "\(port)"] + arguments,
            descriptors: [(source: nothing, target: 0), (source: output, target: 1), (source: output, target: 2)])
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else { throw Failure(description: "rabbit \(act) ended with \(status): see \(directory)/output") }
    }

    // MARK: reading

    /// A message as it lies in a queue.
    public struct Delivery: Sendable {
        public let messageID: String?
        public let contentType: String?
        public let isPersistent: Bool
        public let body: String
    }

    /// Takes what is in a queue, at most so many; nothing if there is no such queue.
    public func take(_ queue: String, atMost limit: Int = .max) throws -> [Delivery] {
        guard let connection = amqp_new_connection(), let socket = amqp_tcp_socket_new(connection) else {
            throw Failure(description: "no connection can be made")
        }
        defer { amqp_destroy_connection(connection) }
        guard amqp_socket_open(socket, "127.0.0.1", Int32(port)) == 0 else { throw Failure(description: "the broker is not there") }
        guard clinker_amqp_login(connection, "/", 0, 0, "openstack", "secret", "reader").reply_type == AMQP_RESPONSE_NORMAL else {
            throw Failure(description: "the broker lets nobody in")
        }
        amqp_channel_open(connection, 1)
        var found: [Delivery] = []
        while found.count < limit {
            amqp_maybe_release_buffers(connection)
            let got = queue.withCString { amqp_basic_get(connection, 1, amqp_cstring_bytes($0), 0) }
            guard got.reply_type == AMQP_RESPONSE_NORMAL, got.reply.id == 0x003C_0047, let decoded = got.reply.decoded else { break }
            let tag = decoded.assumingMemoryBound(to: amqp_basic_get_ok_t.self).pointee.delivery_tag
            var message = amqp_message_t()
            guard amqp_read_message(connection, 1, &message, 0).reply_type == AMQP_RESPONSE_NORMAL else {
                throw Failure(description: "a message could not be read")
            }
            let properties = message.properties
            found.append(
                Delivery(
                    messageID: properties._flags & (1 << 7) != 0 ? Self.text(properties.message_id) : nil,
                    contentType: properties._flags & (1 << 15) != 0 ? Self.text(properties.content_type) : nil,
                    isPersistent: properties.delivery_mode == 2, body: Self.text(message.body)))
            amqp_destroy_message(&message)
            guard amqp_basic_ack(connection, 1, tag, 0) == 0 else { throw Failure(description: "a message could not be acknowledged") }
        }
        _ = amqp_connection_close(connection, 200)
        return found
    }

    private static func text(_ bytes: amqp_bytes_t) -> String {
        String(decoding: UnsafeRawBufferPointer(start: bytes.bytes, count: bytes.len), as: UTF8.self)
    }
}
