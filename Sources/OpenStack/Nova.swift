import HTTPClient
import JSON
import Primitives
public import Settings

/// Asks Nova's API where instances run (https://docs.openstack.org/api-ref/compute/#show-server-details), with Clinker's own
/// account, which must be an administrator's: Nova tells others no hosts.
public final class Nova: Sendable {
    private let keystone: Keystone
    private let endpoint: Endpoint
    private let client: HTTPClient
    private let hosts = Guarded<[String: (host: String, until: Double)]>([:])

    /// Seconds that an answer may take, and for which it is believed: instances move seldom.
    private static let timeout = 5.0
    private static let life = 60.0
    private static let kept = 10_000

    public init(_ settings: Settings, keystone: Keystone) {
        self.keystone = keystone
        let region = settings[Options.novaRegion]
        endpoint = Endpoint(type: "compute", interface: settings[Options.novaInterface], region: region.isEmpty ? nil : region)
        let authorities = settings[Options.novaCAFile]
        client = HTTPClient(
            trust: HTTPClient.Trust(authorities: authorities.isEmpty ? nil : authorities, isInsecure: settings[Options.novaInsecure]))
    }

    /// The host that an instance runs on; nil if there is no such instance.
    public func host(ofInstance id: String) async throws(Unavailable) -> String? {
        if let known = hosts.withLock({ $0[id] }), known.until > Timestamp.monotonic() { return known.host }
        let response = try await keystone.ask(endpoint, "/servers/\(id)", through: client, timeout: Self.timeout)
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

    /// The attachment by which an instance uses a volume, asked with the token of the user who wants to end it, as Cinder does; nil if
    /// Nova knows no such instance or no such volume of it. Never from memory: what was true a moment ago costs data.
    public func attachment(ofInstance instance: String, volume: String, token: Secret) async throws(Unavailable) -> String? {
        guard Self.isID(instance), Self.isID(volume) else { throw Unavailable(description: "instance \(instance) has no id of Nova's") }
        let response = try await keystone.ask(
            endpoint, "/servers/\(instance)/os-volume_attachments/\(volume)",
            headers: [(name: "OpenStack-API-Version", value: "compute \(Self.tellsAttachments)")], token: token, through: client,
            timeout: Self.timeout)
        let body = try? JSON(parsing: response.body)
        switch response.status {
        case 200:
            guard let id = body?["volumeAttachment"]?["attachment_id"]?.string else {
                throw Unavailable(description: "Nova's answer about volume \(volume) of instance \(instance) names no attachment")
            }
            return id
        // Any other server on the way can answer 404: only Nova says it so.
        case 404 where body?["itemNotFound"] != nil: return nil
        default: throw Unavailable(description: "Nova answered \(response.status) about volume \(volume) of instance \(instance)")
        }
    }

    /// Since then Nova names the attachment of a volume.
    private static let tellsAttachments = "2.89"

    /// Goes into a path.
    private static func isID(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0 == 45 || (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) }
    }
}
