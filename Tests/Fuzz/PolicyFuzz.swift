import Policy

/// A policy file is refused with lines that name the rule, or every rule has an answer: and what it takes from everybody it
/// gives to nobody.
enum PolicyFuzz {
    private struct Nobody: PolicyCredentials {
        var policyRoles: [String] { [] }
        var policyServiceRoles: [String] { [] }
        var policyIsAdmin: Bool { false }
        func policyAttribute(_ name: String) -> String? { nil }
    }

    static func run(_ bytes: UnsafeRawBufferPointer) {
        do throws(Policies.Problems) {
            let overrides = try PolicyFile.parse(Array(bytes), name: "policy")
            let policies = try Policies(overrides: overrides)
            _ = policies.allows("volume:create", Nobody(), project: "p")
            if try Policies(overrides: overrides.filter { $0.name != "volume:delete" } + [(name: "volume:delete", text: "!")])
                .allows("volume:delete", Nobody(), project: "p")
            {
                violated("a rule that never holds held")
            }
        } catch {
            if error.lines.isEmpty { violated("refused without a reason") }
        }
    }
}
