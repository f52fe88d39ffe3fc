import BlockStorage
import Database
import HTTPServer
import JSON
import Policy

/// A page as it is asked for: filters, order and place, which the domain turns into SQL.
protocol ListQuery: Sendable {
    associatedtype Column: Hashable & CaseIterable & Sendable

    init(projectID: String?, limit: Int)
    var limit: Int { get }
    var marker: String? { get set }
    /// Rows to pass over; a query without it passes over none.
    var offset: Int { get set }
    /// A query that has but one order ignores it.
    var sort: [(column: Column, ascending: Bool)] { get set }
    /// Whether an index finds the page, so that it costs what its rows cost and no more.
    var isShort: Bool { get }
}

/// A list of the API, declared: what may be asked of it, and what it answers. What Cinder does differently for one list is a member of
/// its declaration.
struct List<Query: ListQuery, Item, Rows: Sendable>: Sendable {
    /// How a list reads the query's words that are no page, order or count.
    enum Reading: Sendable {
        /// As Cinder reads filters, by the list's rules.
        case rules(ListFilters.Rules)
        /// Every word goes to `filter`, as it is; `all_tenants` is a boolean, if it is one of them.
        case everything(known: [String], hasAllTenants: Bool)
        /// The same of those that are known; others are refused.
        case onlyKnown([String], forAdministrators: [String] = [], hasAllTenants: Bool)
    }

    /// What a page came to.
    struct Written {
        var count = 0
        var lastID = ""
    }

    let store: Store
    let view: View<Item>
    /// Below `/v3`, as links name it.
    let path: String
    let reading: Reading
    /// The member with the next page's link; nil: the list has none.
    var linksKey: StaticString?
    /// Bytes of a usual answer.
    var capacity: (short: Int, detail: Int) = (4096, 8192)
    /// Since which microversion there are pages, orders and filters at all.
    var pagedSince = 0
    /// Since which microversion `with_count` counts, and how; nil: it does not.
    var count: (since: Int, rows: @Sendable (Query, any Connection) throws -> Int)?
    /// Asked first, before the filters are looked at.
    var check: (@Sendable (APIRequest) throws -> Void)?
    /// What a filter asks of the query.
    let filter: @Sendable (ListFilters.Filter, APIRequest, _ wantsAllProjects: Bool, inout Query) throws -> Void
    /// A column to sort by, by its name; nil: the list has one order, and is gone through by the marker alone.
    var column: (@Sendable (_ name: String, APIRequest) -> Query.Column?)?
    /// What is said of a key that no column is, where a list has words of its own for it.
    var invalidSortKey: (@Sendable (_ key: String) -> HTTPError)?
    /// More that the query must hold for this request.
    var prepare: (@Sendable (APIRequest, inout Query) async throws -> Void)?
    /// Reads the page.
    let read: @Sendable (Query, any Connection) throws -> Rows
    /// Writes it, when all its rows are there.
    let write: @Sendable (Rows, ViewPlan<Item>, inout JSONWriter) -> Written

    /// The list as an operation. `at`: below `/v3`, where that is not the list's own path.
    func operation(
        _ name: String, at other: String? = nil, versions: ClosedRange<Int> = APIVersion.all, policies: [Policies.Rule], parts: Parts,
        summary: String
    ) -> APIOperation {
        let path = other ?? self.path
        return APIOperation(
            name, "GET", "/" + path, versions: versions, policies: policies, query: parameters,
            answers: .rendered { shape(parts, version: $0) }, summary: summary
        ) { request in try await answer(request, parts, path: path) }
    }

    private func answer(_ request: APIRequest, _ parts: Parts, path: String) async throws -> Rendered {
        let isPaged = request.version >= pagedSince
        let paging = isPaged ? try Paging(request, most: store.pageLimit) : .none(store.pageLimit)
        try check?(request)
        let (filters, wantsAll) = isPaged ? try filters(request) : ([], false)
        var query = Query(projectID: wantsAll ? nil : request.caller.projectID, limit: paging.limit)
        query.offset = paging.offset
        query.marker = paging.marker
        for filter in filters { try self.filter(filter, request, wantsAll, &query) }
        if let column { query.sort = try paging.order(invalid: invalidSortKey) { column($0, request) } }
        try await prepare?(request, &query)
        let counts = try count.map { try request.version >= $0.since && request.flag("with_count") } ?? false
        let asked = query
        return try await store.list(for: request.caller, isShort: query.isShort && !counts, rows: query.limit) { connection in
            let rows = asked.limit > 0 ? try read(asked, connection) : nil
            let total = counts ? try count?.rows(asked, connection) : nil
            let plan = view.plan(parts, for: request)
            return Rendered(capacity: parts == .summary ? capacity.short : capacity.detail) { writer in
                writer.beginObject()
                writer.key(view.plural)
                writer.beginArray()
                let written = rows.map { write($0, plan, &writer) } ?? Written()
                writer.endArray()
                if let linksKey, isPaged, asked.limit > 0, written.count >= asked.limit {
                    (plan.links ?? request.links).writeNext(linksKey, path: path, request: request.http, marker: written.lastID, &writer)
                }
                if let total { writer.member("count", total) }
                writer.endObject()
            }
        }
    }

    private func filters(_ request: APIRequest) throws(HTTPError) -> ([ListFilters.Filter], wantsAllProjects: Bool) {
        switch reading {
        case .rules(let rules):
            let filters = try ListFilters(request, rules, configured: store.resourceFilters())
            return (filters.filters, filters.wantsAllProjects)
        case .everything(_, let hasAllTenants):
            return (words(of: request), hasAllTenants ? try request.wantsAllProjects() : false)
        case .onlyKnown(let known, let forAdministrators, let hasAllTenants):
            let wantsAll = hasAllTenants ? try request.wantsAllProjects() : false
            let words = words(of: request)
            try FilterNames.check(
                words.map(\.name), known: request.identity.isAdmin ? known + forAdministrators : known, tellsKnown: true)
            return (words, wantsAll)
        }
    }

    /// The query's words that are no page, order or count.
    private func words(of request: APIRequest) -> [ListFilters.Filter] {
        let others = column == nil ? Paging.withoutOrder : Paging.names
        return request.http.lastOfEach.filter { !others.contains($0.name) }.map {
            ListFilters.Filter(name: $0.name, value: $0.value, isLike: false)
        }
    }

    // MARK: what the API's description says of it

    private func shape(_ parts: Parts, version: Int) -> Shape {
        var members = [Shape.Member("\(view.plural)", .list(view.shape(parts, version: version)))]
        if let linksKey, version >= pagedSince { members.append(Shape.Member("\(linksKey)", Shape.links, isOptional: true)) }
        if let count, version >= count.since { members.append(Shape.Member("count", .integer, isOptional: true)) }
        return .object(members)
    }

    private var parameters: [APIOperation.Parameter] {
        typealias Parameter = APIOperation.Parameter
        var result = [
            Parameter("limit", .integer, "The most that the page may hold.", since: pagedSince),
            Parameter("marker", .text, "The page begins behind this one: the id of the last page's last.", since: pagedSince),
        ]
        if column != nil {
            result.insert(Parameter("offset", .integer, "How many to pass over.", since: pagedSince), at: 1)
            result += [
                Parameter("sort", .text, "Keys to sort by, each with :asc or :desc behind it, separated by commas.", since: pagedSince),
                Parameter("sort_key", .text, "One key to sort by.", since: pagedSince),
                Parameter("sort_dir", .choice(["asc", "desc"]), "The direction of sort_key.", since: pagedSince),
            ]
        }
        let known: [String]
        switch reading {
        case .rules(let rules):
            known = ResourceFilters.standard.all.first { $0.resource == rules.resource }?.filters ?? []
            if rules.allTenants != .notKnown {
                result.append(Parameter("all_tenants", .text, "For administrators: of all projects."))
            }
        case .everything(let names, let hasAllTenants), .onlyKnown(let names, _, let hasAllTenants):
            known = names
            if hasAllTenants { result.append(Parameter("all_tenants", .text, "For administrators: of all projects.")) }
        }
        if let count { result.append(Parameter("with_count", .text, "Whether to say how many there are.", since: count.since)) }
        return result + known.map { Parameter($0, .text, "Only those of this \($0.replacing("_", with: " ")).", since: pagedSince) }
    }
}

extension List where Rows == [Item] {
    /// Writes rows that the query gives as values.
    static func each(_ id: @escaping @Sendable (Item) -> String) -> @Sendable (Rows, ViewPlan<Item>, inout JSONWriter) -> Written {
        { items, plan, writer in
            for item in items { plan.write(item, &writer) }
            return Written(count: items.count, lastID: items.last.map(id) ?? "")
        }
    }
}
