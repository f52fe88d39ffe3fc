import Database

/// Policies by which backups and snapshots are made and deleted.
final class BackupPolicyTable: Table, @unchecked Sendable {
    static let table = BackupPolicyTable("backup_policies", "y").declared()

    let id = Column<String>("id"), projectID = Column<String>("project_id"), userID = Column<String>("user_id")
    let name = Column<String>("name"), description = Column<String?>("description")
    let isEnabled = Column<Bool>("enabled"), isPublic = Column<Bool>("is_public"), action = Column<String>("action")
    let schedule = Column<String?>("schedule"), timezone = Column<String>("timezone"), jitterSeconds = Column<Int>("jitter_seconds")
    let missed = Column<String>("missed"), incremental = Column<String?>("incremental"), fullEvery = Column<Int?>("full_every")
    let keepLast = Column<Int?>("keep_last"), keepHourly = Column<Int?>("keep_hourly"), keepDaily = Column<Int?>("keep_daily")
    let keepWeekly = Column<Int?>("keep_weekly"), keepMonthly = Column<Int?>("keep_monthly"), keepYearly = Column<Int?>("keep_yearly")
    let keepWithin = Column<String?>("keep_within"), minimumKeep = Column<Int>("minimum_keep"), maxParallel = Column<Int>("max_parallel")
    let windowStart = Column<String?>("window_start"), windowEnd = Column<String?>("window_end")
    let container = Column<String?>("container"), availabilityZone = Column<String?>("availability_zone")
    let verifyAfter = Column<Bool>("verify_after"), verifyEvery = Column<String?>("verify_every")
    let maxBytesPerSecond = Column<Int?>("max_bytes_per_second"), protectDays = Column<Int?>("protect_days")
    /// A JSON object of texts.
    let metadata = Column<String>("metadata")
    let lastRunAt = Column<String?>("last_run_at"), lastStatus = Column<String?>("last_status")
    /// When the next run is begun, and the time of its schedule that it is for.
    let nextRunAt = Column<String?>("next_run_at"), nextOccurrenceAt = Column<String?>("next_occurrence_at")
    let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
}

/// What a policy is for, where it was said by an assignment.
final class BackupPolicyAssignmentTable: Table, @unchecked Sendable {
    static let table = BackupPolicyAssignmentTable("backup_policy_assignments", "n").declared()

    let id = Column<String>("id"), policyID = Column<String>("policy_id")
    /// The policy's.
    let action = Column<String>("action")
    /// Whose volumes.
    let projectID = Column<String>("project_id")
    let targetType = Column<BackupPolicyAssignment.Target>("target_type"), targetID = Column<String>("target_id")
    let createdAt = Column<String>("created_at")
}

/// The runs of policies.
final class BackupPolicyRunTable: Table, @unchecked Sendable {
    static let table = BackupPolicyRunTable("backup_policy_runs", "r").declared()

    let id = Column<String>("id"), policyID = Column<String>("policy_id")
    /// The time of the schedule that it is for; nil: somebody asked for it. No two runs of a policy are for the same time.
    let occurrenceAt = Column<String?>("occurrence_at")
    let status = Column<BackupPolicyRun.Status>("status"), message = Column<String?>("message")
    /// How many items it has.
    let volumes = Column<Int>("volumes")
    let requestID = Column<String>("request_id")
    let createdAt = Column<String>("created_at"), finishedAt = Column<String?>("finished_at")
}

/// What a run makes of each volume.
final class BackupPolicyItemTable: Table, @unchecked Sendable {
    static let table = BackupPolicyItemTable("backup_policy_items", "i").declared()

    let runID = Column<String>("run_id"), volumeID = Column<String>("volume_id"), projectID = Column<String>("project_id")
    let status = Column<BackupPolicyItem.Status>("status")
    /// The backup or snapshot.
    let copyID = Column<String?>("copy_id")
    let message = Column<String?>("message")
    let updatedAt = Column<String>("updated_at")
}
