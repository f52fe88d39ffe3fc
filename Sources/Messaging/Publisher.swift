import CLinux
import Glibc
import Primitives

/// Sends messages to the first broker of several that takes them, each until it is confirmed. It belongs to one thread, which it may
/// block; `wake` and `state` are for all.
public final class Publisher: @unchecked Sendable {
    public struct Message: Sendable {
        public let id: String
        /// The queue's name and the routing key.
        public let topic: String
        public let body: String

        public init(id: String, topic: String, body: String) {
            self.id = id
            self.topic = topic
            self.body = body
        }
    }

    /// What is known of the broker.
    public struct State: Sendable {
        public enum Condition: String, Sendable, CaseIterable {
            case idle, connected, blocked, failed
        }
        public internal(set) var condition = Condition.idle
        /// The broker that is, or was last, connected.
        public internal(set) var host = ""
        /// Why not, where the condition is `blocked` or `failed`.
        public internal(set) var reason = ""
        public internal(set) var kind: BrokerFailure.Kind?
        /// Since when, in seconds since the epoch.
        public internal(set) var since = Timestamp.seconds()
        public internal(set) var connections = 0, confirmed = 0, nacked = 0, returned = 0
    }

    private let settings: BrokerSettings
    private let hosts: [TransportURL.Host]
    private var host = 0
    private var connection: BrokerConnection?
    private var failures = 0
    private var isBlocked = false
    private let guardedState = Guarded(State())
    private let doorbell = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    private let onNote: @Sendable (String) -> Void

    /// - Parameter onNote: is told what an operator may want to know.
    public init(_ settings: BrokerSettings, onNote: @escaping @Sendable (String) -> Void = { _ in }) {
        self.settings = settings
        self.onNote = onNote
        hosts = settings.shufflesHosts ? settings.url.hosts.shuffled() : settings.url.hosts
    }

    deinit { if doorbell >= 0 { close(doorbell) } }

    public var state: State { guardedState.withLock { $0 } }

    /// Ends a `wait`, on any thread.
    public func wake() {
        var one: UInt64 = 1
        _ = write(doorbell, &one, 8)
    }

    // MARK: sending

    /// Sends all messages, and returns which of them are confirmed, by their places; and why others are not. As long as the broker says
    /// that it takes none, what it has not confirmed is waited for.
    ///
    /// - Parameter goesOn: asked every second of that time whether to wait on. After `false` what is on its way counts as not confirmed.
    public func send(_ messages: [Message], whileBlocked goesOn: () -> Bool = { true }) -> (confirmed: Set<Int>, failure: BrokerFailure?) {
        var confirmed: Set<Int> = []
        do throws(BrokerFailure) {
            let connection = try connect()
            try send(messages, over: connection, &confirmed, goesOn)
            failures = 0
            note(.connected, connection.name)
            return (confirmed, nil)
        } catch {
            fail(error)
            return (confirmed, error)
        }
    }

    /// Connects to a broker without having anything to send.
    public func tryConnecting() -> BrokerFailure? {
        do throws(BrokerFailure) {
            _ = try connect()
            failures = 0
            return nil
        } catch {
            fail(error)
            return error
        }
    }

    /// Seconds to wait after a failure before the next attempt.
    public var pause: Double {
        min(settings.longestInterval, settings.retryInterval + settings.retryBackoff * Double(max(0, failures - 1)))
    }

    private func send(
        _ messages: [Message], over connection: BrokerConnection, _ confirmed: inout Set<Int>, _ goesOn: () -> Bool
    ) throws(BrokerFailure) {
        for topic in Set(messages.map(\.topic)) { try connection.declare(queue: topic) }
        for words in connection.foreign where told.insert(words).inserted { onNote(words) }
        var window = Window()
        defer { confirmed = window.confirmed }
        for (index, message) in messages.enumerated() {
            // What the broker says meanwhile is heard, so that neither side waits for the other to read.
            if index % 32 == 0 { try hear(connection, &window, messages, within: 0) }
            // It reads nothing now: more would fill the socket, and then nobody could ask whether to go on.
            while isBlocked {
                try ask(goesOn, connection, window)
                try hear(connection, &window, messages, within: 1)
            }
            window.tags[try connection.publish(id: message.id, key: message.topic, body: message.body)] = index
        }
        var limit = Timestamp.monotonic() + settings.confirmPatience
        while !window.tags.isEmpty {
            let before = window.tags.count
            try hear(connection, &window, messages, within: min(1, settings.confirmPatience))
            if isBlocked { try ask(goesOn, connection, window) }
            if window.tags.count < before || isBlocked { limit = Timestamp.monotonic() + settings.confirmPatience }
            guard Timestamp.monotonic() < limit else {
                self.connection = nil
                throw BrokerFailure(
                    .unconfirmed,
                    "\(connection.name): \(window.tags.count) messages were not confirmed in \(number(settings.confirmPatience)) s")
            }
        }
        if let failure = window.failure { throw failure }
    }

    private func ask(_ goesOn: () -> Bool, _ connection: BrokerConnection, _ window: Window) throws(BrokerFailure) {
        guard !goesOn() else { return }
        self.connection = nil
        throw BrokerFailure(
            .unconfirmed, "\(connection.name): \(window.tags.count) messages were not confirmed by a broker that takes none")
    }

    private var told: Set<String> = []

    /// What was sent and what became of it.
    private struct Window {
        var tags: [UInt64: Int] = [:]
        var confirmed: Set<Int> = []
        var returned: Set<String> = []
        var failure: BrokerFailure?

        /// Ends the wait for a message, and for those before it.
        mutating func take(_ tag: UInt64, _ multiple: Bool) -> [Int] {
            guard multiple else { return tags.removeValue(forKey: tag).map { [$0] } ?? [] }
            let all = tags.keys.filter { tag == 0 || $0 <= tag }
            return all.compactMap { tags.removeValue(forKey: $0) }
        }
    }

    /// Hears what the broker says, until there is nothing more.
    private func hear(
        _ connection: BrokerConnection, _ window: inout Window, _ messages: [Message], within seconds: Double
    ) throws(BrokerFailure) {
        var patience = seconds
        while true {
            switch connection.next(within: patience) {
            case .nothing: return
            case .confirmed(let tag, let multiple):
                for index in window.take(tag, multiple) where !window.returned.contains(messages[index].id) {
                    window.confirmed.insert(index)
                    guardedState.withLock { $0.confirmed += 1 }
                }
            case .nacked(let tag, let multiple):
                let lost = window.take(tag, multiple)
                guardedState.withLock { $0.nacked += lost.count }
                window.failure = BrokerFailure(.nacked, "\(connection.name): the broker did not store \(lost.count) messages")
            case .returned(let id, let reason):
                // Its confirmation follows: the broker did with it what it could.
                window.returned.insert(id)
                guardedState.withLock { $0.returned += 1 }
                for message in messages where message.id == id { connection.forget(queue: message.topic) }
                window.failure = BrokerFailure(.returned, "\(connection.name): a message found no queue: \(reason)")
            case .blocked(let reason): block(connection, reason)
            case .unblocked: unblock(connection)
            case .failed(let failure):
                self.connection = nil
                throw failure
            case .other: break
            }
            patience = 0
            if window.tags.isEmpty { return }
        }
    }

    // MARK: the connection

    private func connect() throws(BrokerFailure) -> BrokerConnection {
        if let connection { return connection }
        isBlocked = false
        var last = BrokerFailure(.unreachable, "transport_url names no host")
        for _ in hosts {
            do throws(BrokerFailure) {
                let made = try BrokerConnection(hosts[host], settings)
                connection = made
                note(.connected, made.name)
                guardedState.withLock { $0.connections += 1 }
                onNote("connected to the message broker at \(made.name)")
                return made
            } catch {
                last = error
                host = (host + 1) % hosts.count
            }
        }
        throw last
    }

    private func fail(_ failure: BrokerFailure) {
        failures += 1
        // A channel that the broker closed takes its connection along: both are made anew.
        if ![.nacked, .returned].contains(failure.kind) {
            if connection != nil { host = (host + 1) % hosts.count }
            connection = nil
        }
        guardedState.withLock { state in
            if state.condition != .failed { state.since = Timestamp.seconds() }
            state.condition = .failed
            state.reason = failure.description
            state.kind = failure.kind
        }
    }

    private func note(_ condition: State.Condition, _ name: String) {
        guardedState.withLock { state in
            guard state.condition != condition || state.host != name else { return }
            state.condition = condition
            state.host = name
            state.reason = ""
            state.kind = nil
            state.since = Timestamp.seconds()
        }
    }

    private func block(_ connection: BrokerConnection, _ reason: String) {
        isBlocked = true
        note(.blocked, connection.name)
        guardedState.withLock { $0.reason = reason }
        onNote("the message broker at \(connection.name) takes no messages: \(reason)")
    }

    private func unblock(_ connection: BrokerConnection) {
        isBlocked = false
        note(.connected, connection.name)
        onNote("the message broker at \(connection.name) takes messages again")
    }

    // MARK: idling

    /// Waits until it is woken, or so long. Keeps the connection alive meanwhile, and waits on while the broker takes nothing.
    public func wait(_ seconds: Double) {
        let limit = Timestamp.monotonic() + seconds
        // Half a heartbeat must never pass without a look.
        let look = settings.heartbeat > 0 ? Double(settings.heartbeat) / 4 : 30
        while true {
            listen()
            let left = limit - Timestamp.monotonic()
            guard left > 0 else { return }
            var descriptors = [pollfd(fd: doorbell, events: Int16(POLLIN), revents: 0)]
            if let connection { descriptors.append(pollfd(fd: connection.descriptor, events: Int16(POLLIN), revents: 0)) }
            let status = poll(&descriptors, nfds_t(descriptors.count), Int32(min(left, look) * 1000) + 1)
            if status > 0, descriptors[0].revents != 0 {
                var count: UInt64 = 0
                _ = read(doorbell, &count, 8)
                return
            }
        }
    }

    /// Whether the broker has said that it takes nothing now.
    public var isRefusing: Bool {
        listen()
        return isBlocked
    }

    /// Hears what the broker says while nothing is on its way.
    private func listen() {
        guard let connection else { return }
        while true {
            switch connection.next(within: 0) {
            case .nothing: return
            case .blocked(let reason): block(connection, reason)
            case .unblocked: unblock(connection)
            case .failed(let failure):
                fail(failure)
                onNote("the message broker is gone: \(failure)")
                return
            default: break
            }
        }
    }

    /// Says goodbye.
    public func end() {
        connection?.close()
        connection = nil
    }
}

private func number(_ seconds: Double) -> String { seconds == seconds.rounded() ? String(Int(seconds)) : String(seconds) }
