import Policy
import Testing

@testable import BlockAPI

@Suite("Operation table")
struct OperationTableTests {
    /// What everybody may ask who is known at all, as in Cinder: none of it tells anything of a project.
    private static let open: Set<String> = ["availability-zones:list", "resource-filters:list", "extensions:list", "extensions:show"]

    @Test("every operation asks for a rule that exists, but for those that everybody may ask")
    func policies() async throws {
        let operations = try await InMemoryAPI.declared.value
        let rules = Set(PolicyTable.all.map(\.name))
        for operation in operations {
            #expect(operation.policies.isEmpty == Self.open.contains(operation.name), "\(operation.name)")
            for policy in operation.policies { #expect(rules.contains(policy.name), "\(operation.name): \(policy.name)") }
        }
        #expect(Self.open.isSubset(of: operations.map(\.name)))
    }

    @Test("every operation on a volume hides the volume from who may not see it")
    func hiding() async throws {
        let operations = try await InMemoryAPI.declared.value
        for operation in operations {
            #expect((operation.hiding?.rule == "volume:get") == operation.path.hasPrefix("/volumes/{"), "\(operation.name)")
        }
    }

    @Test("a path has one template: to OpenAPI two that differ in the names of parameters are the same path")
    func templates() async throws {
        var known: [String: APIOperation] = [:]
        for operation in try await InMemoryAPI.declared.value {
            let path = operation.path.split(separator: "/").map { $0.hasPrefix("{") ? "{}" : $0 }.joined(separator: "/")
            let first = known[path] ?? operation
            known[path] = first
            #expect(first.path == operation.path, "\(first.name) has \(first.path), \(operation.name) has \(operation.path)")
        }
    }

    @Test("what is said not to be served is not served: the list shrinks as features come")
    func notServed() async throws {
        for operation in try await InMemoryAPI.declared.value {
            let segments = operation.path.split(separator: "/")
            for entry in NotServed.paths { #expect(!NotServed.covers(entry.path, segments[...]), "\(operation.name)") }
        }
    }
}
