public import Settings

/// Options of volumes, snapshots, attachments and quotas.
public struct StorageOptions: DeclaredOptions {
    public let defaultVolumeType = Option("default_volume_type", default: "__DEFAULT__", help: "Type of volumes that name none.")
    public let storageZone = Option("storage_availability_zone", default: "nova", help: "Availability zone of this node.")
    public let defaultZone = Option(
        "default_availability_zone", default: "", help: "Zone of volumes that name none; else storage_availability_zone.")
    public let zoneFallback = Option(
        "allow_availability_zone_fallback", default: false, help: "Use the default zone when the zone asked for does not exist.")
    public let clonedVolumeSameZone = Option(
        "cloned_volume_same_az", default: true, help: "A clone must be in the zone of its source.")
    public let snapshotSameHost = Option(
        "snapshot_same_host", default: true,
        help: "A volume made from a snapshot must be on the snapshot's backend, unless its type forbids.")
    public let volumeNameTemplate = Option(
        "volume_name_template", default: "volume-%s", help: "Name of a volume in its backend; %s is its id.")
    public let snapshotNameTemplate = Option(
        "snapshot_name_template", default: "snapshot-%s", help: "Name of a snapshot in its backend; %s is its id.")
    public let reservationTimeout = Option(
        "attachment_reservation_timeout", default: 86_400, range: 0...31_536_000,
        help: "Seconds after which an attachment that names no instance and was never connected is taken back; 0: never.")
    public let instanceReservationTimeout = Option(
        "instance_reservation_timeout", default: 0, range: 0...31_536_000,
        help: "The same for attachments that name an instance; 0: never, for shelved instances keep theirs.")
    public let transferKeyLength = Option(
        "volume_transfer_key_length", default: 16, range: 16...256, help: "Characters of the key by which a transferred volume is accepted."
    )
    public let usesDefaultQuotaClass = Option(
        "use_default_quota_class", default: true,
        help: "Limits of the quota class default, where it has them, go before those of this file.")
    public let quotaVolumes = Option(
        "quota_volumes", default: 10, range: -1...2_147_483_647, help: "Volumes per project; -1: no limit.")
    public let quotaSnapshots = Option(
        "quota_snapshots", default: 10, range: -1...2_147_483_647, help: "Snapshots per project; -1: no limit.")
    public let noSnapshotGigabytes = Option(
        "no_snapshot_gb_quota", default: false, help: "Snapshots are not charged for their size.")
    public let quotaGigabytes = Option(
        "quota_gigabytes", default: 1000, range: -1...2_147_483_647, help: "GiB of volumes and snapshots per project; -1: no limit.")
    public let quotaBackups = Option(
        "quota_backups", default: 10, range: -1...2_147_483_647, help: "Backups per project; -1: no limit.")
    public let quotaBackupGigabytes = Option(
        "quota_backup_gigabytes", default: 1000, range: -1...2_147_483_647, help: "GiB of backups per project; -1: no limit.")
    public let quotaGroups = Option(
        "quota_groups", default: 10, range: -1...2_147_483_647, help: "Groups per project; -1: no limit.")
    public let policyProtectDays = Option(
        "backup_policy_max_protect_days", default: 3650, range: 0...36_500,
        help: "Days for which backup policies may protect their backups from deletion at most; 0: not at all.")
    public let perVolumeSizeLimit = Option(
        "per_volume_size_limit", default: -1, range: -1...2_147_483_647, help: "Largest volume in GiB; -1: no limit.")

    public init() {}
}

extension Options {
    /// Options of volumes, snapshots, attachments and quotas.
    public static let storage = StorageOptions()
}
