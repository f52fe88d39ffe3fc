public import Database

/// The tables. Times and UUIDs are text in the one representation; small open-ended maps (metadata, extra specs) are JSON text
/// of the row they belong to. Rows are deleted for good: what happened stays in `events`.
public enum Schema {
    public static let migrations: [Migration] = [
        Migration(
            1, "volumes, attachments, types, services, quotas, operations, events",
            [
                """
                CREATE TABLE volume_types (
                    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT, is_public INTEGER NOT NULL,
                    extra_specs TEXT NOT NULL, qos_specs_id TEXT, created_at TEXT NOT NULL, updated_at TEXT)
                """,
                """
                CREATE TABLE volumes (
                    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, name TEXT, description TEXT,
                    size INTEGER NOT NULL, status TEXT NOT NULL, previous_status TEXT, attach_status TEXT NOT NULL,
                    migration_status TEXT, replication_status TEXT, availability_zone TEXT, host TEXT, cluster_name TEXT,
                    volume_type_id TEXT NOT NULL REFERENCES volume_types(id), snapshot_id TEXT, source_volid TEXT, group_id TEXT,
                    bootable INTEGER NOT NULL, multiattach INTEGER NOT NULL, encryption_key_id TEXT, provider_id TEXT,
                    driver_data TEXT, name_id TEXT, service_uuid TEXT, shared_targets INTEGER, consumes_quota INTEGER NOT NULL,
                    metadata TEXT NOT NULL, admin_metadata TEXT NOT NULL, image_metadata TEXT NOT NULL,
                    created_at TEXT NOT NULL, updated_at TEXT, scheduled_at TEXT, launched_at TEXT)
                """,
                "CREATE INDEX volumes_of_project ON volumes (project_id, created_at, id)",
                "CREATE INDEX volumes_by_time ON volumes (created_at, id)",
                "CREATE INDEX volumes_of_type ON volumes (volume_type_id)",
                "CREATE INDEX volumes_on_host ON volumes (host)",
                """
                CREATE TABLE attachments (
                    id TEXT PRIMARY KEY, volume_id TEXT NOT NULL REFERENCES volumes(id), project_id TEXT NOT NULL,
                    instance_id TEXT, attached_host TEXT, mountpoint TEXT, attach_status TEXT NOT NULL, attach_mode TEXT,
                    attached_at TEXT, detached_at TEXT, connection_info TEXT, connector TEXT, created_at TEXT NOT NULL, updated_at TEXT)
                """,
                "CREATE INDEX attachments_of_volume ON attachments (volume_id)",
                "CREATE INDEX attachments_of_project ON attachments (project_id, created_at, id)",
                """
                CREATE TABLE services (
                    id TEXT PRIMARY KEY, binary_name TEXT NOT NULL, host TEXT NOT NULL, availability_zone TEXT NOT NULL,
                    disabled INTEGER NOT NULL, disabled_reason TEXT, backend_state TEXT, replication_status TEXT,
                    active_backend_id TEXT, frozen INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
                    UNIQUE (binary_name, host))
                """,
                "CREATE TABLE pools (host TEXT PRIMARY KEY, allocated_gb INTEGER NOT NULL, volumes INTEGER NOT NULL)",
                """
                CREATE TABLE quota_usages (
                    project_id TEXT NOT NULL, resource TEXT NOT NULL, in_use INTEGER NOT NULL, PRIMARY KEY (project_id, resource))
                """,
                """
                CREATE TABLE quota_limits (
                    project_id TEXT NOT NULL, resource TEXT NOT NULL, hard_limit INTEGER NOT NULL, PRIMARY KEY (project_id, resource))
                """,
                """
                CREATE TABLE quota_class_limits (
                    class_name TEXT NOT NULL, resource TEXT NOT NULL, hard_limit INTEGER NOT NULL, PRIMARY KEY (class_name, resource))
                """,
                """
                CREATE TABLE operations (
                    id TEXT PRIMARY KEY, flow TEXT NOT NULL, version INTEGER NOT NULL, state TEXT NOT NULL, step INTEGER NOT NULL,
                    reverting INTEGER NOT NULL, attempts INTEGER NOT NULL, resource_type TEXT NOT NULL, resource_id TEXT NOT NULL,
                    project_id TEXT NOT NULL, user_id TEXT NOT NULL, request_id TEXT NOT NULL, arguments TEXT NOT NULL,
                    progress TEXT NOT NULL, verdicts TEXT, error TEXT,
                    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, finished_at TEXT)
                """,
                "CREATE INDEX operations_unfinished ON operations (created_at) WHERE finished_at IS NULL",
                "CREATE INDEX operations_finished ON operations (finished_at) WHERE finished_at IS NOT NULL",
                "CREATE INDEX operations_of_resource ON operations (resource_id)",
                """
                CREATE TABLE claims (
                    resource TEXT NOT NULL, ticket TEXT NOT NULL, operation_id TEXT NOT NULL REFERENCES operations(id),
                    exclusive INTEGER NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (resource, ticket))
                """,
                "CREATE INDEX claims_of_operation ON claims (operation_id)",
                """
                CREATE TABLE events (
                    id INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, resource_type TEXT NOT NULL, resource_id TEXT NOT NULL,
                    project_id TEXT NOT NULL, operation_id TEXT, request_id TEXT NOT NULL, data TEXT NOT NULL)
                """,
                "CREATE INDEX events_of_resource ON events (resource_id, id)",
            ]),
        Migration(
            2, "user messages",
            [
                """
                CREATE TABLE messages (
                    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, event_id TEXT NOT NULL, message_level TEXT NOT NULL,
                    request_id TEXT NOT NULL, resource_type TEXT, resource_uuid TEXT, user_message TEXT NOT NULL,
                    created_at TEXT NOT NULL, expires_at TEXT NOT NULL)
                """,
                "CREATE INDEX messages_of_project ON messages (project_id, created_at, id)",
                "CREATE INDEX messages_by_end ON messages (expires_at)",
            ]),
        Migration(
            3, "who holds a reservation, and until when",
            [
                "ALTER TABLE attachments ADD COLUMN reserved_by TEXT",
                "ALTER TABLE attachments ADD COLUMN expires_at TEXT",
                "CREATE INDEX attachments_by_end ON attachments (expires_at) WHERE expires_at IS NOT NULL",
            ]),
        Migration(
            4, "snapshots",
            [
                """
                CREATE TABLE snapshots (
                    id TEXT PRIMARY KEY, volume_id TEXT NOT NULL REFERENCES volumes(id), project_id TEXT NOT NULL, user_id TEXT NOT NULL,
                    name TEXT, description TEXT, size INTEGER NOT NULL, status TEXT NOT NULL, progress TEXT,
                    volume_type_id TEXT NOT NULL REFERENCES volume_types(id), metadata TEXT NOT NULL, driver_data TEXT, provider_id TEXT,
                    group_snapshot_id TEXT, encryption_key_id TEXT, consumes_quota INTEGER NOT NULL,
                    created_at TEXT NOT NULL, updated_at TEXT)
                """,
                "CREATE INDEX snapshots_of_volume ON snapshots (volume_id, created_at, id)",
                "CREATE INDEX snapshots_of_project ON snapshots (project_id, created_at, id)",
                "CREATE INDEX snapshots_by_time ON snapshots (created_at, id)",
                "CREATE INDEX snapshots_of_type ON snapshots (volume_type_id)",
            ]),
        Migration(
            5, "projects that may use private types",
            [
                """
                CREATE TABLE volume_type_projects (
                    volume_type_id TEXT NOT NULL REFERENCES volume_types(id), project_id TEXT NOT NULL,
                    PRIMARY KEY (volume_type_id, project_id))
                """
            ]),
        Migration(
            6,
            "volumes by the id in their object's name; a project's own default type; operations that are cancelled and listed; lists by name, status and type",
            [
                "ALTER TABLE operations ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0",
                "CREATE INDEX volumes_by_name ON volumes (name, project_id, created_at, id)",
                "CREATE INDEX volumes_by_status ON volumes (status, created_at, id)",
                "DROP INDEX volumes_of_type",
                "CREATE INDEX volumes_of_type ON volumes (volume_type_id, created_at, id)",
                "CREATE INDEX operations_by_time ON operations (created_at, id)",
                "CREATE INDEX operations_of_project ON operations (project_id, created_at, id)",
                "CREATE INDEX volumes_by_name_id ON volumes (name_id) WHERE name_id IS NOT NULL",
                """
                CREATE TABLE default_types (
                    project_id TEXT PRIMARY KEY, volume_type_id TEXT NOT NULL REFERENCES volume_types(id))
                """,
            ]),
        Migration(
            7, "hosts that are connected without an attachment",
            [
                """
                CREATE TABLE connections (
                    volume_id TEXT NOT NULL REFERENCES volumes(id), host TEXT NOT NULL, connector TEXT NOT NULL, created_at TEXT NOT NULL,
                    PRIMARY KEY (volume_id, host))
                """
            ]),
        Migration(
            8, "the history of a project",
            ["CREATE INDEX events_of_project ON events (project_id, id)"]),
        Migration(
            9, "operations name their step, and the state that finished steps recorded",
            [
                "ALTER TABLE operations ADD COLUMN step_name TEXT",
                StepPositions.naming,
                "ALTER TABLE operations DROP COLUMN step",
                "ALTER TABLE operations RENAME COLUMN progress TO step_state",
            ]),
        Migration(
            10, "ended operations keep nothing that clients wrote",
            ["UPDATE operations SET arguments = '{}', step_state = '{}' WHERE finished_at IS NOT NULL"]),
        Migration(
            11, "QoS specs",
            [
                """
                CREATE TABLE qos_specs (
                    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, consumer TEXT NOT NULL, specs TEXT NOT NULL,
                    created_at TEXT NOT NULL, updated_at TEXT)
                """,
                "CREATE INDEX volume_types_of_qos_specs ON volume_types (qos_specs_id) WHERE qos_specs_id IS NOT NULL",
            ]),
        Migration(
            12, "how volumes of a type are encrypted",
            [
                """
                CREATE TABLE type_encryptions (
                    id TEXT PRIMARY KEY, volume_type_id TEXT NOT NULL UNIQUE REFERENCES volume_types(id), provider TEXT NOT NULL,
                    control_location TEXT NOT NULL, cipher TEXT, key_size INTEGER, created_at TEXT NOT NULL, updated_at TEXT)
                """
            ]),
        Migration(
            13, "volumes that are offered to other projects",
            [
                """
                CREATE TABLE volume_transfers (
                    id TEXT PRIMARY KEY, volume_id TEXT NOT NULL REFERENCES volumes(id), name TEXT, source_project_id TEXT NOT NULL,
                    no_snapshots INTEGER NOT NULL, salt TEXT NOT NULL, key_hash TEXT NOT NULL, created_at TEXT NOT NULL)
                """,
                "CREATE INDEX volume_transfers_of_volume ON volume_transfers (volume_id)",
                "CREATE INDEX volume_transfers_of_project ON volume_transfers (source_project_id, created_at, id)",
            ]),
        Migration(
            14, "backups",
            [
                """
                CREATE TABLE backups (
                    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, volume_id TEXT NOT NULL, snapshot_id TEXT,
                    parent_id TEXT, name TEXT, description TEXT, size INTEGER NOT NULL, status TEXT NOT NULL, fail_reason TEXT,
                    store TEXT, format TEXT, service TEXT, container TEXT, service_metadata TEXT, object_count INTEGER NOT NULL,
                    host TEXT, availability_zone TEXT, data_timestamp TEXT, restore_volume_id TEXT, temp_snapshot_id TEXT,
                    encryption_key_id TEXT, metadata TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT)
                """,
                "CREATE INDEX backups_of_project ON backups (project_id, created_at, id)",
                "CREATE INDEX backups_by_time ON backups (created_at, id)",
                "CREATE INDEX backups_of_volume ON backups (volume_id, created_at, id)",
                "CREATE INDEX backups_of_parent ON backups (parent_id, id) WHERE parent_id IS NOT NULL",
            ]),
        Migration(
            15, "snapshots of backups that are kept for the next increments",
            [
                "ALTER TABLE backups ADD COLUMN temp_snapshot_data TEXT",
                "ALTER TABLE backups ADD COLUMN temp_snapshot_at TEXT",
                "CREATE INDEX backups_by_snapshot ON backups (temp_snapshot_id) WHERE temp_snapshot_id IS NOT NULL",
            ]),
        Migration(
            16, "what verifications of backups found",
            [
                "ALTER TABLE backups ADD COLUMN verify_status TEXT",
                "ALTER TABLE backups ADD COLUMN verified_at TEXT",
                """
                CREATE TABLE backup_damages (
                    backup_id TEXT NOT NULL REFERENCES backups(id), number INTEGER NOT NULL, text TEXT NOT NULL, start INTEGER, length INTEGER,
                    PRIMARY KEY (backup_id, number))
                """,
                "CREATE INDEX backups_by_verification ON backups (verify_status) WHERE verify_status IS NOT NULL",
                "CREATE TABLE backup_scrubs (store TEXT PRIMARY KEY, part INTEGER NOT NULL, finished_at TEXT NOT NULL)",
            ]),
        Migration(
            17, "policies for backups and snapshots",
            [
                """
                CREATE TABLE backup_policies (
                    id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
                    enabled INTEGER NOT NULL, is_public INTEGER NOT NULL, action TEXT NOT NULL, schedule TEXT, timezone TEXT NOT NULL,
                    jitter_seconds INTEGER NOT NULL, missed TEXT NOT NULL, incremental TEXT, full_every INTEGER, keep_last INTEGER,
                    keep_hourly INTEGER, keep_daily INTEGER, keep_weekly INTEGER, keep_monthly INTEGER, keep_yearly INTEGER,
                    keep_within TEXT, minimum_keep INTEGER NOT NULL, max_parallel INTEGER NOT NULL, window_start TEXT, window_end TEXT,
                    container TEXT, availability_zone TEXT, metadata TEXT NOT NULL, last_run_at TEXT, last_status TEXT,
                    next_run_at TEXT, next_occurrence_at TEXT, created_at TEXT NOT NULL, updated_at TEXT, UNIQUE (project_id, name))
                """,
                "CREATE INDEX backup_policies_by_time ON backup_policies (created_at, id)",
                "CREATE INDEX backup_policies_due ON backup_policies (next_run_at, id) WHERE next_run_at IS NOT NULL",
                "CREATE INDEX backup_policies_by_name ON backup_policies (name, id) WHERE is_public = 1",
                """
                CREATE TABLE backup_policy_assignments (
                    id TEXT PRIMARY KEY, policy_id TEXT NOT NULL REFERENCES backup_policies(id), action TEXT NOT NULL,
                    project_id TEXT NOT NULL, target_type TEXT NOT NULL, target_id TEXT NOT NULL, created_at TEXT NOT NULL,
                    UNIQUE (target_id, target_type, project_id, action))
                """,
                "CREATE INDEX backup_policy_assignments_of_policy ON backup_policy_assignments (policy_id, created_at, id)",
                """
                CREATE TABLE backup_policy_runs (
                    id TEXT PRIMARY KEY, policy_id TEXT NOT NULL REFERENCES backup_policies(id), occurrence_at TEXT, status TEXT NOT NULL,
                    message TEXT, request_id TEXT NOT NULL, created_at TEXT NOT NULL, finished_at TEXT,
                    UNIQUE (policy_id, occurrence_at))
                """,
                "CREATE INDEX backup_policy_runs_of_policy ON backup_policy_runs (policy_id, created_at, id)",
                "CREATE INDEX backup_policy_runs_by_time ON backup_policy_runs (created_at, id)",
                "CREATE INDEX backup_policy_runs_unfinished ON backup_policy_runs (id) WHERE finished_at IS NULL",
                """
                CREATE TABLE backup_policy_items (
                    run_id TEXT NOT NULL REFERENCES backup_policy_runs(id), volume_id TEXT NOT NULL, project_id TEXT NOT NULL,
                    status TEXT NOT NULL, copy_id TEXT, message TEXT, updated_at TEXT NOT NULL, PRIMARY KEY (run_id, volume_id))
                """,
                "CREATE INDEX backup_policy_items_by_status ON backup_policy_items (run_id, status, volume_id)",
                "ALTER TABLE backups ADD COLUMN policy_id TEXT",
                "ALTER TABLE snapshots ADD COLUMN policy_id TEXT",
            ]),
        Migration(
            18, "protected and verified backups of policies, sizes of runs, snapshots of backups that are still to be removed",
            [
                """
                CREATE TABLE backup_snapshot_removals (
                    snapshot_id TEXT PRIMARY KEY, backup_id TEXT NOT NULL, volume_id TEXT NOT NULL, project_id TEXT NOT NULL, data TEXT,
                    attempts INTEGER NOT NULL, message TEXT NOT NULL, retry_at TEXT NOT NULL, created_at TEXT NOT NULL)
                """,
                "CREATE INDEX backup_snapshot_removals_of_volume ON backup_snapshot_removals (volume_id, snapshot_id)",
                "CREATE INDEX backup_snapshot_removals_due ON backup_snapshot_removals (retry_at, snapshot_id)",
                "ALTER TABLE backups ADD COLUMN protected_until TEXT",
                "ALTER TABLE backups ADD COLUMN distrusts_changes INTEGER NOT NULL DEFAULT 0",
                "CREATE INDEX backups_of_policy ON backups (policy_id, verified_at) WHERE policy_id IS NOT NULL",
                "ALTER TABLE backup_policies ADD COLUMN verify_after INTEGER NOT NULL DEFAULT 0",
                "ALTER TABLE backup_policies ADD COLUMN verify_every TEXT",
                "ALTER TABLE backup_policies ADD COLUMN max_bytes_per_second INTEGER",
                "ALTER TABLE backup_policies ADD COLUMN protect_days INTEGER",
                "ALTER TABLE backup_policy_runs ADD COLUMN volumes INTEGER NOT NULL DEFAULT 0",
                "UPDATE backup_policy_runs SET volumes = (SELECT count(*) FROM backup_policy_items i WHERE i.run_id = backup_policy_runs.id)",
                "DROP INDEX backup_policy_runs_of_policy",
                "CREATE INDEX backup_policy_runs_of_policy ON backup_policy_runs (policy_id, created_at, id, volumes)",
            ]),
        Migration(
            19, "types whose volumes are encrypted, seen without another table",
            [
                "ALTER TABLE volume_types ADD COLUMN is_encrypted INTEGER NOT NULL DEFAULT 0",
                "UPDATE volume_types SET is_encrypted = 1 WHERE id IN (SELECT volume_type_id FROM type_encryptions)",
            ]),
        Migration(
            20, "when all of a volume was last read for a backup",
            [
                "ALTER TABLE backups ADD COLUMN whole_read_at TEXT",
                "UPDATE backups SET whole_read_at = created_at WHERE store IS NOT NULL",
            ]),
        Migration(
            21, "notifications that have not been sent yet",
            [
                """
                CREATE TABLE notifications (
                    id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, event_type TEXT NOT NULL, priority TEXT NOT NULL,
                    publisher TEXT NOT NULL, resource_id TEXT NOT NULL, user_id TEXT NOT NULL, project_id TEXT NOT NULL,
                    request_id TEXT NOT NULL, created_at TEXT NOT NULL, payload TEXT NOT NULL)
                """
            ]),
        Migration(
            22, "keys of encrypted images, and operations that have begun to write to what they make",
            [
                """
                CREATE TABLE image_keys (
                    image_id TEXT PRIMARY KEY, key_id TEXT NOT NULL, project_id TEXT NOT NULL, created_at TEXT NOT NULL)
                """,
                "ALTER TABLE operations ADD COLUMN has_written INTEGER NOT NULL DEFAULT 0",
                // Of those that are under way nobody knows.
                "UPDATE operations SET has_written = 1 WHERE finished_at IS NULL",
            ]),
        Migration(
            23, "volumes that hold images for others to be cloned from",
            [
                """
                CREATE TABLE image_volume_cache_entries (
                    volume_id TEXT PRIMARY KEY, host TEXT NOT NULL, image_id TEXT NOT NULL, image_updated_at TEXT NOT NULL,
                    size INTEGER NOT NULL, last_used TEXT NOT NULL, UNIQUE (host, image_id))
                """,
                "CREATE INDEX image_volume_cache_entries_by_use ON image_volume_cache_entries (host, last_used, volume_id)",
            ]),
        Migration(
            24, "keys that operations were to delete, and did not",
            [
                """
                CREATE TABLE left_keys (
                    operation_id TEXT PRIMARY KEY, key_id TEXT, volume_id TEXT NOT NULL, project_id TEXT NOT NULL, made_by TEXT,
                    attempts INTEGER NOT NULL, message TEXT NOT NULL, retry_at TEXT NOT NULL, created_at TEXT NOT NULL)
                """,
                "CREATE INDEX left_keys_due ON left_keys (retry_at, operation_id)",
                "CREATE INDEX left_keys_by_time ON left_keys (created_at, operation_id)",
            ]),
    ]
}
