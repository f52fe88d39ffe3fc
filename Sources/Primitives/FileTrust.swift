public import Glibc

/// Whether others than root and the service's user can change or read a file. A group is ours if it is root's or the process's own: that
/// is how packages let a service read its configuration.
public struct FileTrust: Sendable {
    private let mode: mode_t
    private let owner: uid_t
    private let group: gid_t

    public init(_ info: stat) {
        mode = info.st_mode & 0o7777
        owner = info.st_uid
        group = info.st_gid
    }

    /// Who else may write it, with the command that mends it; nil if nobody. `isOwned`: who owns it must be one of us.
    public func writers(_ path: String, isOwned: Bool = true) -> String? {
        if isOwned, owner != 0, owner != geteuid() {
            return "\(path) belongs to user \(owner), not to root or the service's user: chown \(geteuid()) \(path)"
        }
        guard mode & 0o002 != 0 || (mode & 0o020 != 0 && !isOurs(memberships: false)) else { return nil }
        return "\(path) can be written by others (mode \(String(mode, radix: 8))): chmod go-w \(path)"
    }

    /// Who else may read it; nil if nobody.
    public func readers(_ path: String) -> String? {
        guard mode & 0o004 != 0 || (mode & 0o040 != 0 && !isOurs(memberships: true)) else { return nil }
        return "\(path) holds secrets and can be read by others (mode \(String(mode, radix: 8))): chmod 600 \(path)"
    }

    /// `memberships`: a group that the service was put into counts too.
    private func isOurs(memberships: Bool) -> Bool {
        if group == 0 || group == getegid() { return true }
        guard memberships else { return false }
        var groups = [gid_t](repeating: 0, count: 1024)
        let count = getgroups(Int32(groups.count), &groups)
        return count > 0 && groups.prefix(Int(count)).contains(group)
    }
}
