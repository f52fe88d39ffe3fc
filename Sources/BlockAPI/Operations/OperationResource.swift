import BlockStorage
import Database
import HTTPServer
import JSON

/// `/operations`: the work that requests have set going. Beside Cinder's API.
struct OperationResource: Resource {
    let store: Store
    let outcomes: any OperationOutcomes

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "clinker-operations", name: "Operations",
                description:
                    "Shows the operations behind requests with their steps, progress and the scheduler's verdicts, and cancels them.",
                updated: "2026-11-21T00:00:00+00:00", operations: all + explanation.operations)
        ]
    }

    let explanation: PlacementExplanation

    private var all: [APIOperation] {
        [
            list.operation(
                "operations:list", policies: ["clinker:operations_get"], parts: .summary, summary: "List operations"),
            APIOperation(
                "operations:show", "GET", "/operations/{id}", policies: ["clinker:operations_get"], answers: .one(OperationView.view),
                summary: "Show an operation"
            ) { request in
                try await store.list(for: request.caller, isShort: true) { connection in
                    let operation = try Operations.get(request.parameters[0], for: request.caller, in: connection)
                    let events = try Events.of(operation, in: connection)
                    var source = source(operation)
                    source.verdicts = try Operations.verdicts(of: operation.id, in: connection)
                    source.steps = OperationView.steps(outcomes.steps(of: operation), events)
                    return source
                }
            },
            APIOperation(
                "operations:cancel", "POST", "/operations/{id}/cancel", policies: ["clinker:operations_cancel"], answers: .empty(202),
                summary: "Have an operation taken back"
            ) { request in
                try await store.write { tx in
                    let operation = try Operations.get(request.parameters[0], for: request.caller, in: tx)
                    try outcomes.cancel(operation, caller: request.caller, in: tx)
                }
            },
        ]
    }

    private func source(_ operation: Operation) -> OperationView.Source {
        OperationView.Source(
            operation: operation, progress: operation.finishedAt == nil ? outcomes.progress(of: operation.id) : nil,
            waitsForTransfer: operation.finishedAt == nil && outcomes.waitsForTransfer(operation.id),
            sentence: operation.error.flatMap { outcomes.sentence(of: $0) })
    }

    private var list: List<OperationQuery, OperationView.Source, [OperationView.Source]> {
        List(
            store: store, view: OperationView.view, path: "operations",
            reading: .onlyKnown(
                OperationQuery.Column.allCases.map(\.rawValue) + ["unfinished"], forAdministrators: ["host"], hasAllTenants: true),
            linksKey: "operations_links",
            filter: { filter, _, _, query in
                if filter.name == "unfinished" {
                    guard let value = PythonText.bool(filter.value) else {
                        throw HTTPError.badRequest("Invalid input received: unfinished must be a boolean, not '\(filter.value)'")
                    }
                    query.isUnfinished = value
                } else if filter.name == "host" {
                    query.backend = filter.value
                } else if let column = OperationQuery.Column(rawValue: filter.name) {
                    query.filters.append((column: column, value: filter.value))
                }
            }, read: { try $0.page(in: $1).map { source($0) } }, write: List.each { $0.operation.id })
    }
}

/// Newest first, and gone through by the marker alone: the list refuses an order and an offset.
extension OperationQuery: ListQuery {
    var offset: Int {
        get { 0 }
        set {}
    }
    var sort: [(column: Column, ascending: Bool)] {
        get { [] }
        set {}
    }
}
