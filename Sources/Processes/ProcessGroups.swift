public import Glibc
public import Primitives

/// Records child process groups as files of a directory, so that a restarted core can wait for survivors. A group consists of a child
/// process, its leader, and the programs that the child starts; they stay in it whatever they do with their descriptors. A daemon that
/// creates its own session leaves the group.
public struct ProcessGroups: Sendable {
    public struct Member: Sendable, CustomStringConvertible {
        public let pid: pid_t
        /// The program's name.
        public let name: String
        fileprivate let group: Group
        fileprivate var leads: Bool { pid == group.leader }
        public var description: String { "\(name) (\(pid))" }
    }

    /// A recorded group. PIDs are reused (in a container after every start), so a record matches only with equal start time, session and
    /// boot id: a living leader has the recorded start time, and members have the leader's session and are not older.
    fileprivate struct Group: Hashable {
        let kind: String
        let leader: pid_t
        let session: pid_t
        /// In clock ticks since the boot.
        let startedAt: UInt64

        func note(_ boot: String) -> String { "\(kind)-\(leader)-\(session)-\(startedAt)-\(boot)" }

        init(kind: String, leader: pid_t, session: pid_t, startedAt: UInt64) {
            self.kind = kind
            self.leader = leader
            self.session = session
            self.startedAt = startedAt
        }

        /// Parses a file name; nil for a record of another boot.
        init?(note: String, boot: String) {
            let parts = note.split(separator: "-")
            guard parts.count == 5, let leader = pid_t(parts[1]), let session = pid_t(parts[2]), let startedAt = UInt64(parts[3]),
                parts[4] == boot
            else { return nil }
            self.init(kind: String(parts[0]), leader: leader, session: session, startedAt: startedAt)
        }
    }

    private let directories: Set<String>

    /// Started by Swift's runtime in a process that crashes. It only reads, and may run for seconds; it is not waited for.
    private static let backtracer = "swift-backtrace"

    /// The directory is created with the first record.
    public init(_ directory: String) { directories = [directory] }

    private init(_ directories: Set<String>) { self.directories = directories }

    /// The groups of both: records are written to both directories, so that users of either one wait for them.
    public func union(_ other: ProcessGroups) -> ProcessGroups { ProcessGroups(directories.union(other.directories)) }

    /// Records the group of a child that was started as its leader. Call it before the child gets any work.
    ///
    /// - Parameters:
    ///   - leader: the child's PID.
    ///   - kind: a word that tells groups of one directory apart, such as `host`.
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
        throw SystemError.last("cannot make \(path)")
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

    /// The living members of the groups of a kind, or of one leader's group. Records of groups that have ended, and of earlier boots, are
    /// removed.
    ///
    /// - Throws: `SystemError` if `/proc` cannot be read; then the records stay.
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
            if stat.name == Self.backtracer {
                // It would wait forever for a process that was killed while being examined.
                if try ProcessTable.stat(stat.parent)?.group != stat.group { kill(pid, SIGKILL) }
                continue
            }
            members.append(Member(pid: pid, name: stat.name, group: group))
        }
        let living = Set(members.map { $0.group.note(boot) })
        for (directory, note) in notes where !living.contains(note) { unlink(directory + "/" + note) }
        return members
    }

    /// Kills the groups and waits until no member is alive. Leaders are killed at once, other members after `patience` seconds.
    ///
    /// - Parameters:
    ///   - kind: the kind of groups.
    ///   - leader: limits it to the group of this leader.
    ///   - patience: seconds after which members that are not leaders are killed.
    ///   - isWanted: the wait ends when it returns false.
    ///   - onDelay: called every second with the members that are still alive, or with the reason why that is not known.
    /// - Returns: false if the wait ended because it was not wanted any more.
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
