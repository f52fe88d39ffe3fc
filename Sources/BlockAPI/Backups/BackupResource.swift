import BlockStorage
import Database
import HTTPServer
import JSON
import Policy
import Primitives

/// `/backups`
struct BackupResource: Resource {
    let store: Store
    let requests: VolumeRequests
    /// Seconds after which a service without a heartbeat is down.
    let serviceDownTime: Int
    /// The store in which the objects lie that a driver of Cinder, by its name, has written; nil: there is none.
    let place: @Sendable (_ service: String) -> Backups.Place?
    let servings: any BackupServings

    var extensions: [APIExtension] {
        [
            APIExtension(
                alias: "backups", name: "Backups", description: "Backups support.", updated: "2012-12-12T00:00:00+00:00",
                operations: plain + records + actions),
            APIExtension(
                alias: "clinker-backups", name: "BackupReading",
                description: "Backups that are read without restoring them, and that are verified.",
                updated: "2026-11-30T00:00:00+00:00", operations: reading),
        ]
    }

    private var plain: [APIOperation] {
        let list = BackupList.list(store)
        return [
            list.operation("backups:list", policies: ["backup:get_all"], parts: .summary, summary: "List backups"),
            list.operation(
                "backups:detail", at: "backups/detail", policies: ["backup:get_all"], parts: .whole, summary: "List backups in detail"),
            APIOperation(
                "backups:show", "GET", "/backups/{id}", policies: ["backup:get"], answers: .one(BackupView.view), summary: "Show a backup"
            ) { request in try await store.read { try Backups.get(request.parameters[0], for: request.caller, in: $0) } },
            APIOperation(
                "backups:create", "POST", "/backups", policies: ["backup:create"], bodies: BackupBodies.creation,
                answers: .one(BackupView.view, .summary, status: 202), summary: "Make a backup of a volume or a snapshot"
            ) { request in
                let new = BackupBodies.newBackup(request)
                let volume = request.body["backup"]?["volume_id"]?.string ?? ""
                return try await store.write { tx in
                    let id = try requests.createBackup(of: volume, new, downAfter: serviceDownTime, caller: request.caller, in: tx)
                    return try Backups.get(id, for: request.caller, in: tx)
                }
            },
            APIOperation(
                "backups:update", "PUT", "/backups/{id}", versions: 9...71, policies: ["backup:update"], bodies: BackupBodies.update,
                answers: .one(BackupView.view, .summary), summary: "Change name, description or metadata of a backup"
            ) { request in
                let body = try BackupBodies.object("backup", of: request)
                func text(_ name: String) -> JSON? { body[name].map { JSON($0.trimmedString) } }
                let (name, description) = (text("name"), text("description"))
                return try await store.write { tx in
                    try Backups.update(
                        request.parameters[0], name: name, description: description, metadata: body["metadata"]?.object,
                        caller: request.caller, in: tx)
                    return try Backups.get(request.parameters[0], for: request.caller, in: tx)
                }
            },
            APIOperation(
                "backups:delete", "DELETE", "/backups/{id}", policies: ["backup:delete"], answers: .empty(202),
                summary: "Delete a backup"
            ) { request in
                try await store.write { try requests.deleteBackup(request.parameters[0], force: false, caller: request.caller, in: $0) }
            },
            APIOperation(
                "backups:restore", "POST", "/backups/{id}/restore", policies: ["backup:restore"], body: BackupBodies.restoration,
                answers: .one(BackupView.restoration, status: 202), summary: "Restore a backup to a volume, or to a new one"
            ) { request in
                let body = try BackupBodies.object("restore", of: request)
                return try await store.write {
                    try requests.restore(
                        request.parameters[0], to: body["volume_id"]?.string, name: body["name"]?.string, downAfter: serviceDownTime,
                        caller: request.caller, in: $0)
                }
            },
        ]
    }

    // MARK: records

    private var records: [APIOperation] {
        [
            APIOperation(
                "backups:export_record", "GET", "/backups/{id}/export_record", policies: ["backup:export-import"],
                answers: .member(
                    "backup-record",
                    .object([Shape.Member("backup_service", .nullable(.text)), Shape.Member("backup_url", .text)])),
                summary: "Tell all that another service needs to know of a backup"
            ) { request in
                let backup = try await store.read { try Backups.get(request.parameters[0], for: request.caller, in: $0) }
                let record = PythonJSON.line(.object(try BackupRecord.export(backup)))
                return ["backup_service": JSON(backup.service), "backup_url": .string(Base64.encode(Array(record.utf8)))]
            },
            APIOperation(
                "backups:import_record", "POST", "/backups/import_record", policies: ["backup:backup-import"], body: BackupBodies.record,
                answers: .one(BackupView.view, .summary, status: 201), summary: "Take a backup over that another service made"
            ) { request in
                let body = request.body["backup-record"]
                let service = body?["backup_service"]?.string ?? ""
                let bytes = body?["backup_url"]?.string.flatMap { Base64.decodeLeniently($0) }
                let record = try BackupRecord.read(bytes.flatMap { String(validating: $0, as: UTF8.self) })
                return try await store.write {
                    try requests.importBackup(
                        record, service: service, at: place(service), downAfter: serviceDownTime, caller: request.caller, in: $0)
                }
            },
        ]
    }

    // MARK: reading

    private var reading: [APIOperation] {
        [
            APIOperation(
                "backups:layout", "GET", "/backups/{id}/layout", policies: ["clinker:backup_layout"],
                answers: .member("layout", .map(.any)), summary: "Tell where the objects of a backup and of what it rests on lie"
            ) { request in
                try await store.read {
                    let backup = try Backups.get(request.parameters[0], for: request.caller, in: $0)
                    return try BackupLayout.describe(Backups.chain(backup.id, in: $0))
                }
            },
            APIOperation(
                "backups:damages", "GET", "/backups/{id}/damages", policies: ["clinker:backup_damages"],
                answers: .member(
                    "damages",
                    .list(
                        .object([
                            Shape.Member("text", .text), Shape.Member("start", .nullable(.integer)),
                            Shape.Member("length", .nullable(.integer)),
                        ]))), summary: "Tell what the last verification of a backup found"
            ) { request in
                let damages = try await store.read {
                    try Backups.damages(of: Backups.get(request.parameters[0], for: request.caller, in: $0).id, in: $0)
                }
                return .array(
                    damages.map { damage in
                        let range = damage.range.map { (Int64(clamping: $0.lowerBound), Int64(clamping: $0.upperBound - $0.lowerBound)) }
                        return [
                            "text": .string(damage.text), "start": range.map { .integer($0.0) } ?? .null,
                            "length": range.map { .integer($0.1) } ?? .null,
                        ]
                    })
            },
            action("clinker:verify", policy: "clinker:backup_verify", summary: "Read all that a backup needs, and mark what is damaged") {
                request in
                try await store.write { try requests.verifyBackup(request.parameters[0], caller: request.caller, in: $0) }
            },
            action("clinker:unprotect", policy: "clinker:backup_unprotect", summary: "End the protection of a backup from deletion") {
                request in
                try await store.write { try Backups.unprotect(request.parameters[0], caller: request.caller, in: $0) }
            },
            APIOperation(
                "backups:clinker:serve", "POST", "/backups/{id}/action", action: "clinker:serve", policies: ["clinker:backup_serve"],
                body: .action("clinker:serve", BackupBodies.serving),
                answers: .member("clinker:serve", .object([Shape.Member("address", .text), Shape.Member("expires_at", .time)])),
                summary: "Serve a backup over NBD, to be read without restoring it"
            ) { request in
                let backup = try await store.read { try Backups.get(request.parameters[0], for: request.caller, in: $0) }
                let seconds = request.body["clinker:serve"]?["seconds"]?.integer.map { Int($0) }
                let served = try await servings.serve(backup, seconds: seconds, for: request.caller)
                return ["address": .string(served.address), "expires_at": .string(served.expiresAt)]
            },
            action("clinker:unserve", policy: "clinker:backup_serve", summary: "End the serving of a backup") { request in
                let backup = try await store.read { try Backups.get(request.parameters[0], for: request.caller, in: $0) }
                await servings.end(backup: backup.id)
            },
        ]
    }

    // MARK: actions

    private func action(
        _ key: String, policy: Policies.Rule, body: Schema = .any, summary: String,
        handler: @escaping @Sendable (APIRequest) async throws -> Void
    ) -> APIOperation {
        APIOperation(
            "backups:\(key)", "POST", "/backups/{id}/action", action: key, policies: [policy], body: .action(key, body),
            answers: .empty(202), summary: summary, handler: handler)
    }

    private var actions: [APIOperation] {
        [
            action(
                "os-reset_status", policy: "volume_extension:backup_admin_actions:reset_status", body: BackupBodies.status,
                summary: "Set the state of a backup"
            ) { request in
                try await store.write {
                    try Backups.resetStatus(
                        request.parameters[0], status: request.body["os-reset_status"]?["status"]?.string ?? "", caller: request.caller,
                        in: $0)
                }
            },
            action(
                "os-force_delete", policy: "volume_extension:backup_admin_actions:force_delete",
                summary: "Delete a backup whatever its state"
            ) { request in
                try await store.write { try requests.deleteBackup(request.parameters[0], force: true, caller: request.caller, in: $0) }
            },
        ]
    }
}
