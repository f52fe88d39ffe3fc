/// The rules of the Block Storage API under the names and with the defaults that its documentation gives
/// (https://docs.openstack.org/cinder/latest/configuration/block-storage/policy.html), and Clinker's own.
public enum PolicyTable {
    /// A rule that operations or fields check.
    public struct Rule: Sendable {
        public let name: String
        /// The default expression.
        public let standard: String
        /// The additional expression of older releases, used if `[oslo_policy] enforce_new_defaults` is false.
        public let older: String?
        /// The rule's name in older releases. A file's rule of that name is used unless the file has the new name too.
        public let formerly: String?

        init(_ name: String, _ standard: String, older: String? = nil, formerly: String? = nil) {
            self.name = name
            self.standard = standard
            self.older = older
            self.formerly = formerly
        }
    }

    private static let admin = "rule:admin_api"
    private static let member = "rule:xena_system_admin_or_project_member"
    private static let reader = "rule:xena_system_admin_or_project_reader"
    /// Also a service, with its own or a forwarded request.
    private static let service = " or role:service or service_roles:service"
    private static let owner = "rule:admin_or_owner"
    private static let anyone = "@"

    /// Rules that other rules refer to.
    static let bases: [Rule] = [
        Rule("context_is_admin", "role:admin"),
        Rule("admin_api", "is_admin:True or (role:admin and is_admin_project:True)"),
        Rule("admin_or_owner", "is_admin:True or (role:admin and is_admin_project:True) or project_id:%(project_id)s"),
        Rule("xena_system_admin_or_project_reader", "(role:admin) or (role:reader and project_id:%(project_id)s)"),
        Rule("xena_system_admin_or_project_member", "(role:admin) or (role:member and project_id:%(project_id)s)"),
        Rule(
            "system_or_domain_or_project_admin",
            "(role:admin and system_scope:all) or (role:admin and domain_id:%(domain_id)s) or (role:admin and project_id:%(project_id)s)"),
    ]

    static let rules: [Rule] = [
        Rule("volume:attachment_create", member, older: anyone),
        Rule("volume:attachment_update", member, older: owner),
        Rule("volume:attachment_delete", member, older: owner),
        Rule("volume:attachment_complete", member, older: owner),
        Rule("volume:multiattach_bootable_volume", member, older: owner),
        Rule("message:get_all", reader, older: owner),
        Rule("message:get", reader, older: owner),
        Rule("message:delete", member, older: owner),
        Rule("clusters:get_all", admin),
        Rule("clusters:get", admin),
        Rule("clusters:update", admin),
        Rule("workers:cleanup", admin),
        Rule("volume:get_snapshot_metadata", reader, older: owner),
        Rule("volume:update_snapshot_metadata", member, older: owner),
        Rule("volume:delete_snapshot_metadata", member, older: owner),
        Rule("volume:get_all_snapshots", reader, older: owner),
        Rule("volume_extension:extended_snapshot_attributes", reader, older: owner),
        Rule("volume:create_snapshot", member, older: owner),
        Rule("volume:get_snapshot", reader, older: owner),
        Rule("volume:update_snapshot", member, older: owner),
        Rule("volume:delete_snapshot", member, older: owner),
        Rule("volume_extension:snapshot_admin_actions:reset_status", admin),
        Rule("snapshot_extension:snapshot_actions:update_snapshot_status", member, older: anyone),
        Rule("volume_extension:snapshot_admin_actions:force_delete", admin),
        Rule("snapshot_extension:list_manageable", admin),
        Rule("snapshot_extension:snapshot_manage", admin),
        Rule("snapshot_extension:snapshot_unmanage", admin),
        Rule("backup:get_all", reader, older: owner),
        Rule("backup:backup_project_attribute", admin),
        Rule("backup:create", member, older: anyone),
        Rule("backup:get", reader, older: owner),
        Rule("backup:update", member, older: owner),
        Rule("backup:delete", member, older: owner),
        Rule("backup:restore", member, older: owner),
        Rule("backup:backup-import", admin),
        Rule("backup:export-import", admin),
        Rule("volume_extension:backup_admin_actions:reset_status", admin),
        Rule("volume_extension:backup_admin_actions:force_delete", admin),
        Rule("group:get_all", reader, older: owner),
        Rule("group:create", member, older: anyone),
        Rule("group:get", reader, older: owner),
        Rule("group:update", member, older: owner),
        Rule("group:group_project_attribute", admin),
        Rule("group:group_types:create", admin, older: admin, formerly: "group:group_types_manage"),
        Rule("group:group_types:update", admin, older: admin, formerly: "group:group_types_manage"),
        Rule("group:group_types:delete", admin, older: admin, formerly: "group:group_types_manage"),
        Rule("group:access_group_types_specs", admin),
        Rule("group:group_types_specs:get", admin, older: admin, formerly: "group:group_types_specs"),
        Rule("group:group_types_specs:get_all", admin, older: admin, formerly: "group:group_types_specs"),
        Rule("group:group_types_specs:create", admin, older: admin, formerly: "group:group_types_specs"),
        Rule("group:group_types_specs:update", admin, older: admin, formerly: "group:group_types_specs"),
        Rule("group:group_types_specs:delete", admin, older: admin, formerly: "group:group_types_specs"),
        Rule("group:get_all_group_snapshots", reader, older: owner),
        Rule("group:create_group_snapshot", member, older: anyone),
        Rule("group:get_group_snapshot", reader, older: owner),
        Rule("group:delete_group_snapshot", member, older: owner),
        Rule("group:update_group_snapshot", member, older: owner),
        Rule("group:group_snapshot_project_attribute", admin),
        Rule("group:reset_group_snapshot_status", admin),
        Rule("group:delete", member, older: owner),
        Rule("group:reset_status", admin),
        Rule("group:enable_replication", member, older: owner),
        Rule("group:disable_replication", member, older: owner),
        Rule("group:failover_replication", member, older: owner),
        Rule("group:list_replication_targets", member, older: owner),
        Rule("volume_extension:qos_specs_manage:get_all", admin),
        Rule("volume_extension:qos_specs_manage:get", admin),
        Rule("volume_extension:qos_specs_manage:create", admin),
        Rule("volume_extension:qos_specs_manage:update", admin),
        Rule("volume_extension:qos_specs_manage:delete", admin),
        Rule("volume_extension:quota_classes:get", admin, older: admin, formerly: "volume_extension:quota_classes"),
        Rule("volume_extension:quota_classes:update", admin, older: admin, formerly: "volume_extension:quota_classes"),
        Rule("volume_extension:quotas:show", reader, older: owner),
        Rule("volume_extension:quotas:update", admin),
        Rule("volume_extension:quotas:delete", admin),
        Rule("volume_extension:capabilities", admin),
        Rule("volume_extension:services:index", admin),
        Rule("volume_extension:services:update", admin),
        Rule("volume:freeze_host", admin),
        Rule("volume:thaw_host", admin),
        Rule("volume:failover_host", admin),
        Rule("scheduler_extension:scheduler_stats:get_pools", admin),
        Rule("volume_extension:hosts", admin),
        Rule("limits_extension:used_limits", reader, older: owner),
        Rule("volume_extension:list_manageable", admin),
        Rule("volume_extension:volume_manage", admin),
        Rule("volume_extension:volume_unmanage", admin),
        Rule("volume_extension:type_create", admin, older: admin, formerly: "volume_extension:types_manage"),
        Rule("volume_extension:type_update", admin, older: admin, formerly: "volume_extension:types_manage"),
        Rule("volume_extension:type_delete", admin, older: admin, formerly: "volume_extension:types_manage"),
        Rule("volume_extension:type_get", reader, older: anyone),
        Rule("volume_extension:type_get_all", reader, older: anyone),
        Rule("volume_extension:access_types_extra_specs", reader, older: admin),
        Rule("volume_extension:access_types_qos_specs_id", admin),
        Rule("volume_extension:volume_type_encryption", admin),
        Rule("volume_extension:volume_type_encryption:create", admin, older: "rule:volume_extension:volume_type_encryption"),
        Rule("volume_extension:volume_type_encryption:get", admin, older: "rule:volume_extension:volume_type_encryption"),
        Rule("volume_extension:volume_type_encryption:update", admin, older: "rule:volume_extension:volume_type_encryption"),
        Rule("volume_extension:volume_type_encryption:delete", admin, older: "rule:volume_extension:volume_type_encryption"),
        Rule("volume_extension:volume_type_access", member, older: owner),
        Rule("volume_extension:volume_type_access:addProjectAccess", admin),
        Rule("volume_extension:volume_type_access:removeProjectAccess", admin),
        Rule("volume_extension:volume_type_access:get_all_for_type", admin, older: "volume_extension:volume_type_access"),
        Rule("volume:extend", member, older: owner),
        Rule("volume:extend_attached_volume", member, older: owner),
        Rule("volume_extension:volume_admin_actions:extend_volume_completion", admin),
        Rule("volume:revert_to_snapshot", member, older: owner),
        Rule("volume_extension:volume_admin_actions:reset_status", admin),
        Rule("volume:retype", member, older: owner),
        Rule("volume:update_readonly_flag", member, older: owner),
        Rule("volume_extension:volume_admin_actions:force_delete", admin),
        Rule("volume_extension:volume_actions:upload_public", admin),
        Rule("volume_extension:volume_actions:upload_image", member, older: owner),
        Rule("volume_extension:volume_admin_actions:force_detach", admin),
        Rule("volume_extension:volume_admin_actions:migrate_volume", admin),
        Rule("volume_extension:volume_admin_actions:migrate_volume_completion", admin),
        Rule("volume_extension:volume_actions:initialize_connection", member, older: owner),
        Rule("volume_extension:volume_actions:terminate_connection", member, older: owner),
        Rule("volume_extension:volume_actions:roll_detaching", member, older: owner),
        Rule("volume_extension:volume_actions:reserve", member, older: owner),
        Rule("volume_extension:volume_actions:unreserve", member, older: owner),
        Rule("volume_extension:volume_actions:begin_detaching", member, older: owner),
        Rule("volume_extension:volume_actions:attach", member, older: owner),
        Rule("volume_extension:volume_actions:detach", member, older: owner),
        Rule("volume:reimage", member),
        Rule("volume:reimage_reserved", member),
        Rule("volume:get_all_transfers", reader, older: owner),
        Rule("volume:create_transfer", member, older: owner),
        Rule("volume:get_transfer", reader, older: owner),
        Rule("volume:accept_transfer", member, older: anyone),
        Rule("volume:delete_transfer", member, older: owner),
        Rule("volume:get_volume_metadata", reader, older: owner),
        Rule("volume:create_volume_metadata", member, older: owner),
        Rule("volume:update_volume_metadata", member, older: owner),
        Rule("volume:delete_volume_metadata", member, older: owner),
        Rule("volume_extension:volume_image_metadata:show", reader, older: owner, formerly: "volume_extension:volume_image_metadata"),
        Rule("volume_extension:volume_image_metadata:set", member, older: owner, formerly: "volume_extension:volume_image_metadata"),
        Rule("volume_extension:volume_image_metadata:remove", member, older: owner, formerly: "volume_extension:volume_image_metadata"),
        Rule("volume:update_volume_admin_metadata", admin),
        Rule("volume_extension:types_extra_specs:index", reader, older: anyone),
        Rule("volume_extension:types_extra_specs:create", admin),
        Rule("volume_extension:types_extra_specs:show", reader, older: anyone),
        Rule("volume_extension:types_extra_specs:read_sensitive", admin),
        Rule("volume_extension:types_extra_specs:update", admin),
        Rule("volume_extension:types_extra_specs:delete", admin),
        Rule("volume:create", member, older: anyone),
        Rule("volume:create_from_image", member, older: anyone),
        Rule("volume:get", reader, older: owner),
        Rule("volume:get_all", reader, older: owner),
        Rule("volume:update", member, older: owner),
        Rule("volume:delete", member, older: owner),
        Rule("volume:force_delete", admin),
        Rule("volume_extension:volume_host_attribute", admin),
        Rule("volume_extension:volume_tenant_attribute", reader, older: owner),
        Rule("volume_extension:volume_mig_status_attribute", admin),
        Rule("volume_extension:volume_encryption_metadata", reader, older: owner),
        Rule("volume:multiattach", member, older: owner),
        Rule("volume_extension:default_set_or_update", admin, older: "rule:system_or_domain_or_project_admin"),
        Rule("volume_extension:default_get", admin, older: "rule:system_or_domain_or_project_admin"),
        Rule("volume_extension:default_get_all", admin, older: "role:admin and system_scope:all"),
        Rule("volume_extension:default_unset", admin, older: "rule:system_or_domain_or_project_admin"),

        // Clinker's own operations.
        Rule("clinker:attachments_get", reader + service, older: owner),
        Rule("clinker:attachments_connection", member + service, older: owner),
        Rule("clinker:doctor", admin),
        Rule("clinker:operations_get", reader, older: owner),
        Rule("clinker:operations_cancel", member, older: owner),
        Rule("clinker:operations_explain", admin),
        Rule("clinker:services_remove", admin),
        Rule("clinker:events_get", reader, older: owner),
    ]

    /// All rules.
    public static let all = bases + rules
    static let index = Dictionary(all.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first })
}
