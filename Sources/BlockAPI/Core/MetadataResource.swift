import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// Items of a resource that clients set one by one or together: metadata of volumes and snapshots, extra specs of types. What differs
/// between them is a member of the declaration.
struct MetadataResource: Resource {
    struct Rules: Sendable {
        let list, show, create: Policies.Rule
        /// nil: the items cannot be replaced as a whole.
        let replace: Policies.Rule?
        let update, delete: Policies.Rule
    }

    let store: Store
    /// `volume-metadata`: the operations' names begin so.
    let name: String
    /// `/volumes/{volume_id}/metadata`
    let path: String
    /// `a volume's metadata`, in summaries.
    let noun: String
    /// The member of bodies that holds all items.
    var member = "metadata"
    /// The one that holds a single item; nil: the item stands alone.
    var item: String? = "meta"
    /// What items may be.
    let items: Schema
    let values: Shape
    /// Whether bodies may have members beside.
    var allowsOthers = false
    let rules: Rules
    /// Since which microversion a change can be made to depend on what the client last saw.
    var etagsSince: Int?
    /// Whether the answer to an addition shows all items, or those added.
    var showsAllAfterAdding = true
    var deleted: Reply<Void> = .empty(200, as: HTTPResponse.html)
    /// The items that the caller may see.
    var visible: @Sendable (JSONObject, APIRequest) -> JSONObject = { items, _ in items }
    /// What is said of an item that is not there.
    let missing: @Sendable (_ id: String, _ key: String) -> StorageError
    let read: @Sendable (_ id: String, Caller, any Connection) throws -> JSONObject
    /// Changes the items and returns them as they then are.
    let change: @Sendable (_ id: String, Caller, any Transaction, (inout JSONObject) throws -> Void) throws -> JSONObject
    /// What was asked for.
    enum Change: Sendable { case added(JSONObject), set(key: String), removed(key: String) }
    /// Notes a change for others, in its transaction.
    var noted: @Sendable (Change, _ id: String, Caller, any Transaction) throws -> Void = { _, _, _, _ in }

    var operations: [APIOperation] {
        var single = items
        single.minimumMembers = 1
        single.maximumMembers = 1
        let whole = Schema.object([(member, items)], required: [member], others: allowsOthers)
        let one = item.map { Schema.object([($0, single)], required: [$0], others: allowsOthers) } ?? single
        let all = Reply.member(member, .map(values))
        let shown = item.map { Reply.member($0, .map(values)) } ?? .json(.map(values))
        let unlessChanged = etagsSince.map { _ in "Something else has changed them since: If-Match does not hold." }

        var operations = [
            APIOperation(
                "\(name):list", "GET", path, policies: [rules.list], answers: withEtag(all), summary: "Show \(noun)"
            ) { request in .object(visible(try await current(request), request)) },
            APIOperation("\(name):create", "POST", path, policies: [rules.create], body: whole, answers: all, summary: "Add to \(noun)") {
                request in
                let new = request.body[member]?.object ?? [:]
                let now = try await store.write { tx in
                    let now = try change(request.parameters[0], request.caller, tx) { items in
                        for added in new.members { items[added.name] = added.value }
                    }
                    try noted(.added(new), request.parameters[0], request.caller, tx)
                    return now
                }
                return .object(showsAllAfterAdding ? now : new)
            },
        ]
        if let rule = rules.replace {
            operations.append(
                APIOperation(
                    "\(name):replace", "PUT", path, policies: [rule], body: whole, answers: all.or(412, unlessChanged),
                    summary: "Replace \(noun)"
                ) { request in
                    let new = request.body[member]?.object ?? [:]
                    return try await changed(request, .added(new)) { $0 = new }.map { .object($0) }
                })
        }
        operations += [
            APIOperation(
                "\(name):show", "GET", path + "/{key}", policies: [rules.show], answers: shown, summary: "Show one item of \(noun)"
            ) { request in
                let key = request.parameters[1]
                guard let value = visible(try await current(request), request)[key] else { throw missing(request.parameters[0], key) }
                return .object(JSONObject([(name: key, value: value)]))
            },
            APIOperation(
                "\(name):update", "PUT", path + "/{key}", policies: [rules.update], body: one, answers: shown.or(412, unlessChanged),
                summary: "Set one item of \(noun)"
            ) { request in
                let key = request.parameters[1]
                guard let value = (item.map { request.body[$0] } ?? request.body)?[key] else {
                    throw HTTPError.badRequest("Request body and URI mismatch")
                }
                return try await changed(request, .set(key: key)) { $0[key] = value }.map { _ in
                    .object(JSONObject([(name: key, value: value)]))
                }
            },
            APIOperation(
                "\(name):delete", "DELETE", path + "/{key}", policies: [rules.delete], answers: deleted,
                summary: "Remove one item of \(noun)"
            ) { request in
                let key = request.parameters[1]
                let failure = missing(request.parameters[0], key)
                try await store.write { tx in
                    _ = try change(request.parameters[0], request.caller, tx) { items in
                        guard items[key] != nil else { throw failure }
                        items[key] = nil
                    }
                    try noted(.removed(key: key), request.parameters[0], request.caller, tx)
                }
            },
        ]
        return operations
    }

    private func current(_ request: APIRequest) async throws -> JSONObject {
        try await store.read { try read(request.parameters[0], request.caller, $0) }
    }

    private func withEtag(_ answer: Reply<JSON>) -> Reply<JSON> {
        guard let etagsSince else { return answer }
        return answer.header("Etag", "What If-Match takes; since 3.\(etagsSince)") { output, request, response in
            guard request.version >= etagsSince, let items = output.object else { return }
            response.headers.append((name: "Etag", value: MetadataTag.of(items)))
            response.contentType = HTTPResponse.html
        }
    }

    /// nil: the items are no longer what the client last saw.
    private func changed(
        _ request: APIRequest, _ asked: Change, _ body: @escaping @Sendable (inout JSONObject) throws -> Void
    ) async throws -> JSONObject? {
        let expected = etagsSince.flatMap { request.version >= $0 ? request.http.list("If-Match") : nil }
        return try await store.write { tx in
            if let expected, !expected.isEmpty {
                let tag = MetadataTag.of(try read(request.parameters[0], request.caller, tx))
                let given = expected.split(separator: ",").map { String($0.filter { $0 != "\"" && $0 != " " }) }
                guard given.contains(tag) || given.contains("*") else { return nil }
            }
            let now = try change(request.parameters[0], request.caller, tx, body)
            try noted(asked, request.parameters[0], request.caller, tx)
            return now
        }
    }
}

/// What tells one state of metadata from another: the MD5 of `{"metadata": {...}}` as Python's json.dumps writes it, because clients compare
/// it with what Cinder gave them.
enum MetadataTag {
    static func of(_ metadata: JSONObject) -> String {
        MD5.hex(PythonJSON.line(.object(["metadata": .object(metadata)])))
    }
}
