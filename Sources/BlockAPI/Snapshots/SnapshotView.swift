import BlockStorage

/// Snapshots as clients see them.
enum SnapshotView {
    static let view = View<Snapshot>(
        "snapshot", "snapshots",
        [
            .text("id") { $0.id },
            .time("created_at") { $0.createdAt },
            .optionalTime("updated_at") { $0.updatedAt },
            .optionalText("name") { $0.name },
            .optionalText("description") { $0.description },
            .text("volume_id") { $0.volumeID },
            .text("status") { $0.status.rawValue },
            .integer("size") { $0.size },
            .raw("metadata", .map(.text)) { $0.metadata },
            Field.null("group_snapshot_id").part(.detail).since(14),
            Field.text("user_id") { $0.userID }.part(.detail).since(41),
            Field.flag("consumes_quota") { $0.consumesQuota }.part(.detail).since(65),
            Field.text("os-extended-snapshot-attributes:project_id") { $0.projectID }.part(.extensions)
                .rule("volume_extension:extended_snapshot_attributes"),
            Field.optionalText("os-extended-snapshot-attributes:progress") { $0.progress }.part(.extensions)
                .rule("volume_extension:extended_snapshot_attributes"),
            Field.text("clinker:policy_id") { $0.policyID ?? "" }.part(.extensions).when { $0.policyID != nil },
        ])
}
