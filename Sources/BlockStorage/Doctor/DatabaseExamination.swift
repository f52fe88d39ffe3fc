public import Database
import JSON
import Primitives

/// The database against itself: charges, promises, states, attachments and the operation log.
public enum DatabaseExamination {
    /// Everything wrong, as of one snapshot. Reservations older than `reservationAge` seconds are stale.
    public static func findings(
        knownFlows: Set<FlowID>, reservationAge: Int, snapshotsChargeGigabytes: Bool, in connection: any Connection
    ) throws -> [Finding] {
        try quotas(snapshotsChargeGigabytes, in: connection) + strandedSnapshots(in: connection) + strandedBackups(in: connection)
            + pools(in: connection) + stranded(in: connection) + attachStates(reservationAge, in: connection)
            + operations(knownFlows, in: connection)
    }

    // MARK: charges and promises

    /// What a running operation has charged and claimed beyond the volume's row.
    private struct InFlight {
        let volume: Volume
        var charges: [(project: String, entries: [(resource: String, amount: Int)])] = []
        /// The pool, with what is claimed of it.
        var claim: (host: String, gigabytes: Int, volumes: Int)?
    }
    static let changingSQL = SQL(
        """
        SELECT resource_id, flow, arguments, step_state FROM operations WHERE finished_at IS NULL
            AND flow IN ('\(ExtendVolumeArguments.flow.name)', '\(RetypeVolumeArguments.flow.name)',
                '\(RetypeAttachedVolumeArguments.flow.name)', '\(MigrateVolumeArguments.flow.name)')
        """)

    private static func inFlight(_ snapshotsChargeGigabytes: Bool, in connection: any Connection) throws -> [InFlight] {
        /// Until the volume has its new type, it is charged under both.
        func charges(_ volume: Volume, ofType type: String) throws -> [(project: String, entries: [(resource: String, amount: Int)])] {
            guard type != volume.volumeTypeID else { return [] }
            let name = try VolumeTypes.get(type, in: connection).name
            let snapshots = try Snapshots.ofVolume(volume.id, in: connection)
            return volume.charges(with: snapshots, chargesGigabytes: snapshotsChargeGigabytes).map {
                ($0.project, $0.charge.entries(ofType: name))
            }
        }
        let changing = try connection.rows(changingSQL) { ($0.text(0), $0.text(1), $0.text(2), $0.text(3)) }
        let moving = Set(changing.filter { $0.1 == RetypeAttachedVolumeArguments.flow.name }.map(\.0))
        // No operation is at work on the volume while the Compute service is.
        let retyped = try AttachedMigration.retyped(in: connection).compactMap { volume, type -> InFlight? in
            moving.contains(volume.id) ? nil : InFlight(volume: volume, charges: try charges(volume, ofType: type))
        }
        let operating = try changing.compactMap { id, flow, arguments, state -> InFlight? in
            guard let volume = try Volumes.find(id, in: connection) else { return nil }
            var entry = InFlight(volume: volume)
            if flow == ExtendVolumeArguments.flow.name {
                let growth = try ExtendVolumeArguments(parsing: arguments).newSize - volume.size
                if volume.consumesQuota { entry.charges = [(volume.projectID, Charge(gigabytes: growth).entries(volume.typeName))] }
                if let host = volume.host { entry.claim = (host, try ExtendVolumeState(parsing: state).claimed ?? 0, 0) }
                return entry
            }
            if flow == RetypeAttachedVolumeArguments.flow.name {
                // The copy has what is claimed.
                entry.charges = try charges(volume, ofType: RetypeAttachedVolumeArguments(parsing: arguments).typeID)
                return entry
            }
            if let host = try MoveState(parsing: state).claim { entry.claim = (host, volume.size, 1) }
            if flow == RetypeVolumeArguments.flow.name {
                entry.charges = try charges(volume, ofType: RetypeVolumeArguments(parsing: arguments).typeID)
            }
            return entry
        }
        return retyped + operating
    }

    static let projectsSQL = SQL(
        "SELECT DISTINCT project_id FROM volumes UNION SELECT project_id FROM quota_usages UNION SELECT project_id FROM backups")
    static let chargedBackupsSQL = SQL("SELECT count(*), coalesce(sum(size), 0) FROM backups WHERE project_id = ?")
    static let chargedSQL = SQL(
        """
        SELECT t.name, count(*), sum(v.size) FROM volumes v JOIN volume_types t ON t.id = v.volume_type_id
        WHERE v.project_id = ? AND v.consumes_quota = 1 GROUP BY t.name
        """)
    static let chargedSnapshotsSQL = SQL(
        """
        SELECT t.name, count(*), sum(s.size) FROM snapshots s JOIN volume_types t ON t.id = s.volume_type_id
        WHERE s.project_id = ? AND s.consumes_quota = 1 GROUP BY t.name
        """)
    /// Resources whose charge is wrong, with what is charged and what it should be.
    private static func drift(
        ofProject project: String, _ snapshotsChargeGigabytes: Bool, _ changes: [InFlight], in connection: any Connection
    ) throws -> [(resource: String, charged: Int, actual: Int)] {
        var actual = ["volumes": 0, "gigabytes": 0, "snapshots": 0]
        func add(_ charge: Charge, _ type: String) {
            for (resource, amount) in charge.entries(type) { actual[resource, default: 0] += amount }
        }
        for (type, count, size) in try connection.rows(chargedSQL, .text(project), map: { ($0.text(0), $0.int(1), $0.int(2)) }) {
            add(Charge(volumes: count, gigabytes: size), type)
        }
        for (type, count, size) in try connection.rows(chargedSnapshotsSQL, .text(project), map: { ($0.text(0), $0.int(1), $0.int(2)) }) {
            add(Charge(gigabytes: snapshotsChargeGigabytes ? size : 0, snapshots: count), type)
        }
        try connection.query(chargedBackupsSQL, [.text(project)]) { row in
            (actual["backups"], actual["backup_gigabytes"]) = (row.int(0), row.int(1))
            return false
        }
        for (owner, entries) in changes.flatMap(\.charges) where owner == project {
            for (resource, amount) in entries { actual[resource, default: 0] += amount }
        }
        let charged = try Quotas.usages(ofProject: project, in: connection)
        let names = Set(actual.keys).union(
            charged.keys.filter { key in Charge.names.contains { key.hasPrefix($0) } })
        var drift: [(resource: String, charged: Int, actual: Int)] = []
        for name in names.sorted() {
            let (was, should): (Int, Int) = (charged[name] ?? 0, actual[name] ?? 0)
            if was != should { drift.append((resource: name, charged: was, actual: should)) }
        }
        return drift
    }

    private static func quotas(_ snapshotsChargeGigabytes: Bool, in connection: any Connection) throws -> [Finding] {
        let changes = try inFlight(snapshotsChargeGigabytes, in: connection)
        return try connection.rows(projectsSQL) { $0.text(0) }.flatMap { project in
            try drift(ofProject: project, snapshotsChargeGigabytes, changes, in: connection).map { resource, charged, actual in
                Finding(.quota, project, "Project \(project) is charged \(charged) for \(resource), but has \(actual).") { tx in
                    let changes = try inFlight(snapshotsChargeGigabytes, in: tx)
                    guard
                        let now = try drift(ofProject: project, snapshotsChargeGigabytes, changes, in: tx).first(where: {
                            $0.resource == resource
                        })
                    else { return nil }
                    try Quotas.setUsage(now.actual, of: resource, project: project, in: tx)
                    return "the charge was set to \(now.actual)"
                }
            }
        }
    }

    static let poolHostsSQL = SQL("SELECT DISTINCT host FROM volumes WHERE host IS NOT NULL UNION SELECT host FROM pools")
    static let placedSQL = SQL("SELECT count(*), coalesce(sum(size), 0) FROM volumes WHERE host = ?")
    static let promisedSQL = SQL("SELECT volumes, allocated_gb FROM pools WHERE host = ?")

    private static func allocation(_ sql: SQL, _ host: String, in connection: any Connection) throws -> Pools.Allocation {
        var allocation = Pools.Allocation()
        try connection.query(sql, [.text(host)]) { row in
            (allocation.volumes, allocation.gigabytes) = (row.int(0), row.int(1))
            return false
        }
        return allocation
    }

    private static func drift(ofPool host: String, _ changes: [InFlight], in connection: any Connection) throws
        -> (promised: Pools.Allocation, actual: Pools.Allocation)?
    {
        let promised = try allocation(promisedSQL, host, in: connection)
        var actual = try allocation(placedSQL, host, in: connection)
        for change in changes {
            guard let claim = change.claim, claim.host == host else { continue }
            actual.gigabytes += claim.gigabytes
            actual.volumes += claim.volumes
        }
        return promised == actual ? nil : (promised: promised, actual: actual)
    }

    private static func pools(in connection: any Connection) throws -> [Finding] {
        let changes = try inFlight(false, in: connection)
        return try connection.rows(poolHostsSQL) { $0.text(0) }.compactMap { host in
            guard let (promised, actual) = try drift(ofPool: host, changes, in: connection) else { return nil }
            return Finding(
                .pool, host,
                "Of pool \(host), \(promised.gigabytes) GiB for \(promised.volumes) volumes are promised, but it holds \(actual.gigabytes) GiB for \(actual.volumes)."
            ) { tx in
                guard let now = try drift(ofPool: host, inFlight(false, in: tx), in: tx) else { return nil }
                try Pools.set(host, now.actual, in: tx)
                return "the promise was set to \(now.actual.gigabytes) GiB for \(now.actual.volumes) volumes"
            }
        }
    }

    // MARK: states

    /// Where a volume goes whose work ended without saying so.
    private static let ends: [VolumeStatus: VolumeStatus] = [
        .creating: .error, .deleting: .errorDeleting, .extending: .errorExtending, .reverting: .error, .retyping: .error,
        .managing: .errorManaging, .unmanaging: .errorUnmanaging, .restoringBackup: .errorRestoring, .downloading: .error,
        .uploading: .available,
    ]
    private static let isAlone = "NOT EXISTS (SELECT 1 FROM operations o WHERE o.resource_id = volumes.id AND o.finished_at IS NULL)"
    static let strandedSQL = SQL(
        """
        SELECT id, status FROM volumes WHERE status IN \(ends.keys.sorted { $0.rawValue < $1.rawValue }.sql) AND \(isAlone)
        """)
    static let isStrandedSQL = SQL("SELECT 1 FROM volumes WHERE id = ? AND status = ? AND \(isAlone)")

    private static func stranded(in connection: any Connection) throws -> [Finding] {
        let found = try connection.rows(strandedSQL) { ($0.text(0), VolumeStatus(rawValue: $0.text(1))) }
        // The Compute service is at work on what has a copy.
        return try found.filter { try $0.1 != .retyping || !AttachedMigration.hasCopy($0.0, in: connection) }.map { id, status in
            Finding(.stranded, id, "Volume \(id) is \(status), but no operation is at work on it.") { tx in
                guard let end = ends[status], let volume = try Volumes.lock(id, in: tx),
                    try tx.exists(isStrandedSQL, .text(id), status.bound),
                    try status != .retyping || !AttachedMigration.hasCopy(id, in: tx)
                else {
                    return nil
                }
                // It was only read, and may have been in use.
                if status == .uploading {
                    try Volumes.refreshAttachState(of: volume, hasEnded: true, in: tx)
                } else {
                    try Volumes.setStatus(end, of: volume, in: tx)
                }
                return "its status was set to \(try Volumes.find(id, in: tx)?.status.rawValue ?? "")"
            }
        }
    }

    /// The same of a snapshot.
    private static let snapshotEnds: [SnapshotStatus: SnapshotStatus] = [
        .creating: .error, .deleting: .errorDeleting, .restoring: .available,
    ]
    static let strandedSnapshotsSQL = SQL(
        """
        SELECT s.id, s.status FROM snapshots s WHERE s.status IN \(snapshotEnds.keys.sorted { $0.rawValue < $1.rawValue }.sql)
            AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.resource_id = s.volume_id AND o.finished_at IS NULL)
        """)

    private static func strandedSnapshots(in connection: any Connection) throws -> [Finding] {
        try connection.rows(strandedSnapshotsSQL) { ($0.text(0), SnapshotStatus(rawValue: $0.text(1))) }.map { id, status in
            Finding(.stranded, id, "Snapshot \(id) is \(status), but no operation is at work on it.") { tx in
                guard let end = snapshotEnds[status], let snapshot = try Snapshots.lock(id, in: tx), snapshot.status == status,
                    try tx.rows(strandedSnapshotsSQL, map: { $0.text(0) }).contains(id)
                else { return nil }
                try Snapshots.setStatus(end, of: snapshot, in: tx)
                return "its status was set to \(end)"
            }
        }
    }

    /// The same of a backup.
    private static let backupEnds: [BackupStatus: BackupStatus] = [.creating: .error, .deleting: .errorDeleting, .restoring: .available]
    private static let isUnclaimed = "NOT EXISTS (SELECT 1 FROM claims c WHERE c.resource = b.id)"
    static let strandedBackupsSQL = SQL(
        """
        SELECT b.id, b.status FROM backups b WHERE b.status IN \(backupEnds.keys.sorted { $0.rawValue < $1.rawValue }.sql)
            AND \(isUnclaimed)
        """)
    static let isStrandedBackupSQL = SQL("SELECT 1 FROM backups b WHERE b.id = ? AND b.status = ? AND \(isUnclaimed)")

    private static func strandedBackups(in connection: any Connection) throws -> [Finding] {
        try connection.rows(strandedBackupsSQL) { ($0.text(0), BackupStatus(rawValue: $0.text(1))) }.map { id, status in
            Finding(.stranded, id, "Backup \(id) is \(status), but no operation is at work on it.") { tx in
                guard let end = backupEnds[status], let backup = try Backups.lock(id, in: tx),
                    try tx.exists(isStrandedBackupSQL, .text(id), status.bound)
                else { return nil }
                try Backups.setStatus(end, of: backup, in: tx)
                return "its status was set to \(end)"
            }
        }
    }

    static let contradictingSQL = SQL(
        """
        SELECT v.id, v.status, v.attach_status, coalesce(v.updated_at, v.created_at) FROM volumes v
        WHERE (v.status IN \([VolumeStatus.inUse, .attaching, .detaching, .reserved].sql)
            AND NOT EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = v.id))
        OR (v.status = \(VolumeStatus.available.sql)
            AND EXISTS (SELECT 1 FROM attachments a WHERE a.volume_id = v.id AND a.attach_status = \(AttachmentStatus.attached.sql)))
        """)
    static let hasOperationSQL = SQL("SELECT 1 FROM operations WHERE resource_id = ? AND finished_at IS NULL LIMIT 1")
    static let oldReservationsSQL = SQL(
        """
        SELECT id, volume_id, created_at, instance_id, reserved_by FROM attachments
        WHERE attach_status = \(AttachmentStatus.reserved.sql) AND connector IS NULL AND created_at < ?
        """)

    private static func attachStates(_ reservationAge: Int, in connection: any Connection) throws -> [Finding] {
        let limit = Timestamp.format(connection.time - Double(reservationAge))
        var findings: [Finding] = []
        for (id, status, attachStatus, since) in try connection.rows(
            contradictingSQL, map: { ($0.text(0), VolumeStatus(rawValue: $0.text(1)), $0.text(2), $0.text(3)) })
        {
            // os-reserve leaves no attachment: it stands until it is old.
            let isReservation = status == .attaching || status == .detaching
            guard try !connection.exists(hasOperationSQL, .text(id)), !isReservation || since < limit else { continue }
            let what = status == .available ? "has an attachment" : "has no attachment"
            findings.append(
                Finding(
                    isReservation ? .reservation : .attachState, id,
                    "Volume \(id) is \(status) (\(attachStatus)) since \(since), but \(what)."
                ) { tx in
                    guard let now = try Volumes.lock(id, in: tx), now.status == status, try !tx.exists(hasOperationSQL, .text(id))
                    else {
                        return nil
                    }
                    try Volumes.refreshAttachState(of: now, in: tx)
                    return "its status was set to \(try Volumes.find(id, in: tx)?.status.rawValue ?? "")"
                })
        }
        for (id, volume, since, instance, owner) in try connection.rows(
            oldReservationsSQL, .text(limit),
            map: { ($0.text(0), $0.text(1), $0.text(2), $0.optionalText(3), $0.optionalText(4)) })
        {
            let holder = instance.map { "instance \($0)" } ?? owner.map { "user \($0)" } ?? "nobody known"
            findings.append(
                Finding(
                    .reservation, id,
                    "Attachment \(id) of volume \(volume) is reserved for \(holder) since \(since) and was never connected.",
                    advice: "If its owner is gone, delete it: an instance that is shelved keeps its reservations."))
        }
        return findings
    }

    // MARK: the operation log

    static let unfinishedSQL = SQL("SELECT id, flow, version, state, resource_id, created_at FROM operations WHERE finished_at IS NULL")

    private static func operations(_ knownFlows: Set<FlowID>, in connection: any Connection) throws -> [Finding] {
        try connection.rows(unfinishedSQL) {
            ($0.text(0), $0.text(1), $0.int(2), OperationState(rawValue: $0.text(3)), $0.text(4), $0.text(5))
        }.compactMap {
            id, flow, version, state, resource, since in
            if !knownFlows.contains(FlowID(flow, version: version)) {
                return Finding(
                    .operation, id,
                    "Operation \(id) (\(flow) version \(version), on \(resource), since \(since)) is unknown to this release.",
                    advice: "Run the release that wrote it until it is finished.")
            }
            guard state == .waiting, try Operations.canRun(id, in: connection) else { return nil }
            return Finding(.operation, id, "Operation \(id) (\(flow) on \(resource), since \(since)) waits, but nothing is before it.") {
                tx in
                guard try Operations.run(waiting: id, in: tx) else { return nil }
                return "it was started"
            }
        }
    }
}
