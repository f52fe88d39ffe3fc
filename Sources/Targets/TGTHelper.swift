import CDriver
import DriverKit
import Glibc

/// Targets of tgtd, the iSCSI target of user space, over its management interface. Nothing is written for tgtd to read:
/// after its restart `export` makes the targets anew, with the credentials that they had.
final class TGTHelper: TargetHelper {
    private let settings: TargetSettings
    private let store: CredentialStore
    private let tool: Tool
    let storageProtocol = "iSCSI"
    private static let lun = 1

    init(_ call: Call) throws {
        settings = try TargetSettings(call, defaultPort: 3260)
        store = try CredentialStore(call)
        let socket = getenv("TGT_IPC_SOCKET").map { ["TGT_IPC_SOCKET=" + String(cString: $0)] } ?? []
        tool = Tool("tgtadm", environment: socket)
    }

    private struct Target {
        let id: Int
        let iqn: String
        var luns: [Int: String] = [:]
        var accounts: [String] = []
        var isOpenToAll = false
    }

    func export(_ volume: String, device: String) throws {
        try store.alone {
            let credentials = try store.findOrMake(volume)
            let targets = try self.targets()
            if let target = targets.first(where: { $0.iqn == settings.iqn(volume) }) {
                if target.luns[Self.lun] == device, target.accounts == [credentials.user], target.isOpenToAll { return }
                try remove(target)
            }
            let id = "\((targets.map(\.id).max() ?? 0) + 1)"
            try manage("target", "new", "--tid", id, "-T", settings.iqn(volume))
            try manage("logicalunit", "new", "--tid", id, "--lun", "\(Self.lun)", "-b", device)
            // Accounts are the daemon's, not the target's: an old one may be left.
            _ = try? manage("account", "delete", "--user", credentials.user)
            try manage("account", "new", "--user", credentials.user, "--password", credentials.password)
            try manage("account", "bind", "--tid", id, "--user", credentials.user)
            try manage("target", "bind", "--tid", id, "-I", "ALL")
        }
    }

    func unexport(_ volume: String) throws {
        try store.alone {
            // A tgtd that does not run has no target.
            let targets = try? self.targets()
            if let target = targets?.first(where: { $0.iqn == settings.iqn(volume) }) { try remove(target) }
            if targets != nil, let credentials = try store.find(volume) {
                _ = try? manage("account", "delete", "--user", credentials.user)
            }
            store.forget(volume)
        }
    }

    func connect(_ volume: String, device: String, _ call: Call) throws {
        _ = try requiredName(call, "initiator", for: "iSCSI")
        try export(volume, device: device)
        ISCSIConnection(settings: settings, lun: Self.lun).set(volume, try store.findOrMake(volume), call)
    }

    // Whoever has the credentials may come: there is nothing to take back.
    func disconnect(_ volume: String, _ call: Call) throws {}

    /// tgtd reads a device's size once: the unit is taken away and given back, and sessions stay.
    func resized(_ volume: String, device: String) throws {
        try store.alone {
            guard let target = try targets().first(where: { $0.iqn == settings.iqn(volume) }) else { return }
            if target.luns[Self.lun] != nil { try manage("logicalunit", "delete", "--tid", "\(target.id)", "--lun", "\(Self.lun)") }
            try manage("logicalunit", "new", "--tid", "\(target.id)", "--lun", "\(Self.lun)", "-b", device)
        }
    }

    // MARK: how

    private func remove(_ target: Target) throws { try manage("target", "delete", "--force", "--tid", "\(target.id)") }

    @discardableResult
    private func manage(_ mode: String, _ operation: String, _ arguments: String...) throws -> String {
        let answer = try tool.run(["--lld", "iscsi", "--mode", mode, "--op", operation] + arguments, timeout: 30)
        guard answer.status == 0 else {
            // tgtd that is away comes back; what it refuses it will refuse again.
            let isAway = answer.errors.contains("connect") || answer.errors.contains("No such file")
            throw DriverError(isAway ? CLINKER_RETRY : CLINKER_ERROR, "tgtadm cannot \(operation) the \(mode): \(answer.complaint)")
        }
        return answer.output
    }

    /// tgtadm knows one form of report, made for people.
    private func targets() throws -> [Target] {
        var targets: [Target] = []
        var lun: Int?
        var part = ""
        for line in try manage("target", "show").split(whereSeparator: \.isNewline) {
            let text = line.drop(while: \.isWhitespace)
            func value(_ label: String) -> String? {
                text.hasPrefix(label) ? String(text.dropFirst(label.count).drop(while: \.isWhitespace)) : nil
            }
            if let rest = value("Target "), let colon = rest.firstIndex(of: ":"), let id = Int(rest[..<colon]) {
                targets.append(Target(id: id, iqn: rest[rest.index(after: colon)...].filter { !$0.isWhitespace }))
                part = ""
            } else if targets.isEmpty {
                continue
            } else if let number = value("LUN:").flatMap({ Int($0) }) {
                lun = number
            } else if let path = value("Backing store path:"), let lun, path != "None" {
                targets[targets.count - 1].luns[lun] = path
            } else if text == "Account information:" || text == "ACL information:" {
                part = String(text)
            } else if part == "Account information:", !text.isEmpty {
                targets[targets.count - 1].accounts.append(String(text.prefix { !$0.isWhitespace }))
            } else if part == "ACL information:", text == "ALL" {
                targets[targets.count - 1].isOpenToAll = true
            }
        }
        return targets
    }
}
