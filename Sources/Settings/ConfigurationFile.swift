/// The parsed entries of one configuration file. The format is oslo.config's: `[section]`,
/// `name = value` or `name: value`, lines that begin with a space continue the value, `#` and `;` begin comment lines.
struct ConfigurationFile {
    struct Entry {
        let section: String
        let name: String
        var values: [String]
        let line: Int
    }

    let path: String
    private(set) var entries: [Entry] = []
    private(set) var sections: [String] = []

    /// - Throws: all lines that cannot be parsed.
    init(path: String, text: String) throws(SettingsError) {
        self.path = path
        var section = "DEFAULT"
        var current: Int?
        var problems: [String] = []
        // Split by bytes: CR LF is a single Character in Swift. A byte order mark is skipped.
        let bytes = text.utf8.starts(with: [0xEF, 0xBB, 0xBF]) ? text.utf8.dropFirst(3) : text.utf8[...]
        for (index, rawLine) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
            let number = index + 1
            let line = Substring(rawLine.last == UInt8(ascii: "\r") ? rawLine.dropLast() : rawLine)
            let trimmed = Self.trim(line)
            if trimmed.isEmpty {
                current = nil
                continue
            }
            if trimmed.first == "#" || trimmed.first == ";" { continue }
            if let first = line.first, first == " " || first == "\t" {
                if let current {
                    entries[current].values[entries[current].values.count - 1] += "\n" + trimmed
                } else {
                    problems.append("\(path):\(number): a continued line without a value before it")
                }
                continue
            }
            current = nil
            if trimmed.first == "[" {
                guard trimmed.last == "]", trimmed.count > 2 else {
                    problems.append("\(path):\(number): a section header must be [name]")
                    continue
                }
                section = Self.trim(trimmed.dropFirst().dropLast())
                if !sections.contains(section) { sections.append(section) }
                continue
            }
            guard let separator = trimmed.firstIndex(where: { $0 == "=" || $0 == ":" }), separator != trimmed.startIndex else {
                problems.append("\(path):\(number): expected 'name = value' or '[section]'")
                continue
            }
            let name = Self.trim(trimmed[..<separator])
            let value = Self.unquote(Self.trim(trimmed[trimmed.index(after: separator)...]))
            if let existing = entries.firstIndex(where: { $0.section == section && $0.name == name }) {
                entries[existing].values.append(value)
                current = existing
            } else {
                entries.append(Entry(section: section, name: name, values: [value], line: number))
                current = entries.count - 1
            }
        }
        if !problems.isEmpty { throw SettingsError(problems) }
    }

    private static func trim(_ text: some StringProtocol) -> String {
        let spaces: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        let start = text.drop(while: spaces)
        guard let end = start.lastIndex(where: { !spaces($0) }) else { return "" }
        return String(start[...end])
    }

    private static func unquote(_ text: String) -> String {
        guard text.count >= 2, let first = text.first, first == text.last, first == "\"" || first == "'" else { return text }
        return String(text.dropFirst().dropLast())
    }
}
