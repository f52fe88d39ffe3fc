import HTTPServer
import JSON
import Primitives

/// What a request body must be: JSON Schema (draft 4) as far as the Block Storage API uses it, with the messages that its
/// clients know.
struct Schema: Sendable {
    enum Kind: String, Sendable { case object, string, integer, number, boolean, null, array }

    /// A form of text: what it is called in messages, and the test.
    struct Pattern: Sendable {
        let text: String
        let matches: @Sendable (String) -> Bool
        /// As messages quote it.
        var shown: String { PythonText.repr(.string(text)) }

        static let digits = Pattern(text: "^[0-9]+$") { !$0.isEmpty && $0.utf8.allSatisfy { $0 >= 48 && $0 <= 57 } }
        static let digitsOrNone = Pattern(text: "^[0-9]*$") { $0.utf8.allSatisfy { $0 >= 48 && $0 <= 57 } }
        static let quotaKey = Pattern(text: "^[a-zA-Z0-9-_:. ]{1,300}$") { key($0, "-_:. ", most: 300) }
        static let metadataKey = Pattern(text: "^[a-zA-Z0-9-_:. /]{1,255}$") { key($0, "-_:. /") }
        static let plainMetadataKey = Pattern(text: "^[a-zA-Z0-9-_:. ]{1,255}$") { key($0, "-_:. ") }
        static let extraSpecKey = Pattern(text: "^[a-zA-Z0-9-_:.]{1,255}$") { key($0, "-_:.") }
        static let host = Pattern(text: "^[a-zA-Z0-9-._#@:/+\\[\\]]*$") { $0.isEmpty || key($0, "-._#@:/+[]", most: .max) }

        /// ASCII letters, digits and `more`, which is ASCII, too.
        private static func key(_ text: String, _ more: String, most: Int = 255) -> Bool {
            let bytes = text.utf8
            return (1...most).contains(bytes.count)
                && bytes.allSatisfy { byte in
                    switch byte {
                    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
                    case UInt8(ascii: "0")...UInt8(ascii: "9"): true
                    default: more.utf8.contains(byte)
                    }
                }
        }
    }

    enum Format: Sendable {
        case uuid
        /// Trimmed, at most 255 characters; the message names the field.
        case name, description
        /// A name that may not be blank.
        case mandatoryName
        /// A name that may not be blank, and has at most 255 characters without the blanks around it.
        case trimmedName
        case printable
        /// A whole number; what it is called in the message.
        case integer(String)
        /// At most 65535 bytes.
        case longText
        /// One of the states, in any case of letters; what is empty is none, and is refused if one must be given.
        case state(_ what: String, _ known: [String], shown: String, isNeeded: Bool)
        /// Per cent of a work that is done.
        case progress
        case base64
    }

    var kinds: [Kind] = []
    var minimumLength: Int?
    var maximumLength: Int?
    var minimum: Int64?
    var maximum: Int64?
    var pattern: Pattern?
    var format: Format?
    var choices: [JSON]?
    var properties: [(name: String, schema: Schema)] = []
    /// What members with names of a pattern must be.
    var patternProperties: [(pattern: Pattern, schema: Schema)] = []
    var required: [String] = []
    var allowsOthers = true
    var minimumMembers: Int?
    var maximumMembers: Int?
    /// What an object must hold as a whole, asked before its members are looked at.
    var rule: (@Sendable (JSONObject) -> HTTPError?)?
    /// One of these must hold, by required members.
    var anyRequired: [String]?
    var alternatives: [Schema]?
    /// What each element of an array must be; at most one schema.
    var elements: [Schema] = []
    /// Whether no two elements of an array may be the same.
    var areUnique = false

    // MARK: the vocabulary of the API

    static let any = Schema()
    static func object(
        _ properties: [(name: String, schema: Schema)] = [], required: [String] = [], others: Bool = false, nullable: Bool = false
    ) -> Schema {
        Schema(kinds: nullable ? [.object, .null] : [.object], properties: properties, required: required, allowsOthers: others)
    }
    static func string(_ minimum: Int? = nil, _ maximum: Int? = nil, nullable: Bool = false, format: Format? = nil, pattern: Pattern? = nil)
        -> Schema
    {
        Schema(
            kinds: nullable ? [.string, .null] : [.string], minimumLength: minimum, maximumLength: maximum, pattern: pattern, format: format
        )
    }
    static func array(of elements: Schema, areUnique: Bool = false) -> Schema {
        Schema(kinds: [.array], elements: [elements], areUnique: areUnique)
    }
    static func choice(_ values: String..., nullable: Bool = false) -> Schema {
        Schema(kinds: nullable ? [.string, .null] : [.string], choices: values.map { .string($0) })
    }
    static let boolean = Schema(
        kinds: [.boolean, .string],
        choices: [.bool(true)] + PythonText.trueTexts.map { .string($0) } + [.bool(false)] + PythonText.falseTexts.map { .string($0) })
    static let uuid = Schema(kinds: [.string], format: .uuid)
    static let optionalUUID = Schema(alternatives: [uuid, Schema(kinds: [.null])])
    static let optionalBoolean = Schema(alternatives: [boolean, Schema(kinds: [.null])])
    static func size(nullable: Bool) -> Schema {
        Schema(
            kinds: nullable ? [.integer, .string, .null] : [.integer, .string], minimum: 1, maximum: 2_147_483_647,
            pattern: .digits)
    }
    static func metadata(nullable: Bool = false, keys: Pattern = .metadataKey, nullableValues: Bool = false) -> Schema {
        Schema(
            kinds: nullable ? [.object, .null] : [.object],
            patternProperties: [
                (keys, Schema(kinds: nullableValues ? [.string, .null] : [.string], minimumLength: 0, maximumLength: 255))
            ],
            allowsOthers: false)
    }
    /// `{"<action>": <schema>}` as action bodies are.
    static func action(_ name: String, _ schema: Schema = .any) -> Schema { object([(name, schema)], required: [name]) }

    // MARK: checking

    /// Throws the first violation, in Cinder's words.
    func check(_ body: JSON) throws(HTTPError) { try check(body, name: nil) }

    private func check(_ value: JSON, name: String?) throws(HTTPError) {
        func violation(_ message: String) -> HTTPError {
            .badRequest(name.map { "Invalid input for field/attribute \($0). Value: \(PythonText.str(value)). \(message)" } ?? message)
        }
        if let alternatives {
            for alternative in alternatives where alternative.accepts(value) { return }
            throw violation("\(PythonText.repr(value)) is not valid under any of the given schemas")
        }
        if !kinds.isEmpty, !kinds.contains(where: { $0.holds(value) }) {
            throw violation("\(PythonText.repr(value)) is not of type \(kinds.map { "'\($0.rawValue)'" }.joined(separator: ", "))")
        }
        if let rule, case .object(let object) = value, let error = rule(object) { throw error }
        switch value {
        case .object(let object): try check(object, violation)
        case .string(let text): try check(text, name: name, violation)
        case .integer(let number): try checkRange(Double(number), shown: String(number), violation)
        case .real(let number): try checkRange(number, shown: String(number), violation)
        case .array(let items): try check(items, violation)
        default: break
        }
        if let choices, !choices.contains(value) {
            throw violation("\(PythonText.repr(value)) is not one of [\(choices.map(PythonText.repr).joined(separator: ", "))]")
        }
    }

    private func accepts(_ value: JSON) -> Bool {
        do throws(HTTPError) {
            try check(value)
            return true
        } catch { return false }
    }

    private func check(_ object: JSONObject, _ violation: (String) -> HTTPError) throws(HTTPError) {
        // By index: most properties are not given, and a copy of each schema would cost more than the look.
        for index in properties.indices {
            if let value = object[properties[index].name] { try properties[index].schema.check(value, name: properties[index].name) }
        }
        for (pattern, schema) in patternProperties {
            for member in object.members where pattern.matches(member.name) { try schema.check(member.value, name: member.name) }
        }
        for name in required where object[name] == nil { throw violation("'\(name)' is a required property") }
        if !allowsOthers {
            let unexpected = object.names.filter { name in
                !properties.contains { $0.name == name } && !patternProperties.contains { $0.pattern.matches(name) }
            }
            if !unexpected.isEmpty {
                if let pattern = patternProperties.first?.pattern {
                    let names = unexpected.sorted().map { PythonText.repr(.string($0)) }.joined(separator: ", ")
                    throw violation("\(names) \(unexpected.count == 1 ? "does" : "do") not match any of the regexes: \(pattern.shown)")
                }
                let names = unexpected.sorted().map { "'\($0)'" }.joined(separator: ", ")
                throw violation("Additional properties are not allowed (\(names) \(unexpected.count == 1 ? "was" : "were") unexpected)")
            }
        }
        func shown() -> String { PythonText.repr(.object(object)) }
        if let anyRequired, !anyRequired.contains(where: { object[$0] != nil }) {
            throw violation("\(shown()) is not valid under any of the given schemas")
        }
        if let minimumMembers, object.count < minimumMembers {
            throw violation(minimumMembers == 1 ? "\(shown()) should be non-empty" : "\(shown()) does not have enough properties")
        }
        if let maximumMembers, object.count > maximumMembers { throw violation("\(shown()) has too many properties") }
    }

    private func check(_ items: [JSON], _ violation: (String) -> HTTPError) throws(HTTPError) {
        for (index, item) in items.enumerated() { for schema in elements { try schema.check(item, name: String(index)) } }
        guard areUnique else { return }
        // Only texts are asked to be unique.
        let texts = items.compactMap(\.string)
        if Set(texts.map { Array($0.utf8) }).count < texts.count {
            throw violation("\(PythonText.repr(.array(items))) has non-unique elements")
        }
    }

    private func check(_ text: String, name: String?, _ violation: (String) -> HTTPError) throws(HTTPError) {
        func shown() -> String { PythonText.repr(.string(text)) }
        if text.utf8.contains(0) { throw violation("\(shown()) contains a NUL character, which no text may") }
        if minimumLength != nil || maximumLength != nil {
            let length = text.unicodeScalars.count
            if let minimumLength, length < minimumLength {
                throw violation(minimumLength == 1 ? "\(shown()) should be non-empty" : "\(shown()) is too short")
            }
            if let maximumLength, length > maximumLength { throw violation("\(shown()) is too long") }
        }
        if let pattern, !pattern.matches(text) { throw violation("\(shown()) does not match \(pattern.shown)") }
        if minimum != nil || maximum != nil {
            guard let number = Double(text) else {
                if case .integer(let what) = format { throw Self.noInteger(what) }
                throw violation("\(shown()) is not a number")
            }
            try checkRange(number, shown: text, violation)
        }
        switch format {
        case nil: break
        case .uuid: if !UUID.isUUIDLike(text) { throw violation("\(shown()) is not a 'uuid'") }
        case .name, .description:
            let count = text.trimmed.unicodeScalars.count
            let field = if case .name? = format { "name" } else { "description" }
            if count > 255 { throw .badRequest("Invalid input received: \(field) has \(count) characters, more than 255.") }
        case .mandatoryName:
            if text.trimmed.isEmpty {
                throw .badRequest("An invalid 'name' value was provided. The 'name' can not be empty.")
            }
        case .trimmedName:
            let count = text.trimmed.unicodeScalars.count
            let problem = text.isEmpty ? "be None" : count == 0 ? "be empty" : count > 255 ? "be greater than 255 characters" : nil
            if let problem { throw .badRequest("An invalid 'name' value was provided. The 'name' can not \(problem).") }
        case .printable:
            if let odd = text.unicodeScalars.first(where: { !Self.isPrintable($0) }) {
                throw violation("\(shown()) holds a character that cannot be printed, U+\(String(odd.value, radix: 16, uppercase: true))")
            }
        case .integer(let what): if Int(text).map(String.init) != text { throw Self.noInteger(what) }
        case .longText: if text.utf8.count > 65_535 { throw violation("\(shown()) is not a 'mysql_text'") }
        case .state(let what, let known, let list, let isNeeded):
            guard known.contains(text.lowercased()) || (text.isEmpty && !isNeeded) else {
                throw .badRequest("\(what): \(text) is invalid, valid statuses are: \(list).")
            }
        case .base64: if Base64.decodeLeniently(text) == nil { throw violation("\(shown()) is not a 'base64'") }
        case .progress:
            guard !text.isEmpty else { break }
            guard let number = Int(text.dropLast()) else {
                throw .badRequest("Invalid input received: progress must be an integer percentage")
            }
            guard (0...100).contains(number), text.utf8.last == UInt8(ascii: "%") else {
                throw .badRequest("Invalid input received: progress must be an integer percentage between 0 and 100")
            }
        }
    }

    private static func noInteger(_ what: String) -> HTTPError { .badRequest("Invalid input received: \(what) must be an integer.") }

    /// Letters, marks, numbers, punctuation, symbols and blanks of one line.
    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        default: true
        }
    }

    private func checkRange(_ number: Double, shown: String, _ violation: (String) -> HTTPError) throws(HTTPError) {
        if let minimum, number < Double(minimum) { throw violation("\(shown) is less than the minimum of \(minimum)") }
        if let maximum, number > Double(maximum) { throw violation("\(shown) is greater than the maximum of \(maximum)") }
    }
}

extension Schema.Kind {
    func holds(_ value: JSON) -> Bool {
        switch (self, value) {
        case (.object, .object), (.string, .string), (.integer, .integer), (.number, .integer), (.number, .real), (.boolean, .bool),
            (.null, .null), (.array, .array):
            true
        default: false
        }
    }
}

extension String {
    /// Without surrounding whitespace.
    var trimmed: String {
        // A character of ASCII that is no blank at both ends, as almost always.
        if let first = utf8.first, let last = utf8.last, (0x21...0x7E).contains(first), (0x21...0x7E).contains(last) { return self }
        let start = drop { $0.isWhitespace }
        guard let end = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return String(start[...end])
    }
}

extension JSON {
    /// A boolean that may come as text; the schema has checked it.
    var lenientBool: Bool? { bool ?? string.flatMap(PythonText.bool) }
    /// A whole number that may come as text; the schema has checked it.
    var lenientInteger: Int? { integer.map { Int($0) } ?? string.flatMap { Int($0) } }
    /// A text without surrounding whitespace.
    var trimmedString: String? { string?.trimmed }
}
