import Glibc
import Logging
import Policy
import Primitives
import Settings

/// The policies in force, read again when their file changes. A file that is wrong is refused at the start; later it is an
/// error in the log, and what was in force stays.
final class PolicyWatch: Sendable {
    private struct State {
        var policies: Policies
        var stamp: Stamp?
    }

    /// What changes when a file does.
    private struct Stamp: Equatable {
        let inode, size, seconds, nanoseconds: Int
    }

    private let path: String
    private let isNamed: Bool
    private let withOlder: Bool
    private let log: Logger
    private let state: Guarded<State>

    /// `files`: the configuration's, beside which a relative policy file lies.
    init(_ settings: Settings, files: [String], log: Logger) throws(SettingsError) {
        self.log = log
        isNamed = settings.isSet(Options.policyFile)
        withOlder = !settings[Options.enforceNewDefaults]
        path = Self.path(settings, files: files)
        let stamp = Self.stamp(path)
        do throws(Policies.Problems) {
            state = Guarded(State(policies: try Self.load(path, isNamed: isNamed, withOlder: withOlder), stamp: stamp))
        } catch { throw SettingsError(error.lines) }
    }

    var current: Policies { state.withLock { $0.policies } }

    static func path(_ settings: Settings, files: [String]) -> String {
        let name = settings[Options.policyFile]
        if name.hasPrefix("/") { return name }
        let directory =
            files.last.map { $0.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/") }
            ?? "/etc/clinker"
        return (directory.isEmpty ? "." : directory) + "/" + name
    }

    static func load(_ path: String, isNamed: Bool, withOlder: Bool) throws(Policies.Problems) -> Policies {
        if !isNamed, access(path, F_OK) != 0 { return try Policies(withOlder: withOlder) }
        return try Policies(overrides: try PolicyFile.read(path), withOlder: withOlder, file: path)
    }

    private static func stamp(_ path: String) -> Stamp? {
        var info = stat()
        guard stat(path, &info) == 0 else { return nil }
        return Stamp(inode: Int(info.st_ino), size: Int(info.st_size), seconds: info.st_mtim.tv_sec, nanoseconds: info.st_mtim.tv_nsec)
    }

    func start() {
        for name in current.unused { log.warning("\(path): rule \(name) is asked for by nothing") }
        startThread("policy") { [self] in
            while true {
                sleep(1)
                let stamp = Self.stamp(path)
                guard stamp != state.withLock({ $0.stamp }) else { continue }
                do throws(Policies.Problems) {
                    let policies = try Self.load(path, isNamed: isNamed, withOlder: withOlder)
                    state.withLock { $0 = State(policies: policies, stamp: stamp) }
                    log.info("policies read again", metadata: ["file": "\(path)"])
                } catch {
                    state.withLock { $0.stamp = stamp }
                    for line in error.lines { log.error("policies not read again: \(line)") }
                }
            }
        }
    }
}
