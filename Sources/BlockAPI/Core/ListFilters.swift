import BlockStorage
import Database
import HTTPServer
import Primitives

/// The filters of a list's query, as Cinder reads them: which of them count for whom, and what their values mean. A list declares
/// its rules as data (`reading: .rules`).
struct ListFilters {
    /// How a list reads `all_tenants`. `boolean` and `flag` refuse another value, in other words.
    enum AllTenants: Sendable { case boolean, flag, lenient, presence, notKnown }

    struct Rules: Sendable {
        /// As `/resource_filters` names it.
        let resource: String
        let allTenants: AllTenants
        /// Since which microversion members are refused what is not configured, instead of having it passed over.
        var refusesSince = 31
        /// What members could filter by before.
        var older = Older.whatever
        /// Filters that only came with a microversion, as far as members and administrators were not told so.
        var since: [String: Int] = [:]
        /// Columns under names that changed with `refusesSince`.
        var renames: [String: String] = [:]
        /// Since which microversion `with_count` is no filter.
        var countsSince: Int?
    }

    /// What members could filter by before lists refused what is not configured.
    enum Older: Sendable {
        /// By what the table has.
        case whatever
        /// By what is configured, as it stands there.
        case configured
        case only(Set<String>)
    }

    struct Filter: Sendable {
        let name: String
        let value: String
        /// Asked for by `name~`.
        let isLike: Bool
    }

    let filters: [Filter]
    /// Whether every project's are asked for, by somebody who may.
    let wantsAllProjects: Bool

    private static let paging: Set<String> = ["limit", "offset", "marker", "sort", "sort_key", "sort_dir"]

    init(_ request: APIRequest, _ rules: Rules, configured: ResourceFilters) throws(HTTPError) {
        if request.http.rawQuery.isEmpty {
            filters = []
            wantsAllProjects = false
            return
        }
        let isAdmin = request.identity.isAdmin
        let refuses = request.version >= rules.refusesSince
        let counts = rules.countsSince.map { request.version >= $0 } ?? false
        func isAllowed(_ name: String) -> Bool {
            if isAdmin { return true }
            if refuses { return configured.allows(name, of: rules.resource, version: request.version) }
            switch rules.older {
            case .whatever: return true
            case .configured: return configured.of(rules.resource).contains(name)
            case .only(let names): return names.contains(name)
            }
        }
        var found: [Filter] = []
        var refused: [String] = []
        var allTenants: String?
        for (name, value) in request.http.lastOfEach where !Self.paging.contains(name) && !(counts && name == "with_count") {
            guard name.utf8.allSatisfy({ $0 < 128 }) || !refuses else {
                throw .badRequest("Filter keys can only contain ASCII characters.")
            }
            // Clients send it always: members are not refused for it.
            if name == "all_tenants", !isAdmin || rules.allTenants != .notKnown {
                allTenants = value
                continue
            }
            guard isAllowed(name) else {
                if refuses { refused.append(name) }
                continue
            }
            if !refuses, let first = rules.since[name], request.version < first { continue }
            let isLike = name.utf8.last == UInt8(ascii: "~")
            let bare = isLike ? String(name.dropLast()) : name
            found.append(Filter(name: refuses ? rules.renames[bare] ?? bare : bare, value: value, isLike: isLike))
        }
        try FilterNames.refuse(refused)
        filters = found
        wantsAllProjects = isAdmin ? try Self.wantsAll(allTenants, rules.allTenants) : false
    }

    private static func wantsAll(_ value: String?, _ reading: AllTenants) throws(HTTPError) -> Bool {
        guard let value else { return false }
        switch reading {
        case .boolean, .flag:
            let text = PythonLiteral(value).flatMap(\.scalarText) ?? value
            guard let isWanted = PythonText.bool(text) else {
                throw reading == .flag
                    ? .badRequest("all_tenants must be a boolean, got '\(text)'.") : APIRequest.noBoolean("all_tenants", text)
            }
            return isWanted
        case .lenient: return PythonText.bool(value.trimmed) ?? false
        case .presence: return true
        case .notKnown: return false
        }
    }

    // MARK: what values mean

    /// `readsLiterals`: the value may be written as Python does.
    static func match(_ filter: Filter, isInteger: Bool, readsLiterals: Bool) throws(HTTPError) -> ColumnMatch {
        let value = readsLiterals ? PythonLiteral(filter.value) ?? .text(filter.value) : .text(filter.value)
        if filter.isLike {
            switch value {
            case .text(let text): return .like(text)
            case .integer, .bool: return .like(value.scalarText ?? "")
            // What is no text asks for nothing.
            default: return .everything
            }
        }
        switch value {
        case .none: return .null
        case .items(let items):
            guard items.count <= mostItems else {
                throw .badRequest("Invalid input received: \(filter.name) has \(items.count) values, more than \(mostItems)")
            }
            let values = items.compactMap { column($0, isInteger: isInteger) }
            return values.isEmpty ? .nothing : .oneOf(values)
        default: return column(value, isInteger: isInteger).map { .equals($0) } ?? .nothing
        }
    }

    /// What a client may ask for at once.
    private static let mostItems = 1000
    private static let mostPairs = 64

    /// nil: no such column can hold it.
    private static func column(_ value: PythonLiteral, isInteger: Bool) -> Value? {
        guard isInteger else { return value.columnText.map { .text($0) } }
        switch value {
        case .integer(let number): return .integer(number)
        case .bool(let value): return .bool(value)
        case .real(let number): return Int64(exactly: number).map { .integer($0) }
        case .text(let text):
            // As databases compare a number with a text.
            let trimmed = text.trimmed
            return Int64(trimmed).map { .integer($0) } ?? Double(trimmed).flatMap { Int64(exactly: $0) }.map { .integer($0) }
        default: return nil
        }
    }

    /// The pairs that a map must hold; nil for what is no dictionary.
    static func pairs(_ filter: Filter) throws(HTTPError) -> [(key: String, value: String?)]? {
        guard let pairs = PythonLiteral.dictionary(filter.value) else { return nil }
        guard pairs.count <= mostPairs else {
            throw .badRequest("Invalid input received: \(filter.name) has \(pairs.count) pairs, more than \(mostPairs)")
        }
        return pairs.map { (key: $0.key.columnText ?? "", value: $0.value.columnText) }
    }

    private static let comparisons = ["gt": ">", "gte": ">=", "eq": "=", "neq": "<>", "lt": "<", "lte": "<="]

    /// `gt:2020-01-01T00:00:00,lt:...`; of one comparison the last counts.
    static func times(_ filter: Filter) throws(HTTPError) -> [(comparison: String, time: String)] {
        var result: [(comparison: String, time: String)] = []
        let items = filter.value.split(separator: ",", omittingEmptySubsequences: false)
        guard items.count <= comparisons.count else {
            throw .badRequest("Invalid input received: \(filter.name) has \(items.count) comparisons, more than \(comparisons.count)")
        }
        for item in items {
            let parts = item.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let comparison = comparisons[String(parts[0])] else { throw .badRequest("Invalid \(parts[0]) operator") }
            let time = parts.count > 1 ? parts[1] : parts[0]
            guard let seconds = Timestamp.read(String(time)) else { throw .badRequest("Invalid \(time) value") }
            result.removeAll { $0.comparison == comparison }
            result.append((comparison: comparison, time: Timestamp.format(seconds)))
        }
        return result
    }
}

extension HTTPRequest {
    /// The query's items, each name once, with its last value, in the order of the first.
    var lastOfEach: [(name: String, value: String)] {
        let query = query
        let isEachOnce = query.indices.allSatisfy { index in !query[..<index].contains { $0.name == query[index].name } }
        if isEachOnce { return query }
        var result: [(name: String, value: String)] = []
        var places: [String: Int] = [:]
        for item in query {
            if let place = places[item.name] {
                result[place].value = item.value
            } else {
                places[item.name] = result.count
                result.append(item)
            }
        }
        return result
    }
}

extension APIRequest {
    static func noBoolean(_ name: String, _ value: String) -> HTTPError { .badRequest("Value '\(value)' for '\(name)' is not a boolean.") }

    /// A flag of the query; false if it is not there.
    func flag(_ name: String) throws(HTTPError) -> Bool {
        guard let value = query(name) else { return false }
        return try Self.flag(name, value)
    }

    static func flag(_ name: String, _ value: String) throws(HTTPError) -> Bool {
        guard let flag = PythonText.bool(value) else { throw noBoolean(name, value) }
        return flag
    }
}

extension PythonLiteral {
    /// `str(value)` of what is no container.
    var scalarText: String? {
        switch self {
        case .none: "None"
        case .bool(let value): value ? "True" : "False"
        case .integer(let value): String(value)
        case .real(let value): String(value)
        case .text(let text): text
        case .items, .dictionary: nil
        }
    }

    /// As a database compares it with a text; nil: with none.
    var columnText: String? {
        switch self {
        case .bool(let value): value ? "1" : "0"
        case .integer, .real, .text: scalarText
        default: nil
        }
    }
}
