public import Database

/// What a project has on a host.
public struct HostUsage: Sendable {
    public let project: String
    public private(set) var volumes = 0
    public private(set) var volumeGigabytes = 0
    public private(set) var snapshots = 0
    public private(set) var snapshotGigabytes = 0

    public init(project: String) { self.project = project }

    public mutating func add(_ other: HostUsage) {
        volumes += other.volumes
        volumeGigabytes += other.volumeGigabytes
        snapshots += other.snapshots
        snapshotGigabytes += other.snapshotGigabytes
    }

    static let volumesSQL = SQL {
        """
        SELECT v.project_id, count(*), sum(v.size) FROM volumes v WHERE \($0.isWithin("v.host", HostName.separators))
        GROUP BY v.project_id ORDER BY v.project_id
        """
    }
    static let snapshotsSQL = SQL {
        """
        SELECT v.project_id, count(*), sum(s.size) FROM snapshots s JOIN volumes v ON v.id = s.volume_id
        WHERE \($0.isWithin("v.host", HostName.separators)) GROUP BY v.project_id
        """
    }

    static let byHostSQL = SQL("SELECT host, count(*) FROM volumes WHERE host IS NOT NULL GROUP BY host")
    /// The number of volumes by backend (`node@backend`).
    public static func volumesByBackend(in connection: any Connection) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for (host, count) in try connection.rows(byHostSQL, map: { ($0.text(0), $0.int(1)) }) {
            counts[HostName.backend(of: host), default: 0] += count
        }
        return counts
    }

    static let volumesOnSQL = SQL { "SELECT count(*) FROM volumes v WHERE \($0.isWithin("v.host", HostName.poolSeparators))" }
    /// The number of volumes on a backend (`node@backend`) or in a pool.
    static func volumes(on host: String, in connection: any Connection) throws -> Int {
        var count = 0
        try connection.query(volumesOnSQL, connection.dialect.prefixValues(host, HostName.poolSeparators)) {
            count = $0.int(0)
            return false
        }
        return count
    }

    /// By project, for a node, a backend or a pool.
    public static func ofProjects(on host: String, in connection: any Connection) throws -> [HostUsage] {
        let host = connection.dialect.prefixValues(host, HostName.separators)
        var snapshots: [String: (Int, Int)] = [:]
        try connection.query(snapshotsSQL, host) { row in
            snapshots[row.text(0)] = (row.int(1), row.int(2))
            return true
        }
        var result: [HostUsage] = []
        try connection.query(volumesSQL, host) { row in
            var usage = HostUsage(project: row.text(0))
            (usage.volumes, usage.volumeGigabytes) = (row.int(1), row.int(2))
            (usage.snapshots, usage.snapshotGigabytes) = snapshots[usage.project] ?? (0, 0)
            result.append(usage)
            return true
        }
        return result
    }
}
