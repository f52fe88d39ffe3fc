import Glibc
import JSON
import Policy
import TestSupport
import Testing

/// Whether policy files mean what oslo.policy and Cinder's own rules say: random files and callers, every rule compared.
@Suite("Policies beside oslo.policy")
struct PolicyJudgeTests {
    private struct Caller: PolicyCredentials {
        let policyRoles: [String]
        let policyServiceRoles: [String]
        let policyIsAdmin: Bool
        let attributes: [String: String]
        func policyAttribute(_ name: String) -> String? { attributes[name] }
    }

    private static func texts(_ json: JSON?) -> [String] { (json?.array ?? []).compactMap(\.string) }
    private static func pairs(_ json: JSON?) -> [String: String] {
        Dictionary((json?.object?.members ?? []).map { ($0.name, $0.value.string ?? "") }, uniquingKeysWith: { $1 })
    }

    @Test("every rule lets the same callers in as in Cinder, whatever a file says")
    func agree() async throws {
        let root = ServiceUnderTest.root
        let count = getenv("CLINKER_CONFORMANCE") == nil ? 40 : 200
        let seed = getenv("CLINKER_SEED").map { String(cString: $0) } ?? "1"
        let judge = try await ServiceUnderTest.run(
            root + "/.oracle/bin/python", [root + "/Tests/Oracle/policies.py", seed, "\(count)"])
        let lines = judge.output.split(separator: "\n").filter { $0.hasPrefix("{\"rules\"") }
        try #require(judge.status == 0 && lines.count == count, "\(judge.output.suffix(2000))")
        var answers = 0
        for line in lines {
            let asked = try JSON(parsing: Array(line.utf8))
            let file = asked["rules"]?.text ?? ""
            let policies = try Policies(
                overrides: try PolicyFile.parse(Array(file.utf8), name: "policy.yaml"), withOlder: asked["new_defaults"]?.bool == false)
            for call in asked["calls"]?.array ?? [] {
                let caller = Caller(
                    policyRoles: Self.texts(call["roles"]), policyServiceRoles: Self.texts(call["service_roles"]),
                    policyIsAdmin: call["is_admin"]?.bool ?? false, attributes: Self.pairs(call["attributes"]))
                let target = Self.pairs(call["target"])
                let allowed = Set(Self.texts(call["allowed"]))
                for rule in PolicyTable.all where !rule.name.hasPrefix("clinker:") {
                    answers += 1
                    let holds = policies.allows(
                        Policies.Rule(stringLiteral: rule.name), caller, project: target["project_id"] ?? "", target: { target[$0] })
                    #expect(
                        holds == allowed.contains(rule.name),
                        "\(rule.name) of \(policies.expressions.first { $0.name == rule.name }?.text ?? "?") in \(file) for \(call.text)")
                }
            }
        }
        #expect(answers > count * 900)
    }
}
