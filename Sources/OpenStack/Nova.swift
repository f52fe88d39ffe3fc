import HTTPClient
import JSON
import Primitives
public import Settings

/// Asks Nova's API where instances run (https://docs.openstack.org/api-ref/compute/#show-server-details), with Clinker's
/// account, which must be an administrator: Nova shows hosts to administrators only.
public final class Nova: Sendable {
    private let keystone: Keystone
    private let endpoint: Endpoint
    private let client: HTTPClient
    private let hosts = Guarded<[String: (host: String, until: Double)]>([:])

    /// Seconds that Nova has to answer what flows ask of it.
    private let timeout: Double

    /// The same where somebody waits, and how long an answer is cached.
    private static let shortTimeout = 5.0
    private static let life = 60.0
    private static let kept = 10_000

    public init(_ settings: Settings, keystone: Keystone) {
        self.keystone = keystone
        let region = settings[Options.nova.region]
        timeout = Double(settings[Options.nova.timeout])
        endpoint = Endpoint(type: "compute", interface: settings[Options.nova.interface], region: region.isEmpty ? nil : region)
        func text(_ option: Option<String>) -> String? {
            let value = settings[option]
            return value.isEmpty ? nil : value
        }
        client = HTTPClient(
            trust: HTTPClient.Trust(
                authorities: text(Options.nova.caFile), isInsecure: settings[Options.nova.insecure],
                certificate: text(Options.nova.certFile), key: text(Options.nova.keyFile)))
    }

    /// Throws why Nova could not be asked now.
    public func look() async throws(Unavailable) {
        let url = try await keystone.serviceURL(type: endpoint.type, interface: endpoint.interface, region: endpoint.region)
        let response = try await keystone.ask(endpoint, "/servers?limit=1", through: client, timeout: Self.shortTimeout)
        guard response.status == 200 else { throw Unavailable(description: "Nova at \(url) answered \(response.status)") }
    }

    /// The host that an instance runs on; nil if there is no such instance.
    public func host(ofInstance id: String) async throws(Unavailable) -> String? {
        if let known = hosts.withLock({ $0[id] }), known.until > Timestamp.monotonic() { return known.host }
        let response = try await keystone.ask(endpoint, "/servers/\(id)", through: client, timeout: Self.shortTimeout)
        switch response.status {
        case 200:
            guard let server = (try? JSON(parsing: response.body))?["server"] else {
                throw Unavailable(description: "Nova's answer about instance \(id) is none")
            }
            guard let host = server["OS-EXT-SRV-ATTR:host"]?.string else {
                throw Unavailable(
                    description: "Nova does not tell the host of instance \(id): Clinker's account is no administrator, or it runs nowhere")
            }
            hosts.withLock { hosts in
                if hosts.count >= Self.kept { hosts = [:] }
                hosts[id] = (host: host, until: Timestamp.monotonic() + Self.life)
            }
            return host
        case 404: return nil
        default: throw Unavailable(description: "Nova answered \(response.status) about instance \(id)")
        }
    }

    /// The id of the attachment by which an instance uses a volume; nil if Nova knows no such instance, or the instance does not use the
    /// volume. Asked with the token of the user who wants to remove the attachment, as Cinder does. Never cached: an outdated answer would
    /// cost data.
    public func attachment(ofInstance instance: String, volume: String, token: Secret) async throws(Unavailable) -> String? {
        guard Self.isID(instance), Self.isID(volume) else { throw Unavailable(description: "instance \(instance) has no id of Nova's") }
        let response = try await keystone.ask(
            endpoint, "/servers/\(instance)/os-volume_attachments/\(volume)",
            headers: [(name: "OpenStack-API-Version", value: "compute \(Self.tellsAttachments)")], token: token, through: client,
            timeout: Self.shortTimeout)
        let body = try? JSON(parsing: response.body)
        switch response.status {
        case 200:
            guard let id = body?["volumeAttachment"]?["attachment_id"]?.string else {
                throw Unavailable(description: "Nova's answer about volume \(volume) of instance \(instance) names no attachment")
            }
            return id
        // A proxy may answer 404, too; only Nova does it in this form.
        case 404 where body?["itemNotFound"] != nil: return nil
        default: throw Unavailable(description: "Nova answered \(response.status) about volume \(volume) of instance \(instance)")
        }
    }

    /// What happens to a volume that Nova is told of.
    public enum VolumeEvent: String, Sendable {
        /// It is larger: hosts look at it again.
        case extended = "volume-extended"
        /// It holds another image: its instances are rebuilt on it.
        case reimaged = "volume-reimaged"

        /// The first microversion in which Nova takes the event.
        fileprivate var microversion: String {
            switch self {
            case .extended: "2.51"
            case .reimaged: "2.93"
            }
        }
    }

    /// Tells Nova what happened to a volume of instances.
    public func tell(_ event: VolumeEvent, volume: String, instances: [String]) async throws(Unavailable) {
        let events = instances.filter(Self.isID).map { instance -> JSON in
            ["name": .string(event.rawValue), "server_uuid": .string(instance), "tag": .string(volume)]
        }
        guard !events.isEmpty else { return }
        let response = try await keystone.ask(
            endpoint, "/os-server-external-events", ["events": .array(events)],
            headers: [(name: "OpenStack-API-Version", value: "compute \(event.microversion)")], through: client, timeout: timeout)
        // 207: of some instances Nova knows nothing.
        guard response.status == 200 else {
            throw Unavailable(description: "Nova answered \(response.status) to the event \(event.rawValue) of volume \(volume)")
        }
    }

    /// What Nova says to a request that it works on later.
    public enum Answer: Sendable {
        case accepted
        /// Nova will not do it.
        case refused(String)
    }

    /// Has an instance copy a volume that it uses to another one and go on with that. Throws where nobody knows whether Nova heard.
    public func swap(_ volume: String, for copy: String, ofInstance instance: String) async throws(Unavailable) -> Answer {
        guard Self.isID(instance), Self.isID(volume), Self.isID(copy) else { return .refused("instance \(instance) has no id of Nova's") }
        let response = try await keystone.ask(
            endpoint, "/servers/\(instance)/os-volume_attachments/\(volume)", ["volumeAttachment": ["volumeId": .string(copy)]],
            method: "PUT", headers: [(name: "OpenStack-API-Version", value: "compute \(Self.swaps)")], through: client, timeout: timeout)
        switch response.status {
        case 202: return .accepted
        case 400..<500:
            let reason = (try? JSON(parsing: response.body))?.object?.members.first?.value["message"]?.string
            return .refused(
                "Nova answered \(response.status) to the swap of volume \(volume) of instance \(instance)"
                    + (reason.map { ": \($0.prefix(Self.longestReason))" } ?? ""))
        default:
            throw Unavailable(description: "Nova answered \(response.status) to the swap of volume \(volume) of instance \(instance)")
        }
    }

    /// Characters of what Nova says that are kept.
    private static let longestReason = 500
    /// The microversion whose form of a swap is asked for: every Nova has it, and nothing is gained by a later one.
    private static let swaps = "2.1"
    /// The first microversion in which Nova returns attachment ids.
    private static let tellsAttachments = "2.89"

    /// Whether the id can be put into a path.
    private static func isID(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0 == 45 || (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) }
    }
}
