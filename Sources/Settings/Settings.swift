import Glibc
import Primitives

/// The problems of a configuration, one line each.
public struct SettingsError: Error, CustomStringConvertible, Sendable {
    public let problems: [String]
    public init(_ problems: [String]) { self.problems = problems }
    public var description: String { problems.joined(separator: "\n") }
}

/// The configuration: a consistent snapshot of its files. Values are checked when it is created, so lookups cannot fail.
public struct Settings: Sendable {
    private var values: [String: [String: [String]]] = [:]
    private var origins: [String: String] = [:]
    /// Warnings about unknown options, with the nearest known name.
    public private(set) var unknown: [String] = []
    /// Warnings about Cinder's options that have no effect in this release.
    public private(set) var notServed: [String] = []
    public var warnings: [String] { unknown + notServed }
    /// The files read, in order; empty for the embedded default.
    public private(set) var files: [String] = []

    /// Owner and permissions of each file, and its first option that holds a secret.
    private var found: [(path: String, trust: FileTrust, secret: String?)] = []

    private let known: OptionCatalogue

    /// Creates settings without a file: every option has its default.
    ///
    /// - Parameter known: the options of the program.
    public init(known: OptionCatalogue = .common) { self.known = known }

    /// Files that users other than root and the service's user can write, or can read though they hold secrets: a line each, with the command
    /// that corrects it.
    ///
    /// - Parameter isOwned: whether other owners count as well.
    public func exposures(isOwned: Bool = true) -> [String] {
        found.flatMap { file in
            let read = file.secret.flatMap { secret in file.trust.readers(file.path).map { $0 + " (\(secret))" } }
            return [
                file.trust.writers(file.path, isOwned: isOwned), PathTrust.exposure(above: file.path, isOwned: isOwned), read,
            ].compactMap { $0 }
        }
    }

    /// Whether an entry holds a secret: by its declaration, or by its name or value (options of drivers, URLs with a password).
    private func isSecret(_ section: String, _ entry: ConfigurationFile.Entry) -> Bool {
        guard entry.values.contains(where: { !$0.isEmpty }) else { return false }
        if entry.name == "transport_url" || entry.name == "connection" { return entry.values.contains { $0.utf8.contains(64) } }
        if known.find(section, entry.name)?.typeName == Secret.typeName { return true }
        return ["password", "_secret", "secret_key"].contains(where: entry.name.hasSuffix)
    }

    /// Reads the files in order; later ones win.
    ///
    /// - Throws: all problems at once.
    public init(files paths: [String], known: OptionCatalogue = .common) throws(SettingsError) {
        self.known = known
        var problems: [String] = []
        var parsed: [ConfigurationFile] = []
        for path in paths {
            do throws(SettingsError) {
                let (text, trust) = try Self.contents(path)
                let file = try ConfigurationFile(path: path, text: text)
                parsed.append(file)
                let secret = file.entries.first { isSecret($0.section, $0) }
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

    /// Reads settings from a text, as from one file.
    public init(text: String, name: String = "text", known: OptionCatalogue = .common) throws(SettingsError) {
        self.known = known
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

    /// Whether a file sets the option.
    public func isSet<T>(_ option: Option<T>) -> Bool { raw(option.declaration.sectionName, option.declaration.name) != nil }

    /// All options of a backend's section, for its driver.
    public func backendOptions(_ section: String) -> [(name: String, value: String)] {
        var all: [String: String] = [:]
        // my_ip is the default address of targets.
        if isSet(Options.service.myAddress) { all[Options.service.myAddress.declaration.name] = self[Options.service.myAddress] }
        for source in ["backend_defaults", section] {
            for (name, _) in values[source] ?? [:] { all[name] = raw(source, name)?.last }
        }
        return all.map { (name: $0.key, value: $0.value) }.sorted { $0.name < $1.name }
    }

    /// Sets a value, as if the last file had set it.
    public mutating func set(_ section: String, _ name: String, _ value: String) { values[section, default: [:]][name] = [value] }

    /// `[section] name` of the options whose values differ in a later reading and that take effect at the next start only.
    public func changesForRestart(_ later: Settings) -> [String] {
        Set(values.keys).union(later.values.keys).sorted().flatMap { section in
            Set((values[section] ?? [:]).keys).union((later.values[section] ?? [:]).keys).sorted().filter { name in
                raw(section, name) != later.raw(section, name) && known.find(section, name)?.isReloadable != true
            }.map { "[\(section)] \($0)" }
        }
    }

    // MARK: reading

    func value<T>(_ option: Option<T>, in section: String) -> T? {
        guard let texts = raw(section, option.declaration.name), let last = texts.last else { return nil }
        return try? T.parse(T.self is [String].Type ? texts.joined(separator: ",") : last)
    }

    func hasSection(_ section: String) -> Bool { values[section] != nil }

    /// The names of the options that a section sets.
    func names(in section: String) -> [String] { (values[section] ?? [:]).keys.sorted() }

    func raw(_ section: String, _ name: String) -> [String]? {
        // Values of files were checked. Only a path from the command line may fail to expand, and is used as it is.
        values[section]?[name]?.map { (try? expand($0, of: name, in: section)) ?? $0 }
    }

    private func expand(_ text: String, of name: String, in section: String) throws(OptionProblem) -> String {
        var references = 0
        return try substitute(text, path: [section == "DEFAULT" ? name : section + "." + name], references: &references)
    }

    /// `$name` and `${name}` stand for options of [DEFAULT], `$$` for a dollar.
    ///
    /// - Parameter path: the option being expanded and the references that led to the text; none may occur twice.
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
            if let value = values["DEFAULT"]?[name]?.last ?? known.find("DEFAULT", name)?.defaultText {
                references += 1
                let longer = path + [name]
                if path.contains(name) {
                    throw OptionProblem(text: "refers to itself: \(longer.dropFirst().map { "$" + $0 }.joined(separator: ", "))")
                }
                if references > 1000 { throw OptionProblem(text: "has more than 1000 references") }
                result += try substitute(value, path: longer, references: &references)
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
        var idle: [(section: String, names: [String])] = []
        let backends = self[Options.service.enabledBackends]
        let stores = self[Options.service.enabledBackupStores]
        for section in values.keys.sorted() {
            let isBackend = backends.contains(section) || section == "backend_defaults"
            let isStore = !isBackend && stores.contains(section)
            guard isBackend || isStore || known.hasSection(section) || CinderOptions.knows(section: section) else {
                // Sections of backends and stores that are not enabled may stay in the file.
                if values[section]?["volume_driver"] == nil, values[section]?["backup_driver"] == nil {
                    unknown.append(unknownSection(section))
                }
                continue
            }
            for name in (values[section] ?? [:]).keys.sorted() {
                let declaration = isBackend ? known.ofBackend(name) : isStore ? known.ofStore(name) : known.find(section, name)
                problems += check(section, name, declaration)
                // Options of drivers are checked when the driver is known (`examine`).
                if declaration == nil, !isBackend, !isStore, notRead(section, name, &problems) {
                    if idle.last?.section != section { idle.append((section: section, names: [])) }
                    idle[idle.count - 1].names.append(name)
                }
            }
        }
        if !idle.isEmpty {
            notServed.append(
                "these options have no effect, since they tune what Clinker does not have: "
                    + idle.map { "[\($0.section)] \($0.names.joined(separator: ", "))" }.joined(separator: "; "))
        }
        problems += problemsOfStores(backends)
        for backend in backends where values[backend] == nil {
            problems.append("[DEFAULT] enabled_backends names '\(backend)', but there is no section [\(backend)]")
        }
        if Set(backends).count != backends.count { problems.append("[DEFAULT] enabled_backends names a backend twice") }
        return problems
    }

    /// The problems of the values of one option.
    private func check(_ section: String, _ name: String, _ declaration: OptionDeclaration?) -> [String] {
        (values[section]?[name] ?? []).compactMap { text in
            do throws(OptionProblem) {
                let expanded = try expand(text, of: name, in: section)
                try declaration?.check(expanded)
                return nil
            } catch { return "\(origin(section, name)): [\(section)] \(name) \(error.text)" }
        }
    }

    /// The file and line of an option.
    private func origin(_ section: String, _ name: String) -> String { origins[section + "." + name] ?? section }

    /// Records a warning or a problem for an option that Clinker does not read.
    ///
    /// - Returns: whether it is one of the many that are told together: they ask for nothing that Clinker could do.
    private mutating func notRead(_ section: String, _ name: String, _ problems: inout [String]) -> Bool {
        guard CinderOptions.knows(section, name) else {
            let nearest = known.nearest(to: name, in: section)
            unknown.append(
                "\(origin(section, name)): unknown option [\(section)] \(name)" + (nearest.map { "; did you mean \($0)?" } ?? ""))
            return false
        }
        let value = raw(section, name)?.last ?? ""
        switch CinderOptions.effect(section, name, value) {
        case .none: return !value.isEmpty && !(section == "DEFAULT" && Self.isOfStores(name))
        case .ofBackends:
            notServed.append(
                "\(origin(section, name)): [\(section)] \(name) has no effect here: it belongs in the section of a backend, or in [backend_defaults]"
            )
        case .notServed:
            notServed.append(
                "\(origin(section, name)): [\(section)] \(name) has no effect: what it asks for is not served by this release")
        case .refused(let reason): problems.append("\(origin(section, name)): [\(section)] \(name): \(reason)")
        }
        return false
    }

    private func unknownSection(_ section: String) -> String {
        let first = (values[section] ?? [:]).keys.min { origin(section, $0) < origin(section, $1) }
        let near = known.nearest(
            toSection: section, among: self[Options.service.enabledBackends] + self[Options.service.enabledBackupStores])
        return "\(first.map { origin(section, $0) } ?? section): unknown section [\(section)]"
            + (near.map { "; did you mean [\($0)]?" } ?? "; no enabled backend has the name")
    }

    /// The problems of a backend's section that depend on its driver.
    public struct BackendFindings: Sendable {
        /// Values that the driver would refuse.
        public fileprivate(set) var problems: [String] = []
        /// Unknown names.
        public fileprivate(set) var unknown: [String] = []
        /// Options of Cinder's that the driver does not read.
        public fileprivate(set) var notServed: [String] = []
    }

    /// Checks a backend's section for a driver with the given options.
    public func examine(backend: String, driver: String, options: [OptionDeclaration]) -> BackendFindings {
        examine(section: backend, shared: "backend_defaults", by: "the driver \(driver)", options: options)
    }

    /// Checks the section of a plugin, and the one that it shares with others.
    ///
    /// - Parameters:
    ///   - own: its own section; nil if it has none.
    ///   - reader: what reads it, for messages.
    func examine(section own: String?, shared: String, by reader: String, options: [OptionDeclaration]) -> BackendFindings {
        var found = BackendFindings()
        let byName = Dictionary(options.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        let host = shared == "DEFAULT" ? known.ofStores : known.ofBackends
        for section in [shared] + (own.map { [$0] } ?? []) {
            for name in (values[section] ?? [:]).keys.sorted() {
                if let declaration = byName[name] {
                    if declaration.typeName == OptionDeclaration.unused {
                        // Of a plugin without a section of its own, [DEFAULT] is the one.
                        if section == own ?? shared, raw(section, name)?.last?.isEmpty == false {
                            found.notServed.append("\(origin(section, name)): [\(section)] \(name) has no effect: \(declaration.help)")
                        }
                        continue
                    }
                    if !host.contains(where: { $0.name == name }) { found.problems += check(section, name, declaration) }
                    continue
                }
                // The shared section applies to all plugins; another one may read the option.
                if section != own || host.contains(where: { $0.name == name }) || CinderOptions.harmlessOfBackends.contains(name) {
                    continue
                }
                if CinderOptions.knows("backend_defaults", name) || CinderOptions.knows("DEFAULT", name) {
                    found.notServed.append(
                        "\(origin(section, name)): [\(section)] \(name) has no effect: \(reader) does not read it")
                } else {
                    let nearest = NearestName.of(name, among: options.map(\.name) + host.map(\.name))
                    found.unknown.append(
                        "\(origin(section, name)): unknown option [\(section)] \(name)" + (nearest.map { "; did you mean \($0)?" } ?? ""))
                }
            }
        }
        return found
    }

    /// Options of a backend's or store's section that have no effect, one line each.
    ///
    /// - Parameters:
    ///   - options: the names that the driver declares; nil if it does not declare any.
    ///   - unused: those of them that have no effect, with the reasons.
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
            throw SettingsError([SystemError.last("cannot read the configuration file \(path)").description])
        }
        defer { fclose(file) }
        var info = stat()
        guard fstat(fileno(file), &info) == 0 else {
            throw SettingsError([SystemError.last("cannot read the configuration file \(path)").description])
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
