import CDriver
public import DriverKit
import Glibc

/// Exports local block devices over the network; `target_helper` selects the implementation. A target is named after its volume. Every
/// call may be repeated, and completes an interrupted one.
public protocol TargetHelper: AnyObject {
    /// The storage protocol as reported in capabilities: `iSCSI`, `NVMe-oF`.
    var storageProtocol: String { get }
    /// Exports the device, always with the same credentials for a volume.
    func export(_ volume: String, device: String) throws
    /// Removes the target.
    func unexport(_ volume: String) throws
    /// Allows the connector's host and sets the connection information: `driver_volume_type` and `data`.
    func connect(_ volume: String, device: String, _ call: Call) throws
    /// Removes the connector's host, unless a remaining attachment needs it; without a connector, every host.
    func disconnect(_ volume: String, _ call: Call) throws
    /// Updates the target after the device has grown; initiators see the new size when they rescan.
    func resized(_ volume: String, device: String) throws
}

extension TargetHelper {
    /// The allowed hosts that `disconnect` has to remove; connectors give the host's name as `key`.
    func leaving(_ call: Call, by key: String, of present: [String]) -> [String] {
        guard call.string("connector.host") != nil || call.string("connector.\(key)") != nil else { return present }
        guard let name = call.string("connector.\(key)"), present.contains(name) else { return [] }
        let remaining = (0..<(call.count("attachments") ?? 0)).compactMap { call.string("attachments.\($0).connector.\(key)") }
        return remaining.contains(name) ? [] : [name]
    }
}

/// The name by which targets of a kind identify a connector's host.
func requiredName(_ call: Call, _ key: String, for transport: String) throws -> String {
    guard let name = call.string("connector.\(key)"), !name.isEmpty, name.utf8.count <= 223, !name.utf8.contains(UInt8(ascii: "/")),
        !name.hasPrefix(".")
    else { throw DriverError(CLINKER_INVALID, "the connector has no \(key), which \(transport) needs") }
    return name
}

/// Settings shared by all targets of a backend: addresses and names.
public struct TargetSettings {
    public let addresses: [String]
    public let port: Int
    public let prefix: String
    /// Whether discard is announced to initiators.
    let reportsDiscard: Bool

    init(_ call: Call, defaultPort: Int) throws {
        let first = try call.given(TargetOptions.address) ?? call.given(TargetOptions.formerAddress) ?? call.option("my_ip") ?? "127.0.0.1"
        addresses =
            try [first] + call[TargetOptions.moreAddresses].split(separator: ",").map { $0.filter { !$0.isWhitespace } }
        for address in addresses {
            guard !address.isEmpty, address.allSatisfy({ $0.isHexDigit || $0 == "." || $0 == ":" }) else {
                throw DriverError(CLINKER_BAD_CONFIGURATION, "target_ip_address: '\(address)' is no IP address")
            }
        }
        port = try call.given(TargetOptions.port).flatMap { $0 > 0 ? $0 : nil } ?? defaultPort
        prefix = try call[TargetOptions.prefix]
        reportsDiscard = try call[TargetOptions.reportsDiscard]
    }

    func iqn(_ volume: String) -> String { prefix + volume }

    /// The address for a portal; IPv6 addresses are put in brackets.
    var portals: [String] { addresses.map { ($0.contains(":") ? "[\($0)]" : $0) + ":\(port)" } }
}

/// Creates the helper that the configuration names.
public enum Targets {
    public static func helper(_ call: Call) throws -> any TargetHelper {
        let name = try call[TargetOptions.helper]
        guard let helper = helpers[name] else {
            throw DriverError(CLINKER_BAD_CONFIGURATION, "target_helper must be tgtadm, lioadm or nvmet, not '\(name)'")
        }
        let transport = try call.given(TargetOptions.transport) ?? helper.transport
        guard transport == helper.transport else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "target_protocol = \(transport): what target_helper = \(name) speaks is \(helper.transport)")
        }
        return try helper.make(call)
    }

    private static let helpers: [String: (transport: String, make: @Sendable (Call) throws -> any TargetHelper)] = [
        "tgtadm": ("iscsi", { try TGTHelper($0) }),
        "lioadm": ("iscsi", { try LIOHelper($0) }),
        "nvmet": ("nvmet_tcp", { try NVMeTHelper($0) }),
    ]
}

/// The CHAP credentials of each target, generated once and stored in files that only the service can read.
final class CredentialStore: Sendable {
    struct Credentials: Equatable, Sendable {
        let user, password: String
    }

    private let directory: String

    init(_ call: Call) throws {
        guard
            let directory = try call.given(TargetOptions.directory)
                ?? call.option("state_dir").map({ "\($0)/targets" })
        else { throw DriverError(CLINKER_BAD_CONFIGURATION, "volumes_dir is not set") }
        self.directory = directory
        // Earlier releases kept it beside the directories of backends.
        if let own = call.option("state_dir"), let backend = call.option("backend"), directory == own + "/targets",
            access(directory, F_OK) != 0, !backend.utf8.contains(UInt8(ascii: "/"))
        {
            _ = rename("\(own)/../../targets-\(backend)", directory)
        }
        if mkdir(directory, 0o700) != 0, errno != EEXIST {
            throw DriverError.last(CLINKER_BAD_CONFIGURATION, "volumes_dir: cannot create \(directory)")
        }
    }

    func find(_ volume: String) throws -> Credentials? {
        let descriptor = open(path(volume), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw failure("read", volume)
        }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(descriptor, &bytes, bytes.count)
        let words = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
        // Truncated by a crash: it was never used.
        guard words.count == 3, words[2] == "." else { return nil }
        return Credentials(user: words[0], password: words[1])
    }

    func findOrMake(_ volume: String) throws -> Credentials {
        if let known = try find(volume) { return known }
        let made = Credentials(user: Self.random(20), password: Self.random(16))
        let descriptor = open(path(volume), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw failure("write", volume) }
        defer { close(descriptor) }
        let text = "\(made.user) \(made.password) .\n"
        guard text.withCString({ write(descriptor, $0, strlen($0)) }) == text.utf8.count, fsync(descriptor) == 0 else {
            throw failure("write", volume)
        }
        return made
    }

    func forget(_ volume: String) { unlink(path(volume)) }

    /// Runs the closure under a machine-wide lock for changes of targets.
    func alone<T>(_ body: () throws -> T) throws -> T {
        let descriptor = open(directory + "/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0, flock(descriptor, LOCK_EX) == 0 else { throw failure("lock", ".lock") }
        defer { close(descriptor) }
        return try body()
    }

    private func path(_ volume: String) -> String { directory + "/" + volume }

    private func failure(_ what: String, _ volume: String) -> DriverError {
        DriverError.last(CLINKER_ERROR, "cannot \(what) \(path(volume))")
    }

    private static func random(_ count: Int) -> String {
        let letters = Array("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789")
        var generator = SystemRandomNumberGenerator()
        return String((0..<count).map { _ in letters.randomElement(using: &generator) ?? "x" })
    }
}

/// Sets the connection information of an iSCSI target.
struct ISCSIConnection {
    let settings: TargetSettings
    let lun: Int

    func set(_ volume: String, _ credentials: CredentialStore.Credentials, _ call: Call) {
        let (iqn, portals) = (settings.iqn(volume), settings.portals)
        call.set("driver_volume_type", "iscsi")
        call.object("data") {
            call.set("target_discovered", false)
            call.set("target_portal", portals[0])
            call.set("target_iqn", iqn)
            call.set("target_lun", Int64(lun))
            if portals.count > 1 || call.boolean("connector.multipath") ?? false {
                call.list("target_portals") { for portal in portals { call.set(nil, portal) } }
                call.list("target_iqns") { for _ in portals { call.set(nil, iqn) } }
                call.list("target_luns") { for _ in portals { call.set(nil, Int64(lun)) } }
            }
            call.set("volume_id", call.string("volume.id") ?? "")
            call.set("auth_method", "CHAP")
            call.set("auth_username", credentials.user)
            call.set("auth_password", secret: credentials.password)
            call.set("discard", settings.reportsDiscard)
        }
    }
}
