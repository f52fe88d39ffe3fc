import HTTPServer

/// `limit`, `offset`, `marker` and `sort` as every list has them.
struct Paging: Sendable {
    let limit: Int
    let offset: Int
    let marker: String?
    /// Column names and directions as asked.
    let sort: [(key: String, ascending: Bool)]

    /// Names that are no filters.
    static let names: Set<String> = ["limit", "offset", "marker", "sort", "sort_key", "sort_dir", "all_tenants", "with_count"]

    init(_ request: APIRequest) throws(HTTPError) {
        var limit = request.service.maxLimit
        if let text = request.query("limit") {
            guard let number = Int(text) else { throw .badRequest("limit param must be an integer") }
            guard number >= 0 else { throw .badRequest("limit param must be positive") }
            limit = min(limit, number)
        }
        self.limit = limit
        if let text = request.query("offset") {
            guard let number = Int(text) else { throw .badRequest("offset param must be an integer") }
            guard number >= 0 else { throw .badRequest("offset must be >= 0") }
            guard number <= 2_147_483_647 else { throw .badRequest("offset must be <= 2147483647") }
            offset = number
        } else {
            offset = 0
        }
        marker = request.query("marker")
        sort = try Self.sort(request)
        guard sort.isEmpty || offset <= Self.sortedOffset else {
            throw .badRequest("offset must be <= \(Self.sortedOffset) in a sorted list: go on from the last item by its id, as marker")
        }
    }

    /// All that is passed over in a sorted list must be kept until it is sorted.
    private static let sortedOffset = 100_000

    /// The columns asked for, each once: a key that comes again orders nothing. `column` knows the columns by their names.
    func order<Column: Hashable & CaseIterable>(_ column: (String) -> Column?) throws(HTTPError) -> [(column: Column, ascending: Bool)] {
        guard sort.count <= Column.allCases.count else {
            throw .badRequest(
                "Invalid input received: sort has \(sort.count) keys, more than the \(Column.allCases.count) that a list can be sorted by")
        }
        var result: [(column: Column, ascending: Bool)] = []
        for (key, ascending) in sort {
            guard let column = column(key) else { throw .badRequest("Invalid input received: Invalid sort key") }
            if !result.contains(where: { $0.column == column }) { result.append((column: column, ascending: ascending)) }
        }
        return result
    }

    private static func sort(_ request: APIRequest) throws(HTTPError) -> [(key: String, ascending: Bool)] {
        func direction(_ text: some StringProtocol) throws(HTTPError) -> Bool {
            switch text {
            case "asc": return true
            case "desc": return false
            default: throw .badRequest("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
            }
        }
        var result: [(key: String, ascending: Bool)] = []
        if let sort = request.query("sort") {
            if request.query("sort_key") != nil || request.query("sort_dir") != nil {
                throw .badRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
            }
            for item in sort.split(separator: ",") {
                let parts = item.split(separator: ":", maxSplits: 1).map { String($0).trimmed }
                guard let key = parts.first, !key.isEmpty else { throw .badRequest("Invalid input received: Invalid sort key") }
                result.append((key: key, ascending: parts.count > 1 ? try direction(parts[1]) : false))
            }
        } else if request.query("sort_key") != nil || request.query("sort_dir") != nil {
            let key = (request.query("sort_key") ?? "created_at").trimmed
            result.append((key: key, ascending: try direction((request.query("sort_dir") ?? "desc").trimmed)))
        }
        return result
    }
}
