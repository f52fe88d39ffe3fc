import Messaging
import Primitives
public import Settings

/// Which notifications are sent, and how.
public struct NotificationSettings: Sendable {
    /// The forms that go to the broker.
    let forms: [Notification.Form]
    let logs: Bool
    let topics: [String]
    let broker: BrokerSettings?
    let outboxLimit: Int
    /// The files of TLS to the broker; nil without TLS.
    public var tlsFiles: (authorities: String, certificate: String?, key: String?)? {
        broker?.tls.map { (authorities: $0.authorities, certificate: $0.certificate, key: $0.key) }
    }
    /// The drivers as they are configured.
    let drivers: [String]

    /// nil: none are sent, and none are kept.
    public init?(_ settings: Settings, node: String) throws(SettingsError) {
        let options = Options.notifications
        let named = settings[options.drivers].isEmpty ? settings[options.formerDrivers] : settings[options.drivers]
        let drivers = named.filter { $0 != "noop" }
        guard !drivers.isEmpty else { return nil }
        for driver in drivers where !["messagingv2", "messaging", "log"].contains(driver) {
            throw SettingsError([
                "[oslo_messaging_notifications] driver: '\(driver)' is not served, only messagingv2, messaging, log and noop are"
            ])
        }
        self.drivers = drivers
        logs = drivers.contains("log")
        forms = (drivers.contains("messagingv2") ? [.envelope] : []) + (drivers.contains("messaging") ? [.bare] : [])
        topics = settings.isSet(options.topics) ? settings[options.topics] : settings[options.formerTopics]
        outboxLimit = settings[options.outboxLimit]
        guard !forms.isEmpty else {
            broker = nil
            return
        }
        guard !topics.isEmpty else { throw SettingsError(["[oslo_messaging_notifications] topics: names none"]) }
        for topic in topics where topic.utf8.count > 200 {
            throw SettingsError(["[oslo_messaging_notifications] topics: '\(topic.prefix(40))...' is longer than 200 bytes"])
        }
        broker = try BrokerSettings(settings, node: node)
    }
}

extension BrokerSettings {
    init(_ settings: Settings, node: String) throws(SettingsError) {
        let own = settings[Options.notifications.transportURL].reveal()
        let text = own.isEmpty ? settings[Options.notifications.defaultTransportURL].reveal() : own
        let name = own.isEmpty ? "[DEFAULT] transport_url" : "[oslo_messaging_notifications] transport_url"
        let url: TransportURL
        do throws(TransportURL.Problem) { url = try TransportURL(parsing: text) } catch {
            throw SettingsError(["\(name): \(error)"])
        }
        let exchange = settings[Options.notifications.exchange]
        guard !exchange.isEmpty, exchange.utf8.count <= 255 else {
            throw SettingsError(["[DEFAULT] control_exchange: is empty or longer than 255 bytes"])
        }
        self.init(url: url, exchange: exchange)
        func value<T>(_ option: Option<T>) throws(SettingsError) -> T {
            guard let given = url.query.last(where: { $0.name == option.declaration.name })?.value else { return settings[option] }
            // The declaration's limits hold for it, too.
            var changed = settings
            changed.set(option.declaration.sectionName, option.declaration.name, given)
            if let problem = option.declaration.problem(ofValue: given) { throw SettingsError(["\(name): query: \(problem)"]) }
            return changed[option]
        }
        let rabbit = Options.rabbit
        if try value(rabbit.usesTLS) {
            let authorities = try value(rabbit.authorities)
            var tls = TLS(authorities: authorities.isEmpty ? "/etc/ssl/certs/ca-certificates.crt" : authorities)
            let (certificate, key) = (try value(rabbit.certificate), try value(rabbit.key))
            tls.certificate = certificate.isEmpty ? nil : certificate
            tls.key = key.isEmpty ? nil : key
            tls.checksName = try value(rabbit.checksName)
            self.tls = tls
        }
        login = try value(rabbit.login) == "EXTERNAL" ? .external : .plain
        isDurable = try value(rabbit.durable)
        deletesUnused = try value(rabbit.autoDelete)
        isMirrored = try value(rabbit.mirrored)
        if try value(rabbit.quorum) {
            guard !isMirrored else {
                throw SettingsError(["[oslo_messaging_rabbit] rabbit_quorum_queue and rabbit_ha_queues exclude each other"])
            }
            quorum = Quorum(
                deliveryLimit: try value(rabbit.quorumDeliveryLimit), memoryLength: try value(rabbit.quorumLength),
                memoryBytes: try value(rabbit.quorumBytes))
        }
        heartbeat = try value(rabbit.heartbeat)
        retryInterval = Double(try value(rabbit.retryInterval))
        retryBackoff = Double(try value(rabbit.retryBackoff))
        longestInterval = Double(try value(rabbit.longestInterval))
        shufflesHosts = try value(rabbit.failover) == "shuffle"
        connectionName = "clinker notifications of \(node)"
    }
}
