import BlockStorage
import JSON

/// Limits of a project or a class as clients see them: a member for each resource that is limited, those of types among them.
struct QuotaSet: Sendable {
    let entries: [Quotas.Entry]
    /// Of the project or class; answers to changes leave it out.
    var id: String?
    var showsUsage = false

    static func answer(_ member: StaticString) -> Reply<QuotaSet> {
        let usage = Shape.object([
            Shape.Member("limit", .integer), Shape.Member("in_use", .integer), Shape.Member("reserved", .integer),
        ])
        return .written(.of("\(member)", .map(.either([.integer, usage, .text])))) { set, _, writer in
            writer.beginObject()
            writer.key(member)
            writer.beginObject()
            for entry in set.entries {
                writer.key(entry.resource)
                if set.showsUsage {
                    writer.beginObject()
                    writer.member("limit", entry.limit)
                    writer.member("in_use", entry.inUse)
                    writer.member("reserved", 0)
                    writer.endObject()
                } else {
                    writer.integer(Int64(entry.limit))
                }
            }
            if let id = set.id { writer.member("id", id) }
            writer.endObject()
            writer.endObject()
        }
    }
}

/// What `/limits` says of a project.
struct ProjectLimits: Sendable {
    let entries: [Quotas.Entry]

    private static let members: [(name: StaticString, resource: String, isUsage: Bool)] = [
        ("maxTotalVolumes", "volumes", false), ("maxTotalSnapshots", "snapshots", false), ("maxTotalVolumeGigabytes", "gigabytes", false),
        ("maxTotalBackups", "backups", false), ("maxTotalBackupGigabytes", "backup_gigabytes", false),
        ("totalVolumesUsed", "volumes", true), ("totalGigabytesUsed", "gigabytes", true), ("totalSnapshotsUsed", "snapshots", true),
        ("totalBackupsUsed", "backups", true), ("totalBackupGigabytesUsed", "backup_gigabytes", true),
    ]

    static let view = View<ProjectLimits>(
        "limits", "limits",
        [
            // Rates of requests are not limited.
            .written("rate", .list(.any)) { _, _, writer in
                writer.beginArray()
                writer.endArray()
            },
            .written("absolute", .object(members.map { Shape.Member("\($0.name)", .integer) })) { limits, _, writer in
                writer.beginObject()
                for (name, resource, isUsage) in members {
                    let entry = limits.entries.first { $0.resource == resource }
                    writer.member(name, isUsage ? entry?.inUse ?? 0 : entry?.limit ?? -1)
                }
                writer.endObject()
            },
        ])
}
