import Glibc
import Logging
import Policy
import Primitives
import Settings

/// The policies in force; policy files are read again when they change. A broken file is refused at the start; later it is an error in the
/// log, and the previous rules stay in force.
final class PolicyWatch: Sendable {
    private let files: PolicyFiles
    private let log: Logger
    private let watch: FileWatch
    private let policies: Guarded<Policies>

    /// - Parameter files: the configuration files; relative policy paths are resolved beside the last one.
    init(_ settings: Settings, files: [String], log: Logger) throws(SettingsError) {
        self.log = log
        self.files = PolicyFiles(settings, beside: files)
        watch = FileWatch { [files = self.files] in files.watched }
        policies = Guarded(try self.files.load())
    }

    var current: Policies { policies.withLock { $0 } }

    func start() {
        tell(current)
        watch.start("policy") { [self] in
            do throws(SettingsError) {
                let fresh = try files.load()
                policies.withLock { $0 = fresh }
                log.info("policies read again", metadata: ["file": "\(files.path)"])
                tell(fresh)
            } catch {
                for line in error.problems { log.error("policies not read again: \(line)") }
            }
        }
    }

    private func tell(_ policies: Policies) { for line in files.warnings(policies) { log.warning("\(line)") } }
}

/// The policy files: `policy_file`, then the files of `policy_dirs`.
struct PolicyFiles: Sendable {
    let path: String
    private let directories: [String]
    /// Whether the configuration names the file; then a missing file is a warning.
    private let isNamed: Bool
    private let withOlder: Bool

    /// - Parameter files: the configuration files; relative paths are resolved beside the last one.
    init(_ settings: Settings, beside files: [String]) {
        path = Settings.path(settings[Options.service.policyFile], beside: files)
        directories = settings[Options.service.policyDirectories].map { Settings.path($0, beside: files) }
        isNamed = settings.isSet(Options.service.policyFile)
        withOlder = !settings[Options.service.enforceNewDefaults]
    }

    /// The file, the directories and their files, whether they exist or not.
    var watched: [String] { [path] + directories + filesOfDirectories }

    private var filesOfDirectories: [String] {
        directories.flatMap { directory in
            var names: [String] = []
            guard let stream = opendir(directory) else { return names }
            defer { closedir(stream) }
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                if !name.hasPrefix(".") { names.append(name) }
            }
            return names.sorted().map { directory + "/" + $0 }
        }
    }

    private var isMissing: Bool { access(path, F_OK) != 0 }

    /// The rules of all files; later files win.
    func load() throws(SettingsError) -> Policies {
        do throws(Policies.Problems) {
            // Who can add a file there can become an administrator.
            let exposed = directories.compactMap { directory in
                var info = stat()
                return stat(directory, &info) == 0
                    ? FileTrust(info).writers(directory) ?? PathTrust.exposure(above: directory) : nil
            }
            guard exposed.isEmpty else { throw Policies.Problems(lines: exposed) }
            let more = filesOfDirectories
            var overrides = isMissing ? [] : try PolicyFile.read(path)
            for file in more {
                let rules = try PolicyFile.read(file)
                let names = Set(rules.map(\.name))
                overrides.removeAll { names.contains($0.name) }
                overrides += rules
            }
            return try Policies(overrides: overrides, withOlder: withOlder, file: more.isEmpty ? path : "policies")
        } catch { throw SettingsError(error.lines) }
    }

    /// Warnings about the files in force.
    func warnings(_ policies: Policies) -> [String] {
        (isNamed && isMissing ? ["[oslo_policy] policy_file: there is no \(path); the defaults are in force"] : [])
            + policies.warnings + policies.unused.map { "\(path): rule \($0) is asked for by nothing" }
    }
}
