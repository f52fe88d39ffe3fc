import Database
import JSON
import Policy

/// Which fields of a view an answer shows.
struct Parts: OptionSet, Sendable {
    let rawValue: UInt16
    init(rawValue: UInt16) { self.rawValue = rawValue }

    /// What every answer shows.
    static let summary = Parts(rawValue: 1)
    /// What all but short lists show.
    static let detail = Parts(rawValue: 2)
    /// What extensions add to shown and listed resources, but not to those just made.
    static let extensions = Parts(rawValue: 4)

    /// What the answer to a creation or a change shows.
    static let own: Parts = [.summary, .detail]
    static let whole: Parts = [.summary, .detail, .extensions]
}

/// A member of a resource's representation: its name, its value, and when it is there.
///
///     Field.text("user_id") { $0.userID }.since(41).part(.detail)
///
/// Values are read by closures that capture nothing: calling them counts no references, however long the list.
struct Field<Source>: Sendable {
    let name: StaticString
    let shape: Shape
    let content: Content
    private(set) var versions = APIVersion.all
    private(set) var part = Parts.summary
    /// Who has not this rule does not get the field.
    private(set) var rule: Policies.Rule?
    /// Who has this rule does not get the field, but another of the same name.
    private(set) var exceptRule: Policies.Rule?
    private(set) var isForAdministrators = false
    /// Which resources have the field at all; nil: all of them.
    private(set) var condition: Condition?

    enum Condition: Sendable {
        case holds(@Sendable (Source) -> Bool)
        /// The text in a column of the source's row has more bytes.
        case isLonger(column: Int, than: Int)
    }

    enum Content: Sendable {
        /// A column of the source's row, by its place.
        case column(Int, ColumnStorage.Kind)
        case value(Value)
    }

    enum Value: Sendable {
        case null
        case text(@Sendable (Source) -> String)
        case optionalText(@Sendable (Source) -> String?)
        /// UTF-8 as the database holds it.
        case bytes(@Sendable (Source) -> UnsafeBufferPointer<UInt8>?)
        case integer(@Sendable (Source) -> Int)
        case flag(@Sendable (Source) -> Bool)
        /// Text that is JSON already.
        case raw(@Sendable (Source) -> String)
        /// `self` and `bookmark`, by the collection's path and the id.
        case links(StaticString, @Sendable (Source, (UnsafeBufferPointer<UInt8>) -> Void) -> Void)
        /// Writes one value.
        case written(@Sendable (Source, APIRequest, inout JSONWriter) -> Void)
    }

    private init(_ name: StaticString, _ shape: Shape, _ content: Content) {
        self.name = name
        self.shape = shape
        self.content = content
    }

    private init(_ name: StaticString, _ shape: Shape, _ value: Value) { self.init(name, shape, .value(value)) }

    /// A column as it is, straight from the row, where the view has rows: it is written without a call for each value.
    static func column(_ name: StaticString, _ shape: Shape, _ column: AnyColumn) -> Field {
        Field(name, shape, Content.column(column.position, column.storage.kind))
    }
    static func null(_ name: StaticString) -> Field { Field(name, .null, .null) }
    static func text(_ name: StaticString, _ value: @escaping @Sendable (Source) -> String) -> Field { Field(name, .text, .text(value)) }
    static func choice(_ name: StaticString, _ choices: [String], _ value: @escaping @Sendable (Source) -> String) -> Field {
        Field(name, .choice(choices), .text(value))
    }
    static func optionalText(_ name: StaticString, _ value: @escaping @Sendable (Source) -> String?) -> Field {
        Field(name, .nullable(.text), .optionalText(value))
    }
    static func time(_ name: StaticString, _ value: @escaping @Sendable (Source) -> String) -> Field { Field(name, .time, .text(value)) }
    static func optionalTime(_ name: StaticString, _ value: @escaping @Sendable (Source) -> String?) -> Field {
        Field(name, .nullable(.time), .optionalText(value))
    }
    static func integer(_ name: StaticString, _ value: @escaping @Sendable (Source) -> Int) -> Field {
        Field(name, .integer, .integer(value))
    }
    static func flag(_ name: StaticString, _ value: @escaping @Sendable (Source) -> Bool) -> Field { Field(name, .boolean, .flag(value)) }
    static func raw(_ name: StaticString, _ shape: Shape, _ value: @escaping @Sendable (Source) -> String) -> Field {
        Field(name, shape, .raw(value))
    }
    /// A text or time straight from a row.
    static func bytes(_ name: StaticString, _ shape: Shape, _ value: @escaping @Sendable (Source) -> UnsafeBufferPointer<UInt8>?) -> Field {
        Field(name, shape, .bytes(value))
    }
    static func links(
        _ collection: StaticString, _ id: @escaping @Sendable (Source, (UnsafeBufferPointer<UInt8>) -> Void) -> Void
    ) -> Field { Field("links", .links, .links(collection, id)) }
    /// A value that depends on who asks, or is no text, number or flag.
    static func written(
        _ name: StaticString, _ shape: Shape, _ write: @escaping @Sendable (Source, APIRequest, inout JSONWriter) -> Void
    ) -> Field { Field(name, shape, .written(write)) }

    /// From this microversion on.
    func since(_ version: Int) -> Field { with { $0.versions = version...APIVersion.latest } }
    func part(_ part: Parts) -> Field { with { $0.part = part } }
    func rule(_ rule: Policies.Rule) -> Field { with { $0.rule = rule } }
    func exceptRule(_ rule: Policies.Rule) -> Field { with { $0.exceptRule = rule } }
    func forAdministrators() -> Field { with { $0.isForAdministrators = true } }
    /// Only of resources for which it holds.
    func when(_ condition: @escaping @Sendable (Source) -> Bool) -> Field { with { $0.condition = .holds(condition) } }
    /// Only of resources whose text in that column has more bytes than that; where it is NULL it has none. Asked without a call for each.
    func when(_ column: AnyColumn, isLongerThan length: Int) -> Field {
        with { $0.condition = .isLonger(column: column.position, than: length) }
    }

    /// Whether some answers lack it that the microversion and the part would give it.
    var isOptional: Bool { rule != nil || exceptRule != nil || isForAdministrators || condition != nil }

    private func with(_ change: (inout Field) -> Void) -> Field {
        var field = self
        change(&field)
        return field
    }
}
