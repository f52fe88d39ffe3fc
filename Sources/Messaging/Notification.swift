public import JSON

/// A notification as oslo.messaging sends it.
public struct Notification: Sendable {
    /// Which form it is sent in.
    public enum Form: Sendable {
        /// `messaging`: the members alone.
        case bare
        /// `messagingv2`: in an envelope that names its version.
        case envelope
    }

    /// Stays the same when the notification is sent again.
    public let id: String
    /// `service.host`.
    public let publisher: String
    public let eventType: String
    public let priority: Priority
    /// Seconds since the epoch as `YYYY-MM-DD HH:MM:SS.ffffff`.
    public let timestamp: String
    /// JSON text.
    public let payload: String
    /// The request that it comes from; each member is sent as `_context_<name>`.
    public let context: JSONObject

    public enum Priority: String, Sendable, CaseIterable {
        case audit, debug, info, warn, error, critical, sample
    }

    public init(
        id: String, publisher: String, eventType: String, priority: Priority, timestamp: String, payload: String, context: JSONObject
    ) {
        self.id = id
        self.publisher = publisher
        self.eventType = eventType
        self.priority = priority
        self.timestamp = timestamp
        self.payload = payload
        self.context = context
    }

    /// By it a consumer of oslo.messaging drops what it has just received.
    var uniqueID: String { String(decoding: id.utf8.filter { $0 != UInt8(ascii: "-") }, as: UTF8.self) }

    /// The members without those of the context: what the log is told.
    public var summary: String {
        var writer = JSONWriter(capacity: payload.utf8.count + 384)
        writer.beginObject()
        writeMembers(&writer)
        writer.endObject()
        return writer.takeString()
    }

    /// The body of the message.
    public func body(_ form: Form) -> String {
        var writer = JSONWriter(capacity: payload.utf8.count + 1024)
        writer.beginObject()
        writeMembers(&writer)
        writer.member("_unique_id", uniqueID)
        for member in context.members {
            writer.key("_context_" + member.name)
            writer.value(member.value)
        }
        writer.endObject()
        let text = writer.takeString()
        guard form == .envelope else { return text }
        var envelope = JSONWriter(capacity: text.utf8.count + text.utf8.count / 4 + 64)
        envelope.beginObject()
        envelope.member("oslo.version", "2.0")
        envelope.member("oslo.message", text)
        envelope.endObject()
        return envelope.takeString()
    }

    private func writeMembers(_ writer: inout JSONWriter) {
        writer.member("message_id", id)
        writer.member("publisher_id", publisher)
        writer.member("event_type", eventType)
        writer.member("priority", priority.rawValue.uppercased())
        writer.key("payload")
        writer.raw(payload)
        writer.member("timestamp", timestamp)
    }
}
