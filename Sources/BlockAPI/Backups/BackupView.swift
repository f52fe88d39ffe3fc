import BlockStorage

/// Backups as clients see them.
enum BackupView {
    static let view = View<Backup>(
        "backup", "backups",
        [
            .text("id") { $0.id },
            Field.text("status") { $0.status.rawValue }.part(.detail),
            Field.integer("size") { $0.size }.part(.detail),
            Field.integer("object_count") { $0.objectCount }.part(.detail),
            Field.optionalText("availability_zone") { $0.availabilityZone }.part(.detail),
            Field.optionalText("container") { $0.container }.part(.detail),
            Field.time("created_at") { $0.createdAt }.part(.detail),
            Field.optionalTime("updated_at") { $0.updatedAt }.part(.detail),
            .optionalText("name") { $0.name },
            Field.optionalText("description") { $0.description }.part(.detail),
            Field.optionalText("fail_reason") { $0.failReason }.part(.detail),
            Field.text("volume_id") { $0.volumeID }.part(.detail),
            .links("backups/") { backup, write in
                var id = backup.id
                id.withUTF8 { write($0) }
            },
            Field.flag("is_incremental") { $0.isIncremental }.part(.detail),
            Field.flag("has_dependent_backups") { $0.hasDependents }.part(.detail),
            Field.optionalText("snapshot_id") { $0.snapshotID }.part(.detail),
            Field.optionalTime("data_timestamp") { $0.dataTimestamp }.part(.detail),
            Field.raw("metadata", .map(.text)) { $0.metadata }.part(.detail).since(43),
            Field.text("os-backup-project-attr:project_id") { $0.projectID }.part(.extensions).since(18)
                .rule("backup:backup_project_attribute"),
            Field.text("user_id") { $0.userID }.part(.extensions).since(56).rule("backup:backup_project_attribute"),
            // Of what nobody has looked at Cinder's bytes are all there is.
            Field.text("clinker:verify_status") { $0.verifyStatus?.rawValue ?? "" }.part(.extensions).when { $0.verifyStatus != nil },
            Field.time("clinker:verified_at") { $0.verifiedAt ?? "" }.part(.extensions).when { $0.verifiedAt != nil },
            Field.text("clinker:policy_id") { $0.policyID ?? "" }.part(.extensions).when { $0.policyID != nil },
            Field.time("clinker:protected_until") { $0.protectedUntil ?? "" }.part(.extensions).when { $0.protectedUntil != nil },
            Field.text("encryption_key_id") { $0.encryptionKeyID ?? "" }.part(.detail).since(64).when { $0.encryptionKeyID != nil },
        ])

    /// What a restoration is answered with.
    static let restoration = View<VolumeRequests.Restoration>(
        "restore", "restores", describedAs: "BackupRestoration",
        [
            .text("backup_id") { $0.backupID }, .text("volume_id") { $0.volumeID }, .optionalText("volume_name") { $0.volumeName },
        ])
}
