import Glibc
import Primitives

/// Everything wrong with a configuration, one line each.
public struct SettingsError: Error, CustomStringConvertible, Sendable {
    public let problems: [String]
    public init(_ problems: [String]) { self.problems = problems }
    public var description: String { problems.joined(separator: "\n") }
}

/// The configuration as one consistent reading of its files. Values were checked when it was made, so asking cannot fail.
public struct Settings: Sendable {
    private var values: [String: [String: [String]]] = [:]
    private var origins: [String: String] = [:]
    /// Options that nobody knows, with the nearest known name: no error, but an operator should know.
    public private(set) var unknown: [String] = []
    /// Options of Cinder's whose effect this release does not serve.
    public private(set) var notServed: [String] = []
    public var warnings: [String] { unknown + notServed }
    /// The files read, in order; empty for the embedded default.
    public private(set) var files: [String] = []

    /// What each file that was read is like, and the option in it that is a secret, if one is.
    private var found: [(path: String, trust: FileTrust, secret: String?)] = []

    /// The embedded default.
    public init() {}

    /// Files that others than root and the service's user can change, or read though they hold secrets: a line each, with the command
    /// that mends it. `isOwned`: who owns a file may change it.
    public func exposures(isOwned: Bool = true) -> [String] {
        found.flatMap { file in
            let read = file.secret.flatMap { secret in file.trust.readers(file.path).map { $0 + " (\(secret))" } }
            return [file.trust.writers(file.path, isOwned: isOwned), read].compactMap { $0 }
        }
    }

    /// Whether a file's option holds what others must not know: it is declared so, or its name or value says it (drivers' options, and
    /// URLs with a password).
    private static func isSecret(_ section: String, _ entry: ConfigurationFile.Entry) -> Bool {
        guard entry.values.contains(where: { !$0.isEmpty }) else { return false }
        if entry.name == "transport_url" || entry.name == "connection" { return entry.values.contains { $0.utf8.contains(64) } }
        if Options.find(section, entry.name)?.typeName == Secret.typeName { return true }
        return ["password", "_secret", "secret_key"].contains(where: entry.name.hasSuffix)
    }

    /// Reads the files in order; what a later one says wins. Throws everything wrong at once.
    public init(files paths: [String]) throws(SettingsError) {
        var problems: [String] = []
        var parsed: [ConfigurationFile] = []
        for path in paths {
            do throws(SettingsError) {
                let (text, trust) = try Self.contents(path)
                let file = try ConfigurationFile(path: path, text: text)
                parsed.append(file)
                let secret = file.entries.first { Self.isSecret($0.section, $0) }
                found.append((path: path, trust: trust, secret: secret.map { "[\($0.section)] \($0.name)" }))
            } catch { problems += error.problems }
        }
        for file in parsed {
            for entry in file.entries {
                values[entry.section, default: [:]][entry.name] = entry.values
                origins[entry.section + "." + entry.name] = "\(file.path):\(entry.line)"
            }
        }
        files = paths
        problems += check()
        if !problems.isEmpty { throw SettingsError(problems) }
    }

    /// Reads settings from text, as from one file.
    public init(text: String, name: String = "text") throws(SettingsError) {
        let file = try ConfigurationFile(path: name, text: text)
        for entry in file.entries {
            values[entry.section, default: [:]][entry.name] = entry.values
            origins[entry.section + "." + entry.name] = "\(name):\(entry.line)"
        }
        let problems = check()
        if !problems.isEmpty { throw SettingsError(problems) }
    }

    /// The value of an option of a named section.
    public subscript<T>(option: Option<T>) -> T {
        guard case .group(let section) = option.declaration.section else { return option.defaultValue }
        return value(option, in: section) ?? option.defaultValue
    }

    /// The value of a backend's option: its own section, else `[backend_defaults]`, else the default.
    public subscript<T>(option: Option<T>, backend section: String) -> T {
        value(option, in: section) ?? value(option, in: "backend_defaults") ?? option.defaultValue
    }

    /// Whether a file gives the option a value.
    public func isSet<T>(_ option: Option<T>) -> Bool { raw(option.declaration.sectionName, option.declaration.name) != nil }

    /// All options that a backend's section gives, for its driver.
    public func backendOptions(_ section: String) -> [(name: String, value: String)] {
        var all: [String: String] = [:]
        // The node's own address is what targets listen on where a backend names none.
        if isSet(Options.myAddress) { all[Options.myAddress.declaration.name] = self[Options.myAddress] }
        for source in ["backend_defaults", section] {
            for (name, _) in values[source] ?? [:] { all[name] = raw(source, name)?.last }
        }
        return all.map { (name: $0.key, value: $0.value) }.sorted { $0.name < $1.name }
    }

    /// Sets a value, as if the last file had said it.
    public mutating func set(_ section: String, _ name: String, _ value: String) { values[section, default: [:]][name] = [value] }

    /// `[section] name` of the options whose value is another one in a later reading, and that are not read again while the service runs.
    public func changesForRestart(_ later: Settings) -> [String] {
        Set(values.keys).union(later.values.keys).sorted().flatMap { section in
            Set((values[section] ?? [:]).keys).union((later.values[section] ?? [:]).keys).sorted().filter { name in
                raw(section, name) != later.raw(section, name) && Options.find(section, name)?.isReloadable != true
            }.map { "[\(section)] \($0)" }
        }
    }

    // MARK: reading

    private func value<T>(_ option: Option<T>, in section: String) -> T? {
        guard let texts = raw(section, option.declaration.name), let last = texts.last else { return nil }
        return try? T.parse(T.self is [String].Type ? texts.joined(separator: ",") : last)
    }

    private func raw(_ section: String, _ name: String) -> [String]? {
        // What a file says was checked: only a path given to a command may not be expanded, and then it is that path.
        values[section]?[name]?.map { (try? expand($0, of: name, in: section)) ?? $0 }
    }

    private func expand(_ text: String, of name: String, in section: String) throws(OptionProblem) -> String {
        var references = 0
        return try substitute(text, path: [section == "DEFAULT" ? name : section + "." + name], references: &references)
    }

    /// `$name` and `${name}` stand for options of [DEFAULT], `$$` for a dollar. `path` is the option that is expanded, and the references
    /// that led from it to the text: none may come again.
    private func substitute(_ text: String, path: [String], references: inout Int) throws(OptionProblem) -> String {
        guard text.contains("$") else { return text }
        var result = ""
        var rest = text[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[rest.index(after: dollar)...]
            if rest.first == "$" {
                result += "$"
                rest = rest.dropFirst()
                continue
            }
            let braced = rest.first == "{"
            let body = braced ? rest.dropFirst() : rest
            let name = String(body.prefix { $0.isLetter || $0.isNumber || $0 == "_" })
            let after = body.dropFirst(name.count)
            guard !name.isEmpty, !braced || after.first == "}" else {
                result += "$"
                continue
            }
            if let known = values["DEFAULT"]?[name]?.last ?? Options.find("DEFAULT", name)?.defaultText {
                references += 1
                let longer = path + [name]
                if path.contains(name) {
                    throw OptionProblem(text: "refers to itself: \(longer.dropFirst().map { "$" + $0 }.joined(separator: ", "))")
                }
                if references > 1000 { throw OptionProblem(text: "has more than 1000 references") }
                result += try substitute(known, path: longer, references: &references)
                if result.utf8.count > 65536 { throw OptionProblem(text: "is longer than 65536 bytes with its references") }
            } else {
                result += "$" + name
            }
            rest = braced ? after.dropFirst() : after
        }
        return result + rest
    }

    private mutating func check() -> [String] {
        var problems: [String] = []
        let backends = self[Options.enabledBackends]
        for section in values.keys.sorted() {
            let isBackend = backends.contains(section) || section == "backend_defaults"
            guard isBackend || Options.hasSection(section) || CinderOptions.knows(section: section) else {
                // Sections of backends that are not enabled stay for the day on which they are again.
                if values[section]?["volume_driver"] == nil { unknown.append(unknownSection(section)) }
                continue
            }
            for name in (values[section] ?? [:]).keys.sorted() {
                let declaration = isBackend ? Options.ofBackend(name) : Options.find(section, name)
                problems += check(section, name, declaration)
                // What a driver reads of its backend's section is known when the driver is.
                if declaration == nil, !isBackend { notRead(section, name, &problems) }
            }
        }
        for backend in backends where values[backend] == nil {
            problems.append("[DEFAULT] enabled_backends names '\(backend)', but there is no section [\(backend)]")
        }
        if Set(backends).count != backends.count { problems.append("[DEFAULT] enabled_backends names a backend twice") }
        return problems
    }

    /// What is wrong with the values of one option.
    private func check(_ section: String, _ name: String, _ declaration: OptionDeclaration?) -> [String] {
        (values[section]?[name] ?? []).compactMap { text in
            do throws(OptionProblem) {
                let expanded = try expand(text, of: name, in: section)
                try declaration?.check(expanded)
                return nil
            } catch { return "\(origin(section, name)): [\(section)] \(name) \(error.text)" }
        }
    }

    /// Where the option stands: file and line.
    private func origin(_ section: String, _ name: String) -> String { origins[section + "." + name] ?? section }

    /// Tells of an option that Clinker does not read.
    private mutating func notRead(_ section: String, _ name: String, _ problems: inout [String]) {
        guard CinderOptions.knows(section, name) else {
            let nearest = Options.nearest(to: name, in: section)
            unknown.append(
                "\(origin(section, name)): unknown option [\(section)] \(name)" + (nearest.map { "; did you mean \($0)?" } ?? ""))
            return
        }
        switch CinderOptions.effect(section, name, raw(section, name)?.last ?? "") {
        case .none: break
        case .notServed:
            notServed.append(
                "\(origin(section, name)): [\(section)] \(name) has no effect: what it asks for is not served by this release")
        case .refused(let reason): problems.append("\(origin(section, name)): [\(section)] \(name): \(reason)")
        }
    }

    private func unknownSection(_ section: String) -> String {
        let first = (values[section] ?? [:]).keys.min { origin(section, $0) < origin(section, $1) }
        let known = Options.nearest(toSection: section, among: self[Options.enabledBackends])
        return "\(first.map { origin(section, $0) } ?? section): unknown section [\(section)]"
            + (known.map { "; did you mean [\($0)]?" } ?? "; no enabled backend has the name")
    }

    /// What a backend's section says that its driver does not understand.
    public struct BackendFindings: Sendable {
        /// Values that the driver would refuse.
        public fileprivate(set) var problems: [String] = []
        /// Names that neither the driver nor anybody else knows.
        public fileprivate(set) var unknown: [String] = []
        /// Options of Cinder's that the driver does not read.
        public fileprivate(set) var notServed: [String] = []
    }

    /// Looks at a backend's section for a driver that reads `options` besides those of every backend.
    public func examine(backend: String, driver: String, options: [OptionDeclaration]) -> BackendFindings {
        var found = BackendFindings()
        let byName = Dictionary(options.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for section in ["backend_defaults", backend] {
            for name in (values[section] ?? [:]).keys.sorted() {
                if let declaration = byName[name] {
                    if declaration.typeName == OptionDeclaration.unused {
                        if section == backend, raw(section, name)?.last?.isEmpty == false {
                            found.notServed.append("\(origin(section, name)): [\(section)] \(name) has no effect: \(declaration.help)")
                        }
                        continue
                    }
                    if Options.ofBackend(name) == nil { found.problems += check(section, name, declaration) }
                    continue
                }
                // Defaults are for all drivers: what one does not read another may.
                if Options.ofBackend(name) != nil || section != backend || CinderOptions.harmlessOfBackends.contains(name) { continue }
                if CinderOptions.knows("backend_defaults", name) || CinderOptions.knows("DEFAULT", name) {
                    found.notServed.append(
                        "\(origin(section, name)): [\(section)] \(name) has no effect: the driver \(driver) does not read it")
                } else {
                    let nearest = Options.nearest(to: name, among: options.map(\.name) + Options.backend.map(\.name))
                    found.unknown.append(
                        "\(origin(section, name)): unknown option [\(section)] \(name)" + (nearest.map { "; did you mean \($0)?" } ?? ""))
                }
            }
        }
        return found
    }

    /// What a backend's section says in vain, one line each; `options`: names that the driver declares, nil if it does not say; `unused`:
    /// of those, what has no effect, and why.
    public func notRead(ofBackend backend: String, by driver: String, reading options: [String]?, unused: [String: String] = [:])
        -> [String]
    {
        guard let options else { return [] }
        let found = examine(
            backend: backend, driver: driver,
            options: options.map {
                .ofDriver(
                    $0, typeName: unused[$0] == nil ? "text" : OptionDeclaration.unused, defaultText: "", range: nil, choices: nil,
                    help: unused[$0] ?? "")
            })
        return found.unknown + found.notServed
    }

    private static func contents(_ path: String) throws(SettingsError) -> (text: String, trust: FileTrust) {
        guard let file = fopen(path, "re") else {
            let code = errno
            throw SettingsError([SystemError(code, "cannot read the configuration file \(path)").description])
        }
        defer { fclose(file) }
        var info = stat()
        guard fstat(fileno(file), &info) == 0 else {
            let code = errno
            throw SettingsError([SystemError(code, "cannot read the configuration file \(path)").description])
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            if count == 0 { break }
            bytes += chunk[..<count]
            if bytes.count > 4 << 20 { throw SettingsError(["\(path): larger than 4 MiB is no configuration file"]) }
        }
        if ferror(file) != 0 { throw SettingsError(["cannot read the configuration file \(path): is it a file?"]) }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw SettingsError(["\(path): not UTF-8"]) }
        return (text, FileTrust(info))
    }
}
