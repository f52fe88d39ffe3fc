import Glibc
import JSON
import Primitives
import TestSupport
import Testing

/// Every operation, asked by every kind of user with real tokens, against the documented defaults of its rules.
@Suite("Role matrix", .serialized)
struct RoleMatrixTests {
    /// An operation and the rules that it needs. VOLUME, TYPE and PROJECT stand for ids of what exists, NOTHING and ATTACHMENT for ids of
    /// nothing, RANDOM for another text in every request.
    struct Case: Sendable {
        let method, path: String
        let rules: [String]
        var body: String?
        init(_ method: String, _ path: String, _ rules: String..., body: String? = nil) {
            self.method = method
            self.path = path
            self.rules = rules
            self.body = body
        }
    }

    private static func action(_ body: String, _ rules: String...) -> Case {
        var made = Case("POST", "/volumes/VOLUME/action", body: body)
        made = Case(made, rules: rules)
        return made
    }

    private static let backups: [Case] = [
        Case("GET", "/backups", "backup:get_all"), Case("GET", "/backups/detail", "backup:get_all"),
        Case("GET", "/backups/NOTHING", "backup:get"),
        Case(
            "POST", "/backups", "backup:create",
            body: #"{"backup": {"volume_id": "00000000-0000-0000-0000-000000000001"}}"#),
        Case("PUT", "/backups/NOTHING", "backup:update", body: #"{"backup": {"name": "n"}}"#),
        Case("DELETE", "/backups/NOTHING", "backup:delete"),
        Case("POST", "/backups/NOTHING/restore", "backup:restore", body: #"{"restore": {}}"#),
        Case("GET", "/backups/NOTHING/export_record", "backup:export-import"),
        Case(
            "POST", "/backups/import_record", "backup:backup-import",
            body: #"{"backup-record": {"backup_service": "s", "backup_url": "e30="}}"#),
        Case(
            "POST", "/backups/NOTHING/action", "volume_extension:backup_admin_actions:reset_status",
            body: #"{"os-reset_status": {"status": "error"}}"#),
        Case(
            "POST", "/backups/NOTHING/action", "volume_extension:backup_admin_actions:force_delete", body: #"{"os-force_delete": {}}"#),
        Case("GET", "/backups/NOTHING/layout", "clinker:backup_layout"), Case("GET", "/backups/NOTHING/damages", "clinker:backup_damages"),
        Case("POST", "/backups/NOTHING/action", "clinker:backup_verify", body: #"{"clinker:verify": {}}"#),
        Case("POST", "/backups/NOTHING/action", "clinker:backup_unprotect", body: #"{"clinker:unprotect": null}"#),
        Case("POST", "/backups/NOTHING/action", "clinker:backup_serve", body: #"{"clinker:serve": {}}"#),
        Case("POST", "/backups/NOTHING/action", "clinker:backup_serve", body: #"{"clinker:unserve": {}}"#),
        Case("GET", "/backup-repositories/keys?project_id=p", "clinker:backup_repositories"),
        Case(
            "POST", "/backup-repositories/keys", "clinker:backup_repositories",
            body: #"{"key": {"project_id": "p", "passphrase": "secret"}}"#),
        Case("DELETE", "/backup-repositories/keys/NOTHING?project_id=p", "clinker:backup_repositories"),
        Case("POST", "/backup-repositories/prune", "clinker:backup_repositories", body: #"{"prune": {}}"#),
        Case("POST", "/backup-repositories/import", "clinker:backup_repositories", body: #"{"import": {}}"#),
    ]

    static let cases = most + backups + backupPolicies + qos + ["/volume-transfers", "/os-volume-transfer"].flatMap(transfers)

    private static let most: [Case] = [
        Case("GET", "/volumes", "volume:get_all"), Case("GET", "/volumes/detail", "volume:get_all"),
        Case("GET", "/volumes/summary", "volume:get_all"),
        Case("GET", "/volumes/VOLUME", "volume:get"), Case("POST", "/volumes", "volume:create", body: #"{"volume": {"size": 1}}"#),
        Case("PUT", "/volumes/VOLUME", "volume:update", body: #"{"volume": {"name": "n"}}"#),
        Case("DELETE", "/volumes/NOTHING", "volume:delete"),
        Case("DELETE", "/volumes/NOTHING?force=true", "volume:delete", "volume:force_delete"),
        Case("GET", "/volumes/VOLUME/metadata", "volume:get_volume_metadata"),
        Case("POST", "/volumes/VOLUME/metadata", "volume:create_volume_metadata", body: #"{"metadata": {"a": "b"}}"#),
        Case("PUT", "/volumes/VOLUME/metadata", "volume:update_volume_metadata", body: #"{"metadata": {"a": "b"}}"#),
        Case("GET", "/volumes/VOLUME/metadata/a", "volume:get_volume_metadata"),
        Case("PUT", "/volumes/VOLUME/metadata/a", "volume:update_volume_metadata", body: #"{"meta": {"a": "b"}}"#),
        Case("DELETE", "/volumes/VOLUME/metadata/none", "volume:delete_volume_metadata"),
        action(#"{"os-extend": {"new_size": 1}}"#, "volume:extend"),
        action(#"{"os-reserve": {}}"#, "volume_extension:volume_actions:reserve"),
        action(#"{"os-unreserve": {}}"#, "volume_extension:volume_actions:unreserve"),
        action(#"{"os-begin_detaching": {}}"#, "volume_extension:volume_actions:begin_detaching"),
        action(#"{"os-roll_detaching": {}}"#, "volume_extension:volume_actions:roll_detaching"),
        action(#"{"os-attach": {"host_name": "h", "mountpoint": "/dev/x", "mode": "xx"}}"#),
        action(#"{"os-detach": {"attachment_id": "00000000-0000-0000-0000-000000000001"}}"#, "volume_extension:volume_actions:detach"),
        action(#"{"os-initialize_connection": {"connector": {"host": "h"}}}"#, "volume_extension:volume_actions:initialize_connection"),
        action(#"{"os-terminate_connection": {"connector": {"host": "h"}}}"#, "volume_extension:volume_actions:terminate_connection"),
        action(#"{"os-set_bootable": {"bootable": true}}"#, "volume:update"),
        action(#"{"os-update_readonly_flag": {"readonly": false}}"#, "volume:update_readonly_flag"),
        action(#"{"os-reset_status": {"status": "available"}}"#, "volume_extension:volume_admin_actions:reset_status"),
        action(
            #"{"os-force_detach": {"attachment_id": "00000000-0000-0000-0000-000000000001"}}"#,
            "volume_extension:volume_admin_actions:force_detach"),
        action(#"{"revert": {"snapshot_id": null}}"#, "volume:revert_to_snapshot"),
        action(
            #"{"os-volume_upload_image": {"image_name": "n", "container_format": "compressed"}}"#,
            "volume_extension:volume_actions:upload_image"),
        action(#"{"os-reimage": {"image_id": "00000000-0000-0000-0000-000000000001"}}"#, "volume:reimage"),
        Case(
            "POST", "/volumes", "volume:create", "volume:create_from_image",
            body: #"{"volume": {"size": 1, "imageRef": "nothing"}}"#),
        Case("GET", "/snapshots", "volume:get_all_snapshots"), Case("GET", "/snapshots/detail", "volume:get_all_snapshots"),
        Case("GET", "/snapshots/NOTHING", "volume:get_snapshot"),
        Case("POST", "/snapshots", "volume:create_snapshot", body: #"{"snapshot": {"volume_id": "NOTHING"}}"#),
        Case("PUT", "/snapshots/NOTHING", "volume:update_snapshot", body: #"{"snapshot": {"name": "n"}}"#),
        Case("DELETE", "/snapshots/NOTHING", "volume:delete_snapshot"),
        Case(
            "POST", "/snapshots/NOTHING/action", "volume_extension:snapshot_admin_actions:reset_status",
            body: #"{"os-reset_status": {"status": "error"}}"#),
        Case(
            "POST", "/snapshots/NOTHING/action", "volume_extension:snapshot_admin_actions:force_delete", body: #"{"os-force_delete": {}}"#),
        Case(
            "POST", "/snapshots/NOTHING/action", "snapshot_extension:snapshot_actions:update_snapshot_status",
            body: #"{"os-update_snapshot_status": {"status": "error"}}"#),
        Case("GET", "/snapshots/NOTHING/metadata", "volume:get_snapshot_metadata"),
        Case("POST", "/snapshots/NOTHING/metadata", "volume:update_snapshot_metadata", body: #"{"metadata": {"a": "b"}}"#),
        Case("PUT", "/snapshots/NOTHING/metadata", "volume:update_snapshot_metadata", body: #"{"metadata": {"a": "b"}}"#),
        Case("GET", "/snapshots/NOTHING/metadata/a", "volume:get_snapshot_metadata"),
        Case("PUT", "/snapshots/NOTHING/metadata/a", "volume:update_snapshot_metadata", body: #"{"meta": {"a": "b"}}"#),
        Case("DELETE", "/snapshots/NOTHING/metadata/a", "volume:delete_snapshot_metadata"),
        Case("GET", "/attachments", "clinker:attachments_get"), Case("GET", "/attachments/detail", "clinker:attachments_get"),
        Case("GET", "/attachments/ATTACHMENT", "clinker:attachments_get"),
        Case("POST", "/attachments", "volume:attachment_create", body: #"{"attachment": {"volume_uuid": "NOTHING"}}"#),
        Case("PUT", "/attachments/NOTHING", "volume:attachment_update", body: #"{"attachment": {"connector": {"host": "h"}}}"#),
        Case("DELETE", "/attachments/NOTHING", "volume:attachment_delete"),
        Case("POST", "/attachments/NOTHING/action", "volume:attachment_complete", body: #"{"os-complete": {}}"#),
        Case("GET", "/types", "volume_extension:type_get_all"), Case("GET", "/types/TYPE", "volume_extension:type_get"),
        Case("POST", "/types", "volume_extension:type_create", body: #"{"volume_type": {"name": "RANDOM"}}"#),
        Case("PUT", "/types/TYPE", "volume_extension:type_update", body: #"{"volume_type": {"description": "d"}}"#),
        Case("DELETE", "/types/NOTHING", "volume_extension:type_delete"),
        Case("GET", "/types/TYPE/extra_specs", "volume_extension:types_extra_specs:index"),
        Case("POST", "/types/NOTHING/extra_specs", "volume_extension:types_extra_specs:create", body: #"{"extra_specs": {"a": "b"}}"#),
        Case("GET", "/types/TYPE/extra_specs/a", "volume_extension:types_extra_specs:show"),
        Case("PUT", "/types/NOTHING/extra_specs/a", "volume_extension:types_extra_specs:update", body: #"{"a": "b"}"#),
        Case("DELETE", "/types/NOTHING/extra_specs/a", "volume_extension:types_extra_specs:delete"),
        Case("GET", "/os-quota-sets/PROJECT", "volume_extension:quotas:show"),
        Case("GET", "/os-quota-sets/PROJECT/defaults", "volume_extension:quotas:show"),
        Case("PUT", "/os-quota-sets/PROJECT", "volume_extension:quotas:update", body: #"{"quota_set": {"volumes": 100}}"#),
        Case("DELETE", "/os-quota-sets/NOTHING", "volume_extension:quotas:delete"), Case("GET", "/limits", "limits_extension:used_limits"),
        Case("GET", "/types/TYPE/os-volume-type-access", "volume_extension:volume_type_access:get_all_for_type"),
        Case(
            "POST", "/types/TYPE/action", "volume_extension:volume_type_access:addProjectAccess",
            body: #"{"addProjectAccess": {"project": "p"}}"#),
        Case(
            "POST", "/types/TYPE/action", "volume_extension:volume_type_access:removeProjectAccess",
            body: #"{"removeProjectAccess": {"project": "p"}}"#),
        Case("PUT", "/os-services/enable", "volume_extension:services:update", body: #"{"host": "node@file", "binary": "cinder-volume"}"#),
        Case("PUT", "/os-services/disable", "volume_extension:services:update", body: #"{"host": "nohost", "binary": "cinder-volume"}"#),
        Case("PUT", "/os-services/thaw", "volume_extension:services:update", "volume:thaw_host", body: #"{"host": "node@file"}"#),
        Case("GET", "/os-services", "volume_extension:services:index"), Case("GET", "/os-availability-zone"),
        Case("GET", "/scheduler-stats/get_pools", "scheduler_extension:scheduler_stats:get_pools"), Case("GET", "/extensions"),
        Case("GET", "/extensions/os-admin-actions"),
        Case(
            "POST", "/volumes/NOTHING/action", "volume_extension:volume_admin_actions:force_delete", body: #"{"os-force_delete": {}}"#),
        action(#"{"os-retype": {"new_type": "nope"}}"#, "volume:retype"),
        action(#"{"os-migrate_volume": {"host": "nowhere"}}"#, "volume_extension:volume_admin_actions:migrate_volume"),
        action(
            #"{"os-migrate_volume_completion": {"new_volume": "00000000-0000-0000-0000-000000000001"}}"#,
            "volume_extension:volume_admin_actions:migrate_volume_completion"),
        action(#"{"os-extend_volume_completion": {}}"#, "volume_extension:volume_admin_actions:extend_volume_completion"),
        Case("POST", "/volumes/NOTHING/action", "volume_extension:volume_unmanage", body: #"{"os-unmanage": {}}"#),
        Case("POST", "/snapshots/NOTHING/action", "snapshot_extension:snapshot_unmanage", body: #"{"os-unmanage": {}}"#),
        Case("GET", "/manageable_volumes?host=node@file", "volume_extension:list_manageable"),
        Case("GET", "/manageable_volumes/detail?host=node@file", "volume_extension:list_manageable"),
        Case("GET", "/os-volume-manage?host=node@file", "volume_extension:list_manageable"),
        Case("GET", "/os-volume-manage/detail?host=node@file", "volume_extension:list_manageable"),
        Case(
            "POST", "/manageable_volumes", "volume_extension:volume_manage",
            body: #"{"volume": {"host": "nowhere", "ref": {"source-name": "x"}}}"#),
        Case(
            "POST", "/os-volume-manage", "volume_extension:volume_manage",
            body: #"{"volume": {"host": "nowhere", "ref": {"source-name": "x"}}}"#),
        Case("GET", "/manageable_snapshots?host=node@file", "snapshot_extension:list_manageable"),
        Case("GET", "/manageable_snapshots/detail?host=node@file", "snapshot_extension:list_manageable"),
        Case("GET", "/os-snapshot-manage?host=node@file", "snapshot_extension:list_manageable"),
        Case("GET", "/os-snapshot-manage/detail?host=node@file", "snapshot_extension:list_manageable"),
        Case(
            "POST", "/manageable_snapshots", "snapshot_extension:snapshot_manage",
            body: #"{"snapshot": {"volume_id": "NOTHING", "ref": {"source-name": "x"}}}"#),
        Case(
            "POST", "/os-snapshot-manage", "snapshot_extension:snapshot_manage",
            body: #"{"snapshot": {"volume_id": "NOTHING", "ref": {"source-name": "x"}}}"#),
        Case("GET", "/default-types", "volume_extension:default_get_all"),
        Case("GET", "/default-types/NOTHING", "volume_extension:default_get"),
        Case(
            "PUT", "/default-types/NOTHING", "volume_extension:default_set_or_update",
            body: #"{"default_type": {"volume_type": "nope"}}"#),
        Case("DELETE", "/default-types/NOTHING", "volume_extension:default_unset"),
        Case("GET", "/os-quota-class-sets/default", "volume_extension:quota_classes:get"),
        Case(
            "PUT", "/os-quota-class-sets/default", "volume_extension:quota_classes:update",
            body: #"{"quota_class_set": {"volumes": 100}}"#),
        Case("GET", "/os-hosts", "volume_extension:hosts"), Case("GET", "/os-hosts/node@file", "volume_extension:hosts"),
        Case("PUT", "/os-hosts/nowhere", "volume_extension:hosts", body: #"{"status": "enable"}"#),
        Case("GET", "/capabilities/node@file", "volume_extension:capabilities"), Case("GET", "/resource_filters"),
        Case("PUT", "/os-services/get-log", "volume_extension:services:update", body: #"{"binary": "*"}"#),
        Case("PUT", "/os-services/set-log", "volume_extension:services:update", body: #"{"binary": "*", "level": "INFO"}"#),
        Case(
            "PUT", "/os-services/freeze", "volume_extension:services:update", "volume:freeze_host", body: #"{"host": "nowhere"}"#),
        Case(
            "PUT", "/os-services/disable-log-reason", "volume_extension:services:update",
            body: #"{"host": "nohost", "binary": "cinder-volume", "disabled_reason": "r"}"#),
        Case("PUT", "/os-services/remove", "clinker:services_remove", body: #"{"host": "nohost", "binary": "cinder-volume"}"#),
        Case("POST", "/doctor", "clinker:doctor", body: #"{"doctor": {}}"#),
        Case("GET", "/notifications", "clinker:notifications"),
        Case("GET", "/operations", "clinker:operations_get"), Case("GET", "/operations/NOTHING", "clinker:operations_get"),
        Case("POST", "/operations/NOTHING/cancel", "clinker:operations_cancel"),
        Case("POST", "/operations/explain", "clinker:operations_explain", body: #"{"volume": {"size": 1}}"#),
        Case("POST", "/events/tickets", "clinker:events_get"),
        Case("GET", "/messages", "message:get_all"), Case("GET", "/messages/NOTHING", "message:get"),
        Case("DELETE", "/messages/NOTHING", "message:delete"),
        action(
            #"{"os-set_image_metadata": {"metadata": {"a": "b"}}}"#, "volume_extension:volume_image_metadata:set",
            "volume:update_volume_metadata"),
        action(#"{"os-show_image_metadata": {}}"#, "volume:get_volume_metadata"),
        action(
            #"{"os-unset_image_metadata": {"key": "none"}}"#, "volume_extension:volume_image_metadata:remove",
            "volume:delete_volume_metadata"),
        Case("GET", "/volumes/VOLUME/encryption", "volume_extension:volume_encryption_metadata"),
        Case("GET", "/volumes/VOLUME/encryption/cipher", "volume_extension:volume_encryption_metadata"),
        Case("GET", "/types/TYPE/encryption", "volume_extension:volume_type_encryption:get"),
        Case("GET", "/types/TYPE/encryption/cipher", "volume_extension:volume_type_encryption:get"),
        Case(
            "POST", "/types/NOTHING/encryption", "volume_extension:volume_type_encryption:create",
            body: #"{"encryption": {"provider": "luks", "control_location": "front-end"}}"#),
        Case("PUT", "/types/NOTHING/encryption/x", "volume_extension:volume_type_encryption:update", body: #"{"encryption": {}}"#),
        Case("DELETE", "/types/NOTHING/encryption/x", "volume_extension:volume_type_encryption:delete"),
    ]

    private static let backupPolicies: [Case] = {
        func rule(_ name: String) -> String { "clinker:backup_policies_" + name }
        let one = "/backup-policies/NOTHING"
        return [
            Case("GET", "/backup-policies", rule("get")), Case("GET", "/backup-policies/detail", rule("get")),
            Case("GET", one, rule("get")),
            Case("POST", "/backup-policies", rule("create"), body: #"{"backup_policy": {"name": "RANDOM", "action": "snapshot"}}"#),
            Case(
                "POST", "/backup-policies", rule("create"), rule("publish"),
                body: #"{"backup_policy": {"name": "RANDOM", "action": "backup", "is_public": true}}"#),
            Case("PUT", one, rule("update"), body: #"{"backup_policy": {"keep_last": 3}}"#), Case("DELETE", one, rule("delete")),
            Case("POST", one + "/action", rule("run"), body: #"{"run": null}"#),
            Case("POST", one + "/action", rule("run"), body: #"{"pause": null}"#),
            Case("POST", one + "/action", rule("run"), body: #"{"resume": null}"#),
            Case("POST", one + "/action", rule("run"), body: #"{"preview": {"days": 3}}"#),
            Case("GET", one + "/runs", rule("get")), Case("GET", one + "/runs/NOTHING", rule("get")),
            Case("GET", one + "/assignments", rule("get")), Case("DELETE", one + "/assignments/NOTHING", rule("assign")),
            Case(
                "POST", one + "/assignments", rule("assign"),
                body: #"{"assignment": {"target_type": "volume", "target_id": "VOLUME"}}"#),
        ]
    }()

    private static let qos: [Case] = {
        func rule(_ name: String) -> String { "volume_extension:qos_specs_manage:" + name }
        return [
            Case("GET", "/qos-specs", rule("get_all")), Case("GET", "/qos-specs/NOTHING", rule("get")),
            Case("POST", "/qos-specs", rule("create"), body: #"{"qos_specs": {"name": "RANDOM"}}"#),
            Case("PUT", "/qos-specs/NOTHING", rule("update"), body: #"{"qos_specs": {"a": "b"}}"#),
            Case("PUT", "/qos-specs/NOTHING/delete_keys", rule("delete"), body: #"{"keys": ["a"]}"#),
            Case("DELETE", "/qos-specs/NOTHING", rule("delete")), Case("GET", "/qos-specs/NOTHING/associations", rule("get_all")),
            Case("GET", "/qos-specs/NOTHING/associate?vol_type_id=TYPE", rule("update")),
            Case("GET", "/qos-specs/NOTHING/disassociate?vol_type_id=TYPE", rule("update")),
            Case("GET", "/qos-specs/NOTHING/disassociate_all", rule("update")),
        ]
    }()

    private static func transfers(_ path: String) -> [Case] {
        [
            Case("GET", path, "volume:get_all_transfers"), Case("GET", path + "/detail", "volume:get_all_transfers"),
            Case("GET", path + "/NOTHING", "volume:get_transfer"), Case("DELETE", path + "/NOTHING", "volume:delete_transfer"),
            Case("POST", path, "volume:create_transfer", body: #"{"transfer": {"volume_id": "NOTHING"}}"#),
            Case("POST", path + "/NOTHING/accept", "volume:accept_transfer", body: #"{"accept": {"auth_key": "k"}}"#),
        ]
    }

    /// The rules that Cinder does not have.
    private static let own = [
        "clinker:backup_layout": "admin", "clinker:backup_damages": "admin", "clinker:backup_repositories": "admin",
        "clinker:backup_unprotect": "admin",
        "clinker:backup_verify": "admin or project member", "clinker:backup_serve": "admin or project member",
        "clinker:doctor": "admin", "clinker:notifications": "admin", "clinker:services_remove": "admin",
        "clinker:operations_explain": "admin",
        "clinker:operations_get": "admin or project reader", "clinker:operations_cancel": "admin or project member",
        "clinker:backup_policies_get": "admin or project reader", "clinker:backup_policies_create": "admin or project member",
        "clinker:backup_policies_update": "admin or project member", "clinker:backup_policies_delete": "admin or project member",
        "clinker:backup_policies_run": "admin or project member", "clinker:backup_policies_assign": "admin or project member",
        "clinker:backup_policies_publish": "admin",
        "clinker:events_get": "admin or project reader", "clinker:attachments_get": "admin, project reader or service",
    ]

    /// Rule to default, from the documentation.
    static let defaults: [String: String] = {
        let text = (try? ServiceUnderTest.read(ServiceUnderTest.sources + "/captures/policies.tsv")) ?? ""
        return Dictionary(
            text.split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap { line in
                let fields = line.split(separator: "\t")
                return fields.count == 2 ? (String(fields[0]), String(fields[1])) : nil
            }, uniquingKeysWith: { $1 }
        ).merging(own) { $1 }
    }()

    enum Role: String, CaseIterable, Sendable {
        case admin, member, reader, service, custom
        var user: String { [.admin: "root", .member: "alice", .reader: "rita", .service: "nova", .custom: "norma"][self] ?? "" }
        var project: String { self == .service ? "service" : "alpha" }

        func may(_ rule: String) -> Bool {
            switch RoleMatrixTests.defaults[rule] {
            case "admin": self == .admin
            case "admin or project member": self == .admin || self == .member
            case "admin, project reader or service": self != .custom
            case "admin or project reader": [.admin, .member, .reader].contains(self)
            default: true
            }
        }
    }

    @Test("the table of defaults is whole, and every rule of a case is in it")
    func table() {
        #expect(Self.defaults.count == 161 + Self.own.count)
        for rule in Self.cases.flatMap(\.rules) { #expect(Self.defaults[rule] != nil, "\(rule)") }
    }

    @Test("every operation of the API's description is a case")
    func coverage() throws {
        let description = try JSON(parsing: try ServiceUnderTest.read(ServiceUnderTest.root + "/api-ref/openapi.json"))
        for (path, methods) in (description["paths"]?.object?.members ?? []).map({ ($0.name, $0.value) }) where path != Self.stream {
            let template = path.split(separator: "/")
            for (method, operation) in (methods.object?.members ?? []).map({ ($0.name.uppercased(), $0.value) }) {
                let cases = Self.cases.filter { entry in
                    let asked = entry.path.prefix { $0 != "?" }.split(separator: "/")
                    return entry.method == method && asked.count == template.count
                        && zip(template, asked).allSatisfy { $0 == $1 || $0.hasPrefix("{") }
                }
                let actions = operation["x-actions"]?.object?.names ?? []
                #expect(!cases.isEmpty, "\(method) \(path)")
                for action in actions { #expect(cases.contains { $0.body?.hasPrefix("{\"\(action)\"") == true }, "\(path): \(action)") }
            }
        }
    }

    /// Its answer has no end: OperationTests ask for it.
    private static let stream = "/events"

    @Test("each operation is allowed or refused to each role as documented")
    func matrix() throws {
        let keystone = try KeystoneUnderTest.shared.get()
        _ = try GlanceUnderTest.shared.get()
        let service = try keystone.service(options: "quota_volumes = -1")
        let root = try keystone.token("root", project: "alpha")
        func ask(_ method: String, _ path: String, _ token: String, _ project: String, _ body: String? = nil) throws
            -> ServiceUnderTest.Answer
        {
            try service.request(method, "/v3/\(keystone.project(project))\(path)", headers: [("X-Auth-Token", token)], body: body)
        }
        let volume = try ask("POST", "/volumes", root, "alpha", #"{"volume": {"size": 1}}"#).json["volume"]?["id"]?.string ?? ""
        let limit = Timestamp.monotonic() + 20
        while try ask("GET", "/volumes/\(volume)", root, "alpha").json["volume"]?["status"] != "available", Timestamp.monotonic() < limit {
            usleep(10_000)
        }
        let type = try ask("GET", "/types/default", root, "alpha").json["volume_type"]?["id"]?.string ?? ""
        for role in Role.allCases {
            let token = try keystone.token(role.user, project: role.project)
            for entry in Self.cases {
                func fill(_ text: String) -> String {
                    var text = text
                    for (name, value) in [
                        ("VOLUME", volume), ("TYPE", type), ("PROJECT", keystone.project(role.project)),
                        ("NOTHING", "00000000-0000-0000-0000-00000000000f"),
                        ("ATTACHMENT", "00000000-0000-0000-0000-00000000000e"), ("RANDOM", UUID.random()),
                    ] { text = text.replacing(name, with: value) }
                    return text
                }
                let answer = try ask(entry.method, fill(entry.path), token, role.project, entry.body.map(fill))
                let told = "\(role) \(entry.method) \(entry.path) \(entry.body ?? ""): \(answer.status) \(answer.text.prefix(200))"
                #expect(answer.status != 401 && answer.status < 500, "\(told)")
                if entry.rules.allSatisfy(role.may) {
                    #expect(answer.status != 403, "\(told)")
                } else if entry.path.hasPrefix("/volumes/"), !entry.path.hasPrefix("/volumes/detail"),
                    !entry.path.hasPrefix("/volumes/summary"), !role.may("volume:get")
                {
                    // Who may not see a volume learns nothing of it.
                    #expect(answer.status == 404, "\(told)")
                } else {
                    #expect(answer.status == 403, "\(told)")
                    let denied = entry.rules.filter { !role.may($0) }.map { "Policy doesn't allow \($0) to be performed." }
                    let ownWords = entry.path.hasPrefix("/default-types") ? ["You are not authorized to perform this operation."] : denied
                    #expect(ownWords.contains(answer.message ?? ""), "\(told)")
                }
            }
        }
    }
}

extension RoleMatrixTests.Case {
    fileprivate init(_ other: RoleMatrixTests.Case, rules: [String]) {
        method = other.method
        path = other.path
        body = other.body
        self.rules = rules
    }
}
