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

    private static let under = "(v.host = ?1 OR (v.host > ?1 || '@' AND v.host < ?1 || 'A') OR (v.host > ?1 || '#' AND v.host < ?1 || '$'))"
    static let volumesSQL = SQL(
        "SELECT v.project_id, count(*), sum(v.size) FROM volumes v WHERE \(under) GROUP BY v.project_id ORDER BY v.project_id")
    static let snapshotsSQL = SQL(
        "SELECT v.project_id, count(*), sum(s.size) FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE \(under) GROUP BY v.project_id"
    )

    static let byHostSQL = SQL("SELECT host, count(*) FROM volumes WHERE host IS NOT NULL GROUP BY host")
    /// The number of volumes by backend (`node@backend`).
    public static func volumesByBackend(in connection: any Connection) throws -> [String: Int] {
        var counts: [String: Int] = [:]
        for (host, count) in try connection.rows(byHostSQL, map: { ($0.text(0), $0.int(1)) }) {
            counts[HostName.backend(of: host), default: 0] += count
        }
        return counts
    }

    /// By project, for a node, a backend or a pool.
    public static func ofProjects(on host: String, in connection: any Connection) throws -> [HostUsage] {
        let snapshots = Dictionary(
            try connection.rows(snapshotsSQL, .text(host)) { ($0.text(0), ($0.int(1), $0.int(2))) }, uniquingKeysWith: { $1 })
        return try connection.rows(volumesSQL, .text(host)) { row in
            var usage = HostUsage(project: row.text(0))
            (usage.volumes, usage.volumeGigabytes) = (row.int(1), row.int(2))
            (usage.snapshots, usage.snapshotGigabytes) = snapshots[usage.project] ?? (0, 0)
            return usage
        }
    }
}
