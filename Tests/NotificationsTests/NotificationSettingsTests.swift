import Primitives
import Settings
import Testing

@testable import Notifications

/// What a configuration asks for.
@Suite struct NotificationSettingsTests {
    private func read(_ text: String) throws -> NotificationSettings? {
        try NotificationSettings(
            Settings(text: text, known: OptionCatalogue(Options.service, Options.notifications, Options.rabbit)), node: "n")
    }

    @Test(arguments: ["", "[oslo_messaging_notifications]\ndriver = noop\n", "[oslo_messaging_notifications]\ndriver =\n"])
    func nothingIsSentUnlessItIsAskedFor(text: String) throws {
        #expect(try read("[DEFAULT]\ntransport_url = nonsense\n" + text) == nil)
    }

    @Test func driversMayBeSeveral() throws {
        let settings = try #require(
            try read("[oslo_messaging_notifications]\ndriver = messagingv2\ndriver = log\ntopics = notifications, metering\n"))
        #expect(settings.logs && settings.forms == [.envelope] && settings.topics == ["notifications", "metering"])
        #expect(settings.broker?.exchange == "openstack")
        #expect(try read("[DEFAULT]\nnotification_driver = messaging\nnotification_topics = old\n")?.topics == ["old"])
    }

    @Test func theLogNeedsNoBroker() throws {
        let settings = try #require(try read("[DEFAULT]\ntransport_url = nonsense\n[oslo_messaging_notifications]\ndriver = log\n"))
        #expect(settings.broker == nil && settings.forms.isEmpty)
    }

    @Test func theURLGoesBeforeTheSection() throws {
        let broker = try #require(
            try read(
                """
                [DEFAULT]
                transport_url = rabbit://ignored
                [oslo_messaging_notifications]
                driver = messagingv2
                transport_url = rabbit://u:p@h/v?ssl=1&heartbeat_timeout_threshold=7
                [oslo_messaging_rabbit]
                heartbeat_timeout_threshold = 20
                rabbit_quorum_queue = true
                ssl_ca_file = /ca
                """)?.broker)
        #expect(broker.url.hosts.map(\.name) == ["h"] && broker.url.virtualHost == "v")
        #expect(broker.tls?.authorities == "/ca" && broker.heartbeat == 7 && broker.quorum != nil)
    }

    @Test(arguments: [
        ("driver = routing", "driver: 'routing' is not served"),
        ("driver = messaging\ntransport_url = rabbit://u:hush@h:x", "[oslo_messaging_notifications] transport_url: host 1: the port"),
        ("driver = messaging\ntransport_url = rabbit://h?ssl=perhaps", "query: ssl must be true or false"),
        ("driver = messaging\n[oslo_messaging_rabbit]\nrabbit_quorum_queue = 1\nrabbit_ha_queues = 1", "exclude each other"),
        ("driver = messaging\n[DEFAULT]\ncontrol_exchange =", "control_exchange: is empty"),
    ])
    func whatIsWrongIsNamed(text: String, words: String) {
        #expect {
            try read("[oslo_messaging_notifications]\n" + text + "\n")
        } throws: { error in
            let problem = (error as? SettingsError)?.problems.joined() ?? ""
            return problem.contains(words) && !problem.contains("hush")
        }
    }
}
