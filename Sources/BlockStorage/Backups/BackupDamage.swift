public import Database

/// Something in a store that is not what a backup wrote there.
public struct BackupDamage: Sendable, Equatable {
    /// Names the object.
    public let text: String
    /// The bytes of the volume that cannot be read, where they are known.
    public let range: Range<UInt64>?

    public init(_ text: String, range: Range<UInt64>? = nil) {
        self.text = text
        self.range = range
    }

    init(_ row: any Row) {
        let t = BackupDamageTable.table
        text = row[t.text]
        if let start = row[t.start], let length = row[t.length], start >= 0, length >= 0 {
            range = UInt64(start)..<UInt64(start) + UInt64(length)
        } else {
            range = nil
        }
    }
}

// What verifications found.
extension Backups {
    private static let damages = BackupDamageTable.table
    /// Damages of one backup that are kept.
    private static let mostDamages = 1000
    private static let unlisted = "more is damaged than is listed"

    static let damagesSQL = SQL(damages.select("WHERE d.backup_id = ? ORDER BY d.number"))
    /// What the last verification found; empty if the backup is good, or nobody has looked.
    public static func damages(of id: String, in connection: any Connection) throws -> [BackupDamage] {
        try connection.rows(damagesSQL, .text(id)) { BackupDamage($0) }
    }

    /// The bytes of the volume that cannot be read from backups: an increment on them stores these anew.
    ///
    /// - Parameter bases: what the increment rests on.
    /// - Throws: where a base cannot be read at all, or nobody has found out yet how much of it: what is made on top of it could not be
    ///   restored.
    public static func lostParts(of bases: some Sequence<Backup>, in connection: any Connection) throws -> [Range<UInt64>] {
        var lost: [Range<UInt64>] = []
        for base in bases {
            for damage in try damages(of: base.id, in: connection) {
                if let range = damage.range {
                    lost.append(range)
                } else if !base.standsAlone {
                    throw StorageError.invalidBackup(
                        "an increment cannot be made on the backup \(base.id), which is damaged: \(damage.text). Make a full backup.")
                }
            }
        }
        // A chain shares its damages.
        return lost.sorted { $0.lowerBound < $1.lowerBound }.reduce(into: []) { parts, part in
            if let last = parts.last, part.lowerBound <= last.upperBound {
                parts[parts.count - 1] = last.lowerBound..<max(last.upperBound, part.upperBound)
            } else {
                parts.append(part)
            }
        }
    }

    /// Records what a verification of the whole backup found. `endsReason`: why the backup failed before is so no more.
    public static func verified(
        _ backup: Locked<Backup>, _ found: [BackupDamage], endsReason: Bool = false, in tx: any Transaction
    ) throws {
        try tx.delete(from: damages, damages.backupID(backup.id))
        try add(found, to: backup, after: 0, in: tx)
        try tx.update(
            table, table.id(backup.id), set: table.verifyStatus(found.isEmpty ? .good : .damaged), table.verifiedAt(tx.now),
            table.failReason(endsReason ? nil : backup.failReason))
    }

    /// Marks backups that use what was found damaged elsewhere. Those that are gone are left out.
    ///
    /// - Parameter project: whose backups they are: what lies in one project's repository says nothing of others'. nil: of any.
    public static func markDamaged(
        _ ids: some Sequence<String>, of project: String? = nil, because found: [BackupDamage], in tx: any Transaction
    ) throws {
        // Locks are taken in the order of ids.
        for id in Set(ids).sorted() {
            guard let backup = try lock(id, in: tx), project == nil || backup.projectID == project else { continue }
            let known = try damages(of: id, in: tx)
            // In a repository the bytes may lie anywhere else in this one's volume; elsewhere a chain shares them, and all of it is of one volume.
            let shared = backup.value.standsAlone ? found.map { BackupDamage($0.text) } : found
            let new = shared.filter { damage in !known.contains { $0.text == damage.text } }
            try add(new, to: backup, after: known.count, in: tx)
            try tx.update(table, table.id(id), set: table.verifyStatus(.damaged), table.verifiedAt(tx.now))
        }
    }

    /// Adds as many as are kept. Verifications list no more either: of which bytes the rest is nobody knows.
    private static func add(_ found: [BackupDamage], to backup: Locked<Backup>, after count: Int, in tx: any Transaction) throws {
        let places = max(0, mostDamages - count)
        let kept = found.count < places ? found : found.prefix(max(0, places - 1)) + (places > 0 ? [BackupDamage(unlisted)] : [])
        for (index, damage) in kept.enumerated() {
            let range = damage.range.map { (start: Int(clamping: $0.lowerBound), length: Int(clamping: $0.upperBound - $0.lowerBound)) }
            try tx.insert(
                into: damages, damages.backupID(backup.id), damages.number(count + index), damages.text(damage.text),
                damages.start(range?.start), damages.length(range?.length))
        }
    }

    static let childrenSQL = SQL(table.select("WHERE b.parent_id = ? ORDER BY b.id"))
    /// The backups that rest on one of a chain, and are not its last.
    public static func relatives(of chain: [Backup], in connection: any Connection) throws -> [Backup] {
        guard let last = chain.last else { return [] }
        var found: [Backup] = []
        var seen = Set(chain.map(\.id))
        var waiting = chain.map(\.id)
        while let id = waiting.popLast() {
            for child in try connection.rows(childrenSQL, .text(id), map: { Backup($0) }) where seen.insert(child.id).inserted {
                found.append(child)
                waiting.append(child.id)
            }
        }
        return found + chain.filter { $0.id != last.id }
    }

    /// Those of them that are of a later moment than its last, the latest first, and can be rested on: a snapshot may be older than a backup.
    public static func newerRelatives(of chain: [Backup], in connection: any Connection) throws -> [Backup] {
        guard let last = chain.last, last.snapshotID != nil, let moment = last.dataTimestamp else { return [] }
        return try relatives(of: chain, in: connection)
            .filter { ($0.status == .available || $0.status == .restoring) && ($0.dataTimestamp ?? "") > moment }
            .sorted { ($0.dataTimestamp ?? "", $1.id) > ($1.dataTimestamp ?? "", $0.id) }
    }

    static let neighboursSQL = SQL(
        "SELECT id FROM backups WHERE project_id = ? AND store = ? AND format = 'repository' AND object_count > 0 AND id <> ? ORDER BY id")
    /// The ids of the other backups that are whole and lie in the same repository; none where a backup lies in no repository.
    public static func neighbours(of backup: Backup, in connection: any Connection) throws -> [String] {
        guard backup.format == "repository", let store = backup.store else { return [] }
        return try connection.rows(neighboursSQL, .text(backup.projectID), .text(store), .text(backup.id)) { $0.text(0) }
    }

    static let damagedSQL = SQL("SELECT count(*) FROM backups WHERE verify_status = \(VerifyStatus.damaged.sql)")
    /// How many backups are known to be damaged.
    public static func damagedCount(in connection: any Connection) throws -> Int {
        try connection.first(damagedSQL) { $0.int(0) } ?? 0
    }
}

/// How far the repositories of each store were scrubbed.
public enum BackupScrubs {
    private static let table = BackupScrubTable.table

    /// The part that was done last, and when; nil: none was.
    public static func last(_ store: String, in connection: any Connection) throws -> (part: Int, finishedAt: String)? {
        try connection.first(of: table, table.store(store)) { ($0[table.part], $0[table.finishedAt]) }
    }

    public static func finished(_ part: Int, of store: String, in tx: any Transaction) throws {
        guard try tx.update(table, table.store(store), set: table.part(part), table.finishedAt(tx.now)) == 0 else { return }
        try tx.insert(into: table, table.store(store), table.part(part), table.finishedAt(tx.now))
    }
}
