import Database
import HTTPServer
import JSON
import Policy

/// A resource as clients see it, declared once: the writer of answers, the schemas of the API's description and what tests check answers
/// against derive from its fields, which are written in their order.
final class View<Source>: Sendable {
    /// The member of an answer that holds one of them, and the one that holds several.
    let name, plural: StaticString
    /// What the API's description calls it.
    private let describedName: String
    let fields: [Field<Source>]

    /// What writing needs of each field, in trivial values: to copy them counts no references.
    fileprivate struct Cell: @unchecked Sendable {
        enum Place {
            case column(Int, ColumnStorage.Kind)
            /// One of `values`.
            case value(Unmanaged<FieldValue<Source>>)
        }

        let name: JSONKey
        let place: Place
    }
    fileprivate let cells: [Cell]
    private let values: [FieldValue<Source>]
    fileprivate let row: (@Sendable (Source) -> RowCells)?
    /// Sets of fields as bits, so that choosing among them takes no search.
    private let byVersion: [UInt64]
    private let byPart: [(part: Parts, fields: UInt64)]
    private let forAdministrators: UInt64
    fileprivate let withLinks: UInt64
    /// The fields that not every resource has, each with its condition, and all of them.
    fileprivate let conditions: [(field: UInt64, isMet: @Sendable (Source) -> Bool)]
    fileprivate let lengths: [(field: UInt64, column: Int, length: Int)]
    fileprivate let withCondition, withLength: UInt64
    /// The fields that a rule gives, and those that it takes away.
    private let byRule: [(rule: Policies.Rule, given: UInt64, taken: UInt64)]

    /// `describedAs`: what the API's description calls it, where that does not follow from the name. `row`: the row of a resource, for
    /// fields that are columns.
    init(
        _ name: StaticString, _ plural: StaticString, describedAs: String? = nil, row: (@Sendable (Source) -> RowCells)? = nil,
        _ fields: [Field<Source>]
    ) {
        precondition(fields.count <= 64, "a view has at most 64 fields")
        self.name = name
        self.plural = plural
        describedName =
            describedAs
            ?? "\(name)".split { $0 == "-" || $0 == "_" }.map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
        self.fields = fields
        var values: [FieldValue<Source>] = []
        cells = fields.map { field in
            switch field.content {
            case .column(let position, let kind): return Cell(name: JSONKey(field.name), place: .column(position, kind))
            case .value(let value):
                let held = FieldValue(value)
                values.append(held)
                return Cell(name: JSONKey(field.name), place: .value(.passUnretained(held)))
            }
        }
        self.values = values
        self.row = row
        precondition(row != nil || fields.allSatisfy { if case .column = $0.content { false } else { true } }, "columns need a row")
        func set(_ isIn: (Field<Source>) -> Bool) -> UInt64 {
            fields.indices.reduce(0) { isIn(fields[$1]) ? $0 | 1 << UInt64($1) : $0 }
        }
        byVersion = APIVersion.all.map { version in set { $0.versions.contains(version) } }
        byPart = Set(fields.map(\.part.rawValue)).map { raw in (Parts(rawValue: raw), set { $0.part.rawValue == raw }) }
        forAdministrators = set(\.isForAdministrators)
        withLinks = set { if case .value(.links) = $0.content { true } else { false } }
        conditions = fields.indices.compactMap { index in
            if case .holds(let isMet) = fields[index].condition { (1 << UInt64(index), isMet) } else { nil }
        }
        lengths = fields.indices.compactMap { index in
            if case .isLonger(let column, let length) = fields[index].condition { (1 << UInt64(index), column, length) } else { nil }
        }
        withCondition = conditions.reduce(0) { $0 | $1.field }
        withLength = lengths.reduce(0) { $0 | $1.field }
        var byRule: [(rule: Policies.Rule, given: UInt64, taken: UInt64)] = []
        for rule in fields.flatMap({ [$0.rule, $0.exceptRule] }).compactMap(\.self) where !byRule.contains(where: { $0.rule == rule }) {
            byRule.append((rule, set { $0.rule == rule }, set { $0.exceptRule == rule }))
        }
        self.byRule = byRule
    }

    /// What one request gets to see: microversion, rights and rules are asked once, however many resources follow.
    func plan(_ parts: Parts, for request: APIRequest) -> ViewPlan<Source> {
        var shown = byVersion[request.version] & fieldsOf(parts)
        if !request.identity.isAdmin { shown &= ~forAdministrators }
        for (rule, given, taken) in byRule where shown & (given | taken) != 0 { shown &= request.allows(rule) ? ~taken : ~given }
        return ViewPlan(
            view: self, shown: shown, links: shown & withLinks != 0 ? request.links : nil, request: request)
    }

    private func fieldsOf(_ parts: Parts) -> UInt64 {
        var fields: UInt64 = 0
        for entry in byPart where parts.contains(entry.part) { fields |= entry.fields }
        return fields
    }

    /// One of them at a microversion, under the name that the API's description has for it. The parts decide the name: of all fields
    /// `Thing`, of those of short lists `ThingSummary`, of what was just made `ThingChanged`; other parts have none.
    func shape(_ parts: Parts, version: Int) -> Shape {
        let object = object(parts, version: version)
        let shown = fieldsOf(parts)
        if shown == fieldsOf(Parts(rawValue: .max)) { return .named(describedName, object) }
        if shown == fieldsOf(.summary) { return .named(describedName + "Summary", object) }
        // As it is when it was just made or changed.
        return shown == fieldsOf(.own) ? .named(describedName + "Changed", object) : object
    }

    private func object(_ parts: Parts, version: Int) -> Shape {
        let shown = byVersion[version] & fieldsOf(parts)
        let members = fields.indices.filter { shown & 1 << UInt64($0) != 0 }.map { fields[$0] }
        var result: [Shape.Member] = []
        for field in members where !result.contains(where: { $0.name == "\(field.name)" }) {
            // Of two with one name every caller gets one.
            let isAlone = members.count { "\($0.name)" == "\(field.name)" } == 1
            result.append(Shape.Member("\(field.name)", field.shape, isOptional: field.isOptional && isAlone))
        }
        return .object(result)
    }
}

/// The fields of a view that one request shows.
struct ViewPlan<Source>: Sendable {
    let view: View<Source>
    fileprivate let shown: UInt64
    let links: Links?
    let request: APIRequest

    /// Writes one resource as an object.
    func write(_ source: Source, _ writer: inout JSONWriter) {
        writer.beginObject()
        let row = view.row?(source)
        var rest = shown
        if rest & view.withLength != 0, let row { rest &= ~tooShort(row) }
        if rest & view.withCondition != 0 { rest &= ~missing(source) }
        view.cells.withUnsafeBufferPointer { cells in
            while rest != 0 {
                let cell = cells[rest.trailingZeroBitCount]
                rest &= rest - 1
                writer.key(cell.name)
                switch cell.place {
                case .column(let position, let kind): if let row { Self.write(row, position, kind, &writer) }
                case .value(let value): value._withUnsafeGuaranteedRef { $0.write(source, links, request, &writer) }
                }
            }
        }
        writer.endObject()
    }

    /// The fields that the resource has not, for a condition of theirs.
    private func missing(_ source: Source) -> UInt64 {
        var missing: UInt64 = 0
        for condition in view.conditions where condition.field & shown != 0 && !condition.isMet(source) { missing |= condition.field }
        return missing
    }

    /// The fields that the resource has not, for the length of a text.
    private func tooShort(_ row: RowCells) -> UInt64 {
        view.lengths.withUnsafeBufferPointer { lengths in
            var missing: UInt64 = 0
            for (field, column, length) in lengths where (row.bytes(column)?.count ?? 0) <= length { missing |= field }
            return missing
        }
    }

    private static func write(_ row: RowCells, _ position: Int, _ kind: ColumnStorage.Kind, _ writer: inout JSONWriter) {
        switch row.content(position) {
        case .text(let text): writer.string(text)
        case .integer(let value): if kind == .boolean { writer.bool(value != 0) } else { writer.integer(value) }
        case .null, .real: writer.null()
        }
    }

    /// Writes several as an array.
    func write(_ sources: [Source], _ writer: inout JSONWriter) {
        writer.beginArray()
        for source in sources { write(source, &writer) }
        writer.endArray()
    }
}

/// How a value that is no column is written, held as an object: it is used for every row, and references of an object that stays need not be
/// counted.
private final class FieldValue<Source>: Sendable {
    let write: @Sendable (Source, Links?, APIRequest, inout JSONWriter) -> Void

    init(_ value: Field<Source>.Value) {
        // Chosen once: to choose for every row would copy the closure, and count references.
        write =
            switch value {
            case .null: { _, _, _, writer in writer.null() }
            case .text(let value): { source, _, _, writer in writer.string(value(source)) }
            case .optionalText(let value):
                { source, _, _, writer in if let text = value(source) { writer.string(text) } else { writer.null() } }
            case .bytes(let value):
                { source, _, _, writer in if let text = value(source) { writer.string(text) } else { writer.null() } }
            case .integer(let value): { source, _, _, writer in writer.integer(Int64(value(source))) }
            case .flag(let value): { source, _, _, writer in writer.bool(value(source)) }
            case .raw(let value): { source, _, _, writer in writer.raw(value(source)) }
            case .links(let collection, let id): { source, links, _, writer in id(source) { links?.write(collection, $0, &writer) } }
            case .written(let write): { source, _, request, writer in write(source, request, &writer) }
            }
    }
}
