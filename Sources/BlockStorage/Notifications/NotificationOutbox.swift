public import Database
import JSON
import Primitives

extension Topic {
    /// There is a notification to send.
    public static let notifications = Topic("notifications")
}

/// Notes what others are to be notified of, in the transaction of what happened: nothing that happened is forgotten, and nothing is told that did
/// not happen. It is the companion of a database whose service sends notifications; where it is none, nothing is noted and nothing is asked.
public final class NotificationOutbox: TransactionCompanion {
    /// The node's name: the publisher's where nothing lies on a backend.
    private let node: String

    public init(node: String) { self.node = node }

    static func of(_ tx: any Transaction) -> NotificationOutbox? { tx.companion as? NotificationOutbox }

    /// Who asked.
    struct Origin {
        let userID, projectID, requestID: String

        init(_ caller: Caller) {
            userID = caller.userID
            projectID = caller.projectID
            requestID = caller.requestID
        }

        init(_ operation: Operation) {
            userID = operation.userID
            projectID = operation.projectID
            requestID = operation.requestID
        }
    }

    // MARK: noting

    private static let table = NotificationTable.table

    private func note(
        _ eventType: String, priority: String = "info", service: String, _ payload: NotificationPayload, _ origin: Origin,
        in tx: any Transaction
    ) throws {
        let t = Self.table
        try tx.insert(
            into: t, t.messageID(UUID.random()), t.eventType(eventType), t.priority(priority),
            t.publisher("\(service).\(payload.host ?? node)"),
            t.resourceID(payload.volumeID), t.userID(origin.userID), t.projectID(origin.projectID), t.requestID(origin.requestID),
            t.createdAt(tx.now), t.payload(payload.text))
        tx.ring(.notifications)
    }

    /// A change that was made at once, by the kind of its event; `gone`: the volume, where the row is gone already.
    static func noteEvent(_ kind: String, _ id: String, caller: Caller, in tx: any Transaction) throws {
        guard let outbox = of(tx), let rule = NotificationRule.ofEvents[kind] else { return }
        try outbox.note(rule, id, Origin(caller), in: tx)
    }

    /// Both ends of a change that is made at once.
    static func note(_ rule: NotificationRule, _ id: String, caller: Caller, in tx: any Transaction) throws {
        try of(tx)?.note(rule, id, Origin(caller), in: tx)
    }

    /// A snapshot that goes with its volume.
    public static func noteRemoval(ofSnapshot id: String, by operation: Operation, in tx: any Transaction) throws {
        try of(tx)?.note(NotificationRule(subject: .snapshot, name: "snapshot.delete"), id, Origin(operation), in: tx)
    }

    /// What administrators did to types or QoS specs, or were refused to.
    static func note(_ notification: CatalogueNotification, _ origin: Origin, in tx: any Transaction) throws {
        guard let outbox = of(tx) else { return }
        try outbox.note(
            notification.eventType, priority: notification.isRefusal ? "error" : "info", service: notification.service,
            NotificationPayload(text: notification.payload.text, volumeID: notification.subject, host: nil), origin, in: tx)
    }

    /// What became of an image in the cache of a backend, `host`.
    static func noteImageCache(_ action: String, image: String, host: String, by operation: Operation, in tx: any Transaction) throws {
        guard let outbox = of(tx) else { return }
        let payload = NotificationPayload(
            text: JSON.object(["image_id": .string(image), "host": .string(host)]).text, volumeID: image, host: host)
        try outbox.note("image_volume_cache.\(action)", service: "volume", payload, Origin(operation), in: tx)
    }

    private func note(_ rule: NotificationRule, _ id: String, _ origin: Origin, in tx: any Transaction) throws {
        guard let payload = try NotificationPayload.of(rule.subject, id, in: tx) else { return }
        if let start = rule.start { try note(start, service: rule.subject.service, payload, origin, in: tx) }
        if let end = rule.end { try note(end, service: rule.subject.service, payload, origin, in: tx) }
    }

    // MARK: flows

    static func noteAccepted(
        _ flow: FlowID, _ arguments: some FlowArguments, resourceID: String, caller: Caller, in tx: any Transaction
    ) throws {
        guard let outbox = of(tx), let rules = NotificationRule.ofFlows[flow.name] else { return }
        for rule in rules where rule.startsAfter == nil {
            guard let start = rule.start, let id = try subject(rule, arguments.text, resourceID),
                let payload = try NotificationPayload.of(rule.subject, id, in: tx)
            else { continue }
            try outbox.note(start, service: rule.subject.service, payload, Origin(caller), in: tx)
        }
    }

    private static func subject(_ rule: NotificationRule, _ arguments: String, _ resourceID: String) throws -> String? {
        guard let member = rule.member else { return resourceID }
        return try JSON(parsing: arguments)[member]?.string
    }

    /// The notifications of one operation, while a transaction records a part of it.
    public struct OfOperation {
        private let outbox: NotificationOutbox
        private let operation: Operation
        private let rules: [(rule: NotificationRule, id: String)]
        /// Of what the operation removes: as it was before.
        private var before: [String: NotificationPayload] = [:]

        /// nil where nobody is notified of it.
        public init?(_ operation: Operation, in tx: any Transaction) throws {
            guard let outbox = NotificationOutbox.of(tx), let rules = NotificationRule.ofFlows[operation.flow.name] else { return nil }
            self.outbox = outbox
            self.operation = operation
            self.rules = try rules.compactMap { rule in
                try subject(rule, operation.arguments, operation.resourceID).map { (rule, $0) }
            }
            for (rule, id) in self.rules where rule.removes { before[id] = try NotificationPayload.of(rule.subject, id, in: tx) }
        }

        /// A step is recorded.
        public func stepped(_ step: String, in tx: any Transaction) throws {
            for (rule, id) in rules where rule.startsAfter == step {
                guard let start = rule.start, let payload = try NotificationPayload.of(rule.subject, id, in: tx) else { continue }
                try outbox.note(start, service: rule.subject.service, payload, Origin(operation), in: tx)
            }
        }

        /// The operation is carried out.
        public func done(in tx: any Transaction) throws {
            for (rule, id) in rules {
                guard let end = rule.end, let payload = try NotificationPayload.of(rule.subject, id, in: tx) ?? before[id] else { continue }
                try outbox.note(end, service: rule.subject.service, payload, Origin(operation), in: tx)
            }
        }

        /// The operation failed; `step`: where.
        public func failed(at step: String, _ reason: String, in tx: any Transaction) throws {
            guard step == "place" else { return }
            for (rule, id) in rules {
                guard let method = rule.scheduling, let payload = try NotificationPayload.of(rule.subject, id, in: tx) else { continue }
                var writer = JSONWriter(capacity: payload.text.utf8.count * 2 + 256)
                writer.beginObject()
                writer.key("request_spec")
                writer.beginObject()
                writer.member("volume_id", id)
                writer.key("volume_properties")
                writer.raw(payload.text)
                writer.endObject()
                writer.key("volume_properties")
                writer.raw(payload.text)
                writer.member("volume_id", id)
                writer.key("state")
                writer.value(try Self.state(method, of: payload))
                writer.member("method", method)
                writer.member("reason", reason)
                writer.endObject()
                let said = NotificationPayload(text: writer.takeString(), volumeID: payload.volumeID, host: outbox.node)
                try outbox.note("scheduler.\(method)", priority: "error", service: "scheduler", said, Origin(operation), in: tx)
            }
        }

        /// What became of a volume for which there was no place, in Cinder's three forms.
        private static func state(_ method: String, of volume: NotificationPayload) throws -> JSON {
            switch method {
            case "create_volume": "error"
            case "retype": ["status": try JSON(parsing: volume.text)["status"] ?? .null]
            default: ["migration_status": "error"]
            }
        }
    }
}
