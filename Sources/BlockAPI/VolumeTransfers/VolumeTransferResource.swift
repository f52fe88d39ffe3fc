import BlockStorage
import Database
import HTTPServer
import JSON
import Primitives

extension VolumeTransferQuery: ListQuery {}

/// `/volume-transfers`, and the same under the older name `/os-volume-transfer`, which knows no transfer without snapshots.
struct VolumeTransferResource: Resource {
    let store: Store
    let requests: VolumeRequests
    /// Hexadecimal digits of a key.
    let keyLength: Int

    var operations: [APIOperation] { operations(at: "volume-transfers", isOlder: false) }

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "os-volume-transfer", name: "VolumeTransfer", description: "Volume transfer management support.",
                updated: "2013-05-29T00:00:00+00:00", operations: operations(at: "os-volume-transfer", isOlder: true))
        ]
    }

    private func operations(at path: String, isOlder: Bool) -> [APIOperation] {
        let list = list(at: path, isOlder: isOlder)
        return [
            list.operation("\(path):list", policies: ["volume:get_all_transfers"], parts: .summary, summary: "List transfers of volumes"),
            list.operation(
                "\(path):detail", at: "\(path)/detail", policies: ["volume:get_all_transfers"], parts: .whole,
                summary: "List transfers of volumes in detail"),
            APIOperation(
                "\(path):create", "POST", "/\(path)", policies: ["volume:create_transfer"],
                bodies: isOlder
                    ? [(APIVersion.all, Self.creation(snapshots: false))]
                    : [(0...54, Self.creation(snapshots: false)), (55...71, Self.creation(snapshots: true))],
                answers: .one(VolumeTransferView.offer, status: 202), summary: "Offer a volume to other projects"
            ) { request in
                let body = request.body["transfer"]
                let key = TransferKey(digits: keyLength)
                return try await store.write { tx in
                    try requests.offer(
                        body?["volume_id"]?.string ?? "", name: body?["name"]?.trimmedString,
                        leavesSnapshots: body?["no_snapshots"]?.lenientBool ?? false, allowsEncrypted: !isOlder && request.version >= 70,
                        key: key, caller: request.caller, in: tx)
                }
            },
            APIOperation(
                "\(path):show", "GET", "/\(path)/{id}", policies: ["volume:get_transfer"], answers: .one(VolumeTransferView.view),
                summary: "Show a transfer of a volume"
            ) { request in try await store.read { try VolumeTransfers.get(request.parameters[0], for: request.caller, in: $0) } },
            APIOperation(
                "\(path):accept", "POST", "/\(path)/{id}/accept", policies: ["volume:accept_transfer"], body: Self.acceptance,
                answers: .one(VolumeTransferView.view, .summary, status: 202), summary: "Accept a volume of another project"
            ) { request in
                let key = Secret(request.body["accept"]?["auth_key"].map { PythonText.str($0) } ?? "")
                return try await store.write { try requests.accept(request.parameters[0], key: key, caller: request.caller, in: $0) }
            },
            APIOperation(
                "\(path):delete", "DELETE", "/\(path)/{id}", policies: ["volume:delete_transfer"],
                answers: .empty(202, as: HTTPResponse.html), summary: "Take the offer of a volume back"
            ) { request in
                try await store.write { try VolumeTransfers.delete(request.parameters[0], caller: request.caller, in: $0) }
            },
        ]
    }

    private static func creation(snapshots: Bool) -> Schema {
        var properties: [(name: String, schema: Schema)] = [
            ("volume_id", .uuid), ("name", Schema(alternatives: [.string(format: .trimmedName), Schema(kinds: [.null])])),
        ]
        if snapshots { properties.append(("no_snapshots", .boolean)) }
        return .object([("transfer", .object(properties, required: ["volume_id"]))], required: ["transfer"])
    }

    private static let acceptance = Schema.object(
        [("accept", .object([("auth_key", Schema(kinds: [.string, .integer]))], required: ["auth_key"]))], required: ["accept"])

    private func list(at path: String, isOlder: Bool) -> List<VolumeTransferQuery, VolumeTransfer, [VolumeTransfer]> {
        List(
            store: store, view: VolumeTransferView.view, path: path,
            // Members filter by the same as administrators, at every microversion.
            reading: .rules(ListFilters.Rules(resource: "transfer", allTenants: .lenient, refusesSince: APIVersion.latest + 1)),
            linksKey: "transfers_links",
            filter: { filter, _, wantsAllProjects, query in
                if filter.name == "project_id" {
                    // Without all_tenants the list is the caller's project's, whatever is asked.
                    if wantsAllProjects { query.projectID = filter.value }
                } else if let column = column(filter.name == "name" ? "display_name" : filter.name), !filter.isLike {
                    query.filters.append((column: column, match: try ListFilters.match(filter, isInteger: false, readsLiterals: false)))
                } else {
                    query.matchesNothing = true
                }
            },
            column: { name, _ in column(name) },
            prepare: { request, query in
                // Since 3.59 the newest come first.
                if query.sort.isEmpty, isOlder || request.version < 59 { query.sort = [(column: .created_at, ascending: true)] }
            }, read: { try $0.page(in: $1) }, write: List.each { $0.id })
    }

    private func column(_ name: String) -> VolumeTransferQuery.Column? { VolumeTransferQuery.Column(rawValue: name) }
}
