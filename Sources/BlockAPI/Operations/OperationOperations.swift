public import BlockStorage
public import Database
import HTTPServer
import JSON

/// `/operations`: the work that requests have set going. Beside Cinder's API.
enum OperationOperations {
    static let extensions: [APIExtension] = [
        APIExtension(
            alias: "clinker-operations", name: "Operations",
            description: "Shows the operations behind requests with their steps, progress and the scheduler's verdicts, and cancels them.",
            updated: "2026-11-21T00:00:00+00:00",
            operations: [
                APIOperation(
                    "operations:list", "GET", "/operations", policies: ["clinker:operations_get"], summary: "List operations", handler: list
                ),
                APIOperation(
                    "operations:show", "GET", "/operations/{id}", policies: ["clinker:operations_get"], summary: "Show an operation"
                ) { request in
                    try await request.list(isShort: true) { connection in
                        let operation = try Operations.get(request.parameters[0], for: request.caller, in: connection)
                        let events = try Events.of(operation, in: connection)
                        let verdicts = try Operations.verdicts(of: operation.id, in: connection)
                        return .json(capacity: 2048) { writer in
                            writer.beginObject()
                            writer.key("operation")
                            view(operation, request, detail: (events: events, verdicts: verdicts), &writer)
                            writer.endObject()
                        }
                    }
                },
                APIOperation(
                    "operations:cancel", "POST", "/operations/{id}/cancel", policies: ["clinker:operations_cancel"], success: 202,
                    summary: "Have an operation taken back"
                ) { request in
                    try await request.change { tx in
                        let operation = try Operations.get(request.parameters[0], for: request.caller, in: tx)
                        try request.service.operations.cancel(operation, request.caller, tx)
                    }
                    return HTTPResponse(status: 202)
                },
                APIOperation(
                    "operations:explain", "POST", "/operations/explain", policies: ["clinker:operations_explain"],
                    bodies: VolumeOperations.creationBodies,
                    summary: "Say where a volume would be placed, and why not elsewhere", handler: explain),
            ])
    ]

    @Sendable private static func list(_ request: APIRequest) async throws -> HTTPResponse {
        let paging = try Paging(request)
        var query = OperationQuery(projectID: try request.wantsAllProjects() ? nil : request.caller.projectID, limit: paging.limit)
        query.marker = paging.marker
        for (name, value) in request.http.filters {
            if name == "unfinished" {
                guard let value = PythonText.bool(value) else {
                    throw HTTPError.badRequest("Invalid input received: unfinished must be a boolean, not '\(value)'")
                }
                query.isUnfinished = value
            } else if name == "host", request.identity.isAdmin {
                query.backend = value
            } else if let column = OperationQuery.Column(rawValue: name) {
                query.filters.append((column: column, value: value))
            } else {
                let known = (OperationQuery.Column.allCases.map(\.rawValue) + ["unfinished"] + (request.identity.isAdmin ? ["host"] : []))
                    .joined(separator: ", ")
                throw HTTPError.badRequest("Invalid filters \(name) are found in query options. Known are \(known).")
            }
        }
        let asked = query
        let found = try await request.list(isShort: asked.isShort) { try asked.page(in: $0) }
        return .json(capacity: 4096) { writer in
            writer.beginObject()
            writer.key("operations")
            writer.beginArray()
            for operation in found { view(operation, request, detail: nil, &writer) }
            writer.endArray()
            if let last = found.last, found.count == paging.limit {
                request.links.writeNext("operations_links", path: "operations", request: request.http, marker: last.id, &writer)
            }
            writer.endObject()
        }
    }

    private static func view(
        _ operation: Operation, _ request: APIRequest, detail: (events: [Event], verdicts: JSON?)?, _ writer: inout JSONWriter
    ) {
        let isAdmin = request.identity.isAdmin
        writer.beginObject()
        writer.member("id", operation.id)
        writer.member("flow", operation.flow)
        writer.member("state", operation.finishedAt == nil && operation.isReverting ? "reverting" : operation.state)
        writer.member("resource_type", operation.resourceType)
        writer.member("resource_id", operation.resourceID)
        writer.member("project_id", operation.projectID)
        writer.member("user_id", operation.userID)
        writer.member("request_id", operation.requestID)
        writer.member("created_at", operation.createdAt)
        writer.member("updated_at", operation.updatedAt)
        writer.member("finished_at", operation.finishedAt)
        writer.member("cancelled", operation.isCancelled)
        writer.member("attempts", operation.attempts + 1)
        writer.key("progress")
        if let fraction = operation.finishedAt == nil ? request.service.operations.progress(operation.id) : nil {
            writer.value(.real((fraction * 1000).rounded() / 1000))
        } else {
            writer.null()
        }
        // What a backend says is for its administrators; users are told what its code means, and find theirs in the messages.
        writer.member(
            "error",
            operation.error.map { error in
                let sentence = request.service.operations.sentence(error).map { " " + $0 } ?? ""
                return isAdmin ? error : "The operation failed.\(sentence) The messages of the resource say more."
            })
        if let detail {
            writer.key("steps")
            writer.beginArray()
            for step in steps(operation, detail.events, request) { writer.value(step) }
            writer.endArray()
            if isAdmin { writer.member("verdicts", detail.verdicts ?? []) }
        }
        writer.endObject()
    }

    /// The flow's steps with what the history says of each; the last attempt counts.
    private static func steps(_ operation: Operation, _ events: [Event], _ request: APIRequest) -> [JSON] {
        var found: [String: JSONObject] = [:]
        for event in events {
            guard let data = try? JSON(parsing: event.data), let name = data["step"]?.string else { continue }
            var step = found[name] ?? [:]
            switch event.kind {
            case "step.start":
                step["state"] = "running"
                step["started_at"] = .string(event.time)
            case "step.end":
                step["state"] = "done"
                step["seconds"] = data["seconds"] ?? .null
            case "step.failed": step["state"] = "failed"
            case "step.revert": step["state"] = step["state"] == "failed" ? "failed" : "reverted"
            default: break
            }
            found[name] = step
        }
        return request.service.operations.steps(operation).map { name in
            let step = found[name] ?? [:]
            return [
                "name": .string(name), "state": step["state"] ?? "pending", "started_at": step["started_at"] ?? .null,
                "seconds": step["seconds"] ?? .null,
            ]
        }
    }

    /// Carries a placement out of a transaction that is undone.
    private struct Explained: Error { let placement: Scheduler.Placement }

    /// Does everything that a creation does up to the scheduler's choice, and undoes it.
    @Sendable private static func explain(_ request: APIRequest) async throws -> HTTPResponse {
        let new = try VolumeOperations.newVolume(request)
        await request.service.operations.awaitPools()
        let instance = await request.service.scheduler.instance(["scheduler_hints": .object(new.schedulerHints)])
        let placement: Scheduler.Placement
        do {
            try await request.change { tx in
                let id = try request.service.requests.create(new, caller: request.caller, in: tx)
                guard let volume = try Volumes.find(id, in: tx), let operation = try Operations.latest(of: id, in: tx) else {
                    throw StorageError.volumeNotFound(id)
                }
                throw Explained(
                    placement: try request.service.scheduler.place(
                        new: volume, arguments: operation.arguments, instance: instance, attempted: [],
                        snapshotSameHost: request.service.snapshotSameHost,
                        among: request.service.operations.usablePools(tx), in: tx))
            }
            throw HTTPError(500, "The placement was not explained.")
        } catch let explained as Explained { placement = explained.placement }
        return .json(capacity: 2048) { writer in
            writer.beginObject()
            writer.key("placement")
            writer.beginObject()
            writer.member("pool", placement.choice?.host)
            writer.member("verdicts", placement.verdicts.json)
            writer.endObject()
            writer.endObject()
        }
    }
}

/// What the API needs of the engine that carries operations out.
public struct OperationDoors: Sendable {
    /// Names of the steps of an operation's flow.
    public var steps: @Sendable (Operation) -> [String]
    /// 0...1; nil where nothing was reported.
    public var progress: @Sendable (_ id: String) -> Double?
    /// Has an operation taken back; throws why it cannot be.
    public var cancel: @Sendable (Operation, Caller, any Transaction) throws -> Void
    /// Pools of backends that are enabled.
    public var usablePools: @Sendable (any Connection) throws -> [PoolState]
    /// Right after the start: waits until every backend has reported, or long enough.
    public var awaitPools: @Sendable () async -> Void
    /// What an operation's error means, for those who may not read it; nil where there is no more to say.
    public var sentence: @Sendable (_ error: String) -> String?

    public init(
        steps: @escaping @Sendable (Operation) -> [String], progress: @escaping @Sendable (_ id: String) -> Double?,
        cancel: @escaping @Sendable (Operation, Caller, any Transaction) throws -> Void,
        usablePools: @escaping @Sendable (any Connection) throws -> [PoolState], awaitPools: @escaping @Sendable () async -> Void,
        sentence: @escaping @Sendable (_ error: String) -> String?
    ) {
        self.steps = steps
        self.progress = progress
        self.cancel = cancel
        self.usablePools = usablePools
        self.awaitPools = awaitPools
        self.sentence = sentence
    }
}
