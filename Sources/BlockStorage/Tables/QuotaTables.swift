import Database

/// What each project has of each resource.
final class QuotaUsageTable: Table, @unchecked Sendable {
    static let table = QuotaUsageTable("quota_usages", "u").declared()
    let projectID = Column<String>("project_id"), resource = Column<String>("resource"), inUse = Column<Int>("in_use")
}

/// What a project may have, where it is not what its class may.
final class QuotaLimitTable: Table, @unchecked Sendable {
    static let table = QuotaLimitTable("quota_limits", "l").declared()
    let projectID = Column<String>("project_id"), resource = Column<String>("resource"), limit = Column<Int>("hard_limit")
}

/// What projects of a class may have, where it is not what is configured.
final class QuotaClassTable: Table, @unchecked Sendable {
    static let table = QuotaClassTable("quota_class_limits", "c").declared()
    let name = Column<String>("class_name"), resource = Column<String>("resource"), limit = Column<Int>("hard_limit")
}
