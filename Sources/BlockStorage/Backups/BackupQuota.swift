import Database

/// What backups are charged: `backups` and `backup_gigabytes`, which no type has a part in.
extension Quotas {
    /// Names of what is counted.
    static let backupResources = ["backup_gigabytes", "backups"]

    /// Charges a new backup, or refuses it with Cinder's words. The last rows that the transaction locks.
    static func chargeBackup(gigabytes: Int, project: String, defaults: Defaults, in tx: any Transaction) throws {
        try addBackup(gigabytes: gigabytes, count: 1, project: project, in: tx)
        let standing = try Standing(backupResources, of: project, defaults: defaults, in: tx)
        if let limit = standing.exceeded("backup_gigabytes") {
            throw StorageError(
                .overQuota,
                "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested "
                    + "\(gigabytes)G, quota is \(limit)G and \(standing.used("backup_gigabytes") - gigabytes)G has been consumed.")
        }
        if let limit = standing.exceeded("backups") {
            throw StorageError(.overQuota, "BackupLimitExceeded: Maximum number of backups allowed (\(limit)) exceeded")
        }
    }

    /// Changes what is charged, without a look at the limits.
    static func addBackup(gigabytes: Int, count: Int, project: String, in tx: any Transaction) throws {
        let amounts = [("backup_gigabytes", gigabytes), ("backups", count)].filter { $0.1 != 0 }
        try add(amounts.map { (resource: $0.0, amount: $0.1) }, project: project, in: tx)
    }
}
