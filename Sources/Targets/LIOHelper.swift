import CDriver
import DriverKit

/// Targets of LIO, the kernel's iSCSI target, created through configfs. Each initiator has its own ACL, with the volume's credentials.
final class LIOHelper: TargetHelper {
    private let settings: TargetSettings
    private let store: CredentialStore
    let storageProtocol = "iSCSI"
    private static let root = "/sys/kernel/config/target"
    private static let lun = 0
    /// A separate directory for our devices, apart from those of administrators.
    private static let adapter = root + "/core/iblock_4100"

    init(_ call: Call) throws {
        settings = try TargetSettings(call, defaultPort: 3260)
        store = try CredentialStore(call)
        guard Configfs.exists(Self.root) else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "target_helper = lioadm: \(Self.root) is not there; load target_core_mod and iscsi_target_mod and mount configfs")
        }
    }

    private func group(_ volume: String) -> String { "\(Self.root)/iscsi/\(settings.iqn(volume))/tpgt_1" }

    func export(_ volume: String, device: String) throws {
        try store.alone {
            _ = try store.findOrMake(volume)
            let (backing, group) = ("\(Self.adapter)/\(volume)", group(volume))
            try Configfs.make(Self.adapter)
            try Configfs.make(backing)
            if try Configfs.text("\(backing)/enable") != "1" {
                try Configfs.put("udev_path=\(device)", to: "\(backing)/control")
                try Configfs.put(device, to: "\(backing)/udev_path")
                try Configfs.put("1", to: "\(backing)/enable")
            }
            // Loads the transport's module in the kernel.
            try Configfs.make("\(Self.root)/iscsi")
            try Configfs.make("\(Self.root)/iscsi/\(settings.iqn(volume))")
            try Configfs.make(group)
            let unit = "\(group)/lun/lun_\(Self.lun)"
            try Configfs.make(unit)
            try Configfs.link("\(unit)/\(volume)", to: backing)
            for portal in settings.portals { try Configfs.make("\(group)/np/\(portal)") }
            try Configfs.put("1", to: "\(group)/attrib/authentication")
            try Configfs.put("0", to: "\(group)/attrib/generate_node_acls")
            if try Configfs.text("\(group)/enable") != "1" { try Configfs.put("1", to: "\(group)/enable") }
        }
    }

    func unexport(_ volume: String) throws {
        try store.alone {
            let group = group(volume)
            if Configfs.exists(group) {
                _ = try? Configfs.put("0", to: "\(group)/enable")
                for initiator in Configfs.entries("\(group)/acls") { try shutOut(initiator, group) }
                for portal in Configfs.entries("\(group)/np") { try Configfs.remove("\(group)/np/\(portal)") }
                let unit = "\(group)/lun/lun_\(Self.lun)"
                if Configfs.exists(unit) {
                    try Configfs.unlink("\(unit)/\(volume)")
                    try Configfs.remove(unit)
                }
                try Configfs.remove(group)
            }
            try Configfs.remove("\(Self.root)/iscsi/\(settings.iqn(volume))")
            try Configfs.remove("\(Self.adapter)/\(volume)")
            store.forget(volume)
        }
    }

    func connect(_ volume: String, device: String, _ call: Call) throws {
        let initiator = try requiredName(call, "initiator", for: "iSCSI")
        try export(volume, device: device)
        let credentials = try store.findOrMake(volume)
        try store.alone {
            let group = group(volume)
            let entry = "\(group)/acls/\(initiator)"
            try Configfs.make(entry)
            try Configfs.put(credentials.user, to: "\(entry)/auth/userid")
            try Configfs.put(credentials.password, to: "\(entry)/auth/password")
            let unit = "\(entry)/lun_\(Self.lun)"
            try Configfs.make(unit)
            try Configfs.link("\(unit)/\(volume)", to: "\(group)/lun/lun_\(Self.lun)")
        }
        ISCSIConnection(settings: settings, lun: Self.lun).set(volume, credentials, call)
    }

    func disconnect(_ volume: String, _ call: Call) throws {
        try store.alone {
            let group = group(volume)
            for initiator in leaving(call, by: "initiator", of: Configfs.entries("\(group)/acls")) {
                try shutOut(initiator, group)
            }
        }
    }

    // The kernel reads the device's size whenever an initiator asks.
    func resized(_ volume: String, device: String) throws {}

    // MARK: implementation

    private func shutOut(_ initiator: String, _ group: String) throws {
        let entry = "\(group)/acls/\(initiator)"
        for unit in Configfs.entries(entry) where unit.hasPrefix("lun_") {
            for name in Configfs.links("\(entry)/\(unit)") { try Configfs.unlink("\(entry)/\(unit)/\(name)") }
            try Configfs.remove("\(entry)/\(unit)")
        }
        try Configfs.remove(entry)
    }
}
