import Glibc

/// The process groups that work on something, noted as names of files in a directory: whoever comes after a death, be it another
/// core or the next service, knows by them whose end to await. A group is a child that leads it and the programs that the child
/// starts, which stay in it whatever they do with their descriptors; a daemon, which makes a session of its own, leaves it.
public struct ProcessGroups: Sendable {
    public struct Member: Sendable, CustomStringConvertible {
        public let pid: pid_t
        /// Of its program.
        public let name: String
        fileprivate let group: Group
        fileprivate var leads: Bool { pid == group.leader }
        public var description: String { "\(name) (\(pid))" }
    }

    /// A group as its note names it. Numbers of processes come again, in a container at each start: this one's leader, if it lives, is as
    /// old as it was, and its members are of the boot and the session that the leader was of, and not older.
    fileprivate struct Group: Hashable {
        let kind: String
        let leader: pid_t
        let session: pid_t
        /// In clock ticks from the boot on.
        let startedAt: UInt64

        var note: String { "\(kind)-\(leader)-\(session)-\(startedAt)-\(Self.boot)" }

        static let boot = String(ProcessTable.text(of: "/proc/sys/kernel/random/boot_id").prefix { $0 != "-" && $0 != "\n" })

        init(kind: String, leader: pid_t, session: pid_t, startedAt: UInt64) {
            self.kind = kind
            self.leader = leader
            self.session = session
            self.startedAt = startedAt
        }

        /// nil for a note of another boot.
        init?(note: String) {
            let parts = note.split(separator: "-")
            guard parts.count == 5, let leader = pid_t(parts[1]), let session = pid_t(parts[2]), let startedAt = UInt64(parts[3]),
                parts[4] == Self.boot
            else { return nil }
            self.init(kind: String(parts[0]), leader: leader, session: session, startedAt: startedAt)
        }
    }

    private let directory: String

    /// What Swift's runtime starts in a process that crashes: it only reads, and may take seconds to write what it saw.
    private static let onlooker = "swift-backtrace"

    /// The directory is made when something is to be noted.
    public init(_ directory: String) { self.directory = directory }

    /// Notes the group of a child that was started as its leader, before it is told what to do. `kind` is a word.
    public func note(_ leader: pid_t, as kind: String) throws(SystemError) {
        guard let stat = ProcessTable.stat(leader) else { return }
        let path = directory + "/" + Group(kind: kind, leader: leader, session: stat.session, startedAt: stat.startedAt).note
        for _ in 0..<2 {
            let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            if descriptor >= 0 {
                close(descriptor)
                return
            }
            guard errno == ENOENT else { break }
            mkdir(String(directory[..<(directory.lastIndex(of: "/") ?? directory.endIndex)]), 0o700)
            mkdir(directory, 0o700)
        }
        let code = errno
        throw SystemError(code, "cannot make \(path)")
    }

    /// Who lives of the groups of a kind, or of that of one leader. The notes of those that ended, and of what was before this boot, go.
    public func members(_ kind: String, leader: pid_t? = nil) -> [Member] {
        let beginning = kind + "-" + (leader.map { "\($0)-" } ?? "")
        let notes = ProcessTable.names(in: directory).filter { $0.hasPrefix(beginning) }
        guard !notes.isEmpty else { return [] }
        let noted = notes.compactMap { Group(note: $0) }
        let known = noted.filter { group in ProcessTable.stat(group.leader).map { $0.startedAt == group.startedAt } ?? true }
        let groups = Dictionary(known.map { ($0.leader, $0) }, uniquingKeysWith: { $0.startedAt > $1.startedAt ? $0 : $1 })
        var members: [Member] = []
        for pid in ProcessTable.pids() {
            guard let stat = ProcessTable.stat(pid), let group = groups[stat.group], stat.session == group.session,
                stat.startedAt >= group.startedAt, stat.isAlive, stat.name != Self.onlooker
            else { continue }
            members.append(Member(pid: pid, name: stat.name, group: group))
        }
        let living = Set(members.map(\.group.note))
        for note in notes where !living.contains(note) { unlink(directory + "/" + note) }
        return members
    }

    /// Waits until none of them lives; false as soon as nobody wants to know any more. The leaders are killed at once,
    /// what they started after `patience` seconds. `onDelay` is told who still lives after a second, and every second from then on.
    @discardableResult
    public func awaitEnd(
        of kind: String, leader: pid_t? = nil, patience: Double, while isWanted: () -> Bool = { true },
        onDelay: ([Member]) -> Void = { _ in }
    ) -> Bool {
        let begunAt = Timestamp.monotonic()
        var toldAt = begunAt
        var pause: UInt32 = 1_000
        while isWanted() {
            let members = members(kind, leader: leader)
            if members.isEmpty { return true }
            let now = Timestamp.monotonic()
            for member in members where member.leads || now - begunAt >= patience { kill(member.pid, SIGKILL) }
            if now - toldAt >= 1 {
                toldAt = now
                onDelay(members)
            }
            usleep(pause)
            pause = min(pause * 2, 50_000)
        }
        return false
    }
}
