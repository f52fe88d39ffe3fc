public import Database
import JSON
import Primitives

/// What a policy is for.
public struct BackupPolicyAssignment: Sendable {
    public struct Target: Status {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        public static let volume = Self(rawValue: "volume"), type = Self(rawValue: "type"), project = Self(rawValue: "project")
    }

    public let id, policyID, projectID, targetID: String
    public let target: Target
    public let createdAt: String

    init(_ row: any Row) {
        let t = BackupPolicyAssignmentTable.table
        id = row[t.id]
        policyID = row[t.policyID]
        projectID = row[t.projectID]
        target = row[t.targetType]
        targetID = row[t.targetID]
        createdAt = row[t.createdAt]
    }
}

/// Statements about assignments.
public enum BackupPolicyAssignments {
    static let table = BackupPolicyAssignmentTable.table

    private static func notFound(_ id: String) -> StorageError {
        StorageError(.notFound, "Assignment \(id) of a backup policy could not be found.")
    }

    static let ofPolicySQL = SQL(
        table.select("WHERE n.policy_id = ? AND (n.project_id = ? OR ? = 1) ORDER BY n.created_at, n.id LIMIT \(mostOfPolicy)"))
    /// So many assignments a policy may have: with more a type or a project is meant.
    static let mostOfPolicy = 10_000
    static let countSQL = SQL("SELECT count(*) FROM backup_policy_assignments WHERE policy_id = ?")

    /// Those of a policy that are of the caller's project, oldest first; an administrator sees all.
    public static func of(_ policyID: String, for caller: Caller, in connection: any Connection) throws -> [BackupPolicyAssignment] {
        _ = try BackupPolicies.get(policyID, for: caller, in: connection)
        return try connection.rows(ofPolicySQL, .text(policyID), .text(caller.projectID), .bool(caller.isAdmin)) {
            BackupPolicyAssignment($0)
        }
    }

    /// Gives the policy a volume, or the volumes of a type or all volumes of a project. `targetID`: nil is the caller's own project.
    public static func create(
        _ policyID: String, _ target: BackupPolicyAssignment.Target, _ targetID: String, caller: Caller, in tx: any Transaction
    ) throws -> BackupPolicyAssignment {
        guard let policy = try BackupPolicies.lock(policyID, in: tx), policy.value.isVisible(to: caller) else {
            throw BackupPolicies.notFound(policyID)
        }
        var project = caller.projectID
        switch target {
        case .volume: project = try Volumes.lock(targetID, for: caller, in: tx).projectID
        case .type: _ = try VolumeTypes.get(targetID, for: caller, in: tx)
        default:
            guard caller.isAdmin || targetID == project else { throw StorageError(.notFound, "Project \(targetID) could not be found.") }
            project = targetID
        }
        guard !project.isEmpty else { throw StorageError.invalidInput("volumes belong to a project, and the token is for none.") }
        guard policy.settings.isPublic || policy.projectID == project else {
            throw StorageError(
                .invalid,
                "Invalid input received: the policy is for the volumes of project \(policy.projectID) only, since it is not public.")
        }
        let t = table
        let action = policy.settings.action.rawValue
        let taken = try tx.first(of: t, t.targetID(targetID), t.targetType(target), t.projectID(project), t.action(action)) {
            BackupPolicyAssignment($0)
        }
        if let taken {
            throw StorageError(
                .conflict, "The \(target) \(targetID) has a policy for \(action)s already, \(taken.policyID), by assignment \(taken.id).")
        }
        let count = try tx.first(countSQL, .text(policyID)) { $0.int(0) } ?? 0
        guard count < mostOfPolicy else {
            throw StorageError(.conflict, "The policy has \(count) assignments, the most that it may have: assign a type or a project.")
        }
        let id = UUID.random()
        try tx.insert(
            into: t, t.id(id), t.policyID(policyID), t.action(action), t.projectID(project), t.targetType(target), t.targetID(targetID),
            t.createdAt(tx.now))
        try append("backup_policy.assign", policy.id, of: project, target, targetID, caller: caller, in: tx)
        guard let made = try tx.first(of: t, t.id(id), map: { BackupPolicyAssignment($0) }) else { throw notFound(id) }
        return made
    }

    public static func delete(_ id: String, of policyID: String, caller: Caller, in tx: any Transaction) throws {
        guard let policy = try BackupPolicies.lock(policyID, in: tx), policy.value.isVisible(to: caller) else {
            throw BackupPolicies.notFound(policyID)
        }
        guard let found = try tx.first(of: table, table.id(id), table.policyID(policyID), map: { BackupPolicyAssignment($0) }),
            caller.isAdmin || found.projectID == caller.projectID
        else { throw notFound(id) }
        try tx.delete(from: table, table.id(id))
        try append("backup_policy.unassign", policy.id, of: found.projectID, found.target, found.targetID, caller: caller, in: tx)
    }

    /// An event of the project whose volumes are meant: whose the policy is sees nothing of others'.
    private static func append(
        _ kind: String, _ policyID: String, of project: String, _ target: BackupPolicyAssignment.Target, _ targetID: String, caller: Caller,
        in tx: any Transaction
    ) throws {
        try Events.append(
            kind, resourceType: "backup_policy", resourceID: policyID, projectID: project, operationID: nil, requestID: caller.requestID,
            data: ["target_type": .string(target.rawValue), "target_id": .string(targetID)], in: tx)
    }

    /// None outlives what it names.
    static func removeAll(of target: BackupPolicyAssignment.Target, _ id: String, in tx: any Transaction) throws {
        try tx.delete(from: table, table.targetID(id), table.targetType(target))
    }
}
