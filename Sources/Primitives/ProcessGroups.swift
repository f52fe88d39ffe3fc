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

        func note(_ boot: String) -> String { "\(kind)-\(leader)-\(session)-\(startedAt)-\(boot)" }

        init(kind: String, leader: pid_t, session: pid_t, startedAt: UInt64) {
            self.kind = kind
            self.leader = leader
            self.session = session
            self.startedAt = startedAt
        }

        /// nil for a note of another boot.
        init?(note: String, boot: String) {
            let parts = note.split(separator: "-")
            guard parts.count == 5, let leader = pid_t(parts[1]), let session = pid_t(parts[2]), let startedAt = UInt64(parts[3]),
                parts[4] == boot
            else { return nil }
            self.init(kind: String(parts[0]), leader: leader, session: session, startedAt: startedAt)
        }
    }

    private let directories: Set<String>

    /// What Swift's runtime starts in a process that crashes: it only reads, and may take seconds to write what it saw.
    private static let onlooker = "swift-backtrace"

    /// The directory is made when something is to be noted.
    public init(_ directory: String) { directories = [directory] }

    private init(_ directories: Set<String>) { self.directories = directories }

    /// The groups of both: what is noted is noted in the directories of both, and whoever comes to either awaits it.
    public func union(_ other: ProcessGroups) -> ProcessGroups { ProcessGroups(directories.union(other.directories)) }

    /// Notes the group of a child that was started as its leader, before it is told what to do. `kind` is a word.
    public func note(_ leader: pid_t, as kind: String) throws(SystemError) {
        guard let stat = try ProcessTable.stat(leader) else { throw SystemError(ESRCH, "/proc does not show process \(leader)") }
        let note = Group(kind: kind, leader: leader, session: stat.session, startedAt: stat.startedAt).note(try Self.boot())
        for directory in directories { try Self.make(note, in: directory) }
    }

    private static func make(_ note: String, in directory: String) throws(SystemError) {
        let path = directory + "/" + note
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

    private static func boot() throws(SystemError) -> String {
        String(try ProcessTable.text(of: "/proc/sys/kernel/random/boot_id").prefix { $0 != "-" })
    }

    private static func notes(in directory: String, beginningWith beginning: String) throws(SystemError) -> [String] {
        do throws(SystemError) { return try ProcessTable.names(in: directory).filter { $0.hasPrefix(beginning) } } catch {
            if error.code == ENOENT { return [] }
            throw error
        }
    }

    /// Who lives of the groups of a kind, or of that of one leader. The notes of those that ended, and of what was before this boot, go.
    /// Throws, and leaves the notes, where it cannot be seen who lives.
    public func members(_ kind: String, leader: pid_t? = nil) throws(SystemError) -> [Member] {
        let beginning = kind + "-" + (leader.map { "\($0)-" } ?? "")
        var notes: [(directory: String, note: String)] = []
        for directory in directories {
            notes += try Self.notes(in: directory, beginningWith: beginning).map { (directory, $0) }
        }
        guard !notes.isEmpty else { return [] }
        let boot = try Self.boot()
        var groups: [pid_t: Group] = [:]
        for group in Set(notes.compactMap { Group(note: $0.note, boot: boot) }) {
            if let leader = try ProcessTable.stat(group.leader), leader.startedAt != group.startedAt { continue }
            if let other = groups[group.leader], other.startedAt > group.startedAt { continue }
            groups[group.leader] = group
        }
        var members: [Member] = []
        for pid in try ProcessTable.pids() {
            guard let stat = try ProcessTable.stat(pid), let group = groups[stat.group], stat.session == group.session,
                stat.startedAt >= group.startedAt, stat.isAlive
            else { continue }
            if stat.name == Self.onlooker {
                // For one that was killed while it looked at it, it would wait for ever.
                if try ProcessTable.stat(stat.parent)?.group != stat.group { kill(pid, SIGKILL) }
                continue
            }
            members.append(Member(pid: pid, name: stat.name, group: group))
        }
        let living = Set(members.map { $0.group.note(boot) })
        for (directory, note) in notes where !living.contains(note) { unlink(directory + "/" + note) }
        return members
    }

    /// Waits until none of them lives; false as soon as nobody wants to know any more. The leaders are killed at once,
    /// what they started after `patience` seconds. After a second, and every second from then on, `onDelay` is told who still lives,
    /// or why that cannot be seen.
    @discardableResult
    public func awaitEnd(
        of kind: String, leader: pid_t? = nil, patience: Double, while isWanted: () -> Bool = { true },
        onDelay: (Result<[Member], SystemError>) -> Void = { _ in }
    ) -> Bool {
        let begunAt = Timestamp.monotonic()
        var toldAt = begunAt
        var pause: UInt32 = 1_000
        while isWanted() {
            let living = Result { () throws(SystemError) in try members(kind, leader: leader) }
            let now = Timestamp.monotonic()
            if case .success(let members) = living {
                if members.isEmpty { return true }
                for member in members where member.leads || now - begunAt >= patience { kill(member.pid, SIGKILL) }
            }
            if now - toldAt >= 1 {
                toldAt = now
                onDelay(living)
            }
            usleep(pause)
            pause = min(pause * 2, 50_000)
        }
        return false
    }
}
