import Glibc
import Primitives
import TestSupport
import Testing

@testable import Processes

@Suite("Process groups")
struct ProcessGroupsTests {
    let directory = temporaryDirectory("groups") + "/of/backend"
    var groups: ProcessGroups { ProcessGroups(directory) }

    /// A shell that leads a group, once it has started as many programs as it is told to.
    private func lead(_ script: String, members: Int) throws -> pid_t {
        let leader = try spawn("/bin/sh", ["-c", script], descriptors: [], newGroup: true)
        try groups.note(leader, as: "host")
        let limit = Timestamp.monotonic() + 60
        while try groups.members("host").count(where: { $0.name == "sleep" }) < members, Timestamp.monotonic() < limit { usleep(1_000) }
        return leader
    }

    private func end(_ leader: pid_t) {
        kill(leader, SIGKILL)
        reap(leader)
    }

    @Test("a group ends with the last program that its leader started, whatever that did with its descriptors")
    func programs() throws {
        let leader = try lead("sleep 1000 >&- 2>&- & sleep 1000 & wait", members: 2)
        #expect(try groups.members("host").contains { $0.pid == leader })
        end(leader)
        #expect(try groups.members("host").map(\.name) == ["sleep", "sleep"])
        #expect(try groups.members("copy").isEmpty)
        var told = 0
        #expect(groups.awaitEnd(of: "host", patience: 1.2, onDelay: { told += ((try? $0.get()) ?? []).count }))
        #expect(told == 2)
        #expect(try groups.members("host").isEmpty && entries(of: directory).isEmpty)
    }

    @Test("a leader that was left is killed at once, and a program that ends in time is not")
    func patience() throws {
        let file = directory + "/done"
        let leader = try lead("(sleep 0.3; echo > \(file)) & kill -STOP $$", members: 1)
        defer { reap(leader) }
        #expect(groups.awaitEnd(of: "host", leader: leader, patience: 60))
        #expect(entries(of: directory) == ["done"])
    }

    @Test("a process whose first thread is dead lives as long as another one does: as when it was killed and one hangs in the kernel")
    func threads() throws {
        let program = """
            import ctypes, threading, time
            threading.Thread(target=lambda: time.sleep(1000)).start()
            ctypes.CDLL(None).syscall(60, 0)
            """
        let leader = try spawn("/usr/bin/python3", ["-c", program], descriptors: [], newGroup: true)
        try groups.note(leader, as: "host")
        let limit = Timestamp.monotonic() + 60
        while try ProcessTable.stat(leader)?.state != "Z", Timestamp.monotonic() < limit { usleep(1_000) }
        #expect(try ProcessTable.stat(leader)?.state == "Z")
        #expect(try groups.members("host").map(\.pid) == [leader])
        end(leader)
        #expect(try groups.members("host").isEmpty)
    }

    @Test("nobody waits for the runtime's account of a crash, and it ends with the process that it is about")
    func backtraces() throws {
        let program = temporaryDirectory("backtrace") + "/swift-backtrace"
        #expect(reap(try spawn("/bin/cp", ["/bin/sleep", program], descriptors: [])) == 0)
        let leader = try lead("\(program) 1000 & sleep 1000 & wait", members: 1)
        let limit = Timestamp.monotonic() + 60
        func find() throws -> pid_t? {
            try ProcessTable.pids().first { pid in
                try ProcessTable.stat(pid).map { $0.group == leader && $0.name == "swift-backtrace" } ?? false
            }
        }
        while try find() == nil, Timestamp.monotonic() < limit { usleep(1_000) }
        let writer = try #require(try find())
        defer { kill(writer, SIGKILL) }
        end(leader)
        #expect(try groups.members("host").map(\.name) == ["sleep"])
        #expect(groups.awaitEnd(of: "host", patience: 0))
        while try ProcessTable.stat(writer)?.isAlive == true, Timestamp.monotonic() < limit { usleep(1_000) }
        #expect(try ProcessTable.stat(writer)?.isAlive != true)
    }

    @Test("a daemon is none of its group any more, and nobody waits for what nobody wants")
    func daemons() throws {
        let leader = try lead("setsid sleep 5 & sleep 1000 & wait", members: 1)
        // The daemon was begun first; it leaves the group when it is its turn.
        let limit = Timestamp.monotonic() + 60
        while try groups.members("host").count > 2, Timestamp.monotonic() < limit { usleep(1_000) }
        end(leader)
        #expect(!groups.awaitEnd(of: "host", patience: 60, while: { false }))
        let members = try groups.members("host")
        #expect(members.count == 1)
        for member in members { kill(member.pid, SIGKILL) }
        #expect(groups.awaitEnd(of: "host", patience: 60))
    }

    @Test("a number that came again, in this boot or another one, is nobody's")
    func numbers() throws {
        let leader = try lead("sleep 1000 & wait", members: 1)
        defer {
            for member in (try? groups.members("host")) ?? [] { kill(member.pid, SIGKILL) }
            reap(leader)
        }
        let note = try #require(entries(of: directory).first)
        let parts = note.split(separator: "-").map(String.init)
        try #require(parts.count == 5)
        let startedAt = try #require(Int(parts[3]))
        for (session, startedAt, boot) in [
            (parts[2], startedAt + 1, parts[4]), (parts[2], startedAt - 1, parts[4]), (parts[2], startedAt, "00000000"),
            ("\((Int(parts[2]) ?? 0) + 1)", startedAt, parts[4]),
        ] {
            close(open("\(directory)/copy-\(leader)-\(session)-\(startedAt)-\(boot)", O_CREAT | O_WRONLY, 0o600))
            #expect(try groups.members("copy").isEmpty)
            #expect(entries(of: directory) == [note])
        }
        #expect(try groups.members("host").map(\.pid).contains(leader))
    }

    @Test("where it cannot be seen who lives, nobody is taken for dead, and the notes stay")
    func blindness() async {
        await #expect(processExitsWith: .success) {
            let directory = temporaryDirectory("blind") + "/backend"
            let groups = ProcessGroups(directory)
            let leader = try spawn("/bin/sleep", ["1000"], descriptors: [], newGroup: true)
            defer {
                kill(leader, SIGKILL)
                reap(leader)
            }
            try groups.note(leader, as: "host")
            let notes = entries(of: directory)
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let next = dup(0)
            close(next)
            var none = rlimit(rlim_cur: rlim_t(next), rlim_max: limit.rlim_max)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &none)
            let living = Result { try groups.members("host") }
            var told: [Result<[ProcessGroups.Member], SystemError>] = []
            let hasEnded = groups.awaitEnd(of: "host", patience: 0, while: { told.isEmpty }, onDelay: { told.append($0) })
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            #expect(throws: SystemError.self) { try living.get() }
            #expect(throws: SystemError.self) { try told.first?.get() }
            #expect(!hasEnded && entries(of: directory) == notes && notes.count == 1)
            #expect(try groups.members("host").map(\.pid) == [leader])
        }
    }
}
