import CDriver
import DriverKit
import Glibc

/// Targets of nvmet, the kernel's NVMe over TCP target, created through configfs: a subsystem with one namespace per volume, whose allowed
/// hosts are those that are connected. The ports are shared by all volumes, and by all backends of the machine.
final class NVMeTHelper: TargetHelper {
    private let settings: TargetSettings
    let storageProtocol = "NVMe-oF"
    private let firstPort: Int
    private let namespaceID: Int
    /// Version of the connection information: Cinder's `nvmeof_conn_info_version`.
    private let version: Int

    private static let root = "/sys/kernel/config/nvmet"
    private static let hosts = root + "/hosts"

    init(_ call: Call) throws {
        settings = try TargetSettings(call, defaultPort: 4420)
        firstPort = try call[TargetOptions.nvmetPort]
        namespaceID = try call[TargetOptions.nvmetNamespace]
        version = try call[TargetOptions.connectionVersion]
        guard Configfs.exists(Self.root) else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION, "target_helper = nvmet: \(Self.root) is not there; load nvmet_tcp and mount configfs")
        }
    }

    /// The part of the volume's name after its prefix, usually its UUID.
    private func identity(_ volume: String) -> String { volume.hasPrefix("volume-") ? String(volume.dropFirst(7)) : volume }
    private func nqn(_ volume: String) -> String { "nqn.\(settings.prefix)-\(identity(volume))" }
    private func subsystem(_ volume: String) -> String { "\(Self.root)/subsystems/\(nqn(volume))" }
    private func namespace(_ volume: String) -> String { "\(subsystem(volume))/namespaces/\(namespaceID)" }
    private var ports: [(address: String, path: String)] {
        settings.addresses.enumerated().map { ($1, "\(Self.root)/ports/\(firstPort + $0)") }
    }

    func export(_ volume: String, device: String) throws {
        try alone {
            let (subsystem, namespace) = (subsystem(volume), namespace(volume))
            try Configfs.make(subsystem)
            try Configfs.put("0", to: "\(subsystem)/attr_allow_any_host")
            try Configfs.make(namespace)
            if try Configfs.text("\(namespace)/enable") != "1" {
                try Configfs.put(device, to: "\(namespace)/device_path")
                // Stable across restarts: hosts identify the device by it.
                let identity = identity(volume)
                if Self.isUUID(identity) { try Configfs.put(identity, to: "\(namespace)/device_uuid") }
                try Configfs.put("1", to: "\(namespace)/enable")
            }
            for port in ports {
                try listen(port.path, at: port.address)
                try Configfs.link("\(port.path)/subsystems/\(nqn(volume))", to: subsystem)
            }
        }
    }

    private func listen(_ port: String, at address: String) throws {
        try Configfs.make(port)
        let wanted = [
            "addr_trtype": "tcp", "addr_adrfam": address.contains(":") ? "ipv6" : "ipv4", "addr_traddr": address,
            "addr_trsvcid": "\(settings.port)",
        ]
        let differing = try wanted.filter { try Configfs.text("\(port)/\($0.key)") != $0.value }
        guard differing.isEmpty || Configfs.links("\(port)/subsystems").isEmpty else {
            throw DriverError(
                CLINKER_ERROR, "\(port) listens elsewhere than at \(address):\(settings.port) and is in use: choose another nvmet_port_id")
        }
        for (attribute, value) in differing { try Configfs.put(value, to: "\(port)/\(attribute)") }
    }

    func unexport(_ volume: String) throws {
        try alone {
            let (subsystem, namespace) = (subsystem(volume), namespace(volume))
            for (_, port) in ports where Configfs.exists(port) {
                try Configfs.unlink("\(port)/subsystems/\(nqn(volume))")
                if Configfs.links("\(port)/subsystems").isEmpty { try Configfs.remove(port) }
            }
            guard Configfs.exists(subsystem) else { return }
            for host in Configfs.links("\(subsystem)/allowed_hosts") { try shutOut(host, subsystem) }
            if Configfs.exists(namespace) { try Configfs.put("0", to: "\(namespace)/enable") }
            try Configfs.remove(namespace)
            try Configfs.remove(subsystem)
        }
    }

    func connect(_ volume: String, device: String, _ call: Call) throws {
        let host = try requiredName(call, "nqn", for: "NVMe")
        try export(volume, device: device)
        let uuid = try alone {
            try Configfs.make("\(Self.hosts)/\(host)")
            try Configfs.link("\(subsystem(volume))/allowed_hosts/\(host)", to: "\(Self.hosts)/\(host)")
            return try Configfs.text("\(namespace(volume))/device_uuid")
        }
        call.set("driver_volume_type", "nvmeof")
        // All values are texts: they become arguments of nvme(1) and are compared with sysfs.
        call.object("data") {
            if version == 1 {
                call.set("target_portal", settings.addresses[0])
                call.set("target_port", "\(settings.port)")
                call.set("nqn", nqn(volume))
                call.set("transport_type", "tcp")
            } else {
                call.set("target_nqn", nqn(volume))
                call.set("vol_uuid", uuid)
                call.list("portals") {
                    for address in settings.addresses {
                        call.list(nil) { for word in [address, "\(settings.port)", "tcp"] { call.set(nil, word) } }
                    }
                }
            }
            call.set("ns_id", "\(namespaceID)")
            if settings.reportsDiscard { call.set("discard", true) }
        }
    }

    func disconnect(_ volume: String, _ call: Call) throws {
        try alone {
            let subsystem = subsystem(volume)
            for host in leaving(call, by: "nqn", of: Configfs.links("\(subsystem)/allowed_hosts")) { try shutOut(host, subsystem) }
        }
    }

    func resized(_ volume: String, device: String) throws {
        let namespace = namespace(volume)
        // The kernel notifies the hosts.
        if Configfs.exists(namespace) { try Configfs.put("1", to: "\(namespace)/revalidate_size") }
    }

    // MARK: implementation

    private func shutOut(_ host: String, _ subsystem: String) throws {
        try Configfs.unlink("\(subsystem)/allowed_hosts/\(host)")
        // Hosts of other volumes stay.
        do { try Configfs.remove("\(Self.hosts)/\(host)") } catch let error as DriverError where error.code == CLINKER_BUSY {}
    }

    /// Runs the closure under a machine-wide lock for changes of ports and hosts.
    private func alone<T>(_ body: () throws -> T) throws -> T {
        let descriptor = open(Self.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0, flock(descriptor, LOCK_EX) == 0 else {
            throw DriverError.last(CLINKER_ERROR, "cannot lock \(Self.root)")
        }
        defer { close(descriptor) }
        return try body()
    }

    private static func isUUID(_ text: String) -> Bool {
        text.utf8.count == 36 && text.enumerated().allSatisfy { [8, 13, 18, 23].contains($0) ? $1 == "-" : $1.isHexDigit && $1.isASCII }
    }
}
