import CDriver
import DriverKit
import Glibc

/// Targets of LIO, the kernel's iSCSI target, by its configuration filesystem. Each initiator gets an entry of its own, with
/// the volume's credentials.
final class LIOHelper: TargetHelper {
    private let settings: TargetSettings
    private static let root = "/sys/kernel/config/target"
    private static let lun = 0
    /// Devices of this program, apart from what administrators made.
    private static let adapter = root + "/core/iblock_4100"

    init(_ call: Call) throws {
        settings = try TargetSettings(call, defaultPort: 3260)
        guard access(Self.root, F_OK) == 0 else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "target_helper = lioadm: \(Self.root) is not there; load target_core_mod and iscsi_target_mod and mount configfs")
        }
    }

    private func group(_ volume: String) -> String { "\(Self.root)/iscsi/\(settings.iqn(volume))/tpgt_1" }

    func export(_ volume: String, device: String) throws {
        try settings.store.alone {
            _ = try settings.store.findOrMake(volume)
            let (backing, group) = ("\(Self.adapter)/\(volume)", group(volume))
            try make(backing)
            if try text("\(backing)/enable") != "1" {
                try put("udev_path=\(device)", to: "\(backing)/control")
                try put(device, to: "\(backing)/udev_path")
                try put("1", to: "\(backing)/enable")
            }
            // The kernel's word for the transport, which it knows from then on.
            try make("\(Self.root)/iscsi")
            try make("\(Self.root)/iscsi/\(settings.iqn(volume))")
            try make(group)
            let unit = "\(group)/lun/lun_\(Self.lun)"
            try make(unit)
            try link("\(unit)/\(volume)", to: backing)
            for portal in settings.portals { try make("\(group)/np/\(portal)") }
            try put("1", to: "\(group)/attrib/authentication")
            try put("0", to: "\(group)/attrib/generate_node_acls")
            if try text("\(group)/enable") != "1" { try put("1", to: "\(group)/enable") }
        }
    }

    func unexport(_ volume: String) throws {
        try settings.store.alone {
            let group = group(volume)
            if access(group, F_OK) == 0 {
                _ = try? put("0", to: "\(group)/enable")
                for initiator in entries("\(group)/acls") { try shutOut(initiator, group) }
                for portal in entries("\(group)/np") { try remove("\(group)/np/\(portal)") }
                let unit = "\(group)/lun/lun_\(Self.lun)"
                if access(unit, F_OK) == 0 {
                    unlink("\(unit)/\(volume)")
                    try remove(unit)
                }
                try remove(group)
            }
            try remove("\(Self.root)/iscsi/\(settings.iqn(volume))")
            try remove("\(Self.adapter)/\(volume)")
            settings.store.forget(volume)
        }
    }

    func connect(_ volume: String, device: String, _ call: Call) throws {
        let initiator = try ISCSIConnection.initiator(call)
        try export(volume, device: device)
        let credentials = try settings.store.findOrMake(volume)
        try settings.store.alone {
            let group = group(volume)
            let entry = "\(group)/acls/\(initiator)"
            try make(entry)
            try put(credentials.user, to: "\(entry)/auth/userid")
            try put(credentials.password, to: "\(entry)/auth/password")
            let unit = "\(entry)/lun_\(Self.lun)"
            try make(unit)
            try link("\(unit)/\(volume)", to: "\(group)/lun/lun_\(Self.lun)")
        }
        ISCSIConnection(settings: settings, lun: Self.lun).set(volume, credentials, call)
    }

    func disconnect(_ volume: String, _ call: Call) throws {
        try settings.store.alone {
            let group = group(volume)
            let present = entries("\(group)/acls")
            guard call.string("connector.host") != nil || call.string("connector.initiator") != nil else {
                for initiator in present { try shutOut(initiator, group) }
                return
            }
            guard let initiator = call.string("connector.initiator"), present.contains(initiator) else { return }
            let remaining = (0..<(call.count("attachments") ?? 0)).compactMap { call.string("attachments.\($0).connector.initiator") }
            if !remaining.contains(initiator) { try shutOut(initiator, group) }
        }
    }

    // The kernel asks the device whenever an initiator asks it.
    func resized(_ volume: String, device: String) throws {}

    // MARK: how

    private func shutOut(_ initiator: String, _ group: String) throws {
        let entry = "\(group)/acls/\(initiator)"
        for unit in entries(entry) where unit.hasPrefix("lun_") {
            for name in entries("\(entry)/\(unit)") { unlink("\(entry)/\(unit)/\(name)") }
            try remove("\(entry)/\(unit)")
        }
        try remove(entry)
    }

    private func make(_ path: String) throws {
        // iblock_4100 comes with its first device.
        if path.hasPrefix(Self.adapter + "/"), mkdir(Self.adapter, 0o755) != 0, errno != EEXIST { throw failure("make", Self.adapter) }
        if mkdir(path, 0o755) != 0, errno != EEXIST { throw failure("make", path) }
    }

    private func remove(_ path: String) throws {
        if rmdir(path) != 0, errno != ENOENT { throw failure("remove", path) }
    }

    private func link(_ path: String, to target: String) throws {
        if symlink(target, path) != 0, errno != EEXIST { throw failure("link", path) }
    }

    private func put(_ value: String, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        guard value.withCString({ write(descriptor, $0, strlen($0)) }) >= 0 else { throw failure("write to", path) }
    }

    private func text(_ path: String) throws -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("open", path) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).filter { !$0.isNewline }
    }

    /// Names of the directories and links of a directory.
    private func entries(_ path: String) -> [String] {
        guard let listing = opendir(path) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            guard entry.pointee.d_type == UInt8(DT_DIR) || entry.pointee.d_type == UInt8(DT_LNK) else { continue }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private func failure(_ what: String, _ path: String) -> DriverError {
        let number = errno
        return DriverError(number == EBUSY ? CLINKER_BUSY : CLINKER_ERROR, "cannot \(what) \(path): \(String(cString: strerror(number)))")
    }
}
