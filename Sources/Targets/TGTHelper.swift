import CDriver
import DriverKit
import Glibc

/// Targets of tgtd, the user-space iSCSI target, through its management interface. No configuration files are written: after a restart of
/// tgtd, `export` creates the targets again with their previous credentials.
final class TGTHelper: TargetHelper {
    private let settings: TargetSettings
    private let store: CredentialStore
    private let tool: Tool
    /// Flags with which tgtd opens devices.
    private let flags: [String]
    private let cachesWrites: Bool
    let storageProtocol = "iSCSI"
    private static let lun = 1
    /// The caching mode page with the write cache disabled: tgtd writes to the device before it answers.
    private static let withoutCache = "mode_page=8:0:18:0x10:0:0xff:0xff:0:0:0xff:0xff:0xff:0xff:0x80:0x14:0:0:0:0:0:0"

    init(_ call: Call) throws {
        settings = try TargetSettings(call, defaultPort: 3260)
        store = try CredentialStore(call)
        let socket = getenv("TGT_IPC_SOCKET").map { ["TGT_IPC_SOCKET=" + String(cString: $0)] } ?? []
        tool = Tool("tgtadm", environment: socket)
        flags = try call.given(TargetOptions.flags).map { ["--bsoflags", $0] } ?? []
        cachesWrites = try call[TargetOptions.writeCache].lowercased() == "on"
    }

    private struct Target {
        let id: Int
        let iqn: String
        var luns: [Int: String] = [:]
        var accounts: [String] = []
        var isOpenToAll = false
        var isReady = true
        var connections: [(session: String, connection: String)] = []
    }

    func export(_ volume: String, device: String) throws {
        try store.alone {
            let credentials = try store.findOrMake(volume)
            let targets = try self.targets()
            if let target = targets.first(where: { $0.iqn == settings.iqn(volume) }) {
                if target.luns[Self.lun] == device, target.accounts == [credentials.user], target.isOpenToAll {
                    // A unit that an interrupted call has removed.
                    if !target.isReady { try setState("ready", of: target) }
                    return
                }
                try remove(target)
            }
            let id = "\((targets.map(\.id).max() ?? 0) + 1)"
            try manage("target", "new", "--tid", id, "-T", settings.iqn(volume))
            try makeUnit(of: id, device)
            // Accounts belong to the daemon, not to the target: an old one may exist.
            _ = try? manage("account", "delete", "--user", credentials.user)
            try TGTManagement.makeAccount(credentials)
            try manage("account", "bind", "--tid", id, "--user", credentials.user)
            try manage("target", "bind", "--tid", id, "-I", "ALL")
        }
    }

    func unexport(_ volume: String) throws {
        try store.alone {
            // If tgtd is not running there is no target.
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

    // Access depends on the credentials only, so there is nothing to revoke.
    func disconnect(_ volume: String, _ call: Call) throws {}

    /// tgtd reads a device's size once, so the unit must be removed and added again. No initiator may see it missing, since writes to a
    /// missing unit fail at once. Therefore connections are closed first and refused with a retry status until the unit is back; initiators
    /// reconnect and resend unanswered commands. tgtd removes no unit while a command is running on it.
    func resized(_ volume: String, device: String) throws {
        try store.alone {
            guard let target = try targets().first(where: { $0.iqn == settings.iqn(volume) }) else { return }
            try setState("offline", of: target)
            defer { try? setState("ready", of: target) }
            if target.luns[Self.lun] != nil { try removeUnit(of: target) }
            try makeUnit(of: "\(target.id)", device)
        }
    }

    // MARK: implementation

    private func setState(_ state: String, of target: Target) throws {
        try manage("target", "update", "--tid", "\(target.id)", "--name", "state", "--value", state)
    }

    private func makeUnit(of id: String, _ device: String) throws {
        try manage("logicalunit", "new", ["--tid", id, "--lun", "\(Self.lun)", "-b", device] + flags)
        if !cachesWrites { try manage("logicalunit", "update", "--tid", id, "--lun", "\(Self.lun)", "--params", Self.withoutCache) }
    }

    /// Closes the target's connections and waits for their running commands.
    private func removeUnit(of target: Target) throws {
        let limit = ContinuousClock.now + .seconds(20)
        while true {
            // Including connections that were made before the state was set.
            for (session, connection) in try targets().first(where: { $0.id == target.id })?.connections ?? [] {
                _ = try? manage("conn", "delete", "--tid", "\(target.id)", "--sid", session, "--cid", connection)
            }
            do {
                try manage("logicalunit", "delete", "--tid", "\(target.id)", "--lun", "\(Self.lun)")
                return
            } catch let error as DriverError where error.code == CLINKER_BUSY {
                if ContinuousClock.now > limit { throw DriverError(CLINKER_RETRY, error.message) }
            }
            usleep(20_000)
        }
    }

    private func remove(_ target: Target) throws { try manage("target", "delete", "--force", "--tid", "\(target.id)") }

    @discardableResult
    private func manage(_ mode: String, _ operation: String, _ arguments: String...) throws -> String {
        try manage(mode, operation, arguments)
    }

    @discardableResult
    private func manage(_ mode: String, _ operation: String, _ arguments: [String]) throws -> String {
        let answer = try tool.run(["--lld", "iscsi", "--mode", mode, "--op", operation] + arguments, timeout: 30)
        guard answer.status == 0 else {
            // A tgtd that is not running may come back; a refusal is final.
            let isAway = answer.errors.contains("connect") || answer.errors.contains("No such file")
            let isBusy = answer.errors.contains("still active")
            throw DriverError(
                isAway ? CLINKER_RETRY : isBusy ? CLINKER_BUSY : CLINKER_ERROR,
                "tgtadm cannot \(operation) the \(mode): \(answer.complaint)")
        }
        return answer.output
    }

    /// Parses tgtadm's report, which has only a form for people.
    private func targets() throws -> [Target] {
        var targets: [Target] = []
        var lun: Int?
        var session = ""
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
            } else if let state = value("State:") {
                targets[targets.count - 1].isReady = state == "ready"
            } else if let number = value("I_T nexus:") {
                session = number
            } else if let number = value("Connection:") {
                targets[targets.count - 1].connections.append((session, number))
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
