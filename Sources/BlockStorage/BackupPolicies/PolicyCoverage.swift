import Database
import JSON

/// Which policy a volume has. For backups and for snapshots apart, and the first that says something decides: an assignment of the volume,
/// its property, an assignment of its type, the type's extra spec, an assignment of its project.
extension BackupPolicies {
    /// The property of a volume that names its policies, separated by commas.
    static let property = "backup_policy"
    /// The extra spec of a type that does.
    static let extraSpec = "backup:policy"

    struct CoveredVolume: Sendable {
        let id, projectID: String
    }

    /// What coverage depends on of a volume.
    private struct Candidate {
        let id, projectID, typeID, metadata: String
    }

    static let candidatesSQL = SQL { dialect in
        let (property, spec) = (dialect.member(of: "v.metadata"), dialect.member(of: "t.extra_specs"))
        return """
            SELECT v.id, v.project_id, v.volume_type_id, v.metadata FROM volumes v JOIN volume_types t ON t.id = v.volume_type_id
            WHERE (? = 1 OR v.project_id = ?) AND v.status <> \(VolumeStatus.deleting.sql)
                AND \(MigrationStatus.isNoTarget("v.migration_status", dialect))
                AND (v.id IN (\(assigned("volume")))
                OR v.volume_type_id IN (\(assigned("type"))) OR v.project_id IN (\(assigned("project")))
                OR \(property) IS NOT NULL OR \(spec) IS NOT NULL)
            ORDER BY v.created_at, v.id
            """
    }

    private static func assigned(_ target: String) -> String {
        "SELECT n.target_id FROM backup_policy_assignments n WHERE n.policy_id = ? AND n.target_type = '\(target)'"
    }

    /// The volumes that have the policy, oldest first. None is what an instance is moved to: that has its volume's type and properties.
    static func volumes(of policy: BackupPolicy, in connection: any Connection) throws -> [CoveredVolume] {
        let paths = [property, extraSpec].map { connection.dialect.memberPath($0) ?? .null }
        let candidates = try connection.rows(
            candidatesSQL, .bool(policy.settings.isPublic), .text(policy.projectID), .text(MigrationStatus.targets), .text(policy.id),
            .text(policy.id), .text(policy.id), paths[0], paths[1]
        ) { Candidate(id: $0.text(0), projectID: $0.text(1), typeID: $0.text(2), metadata: $0.text(3)) }
        var finder = Finder(action: policy.settings.action, connection: connection)
        return try candidates.filter { try finder.policy(of: $0) == policy.id }.map { CoveredVolume(id: $0.id, projectID: $0.projectID) }
    }

    /// The policy's id that a volume has for an action; nil: none.
    static func policyID(ofVolume id: String, for action: BackupPolicySettings.Action, in connection: any Connection) throws -> String? {
        guard let volume = try Volumes.find(id, in: connection), volume.migrationStatus?.isTarget != true else { return nil }
        var finder = Finder(action: action, connection: connection)
        return try finder.policy(
            of: Candidate(
                id: volume.id, projectID: volume.projectID, typeID: volume.volumeTypeID,
                metadata: JSON.object(try Volumes.map(.user, of: id, in: connection)).text))
    }

    /// Remembers what many volumes have in common.
    private struct Finder {
        let action: BackupPolicySettings.Action
        let connection: any Connection
        /// By type and project, and by project.
        private var ofTypes: [String: String?] = [:]
        private var ofNames: [String: BackupPolicy?] = [:]

        init(action: BackupPolicySettings.Action, connection: any Connection) {
            self.action = action
            self.connection = connection
        }

        mutating func policy(of volume: Candidate) throws -> String? {
            if let id = try assignment(.volume, volume.id, volume.projectID) { return id }
            if volume.metadata.utf8.count > 2, let names = try JSON(parsing: volume.metadata)[property]?.string,
                let id = try named(names, volume.projectID)
            {
                return id
            }
            let key = volume.typeID + " " + volume.projectID
            if let known = ofTypes[key] { return known }
            let type = try VolumeTypes.get(volume.typeID, in: connection)
            let found =
                try assignment(.type, volume.typeID, volume.projectID)
                ?? type.extraSpecs[extraSpec]?.string.flatMap { try named($0, volume.projectID) }
                ?? assignment(.project, volume.projectID, volume.projectID)
            ofTypes[key] = .some(found)
            return found
        }

        private func assignment(_ target: BackupPolicyAssignment.Target, _ id: String, _ project: String) throws -> String? {
            let t = BackupPolicyAssignments.table
            return try connection.first(
                of: t, t.targetID(id), t.targetType(target), t.projectID(project), t.action(action.rawValue)
            ) { $0[t.policyID] }
        }

        private mutating func named(_ names: String, _ project: String) throws -> String? {
            for name in names.split(separator: ",").prefix(8) {
                let name = String(name.drop { $0 == " " })
                let key = project + " " + name
                let policy = try ofNames[key] ?? BackupPolicies.named(name, in: project, connection)
                ofNames[key] = .some(policy)
                if let policy, policy.settings.action == action { return policy.id }
            }
            return nil
        }
    }
}
