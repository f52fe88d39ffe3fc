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

    init(_ row: any Row) {
        let t = EventTable.table
        id = row[t.id]
        time = row[t.time]
        kind = row[t.kind]
        resourceType = row[t.resourceType]
        resourceID = row[t.resourceID]
        projectID = row[t.projectID]
        operationID = row[t.operationID]
        requestID = row[t.requestID]
        data = row[t.data]
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
            scope.add("e.resource_id = ?", .text(resourceID))
        } else if let projectID {
            scope.add("e.project_id = ?", .text(projectID))
        }
        return scope
    }

    fileprivate func conditions(_ dialect: any Dialect) -> Conditions {
        var conditions = Conditions()
        if let resourceID { conditions.add("e.resource_id = ?", .text(resourceID)) }
        // The index that bounds the rows to look at is the resource's: the project's is not to be taken.
        if let projectID {
            conditions.add((resourceID == nil ? "e.project_id" : dialect.withoutIndex("e.project_id")) + " = ?", .text(projectID))
        }
        if let kind { conditions.add(dialect.isWithin("e.kind", ["."]), dialect.prefixValues(kind, ["."])) }
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

    static let table = EventTable.table
    static let afterSQL = SQL(table.select("WHERE e.id > ? ORDER BY e.id LIMIT ?"))
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
        scope.add("e.id > ? AND e.id <= ?", .integer(id), .integer(end))
        var seen = end
        try connection.query(
            text: "SELECT count(*), max(p.id) FROM (SELECT e.id FROM \(table.source)\(scope.whereClause) ORDER BY e.id LIMIT ?) p",
            scope.values + [.int(rows)]
        ) {
            if $0.int(0) == rows { seen = $0.integer(1) }
            return false
        }
        var conditions = filter.conditions(connection.dialect)
        conditions.add("e.id > ? AND e.id <= ?", .integer(id), .integer(seen))
        var found: [Event] = []
        try connection.query(
            text: table.select("") + conditions.whereClause + " ORDER BY e.id LIMIT ?", conditions.values + [.int(limit)]
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

    static let ofOperationSQL = SQL(table.select("WHERE e.resource_id = ? AND e.operation_id = ? ORDER BY e.id"))
    /// What happened to a resource by one operation, oldest first.
    public static func of(_ operation: Operation, in connection: any Connection) throws -> [Event] {
        try connection.rows(ofOperationSQL, .text(operation.resourceID), .text(operation.id)) { Event($0) }
    }

    static func append(_ kind: String, volume: Volume, caller: Caller, data: JSONObject = [:], in tx: any Transaction) throws {
        try append(
            kind, resourceType: "volume", resourceID: volume.id, projectID: volume.projectID, operationID: nil, requestID: caller.requestID,
            data: data, in: tx)
        try NotificationOutbox.noteEvent(kind, volume.id, caller: caller, in: tx)
    }

    public static func append(
        _ kind: String, resourceType: String, resourceID: String, projectID: String, operationID: String?, requestID: String,
        data: JSONObject = [:], in tx: any Transaction
    ) throws {
        try tx.insert(
            into: table, table.time(tx.now), table.kind(kind), table.resourceType(resourceType), table.resourceID(resourceID),
            table.projectID(projectID), table.operationID(operationID), table.requestID(requestID),
            table.data(data.isEmpty ? "{}" : JSON.object(data).text))
        tx.ring(.events)
    }

    static let ofResourceSQL = SQL("SELECT time, kind, data FROM events WHERE resource_id = ? ORDER BY id")
    /// What happened to a resource, oldest first.
    public static func ofResource(_ id: String, in connection: any Connection) throws -> [(time: String, kind: String, data: String)] {
        try connection.rows(ofResourceSQL, .text(id)) { ($0.text(0), $0.text(1), $0.text(2)) }
    }

    static let purgeSQL = SQL { $0.deleteFirst(from: "events", key: "id", where: "time < ?", orderBy: "id", limit: 10_000) }
    /// Removes a bounded number of events older than the time.
    public static func purge(before time: String, in tx: any Transaction) throws -> Int { try tx.run(purgeSQL, .text(time)) }
}
