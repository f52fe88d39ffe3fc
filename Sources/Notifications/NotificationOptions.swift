public import Primitives
public import Settings

/// Options of notifications: which are sent, and where to.
public struct NotificationOptions: DeclaredOptions {
    public let drivers = Option<[String]>(
        "driver", in: .group("oslo_messaging_notifications"), default: [],
        help:
            "How notifications are sent: messagingv2, messaging (without an envelope), log or noop. May be given more than once. Empty: none are sent."
    )
    public let topics = Option<[String]>(
        "topics", in: .group("oslo_messaging_notifications"), default: ["notifications"], help: "Topics that notifications are sent to.")
    public let formerDrivers = Option<[String]>(
        "notification_driver", default: [], help: "The former name of [oslo_messaging_notifications] driver, which goes before it.")
    public let formerTopics = Option<[String]>(
        "notification_topics", default: ["notifications"], help: "The former name of [oslo_messaging_notifications] topics.")
    public let transportURL = Option(
        "transport_url", in: .group("oslo_messaging_notifications"), default: Secret(""),
        help: "The broker that takes notifications; if empty, that of [DEFAULT].")
    public let defaultTransportURL = Option(
        "transport_url", default: Secret("rabbit://"),
        help: "rabbit://user:password@host:port,.../virtual_host: the broker that takes notifications.")
    public let exchange = Option("control_exchange", default: "openstack", help: "The exchange that notifications are sent through.")
    public let auditDriver = Option(
        "driver", in: .group("audit_middleware_notifications"), default: "", choices: ["", "log"],
        help: "log: the logger audit writes events of the Cloud Auditing Data Federation. If empty, it writes plain lines.")
    public let outboxLimit = Option(
        "notification_outbox_limit", default: 100_000, range: 1000...100_000_000,
        help: "Notifications that are kept while the broker takes none. Beyond it the oldest are dropped, which the log and a metric tell.")

    public init() {}
}

/// Options of `[oslo_messaging_rabbit]`: how RabbitMQ is reached and what is declared there. Those of `transport_url` take their place.
public struct RabbitOptions: DeclaredOptions {
    public let usesTLS = RabbitOptions.option("ssl", false, "Whether the broker is reached over TLS.")
    public let authorities = RabbitOptions.option(
        "ssl_ca_file", "", "PEM file of the authorities that the broker's certificate is checked against; if empty, the system's.")
    public let certificate = RabbitOptions.option("ssl_cert_file", "", "PEM file of the client's certificate.")
    public let key = RabbitOptions.option("ssl_key_file", "", "PEM file of the key of the client's certificate.")
    public let checksName = RabbitOptions.option(
        "ssl_enforce_hostname_verification", true, "Whether the broker's certificate has to name the host.")
    public let login = Option(
        "rabbit_login_method", in: .group("oslo_messaging_rabbit"), default: "AMQPLAIN", choices: ["PLAIN", "AMQPLAIN", "EXTERNAL"],
        help: "How Clinker logs in: with a password, or by its certificate (EXTERNAL).")
    public let durable = RabbitOptions.option("amqp_durable_queues", false, "Whether exchange and queues outlive the broker's restart.")
    public let autoDelete = RabbitOptions.option("amqp_auto_delete", false, "Whether exchange and queues go with their last user.")
    public let quorum = RabbitOptions.option("rabbit_quorum_queue", false, "Whether queues are quorum queues, which are durable.")
    public let quorumDeliveryLimit = RabbitOptions.number("rabbit_quorum_delivery_limit", "x-delivery-limit of quorum queues; 0: none.")
    public let quorumLength = RabbitOptions.number("rabbit_quorum_max_memory_length", "x-max-in-memory-length of quorum queues; 0: none.")
    public let quorumBytes = RabbitOptions.number("rabbit_quorum_max_memory_bytes", "x-max-in-memory-bytes of quorum queues; 0: none.")
    public let mirrored = RabbitOptions.option("rabbit_ha_queues", false, "Whether queues are declared with x-ha-policy: all.")
    public let heartbeat = Option(
        "heartbeat_timeout_threshold", in: .group("oslo_messaging_rabbit"), default: 60, range: 0...3600,
        help: "Seconds without a sign of the broker after which the connection counts as dead; 0: never.")
    public let retryInterval = Option(
        "rabbit_retry_interval", in: .group("oslo_messaging_rabbit"), default: 1, range: 1...3600,
        help: "Seconds until the first repeated attempt to connect.")
    public let retryBackoff = Option(
        "rabbit_retry_backoff", in: .group("oslo_messaging_rabbit"), default: 2, range: 0...3600,
        help: "Seconds that each further attempt waits longer.")
    public let longestInterval = Option(
        "rabbit_interval_max", in: .group("oslo_messaging_rabbit"), default: 30, range: 1...3600,
        help: "Seconds that an attempt waits at most.")
    public let failover = Option(
        "kombu_failover_strategy", in: .group("oslo_messaging_rabbit"), default: "round-robin", choices: ["round-robin", "shuffle"],
        help: "In which order the hosts of transport_url are tried.")

    public init() {}

    private static func option<T: OptionValue>(_ name: String, _ value: T, _ help: String) -> Option<T> {
        Option(name, in: .group("oslo_messaging_rabbit"), default: value, help: help)
    }

    private static func number(_ name: String, _ help: String) -> Option<Int> {
        Option(name, in: .group("oslo_messaging_rabbit"), default: 0, range: 0...2_147_483_647, help: help)
    }
}

extension Options {
    /// Options of notifications: which are sent, and where to.
    public static let notifications = NotificationOptions()
    /// Options of `[oslo_messaging_rabbit]`: how RabbitMQ is reached and what is declared there.
    public static let rabbit = RabbitOptions()
}
