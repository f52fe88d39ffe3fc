/// The rules in force: the defaults, overridden by policy files.
public struct Policies: Sendable {
    /// A rule by its index, so that checking it needs no dictionary lookup.
    public struct Rule: Sendable, Equatable, ExpressibleByStringLiteral {
        public let name: String
        let index: Int

        /// Traps for a name that is not in the table, which is a programming error.
        public init(stringLiteral name: String) {
            guard let index = PolicyTable.index[name] else { preconditionFailure("no policy rule \(name)") }
            self.name = name
            self.index = index
        }
    }

    /// The problems of a policy file, one line each.
    public struct Problems: Error, CustomStringConvertible, Sendable {
        public let lines: [String]
        public init(lines: [String]) { self.lines = lines }
        public var description: String { lines.joined(separator: "\n") }
    }

    private let program: PolicyProgram
    /// The start of each rule in the program.
    private let starts: [Int]
    /// Whether a rule uses more of its target than the project.
    private let looksAtTarget: [Bool]
    /// Name and expression of every rule, and whether a file changed it; in the table's order, followed by the file's own rules.
    public let expressions: [(name: String, text: String, isOverridden: Bool)]
    /// Rules of the file that nothing uses.
    public let unused: [String]
    /// Warnings about the file, one line each: references to rules that do not exist, older names.
    public let warnings: [String]

    /// The largest number of steps of a rule with its references inlined, far above what policies need.
    private static let mostChecks = 2_000
    /// The deepest nesting of checks, those of referenced rules included.
    private static let deepest = 200

    /// - Parameters:
    ///   - overrides: expressions of the policy files by rule.
    ///   - withOlder: whether the defaults of older releases are accepted too.
    public init(overrides: [(name: String, text: String)] = [], withOlder: Bool = false, file: String = "policy file") throws(Problems) {
        var problems: [String] = []
        var parsed: [String: PolicyCheck] = [:]
        var texts: [String: String] = [:]
        func read(_ name: String, _ text: String) {
            do throws(PolicyCheck.SyntaxError) {
                parsed[name] = try PolicyCheck(parsing: text)
                texts[name] = text
            } catch { problems.append("\(file): rule \(name): \(error)") }
        }
        for (name, text) in overrides {
            if texts[name] != nil { problems.append("\(file): rule \(name) is given twice") }
            read(name, text)
        }
        let changed = Set(parsed.keys)
        var renamed: [String: [String]] = [:]
        for rule in PolicyTable.all where !changed.contains(rule.name) {
            // A file that repeats the default, or refers to the new name, changes nothing.
            if let old = rule.formerly, let text = texts[old], parsed[old] != .rule(rule.name),
                parsed[old] != rule.older.flatMap({ try? PolicyCheck(parsing: $0) })
            {
                renamed[old, default: []].append(rule.name)
                read(rule.name, text)
            } else if withOlder, let older = rule.older, older != rule.standard {
                read(rule.name, "(\(rule.standard)) or (\(older))")
            } else {
                read(rule.name, rule.standard)
            }
        }

        var warnings = renamed.map { "\(file): rule \($0) is an older name: it holds for \($1.joined(separator: ", "))" }
        // A reference to a missing rule means the file's rule `default` if there is one, and otherwise never holds.
        let otherwise = changed.contains("default") ? PolicyCheck.rule("default") : .never
        for name in parsed.keys {
            guard let check = parsed[name] else { continue }
            for reference in check.references where parsed[reference] == nil {
                if changed.contains(name) {
                    warnings.append(
                        "\(file): rule \(name) refers to \(reference), which does not exist\(otherwise == .never ? ": nobody has it" : "")")
                }
            }
        }
        let all = parsed
        let find = { (name: String) in all[name] ?? otherwise }
        var sizes: [String: (checks: Int, depth: Int)] = [:]
        func size(_ check: PolicyCheck, _ path: [String], _ depth: Int = 0) throws(PolicyCheck.SyntaxError) -> (checks: Int, depth: Int) {
            let tooDeep = PolicyCheck.SyntaxError("with the rules that it refers to it is nested too deep")
            guard depth < Self.deepest else { throw tooDeep }
            var sum = (checks: 1, depth: 1)
            func add(_ inner: (checks: Int, depth: Int)) {
                sum = (sum.checks + inner.checks, max(sum.depth, inner.depth + 1))
            }
            switch check {
            case .rule(let name):
                if let known = sizes[name] {
                    sum = known
                } else {
                    guard !path.contains(name) else {
                        throw PolicyCheck.SyntaxError("it refers to itself by \((path + [name]).joined(separator: " -> "))")
                    }
                    let inner = try size(find(name), path + [name], depth + 1)
                    sum = (inner.checks, inner.depth + 1)
                    sizes[name] = sum
                }
            case .not(let check): add(try size(check, path, depth + 1))
            case .all(let checks), .any(let checks): for check in checks { add(try size(check, path, depth + 1)) }
            default: break
            }
            guard sum.checks <= Self.mostChecks else {
                throw PolicyCheck.SyntaxError("with the rules that it refers to it has more than \(Self.mostChecks) checks")
            }
            guard depth + sum.depth <= Self.deepest else { throw tooDeep }
            return sum
        }
        for name in PolicyTable.all.map(\.name) + changed.sorted() {
            do throws(PolicyCheck.SyntaxError) { _ = try size(.rule(name), []) } catch {
                problems.append("\(file): rule \(name): \(error)")
            }
        }
        guard problems.isEmpty else { throw Problems(lines: Set(problems).sorted()) }

        var program = PolicyProgram()
        starts = PolicyTable.all.map { program.add(.rule($0.name), find) }
        self.program = program
        let attributes = Self.targetAttributes(all, find)
        looksAtTarget = PolicyTable.all.map { !(attributes[$0.name] ?? []).subtracting(["project_id"]).isEmpty }
        let own = overrides.map(\.name).filter { PolicyTable.index[$0] == nil }
        expressions =
            PolicyTable.all.map { ($0.name, texts[$0.name] ?? "", changed.contains($0.name)) }
            + own.map { ($0, texts[$0] ?? "", true) }
        let referenced = all.values.reduce(into: Set<String>()) { $0.formUnion($1.references) }
        unused = own.filter { !referenced.contains($0) && renamed[$0] == nil && $0 != "default" }
        self.warnings = warnings.sorted()
    }

    /// The attributes of the target that each rule uses, referenced rules included.
    private static func targetAttributes(_ checks: [String: PolicyCheck], _ find: (String) -> PolicyCheck) -> [String: Set<String>] {
        var known: [String: Set<String>] = [:]
        func attributes(_ name: String) -> Set<String> {
            if let known = known[name] { return known }
            let check = find(name)
            let all = check.references.reduce(into: check.targetAttributes) { $0.formUnion(attributes($1)) }
            known[name] = all
            return all
        }
        for name in checks.keys { _ = attributes(name) }
        return known
    }

    /// Evaluates a rule.
    ///
    /// - Parameters:
    ///   - project: the project of the target.
    ///   - target: its other attributes.
    public func allows(
        _ rule: Rule, _ credentials: some PolicyCredentials, project: String, target: (String) -> String? = { _ in nil }
    ) -> Bool {
        program.holds(at: starts[rule.index], credentials) { name in
            name == "project_id" ? project : target(name)
        }
    }

    /// Whether the rule uses more of the target than its project.
    public func needsTarget(_ rule: Rule) -> Bool { looksAtTarget[rule.index] }
}
