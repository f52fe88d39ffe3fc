public import Glibc

/// Checks whether users other than root and the service's user can write or read a file. Group permissions are accepted if the group is
/// root's or the process's own, since packages let a service read its configuration that way.
public struct FileTrust: Sendable {
    private let mode: mode_t
    private let owner: uid_t
    private let group: gid_t

    public init(_ info: stat) {
        mode = info.st_mode & 0o7777
        owner = info.st_uid
        group = info.st_gid
    }

    /// Why others can write the file, with the command that corrects it; nil if nobody else can.
    ///
    /// - Parameters:
    ///   - path: the file's path, for the message.
    ///   - isOwned: whether the owner must be root or the service's user.
    public func writers(_ path: String, isOwned: Bool = true) -> String? {
        if isOwned, owner != 0, owner != geteuid() {
            return "\(path) belongs to user \(owner), not to root or the service's user: chown \(geteuid()) \(path)"
        }
        guard mode & 0o002 != 0 || (mode & 0o020 != 0 && !isTrustedGroup(memberships: false)) else { return nil }
        return "\(path) can be written by others (mode \(String(mode, radix: 8))): chmod go-w \(path)"
    }

    /// Why others can read the file, with the command that corrects it; nil if nobody else can.
    public func readers(_ path: String) -> String? {
        guard mode & 0o004 != 0 || (mode & 0o040 != 0 && !isTrustedGroup(memberships: true)) else { return nil }
        return "\(path) holds secrets and can be read by others (mode \(String(mode, radix: 8))): chmod 600 \(path)"
    }

    /// - Parameter memberships: whether supplementary groups of the process count too.
    private func isTrustedGroup(memberships: Bool) -> Bool {
        if group == 0 || group == getegid() { return true }
        guard memberships else { return false }
        var groups = [gid_t](repeating: 0, count: 1024)
        let count = getgroups(Int32(groups.count), &groups)
        return count > 0 && groups.prefix(Int(count)).contains(group)
    }
}
