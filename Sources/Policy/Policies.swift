/// The rules in force: the defaults, with what a policy file says instead.
public struct Policies: Sendable {
    /// A rule by its place in the table: asking costs no search.
    public struct Rule: Sendable, Equatable, ExpressibleByStringLiteral {
        public let name: String
        let index: Int

        /// Traps on a name that the table does not have: a mistake of the program.
        public init(stringLiteral name: String) {
            guard let index = PolicyTable.index[name] else { preconditionFailure("no policy rule \(name)") }
            self.name = name
            self.index = index
        }
    }

    /// Everything wrong with a policy file, one line each.
    public struct Problems: Error, CustomStringConvertible, Sendable {
        public let lines: [String]
        public var description: String { lines.joined(separator: "\n") }
    }

    private let program: PolicyProgram
    /// Where each rule begins in it.
    private let starts: [Int]
    /// Whether a rule asks for more of its target than the project.
    private let looksAtTarget: [Bool]
    /// Name and expression of every rule, and whether the file changed it; in the table's order, the file's own rules behind.
    public let expressions: [(name: String, text: String, isOverridden: Bool)]
    /// Names in the file that nothing asks for.
    public let unused: [String]

    /// `overrides`: what a file says, by rule. `withOlder`: older defaults hold beside the standard ones.
    public init(overrides: [(name: String, text: String)] = [], withOlder: Bool = false, file: String = "policy file") throws(Problems) {
        var problems: [String] = []
        var texts: [String: String] = [:]
        for rule in PolicyTable.all {
            texts[rule.name] =
                withOlder ? rule.older.map { "(\(rule.standard)) or (\($0 == "@" ? "@" : $0))" } ?? rule.standard : rule.standard
        }
        var changed: Set<String> = []
        for (name, text) in overrides {
            if !changed.insert(name).inserted { problems.append("\(file): rule \(name) is given twice") }
            texts[name] = text
        }
        var parsed: [String: PolicyCheck] = [:]
        for (name, text) in texts {
            do throws(PolicyCheck.SyntaxError) {
                parsed[name] = try PolicyCheck(parsing: text)
            } catch {
                problems.append("\(file): rule \(name): \(error)")
                parsed[name] = .never
            }
        }
        let all = parsed
        func resolve(_ name: String, _ path: [String]) throws(PolicyCheck.SyntaxError) -> PolicyCheck {
            guard let check = all[name] else { throw PolicyCheck.SyntaxError("there is no rule \(name)") }
            guard !path.contains(name) else {
                throw PolicyCheck.SyntaxError("it refers to itself by \((path + [name]).joined(separator: " -> "))")
            }
            return try check.resolved { reference throws(PolicyCheck.SyntaxError) in try resolve(reference, path + [name]) }
        }
        var checks: [PolicyCheck] = []
        for rule in PolicyTable.all {
            do throws(PolicyCheck.SyntaxError) {
                checks.append(try resolve(rule.name, []))
            } catch {
                problems.append("\(file): rule \(rule.name): \(error)")
                checks.append(.never)
            }
        }
        guard problems.isEmpty else { throw Problems(lines: problems.sorted()) }
        var program = PolicyProgram()
        starts = checks.map { program.add($0) }
        self.program = program
        looksAtTarget = checks.map { !$0.targetAttributes.subtracting(["project_id"]).isEmpty }
        let own = overrides.map(\.name).filter { PolicyTable.index[$0] == nil }
        expressions =
            PolicyTable.all.map { ($0.name, texts[$0.name] ?? "", changed.contains($0.name)) }
            + own.map { ($0, texts[$0] ?? "", true) }
        let referenced = parsed.values.reduce(into: Set<String>()) { $0.formUnion($1.references) }
        unused = own.filter { !referenced.contains($0) }
    }

    /// Whether the caller may. `project`: the one that the thing asked for belongs to; `target`: its other attributes.
    public func allows(
        _ rule: Rule, _ credentials: some PolicyCredentials, project: String, target: (String) -> String? = { _ in nil }
    ) -> Bool {
        program.holds(at: starts[rule.index], credentials) { name in
            name == "project_id" || name == "tenant_id" ? project : target(name)
        }
    }

    /// Whether the answer depends on more of the target than its project.
    public func needsTarget(_ rule: Rule) -> Bool { looksAtTarget[rule.index] }
}
