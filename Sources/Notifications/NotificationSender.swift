import BlockStorage
public import Database
public import JSON
public import Logging
import Messaging
public import Observability
import Primitives

/// Sends what the outbox holds, in the order of what happened to each volume, and removes what is confirmed. What is sent again after a
/// death or a lost connection has the same message id. It works on a thread of its own: a broker that is away, refuses or blocks delays
/// nobody.
public final class NotificationSender: Sendable {
    private let settings: NotificationSettings
    private let database: any Database
    private let publisher: Publisher?
    private let log: Logger
    private let makeLogger: @Sendable (String) -> Logger
    private let bell = Semaphore()
    private let ended = Semaphore()
    /// Seconds between two looks at whether too many wait.
    private let trimming: Double
    private let state = Guarded(State())

    private struct State {
        var isStopping = false
        var sent = 0
        var dropped = 0
        /// When to look next whether too many wait.
        var nextTrim = 0.0
        /// What was told of the last failure, so that it is told once.
        var trouble = ""
    }

    /// Notifications read at once, and of those in flight at once.
    private static let batch = 512, window = 128
    /// Seconds that others may join what is read, and that the removal of what was sent may wait for more.
    private static let gathering = 0.01, lingering = 0.25

    /// - Parameter logger: makes the logger of a name; each event type has one, for the driver `log`.
    public convenience init(_ settings: NotificationSettings, database: any Database, logger: @escaping @Sendable (String) -> Logger) {
        self.init(settings, database: database, trimming: 10, logger: logger)
    }

    init(
        _ settings: NotificationSettings, database: any Database, trimming: Double, logger: @escaping @Sendable (String) -> Logger
    ) {
        self.settings = settings
        self.trimming = trimming
        self.database = database
        makeLogger = logger
        let log = logger("notifications")
        self.log = log
        publisher = settings.broker.map { Publisher($0) { log.info("\($0)") } }
    }

    public func start() {
        database.listen(to: .notifications) { [self] _ in wake() }
        startThread("notifications") { [self] in
            run()
            publisher?.end()
            ended.post()
        }
    }

    /// Lets it end what it is sending, at most so long; the rest is the next start's.
    public func stop(within seconds: Double) {
        state.withLock { $0.isStopping = true }
        wake()
        _ = ended.wait(seconds: max(0, min(seconds, 5)))
    }

    private func wake() { if let publisher { publisher.wake() } else { bell.post() } }

    private var isStopping: Bool { state.withLock { $0.isStopping } }

    // MARK: sending

    private func run() {
        var delivered = Delivered()
        while !isStopping {
            do {
                try trimWhenDue()
                let known = delivered.ids
                let found = try database.readBlocking { try PendingNotifications.first(Self.batch + known.count, in: $0) }
                    .filter { !known.contains($0.id) }
                if found.isEmpty {
                    try remove(&delivered, force: Timestamp.monotonic() >= delivered.due)
                    wait(delivered.ids.isEmpty ? trimming : Self.lingering)
                    pause(Self.gathering)
                    continue
                }
                if try !send(found, &delivered) { rest(publisher?.pause ?? 1) }
            } catch {
                log.error("notifications cannot be read or removed: \(error)")
                rest(5)
            }
        }
        try? remove(&delivered, force: true)
    }

    /// What was sent and is still to be removed.
    private struct Delivered {
        var ids: Set<Int64> = []
        var due = 0.0
    }

    /// Sends what was read in rounds, each with at most one of every volume: whatever the broker does with one, none overtakes another.
    /// False after a failure.
    private func send(_ found: [PendingNotification], _ delivered: inout Delivered) throws -> Bool {
        var rest = found[...]
        while !rest.isEmpty, !isStopping {
            var round: [PendingNotification] = []
            var later: [PendingNotification] = []
            var subjects: Set<String> = []
            for (index, notification) in rest.enumerated() {
                if round.count == Self.window {
                    later += rest.dropFirst(index)
                    break
                }
                if subjects.insert(notification.resourceID).inserted { round.append(notification) } else { later.append(notification) }
            }
            guard publisher?.isRefusing != true else { return false }
            let failure = deliver(round, &delivered)
            try remove(&delivered, force: Timestamp.monotonic() >= delivered.due)
            if let failure {
                let isNew = state.withLock { state in
                    defer { state.trouble = failure.description }
                    return state.trouble != failure.description
                }
                if isNew { log.warning("notifications wait: \(failure)", metadata: ["kind": "\(failure.kind.rawValue)"]) }
                return false
            }
            state.withLock { $0.trouble = "" }
            rest = later[...]
        }
        return true
    }

    private func deliver(_ round: [PendingNotification], _ delivered: inout Delivered) -> BrokerFailure? {
        let notifications = round.map { Notification($0) }
        var done = Set(round.indices)
        var failure: BrokerFailure?
        if let publisher {
            var messages: [Publisher.Message] = []
            var places: [Int] = []
            for (index, notification) in notifications.enumerated() {
                for topic in settings.topics {
                    for form in settings.forms {
                        messages.append(
                            Publisher.Message(
                                id: notification.id, topic: "\(topic).\(notification.priority.rawValue)", body: notification.body(form)))
                        places.append(index)
                    }
                }
            }
            // A broker that takes nothing may do so for days.
            let outcome = publisher.send(messages) {
                do { try trimWhenDue() } catch { log.error("notifications cannot be counted or removed: \(error)") }
                return !isStopping
            }
            failure = outcome.failure
            for place in messages.indices where !outcome.confirmed.contains(place) { done.remove(places[place]) }
        }
        if settings.logs {
            for index in done.sorted() {
                makeLogger("oslo.messaging.notification.\(round[index].eventType)").log(
                    level: Self.level(notifications[index].priority), "\(notifications[index].summary)")
            }
        }
        if delivered.ids.isEmpty { delivered.due = Timestamp.monotonic() + Self.lingering }
        delivered.ids.formUnion(done.map { round[$0].id })
        state.withLock { $0.sent += done.count }
        return failure
    }

    private static func level(_ priority: Notification.Priority) -> Logger.Level {
        switch priority {
        case .debug: .debug
        case .warn: .warning
        case .error: .error
        case .critical: .critical
        case .audit, .info, .sample: .info
        }
    }

    private func remove(_ delivered: inout Delivered, force: Bool) throws {
        guard force || delivered.ids.count >= 4 * Self.batch, !delivered.ids.isEmpty else { return }
        let ids = delivered.ids.sorted()
        try write { try PendingNotifications.remove(ids, in: $0) }
        delivered.ids = []
    }

    private func trimWhenDue() throws {
        let now = Timestamp.monotonic()
        guard now >= state.withLock({ $0.nextTrim }) else { return }
        state.withLock { $0.nextTrim = now + trimming }
        try trim()
    }

    private func trim() throws {
        let limit = settings.outboxLimit
        guard try database.readBlocking({ try PendingNotifications.summary(in: $0).count }) > limit else { return }
        let count = try write { try PendingNotifications.drop(over: limit, in: $0) }
        state.withLock { $0.dropped += count }
        log.error("\(count) notifications were dropped, the oldest: more than notification_outbox_limit = \(limit) wait for the broker")
    }

    private func write<T: Sendable>(_ body: @escaping @Sendable (any Transaction) throws -> T) throws -> T {
        let done = Semaphore()
        let outcome = Guarded<Result<T, any Error>?>(nil)
        Task { [database] in
            let result: Result<T, any Error>
            do { result = .success(try await database.write(body)) } catch { result = .failure(error) }
            outcome.withLock { $0 = result }
            done.post()
        }
        while true {
            done.wait()
            if let result = outcome.withLock({ $0 }) { return try result.get() }
        }
    }

    private func wait(_ seconds: Double) {
        if let publisher { publisher.wait(seconds) } else { _ = bell.wait(seconds: seconds) }
    }

    /// Waits so long whatever comes meanwhile, but not for the end of the service.
    private func rest(_ seconds: Double) {
        let limit = Timestamp.monotonic() + seconds
        while !isStopping {
            let left = limit - Timestamp.monotonic()
            guard left > 0 else { return }
            wait(left)
        }
    }

    // MARK: what is told

    /// For `clinker notification status`.
    public func status() async throws -> JSON {
        let (count, oldest) = try await database.read { try PendingNotifications.summary(in: $0) }
        let (sent, dropped) = state.withLock { ($0.sent, $0.dropped) }
        var broker = JSON.null
        if let state = publisher?.state {
            broker = [
                "state": .string(state.condition.rawValue), "host": .string(state.host), "reason": .string(state.reason),
                "kind": JSON(state.kind?.rawValue), "since": .string(Timestamp.format(state.since)), "connections": JSON(state.connections),
                "confirmed": JSON(state.confirmed), "refused": JSON(state.nacked), "returned": JSON(state.returned),
            ]
        }
        return [
            "drivers": .array(settings.drivers.map { .string($0) }), "waiting": JSON(count), "oldest": JSON(oldest),
            "limit": JSON(settings.outboxLimit), "sent": JSON(sent), "dropped": JSON(dropped), "broker": broker,
        ]
    }

    public func write(into text: inout MetricsText) async throws {
        let (count, oldest) = try await database.read { try PendingNotifications.summary(in: $0) }
        let (sent, dropped) = state.withLock { ($0.sent, $0.dropped) }
        text.family("clinker_notifications_waiting", .gauge, "Notifications that have not been sent yet.")
        text.sample("clinker_notifications_waiting", count)
        text.family("clinker_notifications_oldest_seconds", .gauge, "Age of the oldest notification that has not been sent yet.")
        text.sample(
            "clinker_notifications_oldest_seconds",
            oldest.flatMap { Timestamp.parse($0) }.map { max(0, Timestamp.seconds() - $0) } ?? 0)
        text.family("clinker_notifications_sent_total", .counter, "Notifications that were sent.")
        text.sample("clinker_notifications_sent_total", sent)
        text.family("clinker_notifications_dropped_total", .counter, "Notifications that were dropped because too many waited.")
        text.sample("clinker_notifications_dropped_total", dropped)
        guard let broker = publisher?.state else { return }
        text.family("clinker_notification_broker_state", .gauge, "1 for the state that the message broker is in.")
        for condition in Publisher.State.Condition.allCases {
            text.sample("clinker_notification_broker_state", condition == broker.condition ? 1 : 0, ["state": condition.rawValue])
        }
    }
}

extension Notification {
    /// As its sender finds it in the outbox.
    init(_ pending: PendingNotification) {
        self.init(
            id: pending.messageID, publisher: pending.publisher, eventType: pending.eventType,
            priority: Priority(rawValue: pending.priority) ?? .info,
            timestamp: String(decoding: pending.createdAt.utf8.map { $0 == UInt8(ascii: "T") ? 0x20 : $0 }, as: UTF8.self),
            payload: pending.payload,
            context: [
                "user": .string(pending.userID), "user_id": .string(pending.userID), "project": .string(pending.projectID),
                "project_id": .string(pending.projectID), "request_id": .string(pending.requestID), "auth_token": nil,
                "timestamp": .string(pending.createdAt), "read_deleted": "no",
            ])
    }
}
