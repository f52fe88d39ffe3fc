/// All rules compiled into one flat array of steps (prefix order: operands follow their operator). A tree of references would cost
/// reference counting at every node, on cache lines shared by all threads; evaluating the array does not.
struct PolicyProgram: Sendable {
    private enum Step: Sendable {
        case constant(Bool)
        case role(Int)
        /// A role whose name contains an attribute of the target.
        case roleOfTarget(Int)
        case isAdmin(Bool)
        case equal(Int)
        /// One of the caller's roles, or of the forwarding service's roles, must equal the right side.
        case roles(Int)
        case serviceRoles(Int)
        case not
        /// The operands extend to `end`.
        case all(end: Int)
        case any(end: Int)
    }

    private var steps: [Step] = []
    private var roles: [String] = []
    private var comparisons: [(left: PolicyCheck.Operand, right: PolicyCheck.Operand)] = []

    /// Appends a check, with referenced rules inlined; returns its start.
    mutating func add(_ check: PolicyCheck, _ find: (String) -> PolicyCheck) -> Int {
        let start = steps.count
        switch check {
        case .always: steps.append(.constant(true))
        case .never: steps.append(.constant(false))
        case .rule(let name): return add(find(name), find)
        case .role(.literal(let role)):
            steps.append(.role(roles.count))
            roles.append(role)
        case .role(let role):
            steps.append(.roleOfTarget(comparisons.count))
            comparisons.append((.literal(""), role))
        case .isAdmin(let wanted): steps.append(.isAdmin(wanted))
        case .equal(let left, let right):
            switch left {
            case .attribute("roles"): steps.append(.roles(comparisons.count))
            case .attribute("service_roles"): steps.append(.serviceRoles(comparisons.count))
            default: steps.append(.equal(comparisons.count))
            }
            comparisons.append((left, right))
        case .not(let check):
            steps.append(.not)
            _ = add(check, find)
        case .all(let checks):
            steps.append(.all(end: start))
            for check in checks { _ = add(check, find) }
            steps[start] = .all(end: steps.count)
        case .any(let checks):
            steps.append(.any(end: start))
            for check in checks { _ = add(check, find) }
            steps[start] = .any(end: steps.count)
        }
        return start
    }

    /// Evaluates the check that begins at `start`.
    func holds(at start: Int, _ credentials: some PolicyCredentials, _ target: (String) -> String?) -> Bool {
        var position = start
        return holds(&position, credentials, credentials.policyRoles, target)
    }

    /// Moves `position` behind the check, even if not all of it was evaluated.
    private func holds(
        _ position: inout Int, _ credentials: some PolicyCredentials, _ held: [String], _ target: (String) -> String?
    ) -> Bool {
        let step = steps[position]
        position += 1
        switch step {
        case .constant(let value): return value
        case .role(let index): return held.contains { Self.isRole($0, roles[index]) }
        case .isAdmin(let wanted): return credentials.policyIsAdmin == wanted
        case .equal(let index):
            let left = Self.value(comparisons[index].left) { name in
                name == "is_admin" ? (credentials.policyIsAdmin ? "True" : "False") : credentials.policyAttribute(name)
            }
            switch (left, Self.value(comparisons[index].right, target)) {
            case (let left?, let right?): return left == right
            default: return false
            }
        case .roleOfTarget(let index):
            guard let wanted = Self.value(comparisons[index].right, target)?.lowercased() else { return false }
            return held.contains { Self.isRole($0, wanted) }
        case .roles(let index): return Self.value(comparisons[index].right, target).map(held.contains) ?? false
        case .serviceRoles(let index):
            return Self.value(comparisons[index].right, target).map(credentials.policyServiceRoles.contains) ?? false
        case .not: return !holds(&position, credentials, held, target)
        case .all(let end):
            defer { position = end }
            while position < end { if !holds(&position, credentials, held, target) { return false } }
            return true
        case .any(let end):
            defer { position = end }
            while position < end { if holds(&position, credentials, held, target) { return true } }
            return false
        }
    }

    /// - Parameter wanted: the role in lower case.
    private static func isRole(_ held: String, _ wanted: String) -> Bool {
        held == wanted || held.utf8.contains { $0 &- UInt8(ascii: "A") < 26 || $0 >= 0x80 } && held.lowercased() == wanted
    }

    private static func value(_ operand: PolicyCheck.Operand, _ find: (String) -> String?) -> String? {
        switch operand {
        case .literal(let text): text
        case .attribute(let name): find(name)
        case .joined(let parts): joined(parts, find)
        }
    }

    private static func joined(_ parts: [PolicyCheck.Operand], _ find: (String) -> String?) -> String? {
        var text = ""
        for part in parts {
            guard let part = value(part, find) else { return nil }
            text += part
        }
        return text
    }
}
