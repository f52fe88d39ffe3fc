import BlockStorage
import JSON

/// Backup policies as clients see them.
enum BackupPolicyView {
    static let view = View<BackupPolicy>(
        "backup_policy", "backup_policies", describedAs: "BackupPolicy",
        [
            .text("id") { $0.id },
            .text("name") { $0.settings.name },
            .links("backup-policies/") { policy, write in
                var id = policy.id
                id.withUTF8 { write($0) }
            },
            Field.optionalText("description") { $0.settings.description }.part(.detail),
            Field.text("project_id") { $0.projectID }.part(.detail),
            Field.flag("enabled") { $0.settings.enabled }.part(.detail),
            Field.flag("is_public") { $0.settings.isPublic }.part(.detail),
            Field.choice("action", BackupPolicySettings.Action.allCases.map(\.rawValue)) { $0.settings.action.rawValue }.part(.detail),
            Field.optionalText("schedule") { $0.settings.schedule }.part(.detail),
            Field.text("timezone") { $0.settings.timezone }.part(.detail),
            Field.integer("jitter_seconds") { $0.settings.jitterSeconds }.part(.detail),
            Field.choice("missed", BackupPolicySettings.Missed.allCases.map(\.rawValue)) { $0.settings.missed.rawValue }.part(.detail),
            Field.optionalText("incremental") {
                $0.settings.incremental?.rawValue ?? ($0.settings.action == .backup ? Retention.Increments.auto.rawValue : nil)
            }.part(.detail),
            count("full_every") { $0.settings.fullEvery },
            count("keep_last") { $0.settings.keepLast },
            count("keep_hourly") { $0.settings.keepHourly },
            count("keep_daily") { $0.settings.keepDaily },
            count("keep_weekly") { $0.settings.keepWeekly },
            count("keep_monthly") { $0.settings.keepMonthly },
            count("keep_yearly") { $0.settings.keepYearly },
            Field.optionalText("keep_within") { $0.settings.keepWithin }.part(.detail),
            Field.integer("minimum_keep") { $0.settings.minimumKeep }.part(.detail),
            Field.flag("verify_after") { $0.settings.verifyAfter }.part(.detail),
            Field.optionalText("verify_every") { $0.settings.verifyEvery }.part(.detail),
            count("max_bytes_per_second") { $0.settings.maxBytesPerSecond },
            Field.integer("max_parallel") { $0.settings.maxParallel }.part(.detail),
            Field.optionalText("window_start") { $0.settings.windowStart }.part(.detail),
            Field.optionalText("window_end") { $0.settings.windowEnd }.part(.detail),
            Field.optionalText("container") { $0.settings.container }.part(.detail),
            Field.optionalText("availability_zone") { $0.settings.availabilityZone }.part(.detail),
            count("protect_days") { $0.settings.protectDays },
            Field.written("metadata", .map(.text)) { policy, _, writer in writer.value(.object(policy.settings.metadata)) }.part(.detail),
            Field.optionalTime("last_run_at") { $0.lastRunAt }.part(.detail),
            Field.optionalTime("next_run_at") { $0.nextRunAt }.part(.detail),
            Field.optionalText("last_status") { $0.lastStatus }.part(.detail),
            Field.time("created_at") { $0.createdAt }.part(.detail),
            Field.optionalTime("updated_at") { $0.updatedAt }.part(.detail),
        ])

    private static func count(_ name: StaticString, _ value: @escaping @Sendable (BackupPolicy) -> Int?) -> Field<BackupPolicy> {
        Field.written(name, .nullable(.integer)) { policy, _, writer in
            writer.value(value(policy).map { .integer(Int64($0)) } ?? .null)
        }.part(.detail)
    }

    static let assignment = View<BackupPolicyAssignment>(
        "assignment", "assignments", describedAs: "BackupPolicyAssignment",
        [
            .text("id") { $0.id },
            .text("policy_id") { $0.policyID },
            .choice("target_type", ["volume", "type", "project"]) { $0.target.rawValue },
            .text("target_id") { $0.targetID },
            .text("project_id") { $0.projectID },
            .time("created_at") { $0.createdAt },
        ])

    /// A run, how many of its volumes are in which state, and, of a run that is shown alone, the volumes.
    struct RunSource: Sendable {
        let run: BackupPolicyRun
        let counts: [BackupPolicyItem.Status: Int]
        var items: [BackupPolicyItem]?
    }

    static let run = View<RunSource>(
        "run", "runs", describedAs: "BackupPolicyRun",
        [
            .text("id") { $0.run.id },
            .text("policy_id") { $0.run.policyID },
            .choice("trigger", ["schedule", "user"]) { $0.run.occurrenceAt == nil ? "user" : "schedule" },
            .optionalTime("scheduled_at") { $0.run.occurrenceAt },
            .text("status") { $0.run.status.rawValue },
            .optionalText("message") { $0.run.message },
            .text("request_id") { $0.run.requestID },
            .time("started_at") { $0.run.createdAt },
            .optionalTime("finished_at") { $0.run.finishedAt },
            .integer("volumes") { $0.counts.values.reduce(0, +) },
            .integer("made") { $0.counts[.done, default: 0] + $0.counts[.retaining, default: 0] + $0.counts[.verifying, default: 0] },
            .integer("failed") { $0.counts[.failed, default: 0] },
            .integer("skipped") { $0.counts[.skipped, default: 0] },
            Field.written("items", .list(item.shape(.whole, version: 0))) { source, request, writer in
                let plan = item.plan(.whole, for: request)
                plan.write(source.items ?? [], &writer)
            }.part(.detail),
        ])

    private static let item = View<BackupPolicyItem>(
        "item", "items", describedAs: "BackupPolicyItem",
        [
            .text("volume_id") { $0.volumeID },
            .text("project_id") { $0.projectID },
            .text("status") { $0.status.rawValue },
            .optionalText("copy_id") { $0.copyID },
            .optionalText("message") { $0.message },
            .time("updated_at") { $0.updatedAt },
        ])

    static let preview = View<PolicyPreview>(
        "preview", "previews", describedAs: "BackupPolicyPreview",
        [
            .integer("days") { $0.days },
            .integer("volumes") { $0.volumes },
            .written("runs", .list(.time)) { preview, _, writer in
                writer.beginArray()
                for time in preview.runs { writer.string(time) }
                writer.endArray()
            },
            .written("deletions", .list(deletion.shape(.whole, version: 0))) { preview, request, writer in
                deletion.plan(.whole, for: request).write(preview.deletions, &writer)
            },
            .flag("truncated") { $0.isTruncated },
        ])

    private static let deletion = View<PolicyPreview.Deletion>(
        "deletion", "deletions", describedAs: "BackupPolicyDeletion",
        [
            .time("at") { $0.at }, .text("volume_id") { $0.volumeID }, .optionalText("copy_id") { $0.copyID },
            .time("made_at") { $0.madeAt },
        ])
}
