/// Maps paths to targets. Paths are templates: `/volumes/{id}/metadata/{key}`.
public struct Router<Target: Sendable>: Sendable {
    private struct Node: Sendable {
        var literals: [Substring: Int] = [:]
        var parameter: Int?
        var targets: [(method: String, target: Target)] = []
    }
    private var nodes: [Node] = [Node()]

    public init() {}

    /// Adds a target. Literal segments win over parameters.
    public mutating func add(_ method: String, _ template: String, _ target: Target) {
        var index = 0
        for segment in template.split(separator: "/") {
            if segment.first == "{" {
                if let next = nodes[index].parameter {
                    index = next
                } else {
                    nodes.append(Node())
                    nodes[index].parameter = nodes.count - 1
                    index = nodes.count - 1
                }
            } else if let next = nodes[index].literals[segment] {
                index = next
            } else {
                nodes.append(Node())
                nodes[index].literals[segment] = nodes.count - 1
                index = nodes.count - 1
            }
        }
        nodes[index].targets.append((method: method, target: target))
    }

    /// The target for the segments, with the parameters in their order; nil if no such path or method is known.
    public func find(_ method: String, _ segments: ArraySlice<Substring>) -> (target: Target, parameters: [String])? {
        var parameters: [String] = []
        guard let index = walk(0, segments, &parameters) else { return nil }
        guard let found = nodes[index].targets.first(where: { $0.method == method }) else { return nil }
        return (found.target, parameters)
    }

    private func walk(_ start: Int, _ segments: ArraySlice<Substring>, _ parameters: inout [String]) -> Int? {
        guard let segment = segments.first else { return nodes[start].targets.isEmpty ? nil : start }
        if let next = nodes[start].literals[segment], let found = walk(next, segments.dropFirst(), &parameters) { return found }
        guard let next = nodes[start].parameter, !segment.isEmpty else { return nil }
        parameters.append(String(segment))
        if let found = walk(next, segments.dropFirst(), &parameters) { return found }
        parameters.removeLast()
        return nil
    }
}
