import Testing

@testable import Policy

@Suite("Policies")
struct PolicyTests {
    struct Caller: PolicyCredentials {
        var policyRoles: [String] = []
        var policyServiceRoles: [String] = []
        var policyIsAdmin = false
        var attributes: [String: String] = ["user_id": "u", "project_id": "p"]
        func policyAttribute(_ name: String) -> String? { attributes[name] }
    }

    static let admin = Caller(policyRoles: ["admin", "member", "reader"], policyIsAdmin: true)
    static let member = Caller(policyRoles: ["member", "reader"], policyServiceRoles: ["service"])
    static let reader = Caller(policyRoles: ["reader"])
    static let nobody = Caller(policyRoles: ["custom"])

    @Test(
        "expressions mean what oslo.policy's mean",
        arguments: [
            ("", true), ("@", true), ("!", false), ("role:member", true), ("role:MEMBER", true), ("role:admin", false),
            ("not role:admin", true),
            ("role:admin or role:reader", true), ("role:admin and role:reader", false), ("not role:admin and role:reader", true),
            ("not (role:admin or role:reader)", false), ("role:admin or (role:reader and role:member)", true), ("((role:member))", true),
            ("project_id:%(project_id)s", true), ("user_id:%(user_id)s", false), ("user_id:u", true), ("project_id:x", false),
            ("'p':%(project_id)s", true), ("\"q\":%(project_id)s", false), ("is_admin:False", true), ("is_admin:True", false),
            ("is_admin:false", false), ("is_admin:0", false), ("tenant_id:%(tenant_id)s", false), ("tenant:%(project_id)s", false),
            ("user_id:%(user_id)s%%", false), ("'other%':%(user_id)s%%", true), ("role:mem%(half)s", false), ("rule:nowhere", false),
            ("not rule:nowhere", true),
            ("domain_id:%(domain_id)s", false), ("system_scope:all", false), ("roles:reader", true), ("roles:admin", false),
            ("service_roles:service", true), ("service_roles:%(user_id)s", false), ("not service_roles:member", true),
            ("role:member AND project_id:%(project_id)s", true),
            ("(role:admin and project_id:%(project_id)s) or (role:member and project_id:%(project_id)s)", true),
        ])
    func language(expression: String, holds: Bool) throws {
        let policies = try Policies(overrides: [("volume:create", expression)])
        #expect(policies.allows("volume:create", Self.member, project: "p", target: { $0 == "user_id" ? "other" : nil }) == holds)
    }

    @Test(
        "what is no expression is refused, and the rule is named",
        arguments: [
            "role", "role:a or", "and role:a", "(role:a", "role:a)", "role:a role:b", "not", "user_id:100%", "user_id:%(user_id)d",
            "http://example.com/%(x)s",
            "rule:volume:create", "()", "role:a or or role:b",
            String(repeating: "(", count: 100) + "@" + String(repeating: ")", count: 100),
        ])
    func refused(expression: String) {
        #expect {
            try Policies(overrides: [("volume:create", expression)])
        } throws: { error in
            ((error as? Policies.Problems)?.lines ?? []).contains { $0.contains("rule volume:create: ") }
        }
    }

    @Test("rules that refer to each other in a circle are refused")
    func circle() {
        #expect(throws: Policies.Problems.self) {
            try Policies(overrides: [("volume:create", "rule:a"), ("a", "rule:b"), ("b", "not rule:a")])
        }
    }

    @Test("rules that refer to each other in a long row are refused by name, wherever one begins to read")
    func row() throws {
        let row = [("volume:create", "rule:c0")] + (0..<1_500).map { ("c\($0)", "not rule:c\($0 + 1)") } + [("c1500", "role:member")]
        for rules in [row, row.reversed()] {
            #expect {
                try Policies(overrides: rules.map { (name: $0.0, text: $0.1) })
            } throws: { error in
                ((error as? Policies.Problems)?.lines ?? []).contains {
                    $0.contains("rule volume:create: ") && $0.contains("nested too deep")
                }
            }
        }
        let short = [("volume:create", "rule:c0")] + (0..<50).map { ("c\($0)", "not rule:c\($0 + 1)") } + [("c50", "role:member")]
        #expect(try Policies(overrides: short.map { (name: $0.0, text: $0.1) }).allows("volume:create", Self.member, project: "p"))
    }

    @Test("a file whose references repeat what is long is refused, and says which rule")
    func repetition() {
        let long = "[" + (0..<500).map { "\"role:r\($0)\"" }.joined(separator: ", ") + "]"
        for (file, told) in [
            ("a: &a [\(long)]\nb: &b [*a]\n", "no expression"),
            ("a: &a \(long)\nb: [\((0..<50).map { _ in "*a" }.joined(separator: ", "))]\n", "rule b is longer than"),
            ("a:\n- &a \(long)\n\((0..<50).map { _ in "- *a\n" }.joined())", "rule a is longer than"),
            ("a: &a \"\(String(repeating: "@ or ", count: 13_000))@\"\n" + (0..<100).map { "b\($0): *a\n" }.joined(), "MiB together"),
            ((0..<2_001).map { "b\($0): \"@\"\n" }.joined(), "more than 2000 rules"),
        ] {
            #expect {
                try PolicyFile.parse(Array(file.utf8), name: "f")
            } throws: { error in
                ((error as? Policies.Problems)?.lines ?? []).contains { $0.contains(told) }
            }
        }
    }

    @Test("the defaults: administrators everything, members of a project what they own, readers only look")
    func defaults() throws {
        let policies = try Policies()
        #expect(policies.expressions.count >= 167)
        for (rule, member, reader) in [
            ("volume:create" as Policies.Rule, true, false), ("volume:get", true, true), ("volume:delete", true, false),
            ("volume:force_delete", false, false),
            ("volume_extension:services:index", false, false),
        ] {
            #expect(policies.allows(rule, Self.admin, project: "other"))
            #expect(policies.allows(rule, Self.member, project: "p") == member)
            #expect(!policies.allows(rule, Self.member, project: "other"))
            #expect(policies.allows(rule, Self.reader, project: "p") == reader)
            #expect(!policies.allows(rule, Self.nobody, project: "p"))
        }
    }

    @Test("older defaults hold beside the standard ones only where the operator says so")
    func older() throws {
        #expect(try Policies(withOlder: true).allows("volume:delete", Self.nobody, project: "p"))
        #expect(try !Policies(withOlder: true).allows("volume:delete", Self.nobody, project: "other"))
        #expect(try Policies(withOlder: true).allows("volume:create", Self.nobody, project: "other"))
        #expect(try !Policies(withOlder: true).allows("volume:force_delete", Self.nobody, project: "p"))
    }

    @Test("a change of a base rule reaches every rule that refers to it")
    func bases() throws {
        let policies = try Policies(overrides: [("xena_system_admin_or_project_member", "role:custom"), ("mine", "role:x")])
        #expect(policies.allows("volume:create", Self.nobody, project: "p") && !policies.allows("volume:create", Self.member, project: "p"))
        #expect(policies.unused == ["mine"])
        #expect(policies.needsTarget("volume:create") == false)
        #expect(try Policies(overrides: [("volume:create", "user_id:%(user_id)s")]).needsTarget("volume:create"))
    }

    @Test("files: YAML, JSON, lists of lists, comments; nothing is an empty file")
    func files() throws {
        func rules(_ text: String) throws -> [String: String] {
            Dictionary(try PolicyFile.parse(Array(text.utf8), name: "f").map { ($0.name, $0.text) }, uniquingKeysWith: { $1 })
        }
        #expect(try rules("# only a comment\n").isEmpty)
        #expect(
            try rules("\"volume:create\": \"role:a\"\n# x\nvolume:get: 'role:b'\n") == ["volume:create": "role:a", "volume:get": "role:b"])
        #expect(
            try rules("{\"volume:create\": [[\"role:a\", \"role:b\"], [\"rule:c\"]], \"x\": []}") == [
                "volume:create": "( role:a and role:b ) or ( rule:c )", "x": "@",
            ])
        #expect(try rules("a: [[], [role:b]]\nc: [[]]") == ["a": "( role:b )", "c": "!"])
        for broken in ["[1, 2]", "a: {b: c}", "a: b: c: d", "\"open", "a: [[[x]]]", "\u{0}"] {
            #expect(throws: Policies.Problems.self, "\(broken)") { try PolicyFile.parse(Array(broken.utf8), name: "f") }
        }
    }

    @Test("who changes admin_api changes every rule for administrators")
    func administrators() throws {
        let policies = try Policies(overrides: [("admin_api", "role:operator")])
        let operators = Caller(policyRoles: ["operator"])
        for rule in ["volume:force_delete" as Policies.Rule, "volume_extension:services:index", "clusters:get", "clinker:doctor"] {
            #expect(policies.allows(rule, operators, project: "other") && !policies.allows(rule, Self.admin, project: "p"))
        }
    }

    @Test("an older name holds for the rules that came of it, until the file has the new one, and its new name is told")
    func olderNames() throws {
        let old = (name: "volume_extension:types_manage", text: "role:custom")
        var policies = try Policies(overrides: [old])
        #expect(policies.allows("volume_extension:type_create", Self.nobody, project: "p"))
        #expect(policies.warnings.count == 1 && policies.warnings[0].contains("volume_extension:type_create, volume_extension:type_update"))
        #expect(policies.unused.isEmpty)
        policies = try Policies(overrides: [old, ("volume_extension:type_create", "role:reader")])
        #expect(!policies.allows("volume_extension:type_create", Self.nobody, project: "p"))
        #expect(policies.allows("volume_extension:type_delete", Self.nobody, project: "p"))
        // What only repeats the old default or points at the new rule changes nothing.
        for same in ["rule:admin_api", "rule:volume_extension:type_create"] {
            policies = try Policies(overrides: [(old.name, same)])
            #expect(!policies.allows("volume_extension:type_create", Self.nobody, project: "p"))
        }
    }

    @Test("who refers to a rule that is not there gets the file's rule default, else nothing, and it is told")
    func missingReference() throws {
        var policies = try Policies(overrides: [("volume:create", "rule:nowhere")])
        #expect(!policies.allows("volume:create", Self.admin, project: "p"))
        #expect(policies.warnings == ["policy file: rule volume:create refers to nowhere, which does not exist: nobody has it"])
        policies = try Policies(overrides: [("volume:create", "rule:nowhere"), ("default", "role:custom")])
        #expect(policies.allows("volume:create", Self.nobody, project: "p"))
    }

    @Test("rules that double from one to the next are refused before they take time or memory")
    func growth() {
        var rules = [(name: "volume:create", text: "rule:r0")]
        for number in 0..<40 { rules.append(("r\(number)", "rule:r\(number + 1) or (rule:r\(number + 1) and role:x)")) }
        rules.append(("r40", "role:x"))
        #expect {
            try Policies(overrides: rules)
        } throws: { error in
            ((error as? Policies.Problems)?.lines ?? []).contains {
                $0.contains("rule volume:create: ") && $0.contains("more than 2000 checks")
            }
        }
        let many = (0...2000).map { "r\($0): role:x\n" }.joined()
        #expect(throws: Policies.Problems.self) { try PolicyFile.parse(Array(many.utf8), name: "f") }
    }
}
