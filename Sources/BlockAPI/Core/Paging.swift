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

    /// The same for a list with one order, which counts nothing.
    static let withoutOrder: Set<String> = ["limit", "marker", "all_tenants"]

    /// `most`: what one page may hold.
    init(_ request: APIRequest, most: Int) throws(HTTPError) {
        var limit = most
        if let text = request.query("limit") {
            guard let number = Self.integer(text) else { throw .badRequest("limit param must be an integer") }
            guard number >= 0 else { throw .badRequest("limit param must be positive") }
            limit = Int(min(Double(limit), number))
        }
        self.limit = limit
        if let text = request.query("offset") {
            guard let number = Self.integer(text) else { throw .badRequest("offset must be an integer") }
            guard number >= 0 else { throw .badRequest("offset must be >= 0") }
            guard number <= 2_147_483_647 else { throw .badRequest("offset must be <= 2147483647") }
            offset = Int(number)
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

    /// The columns asked for, each once: a key that comes again orders nothing. `column` knows the columns by their names; `invalid`
    /// says what is wrong with a key that none is, for lists that take as many keys as are given.
    func order<Column: Hashable & CaseIterable>(
        invalid: ((_ key: String) -> HTTPError)? = nil, _ column: (String) -> Column?
    ) throws(HTTPError) -> [(column: Column, ascending: Bool)] {
        guard invalid != nil || sort.count <= Column.allCases.count else {
            throw .badRequest(
                "Invalid input received: sort has \(sort.count) keys, more than the \(Column.allCases.count) that a list can be sorted by")
        }
        var result: [(column: Column, ascending: Bool)] = []
        for (key, ascending) in sort {
            guard let column = column(key) else { throw invalid?(key) ?? .badRequest("Invalid input received: Invalid sort key") }
            if !result.contains(where: { $0.column == column }) { result.append((column: column, ascending: ascending)) }
        }
        return result
    }

    /// All that one answer may hold.
    static func none(_ most: Int) -> Paging { Paging(limit: most, offset: 0, marker: nil, sort: []) }

    private init(limit: Int, offset: Int, marker: String?, sort: [(key: String, ascending: Bool)]) {
        self.limit = limit
        self.offset = offset
        self.marker = marker
        self.sort = sort
    }

    /// A whole number as Python reads it: blanks around it, a sign, underscores between digits, and of any size.
    private static func integer(_ text: String) -> Double? {
        let digits = text.trimmed
        if let plain = plain(digits) { return plain }
        guard digits.utf8.count <= 400, digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 || "+-_".utf8.contains($0) }),
            digits.utf8.first != UInt8(ascii: "_"), digits.utf8.last != UInt8(ascii: "_"), !digits.contains("__")
        else { return nil }
        return Double(String(decoding: digits.utf8.filter { $0 != UInt8(ascii: "_") }, as: UTF8.self))
    }

    /// A number as almost all clients write it: a few digits.
    private static func plain(_ text: String) -> Double? {
        guard (1...9).contains(text.utf8.count) else { return nil }
        var number = 0
        for byte in text.utf8 {
            guard byte >= 48 && byte <= 57 else { return nil }
            number = number * 10 + Int(byte - 48)
        }
        return Double(number)
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
            // An empty key is one that no list has.
            for item in sort.trimmed.split(separator: ",", omittingEmptySubsequences: false) {
                let parts = item.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                let way = parts.count > 1 && !parts[1].isEmpty ? String(parts[1]).trimmed : "desc"
                result.append((key: String(parts[0]).trimmed, ascending: try direction(way)))
            }
        } else if request.query("sort_key") != nil || request.query("sort_dir") != nil {
            let key = (request.query("sort_key") ?? "created_at").trimmed
            result.append((key: key, ascending: try direction((request.query("sort_dir") ?? "desc").trimmed)))
        }
        return result
    }
}
