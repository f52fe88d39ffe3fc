import Glibc
import Logging
import Policy
import Primitives
import Settings

/// The policies in force, read again when their file changes. A file that is wrong is refused at the start; later it is an
/// error in the log, and what was in force stays.
final class PolicyWatch: Sendable {
    private let path: String
    private let isNamed: Bool
    private let withOlder: Bool
    private let log: Logger
    private let watch: FileWatch
    private let policies: Guarded<Policies>

    /// `files`: the configuration's, beside which a relative policy file lies.
    init(_ settings: Settings, files: [String], log: Logger) throws(SettingsError) {
        self.log = log
        isNamed = settings.isSet(Options.policyFile)
        withOlder = !settings[Options.enforceNewDefaults]
        path = Self.path(settings, files: files)
        watch = FileWatch(path)
        do throws(Policies.Problems) {
            policies = Guarded(try Self.load(path, isNamed: isNamed, withOlder: withOlder))
        } catch { throw SettingsError(error.lines) }
    }

    var current: Policies { policies.withLock { $0 } }

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

    func start() {
        for name in current.unused { log.warning("\(path): rule \(name) is asked for by nothing") }
        watch.start("policy") { [self] in
            do throws(Policies.Problems) {
                let fresh = try Self.load(path, isNamed: isNamed, withOlder: withOlder)
                policies.withLock { $0 = fresh }
                log.info("policies read again", metadata: ["file": "\(path)"])
            } catch {
                for line in error.lines { log.error("policies not read again: \(line)") }
            }
        }
    }
}
