import Database
import Primitives

/// What there is of a volume, as retention looks at it.
extension BackupPolicies {
    static let snapshotsSQL = SQL("SELECT id, created_at, status, policy_id, updated_at FROM snapshots WHERE volume_id = ?")
    static let backupsSQL = SQL(
        "SELECT id, coalesce(data_timestamp, created_at), status, policy_id, updated_at, parent_id, verify_status, protected_until, format, service_metadata FROM backups WHERE volume_id = ? AND project_id = ?"
    )

    /// The copies of a volume: the project's backups, or the snapshots. `triedSince`: what failed to be deleted since then is not tried again.
    static func copies(
        ofVolume id: String, project: String, of policy: BackupPolicy, triedSince: String?, in connection: any Connection
    ) throws -> [Retention.Copy] {
        let isBackup = policy.settings.action == .backup
        return try connection.rows(isBackup ? backupsSQL : snapshotsSQL, isBackup ? [.text(id), .text(project)] : [.text(id)]) { row in
            let status = row.text(2)
            let condition: Retention.Condition =
                switch status {
                case "available" where isBackup && row.optionalText(6) == VerifyStatus.damaged.rawValue: .damaged
                case "available": .good
                case "error": .bad
                case "error_deleting": triedSince.map { row.optionalText(4) ?? "" < $0 } ?? true ? .bad : .busy
                // A snapshot that is read for a backup is whole.
                case "backing-up": .good
                case "deleting": .going
                default: .busy
                }
            let format = isBackup ? row.optionalText(8) : nil
            // Of what failed before it had a store there is nothing that could rest on another backup.
            let isNothing = format == nil && condition == .bad && isBackup && row.optionalText(9) == nil
            let restsOnNothing = format == Backup.repositoryFormat || isNothing
            return Retention.Copy(
                id: row.text(0), time: Timestamp.parse(row.text(1)).map { Int($0) } ?? 0, condition: condition,
                parent: isBackup ? row.optionalText(5) : nil,
                needsParent: !isBackup || !restsOnNothing, isOfPolicy: row.optionalText(3) == policy.id,
                protectedUntil: isBackup ? row.optionalText(7).flatMap(Timestamp.parse).map { Int($0) } : nil,
                order: row.text(1) + row.text(0))
        }
    }
}

extension Connection {
    fileprivate func rows<T>(_ sql: SQL, _ values: [Value], map: (any Row) throws -> T) throws -> [T] {
        var result: [T] = []
        try query(sql, values) {
            result.append(try map($0))
            return true
        }
        return result
    }
}
