import HTTPServer
import Settings

/// Finds the operations behind a method and a path.
struct OperationRouter: Sendable {
    /// Everything behind one method and path: one operation, or several told apart by action and microversion.
    final class Endpoint: Sendable {
        let operations: [APIOperation]
        let isAction: Bool
        init(_ operations: [APIOperation]) {
            self.operations = operations
            isAction = operations.contains { $0.action != nil }
        }
    }

    enum Place {
        case root
        case version(project: Substring?, hasSlash: Bool)
        case endpoint(Endpoint, parameters: [String], project: Substring?)
        /// A resource that has not the method.
        case resource(project: Substring?)
        /// What Cinder serves and this release does not, as it is said to clients.
        case notServed(String, project: Substring?)
        case nowhere
    }

    private let router: Router<Endpoint>
    /// The first names of the paths, and whether they have members.
    private let resources: [Substring: Bool]
    private let isProject: @Sendable (Substring) -> Bool

    /// `projectPattern`: what a path's segment must match to be the id of a project.
    init(_ operations: [APIOperation], projectPattern: String) throws(SettingsError) {
        isProject = try Self.projectTest(projectPattern)
        var resources: [Substring: Bool] = [:]
        var endpoints: [(method: String, path: String, operations: [APIOperation])] = []
        for operation in operations {
            let names = operation.path.split(separator: "/")
            if let name = names.first {
                resources[name] = (resources[name] ?? false) || (names.count > 1 && names[1].hasPrefix("{"))
            }
            if let index = endpoints.firstIndex(where: { $0.method == operation.method && $0.path == operation.path }) {
                endpoints[index].operations.append(operation)
            } else {
                endpoints.append((operation.method, operation.path, [operation]))
            }
        }
        // In Cinder these are paths of their own, not resources.
        resources["os-services"] = nil
        resources["default-types"] = nil
        self.resources = resources
        var router = Router<Endpoint>()
        for endpoint in endpoints { router.add(endpoint.method, endpoint.path, Endpoint(endpoint.operations)) }
        self.router = router
    }

    /// What the method and the path lead to.
    func place(of request: HTTPRequest) -> Place {
        let path = request.rawPath
        guard path.utf8.starts(with: "/v3".utf8) else { return .root }
        var segments = request.segments.dropFirst(2)
        guard path.utf8.count == 3 || path.utf8.dropFirst(3).first == UInt8(ascii: "/") else { return .nowhere }
        let hadTrailingSlash = segments.last == ""
        if hadTrailingSlash { segments = segments.dropLast() }
        var project: Substring?
        if let first = segments.first, isProject(first) {
            project = first
            segments = segments.dropFirst()
        }
        if segments.isEmpty { return .version(project: project, hasSlash: hadTrailingSlash) }
        // An empty id names nothing: it is not the list that it would follow.
        guard !hadTrailingSlash else { return .nowhere }
        if let last = segments.last, last.utf8.last == UInt8(ascii: "n"), last.hasSuffix(".json") {
            segments[segments.endIndex - 1] = last.dropLast(5)
        }
        guard let (endpoint, parameters) = router.find(request.method, segments) else {
            if let sentence = NotServed.sentence(ofPath: segments) { return .notServed(sentence, project: project) }
            return hasResource(request.method, segments) ? .resource(project: project) : .nowhere
        }
        return .endpoint(endpoint, parameters: parameters, project: project)
    }

    /// Whether a resource of the name is there that has not this method: that is told as the resource's own answer.
    private func hasResource(_ method: String, _ segments: ArraySlice<Substring>) -> Bool {
        guard let name = segments.first, let hasMembers = resources[name] else { return false }
        switch segments.count {
        case 1: return method == "GET" || method == "POST"
        case 2: return hasMembers && ["GET", "PUT", "DELETE"].contains(method)
        default: return false
        }
    }

    static func projectTest(_ pattern: String) throws(SettingsError) -> @Sendable (Substring) -> Bool {
        if pattern == "[0-9a-f\\-]+" {
            return { segment in
                segment.utf8.withContiguousStorageIfAvailable { bytes in
                    for byte in bytes where !((byte >= 48 && byte <= 57) || (byte >= 97 && byte <= 102) || byte == UInt8(ascii: "-")) {
                        return false
                    }
                    return !bytes.isEmpty
                } ?? false
            }
        }
        do {
            _ = try Regex(pattern)
            return { segment in ((try? Regex(pattern).wholeMatch(in: segment)) ?? nil) != nil }
        } catch {
            throw SettingsError(["[DEFAULT] project_id_regex is no regular expression: \(error)"])
        }
    }
}
