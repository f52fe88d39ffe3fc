public import Database
public import JSON
import Primitives

/// Something that happened.
public struct Event: Sendable {
    public let id: Int64
    public let time, kind, resourceType, resourceID, projectID: String
    public let operationID: String?
    public let requestID: String
    /// JSON text.
    public let data: String

    static let columns = "id, time, kind, resource_type, resource_id, project_id, operation_id, request_id, data"

    init(_ row: any Row) {
        id = row.integer(0)
        time = row.text(1)
        kind = row.text(2)
        resourceType = row.text(3)
        resourceID = row.text(4)
        projectID = row.text(5)
        operationID = row.optionalText(6)
        requestID = row.text(7)
        data = row.text(8)
    }
}

/// Which events somebody wants to hear of.
public struct EventFilter: Sendable {
    /// nil: of all projects.
    public var projectID: String?
    public var resourceID: String?
    /// A kind, or its beginning up to a dot.
    public var kind: String?

    public init(projectID: String?, resourceID: String?, kind: String?) {
        self.projectID = projectID
        self.resourceID = resourceID
        self.kind = kind
    }

    public func admits(_ event: Event) -> Bool {
        (projectID.map { $0.utf8.elementsEqual(event.projectID.utf8) } ?? true)
            && (resourceID.map { $0.utf8.elementsEqual(event.resourceID.utf8) } ?? true)
            && (kind.map {
                event.kind.utf8.starts(with: $0.utf8) && [nil, UInt8(ascii: ".")].contains(event.kind.utf8.dropFirst($0.utf8.count).first)
            } ?? true)
    }

    /// What an index finds of it.
    fileprivate var scope: Conditions {
        var scope = Conditions()
        if let resourceID {
            scope.add("resource_id = ?", .text(resourceID))
        } else if let projectID {
            scope.add("project_id = ?", .text(projectID))
        }
        return scope
    }

    fileprivate var conditions: Conditions {
        var conditions = Conditions()
        if let resourceID { conditions.add("resource_id = ?", .text(resourceID)) }
        // The index that bounds the rows to look at is the resource's: the sign keeps the project's from being taken.
        if let projectID { conditions.add(resourceID == nil ? "project_id = ?" : "+project_id = ?", .text(projectID)) }
        if let kind { conditions.add("(kind = ? OR (kind > ? AND kind < ?))", .text(kind), .text(kind + "."), .text(kind + "/")) }
        return conditions
    }
}

extension Topic {
    /// The history has grown.
    public static let events = Topic("events")
}

/// The append-only history.
public enum Events {
    /// How the kind ends of what says that storage was left to itself.
    public static let leftSuffix = ".left"

    static let afterSQL = SQL("SELECT \(Event.columns) FROM events WHERE id > ? ORDER BY id LIMIT ?")
    /// Events behind the one of that number, oldest first.
    public static func after(_ id: Int64, limit: Int, in connection: any Connection) throws -> [Event] {
        try connection.rows(afterSQL, .integer(id), .int(limit)) { Event($0) }
    }

    /// The events of the filter behind the one of that number and up to `end`, oldest first, at most `limit`; and up to which event
    /// was looked, at most `rows` of them.
    public static func search(
        _ filter: EventFilter, after id: Int64, upTo end: Int64, rows: Int, limit: Int, in connection: any Connection
    ) throws -> (found: [Event], seen: Int64) {
        var scope = filter.scope
        scope.add("id > ? AND id <= ?", .integer(id), .integer(end))
        var seen = end
        try connection.query(
            text: "SELECT count(*), max(id) FROM (SELECT id FROM events\(scope.whereClause) ORDER BY id LIMIT ?)",
            scope.values + [.int(rows)]
        ) {
            if $0.int(0) == rows { seen = $0.integer(1) }
            return false
        }
        var conditions = filter.conditions
        conditions.add("id > ? AND id <= ?", .integer(id), .integer(seen))
        var found: [Event] = []
        try connection.query(
            text: "SELECT \(Event.columns) FROM events\(conditions.whereClause) ORDER BY id LIMIT ?", conditions.values + [.int(limit)]
        ) {
            found.append(Event($0))
            return true
        }
        if found.count == limit, let last = found.last { seen = last.id }
        return (found, seen)
    }

    static let lastSQL = SQL("SELECT max(id) FROM events")
    /// The number of the latest event; 0 if there is none.
    public static func last(in connection: any Connection) throws -> Int64 { try connection.first(lastSQL) { $0.integer(0) } ?? 0 }

    static let ofOperationSQL = SQL("SELECT \(Event.columns) FROM events WHERE resource_id = ? AND operation_id = ? ORDER BY id")
    /// What happened to a resource by one operation, oldest first.
    public static func of(_ operation: Operation, in connection: any Connection) throws -> [Event] {
        try connection.rows(ofOperationSQL, .text(operation.resourceID), .text(operation.id)) { Event($0) }
    }

    static let insert = SQL(
        """
        INSERT INTO events (time, kind, resource_type, resource_id, project_id, operation_id, request_id, data)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """)

    static func append(_ kind: String, volume: Volume, caller: Caller, data: JSONObject = [:], in tx: any Transaction) throws {
        try append(
            kind, resourceType: "volume", resourceID: volume.id, projectID: volume.projectID, operationID: nil, requestID: caller.requestID,
            data: data, in: tx)
    }

    public static func append(
        _ kind: String, resourceType: String, resourceID: String, projectID: String, operationID: String?, requestID: String,
        data: JSONObject = [:], in tx: any Transaction
    ) throws {
        try tx.run(
            insert, .text(tx.now), .text(kind), .text(resourceType), .text(resourceID), .text(projectID), .string(operationID),
            .text(requestID), .text(data.isEmpty ? "{}" : JSON.object(data).text))
        tx.ring(.events)
    }

    static let ofResourceSQL = SQL("SELECT time, kind, data FROM events WHERE resource_id = ? ORDER BY id")
    /// What happened to a resource, oldest first.
    public static func ofResource(_ id: String, in connection: any Connection) throws -> [(time: String, kind: String, data: String)] {
        try connection.rows(ofResourceSQL, .text(id)) { ($0.text(0), $0.text(1), $0.text(2)) }
    }

    static let purgeSQL = SQL("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE time < ? ORDER BY id LIMIT 10000)")
    /// Removes a bounded number of events older than the time.
    public static func purge(before time: String, in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(time)) }
}
