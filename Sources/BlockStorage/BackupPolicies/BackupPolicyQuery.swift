public import Database

/// A page of backup policies: those of a project and the public ones, or all.
public struct BackupPolicyQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case id, name, project_id, action, enabled, is_public, schedule, timezone, last_status, last_run_at, next_run_at, created_at
        case updated_at

        var column: AnyColumn { BackupPolicies.table.column(rawValue) }
        public var isBoolean: Bool { self == .enabled || self == .is_public }
    }

    /// An index gives all, or a project has few.
    public var isShort: Bool { isOrdered && filters.isEmpty && viewer == nil }

    /// Whose policies, with the public ones; nil: everybody's.
    private let viewer: String?
    public var filters: [(column: Column, match: ColumnMatch)] = []
    public var sort: [(column: Column, ascending: Bool)] = []
    public var limit: Int
    public var offset = 0
    public var marker: String?

    public init(projectID: String?, limit: Int) {
        viewer = projectID
        self.limit = limit
    }

    public func page(in connection: any Connection) throws -> [BackupPolicy] {
        // A policy that is not to be seen is no place to begin at.
        if let marker, let viewer {
            guard let found = try BackupPolicies.find(marker, in: connection), found.settings.isPublic || found.projectID == viewer else {
                throw BackupPolicies.notFound(marker)
            }
        }
        return try rows(in: connection) { try BackupPolicy($0) }
    }
}

extension BackupPolicyQuery: PageQuery {
    static var table: Table { BackupPolicies.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static func notFound(_ id: String) -> StorageError { BackupPolicies.notFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    var projectID: String? { nil }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        if let viewer { conditions.add("(y.project_id = ? OR y.is_public = 1)", .text(viewer)) }
        for filter in filters { conditions.add(filter.column.column.sql, filter.match, dialect) }
    }
}

/// A page of a policy's runs, newest first.
public struct BackupPolicyRunQuery: Sendable {
    public enum Column: String, Sendable, CaseIterable {
        case status, created_at

        var column: AnyColumn { BackupPolicyRuns.table.column(rawValue) }
    }

    public var isShort: Bool { filters.isEmpty }

    public var policyID = ""
    /// The project of whose volumes is told; nil: all.
    public var viewer: String?
    public var filters: [(column: Column, value: String)] = []
    public var limit: Int
    public var marker: String?

    public init(projectID: String?, limit: Int) { self.limit = limit }

    public func page(in connection: any Connection) throws -> [BackupPolicyRun] { try rows(in: connection) { BackupPolicyRun($0) } }
}

extension BackupPolicyRunQuery: PageQuery {
    static var table: Table { BackupPolicyRuns.table }
    static var newest: Column { .created_at }
    static let newestFirst = orderedByNewest()
    static var owner: AnyColumn { BackupPolicyRuns.table.policyID }
    static func notFound(_ id: String) -> StorageError { BackupPolicyRuns.notFound(id) }
    static func key(_ column: Column, ascending: Bool) -> KeysetPage.Key { KeysetPage.Key(column.column, ascending: ascending) }

    /// A run belongs to its policy as other rows to their project.
    var projectID: String? { policyID }
    public var sort: [(column: Column, ascending: Bool)] {
        get { [] }
        set {}
    }
    public var offset: Int {
        get { 0 }
        set {}
    }

    func filter(_ conditions: inout Conditions, _ dialect: any Dialect) {
        for filter in filters { conditions.add(filter.column.column, is: .text(filter.value)) }
    }
}
