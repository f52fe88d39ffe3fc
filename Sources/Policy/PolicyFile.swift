import CYAML
import Glibc
import Primitives

/// A policy file: YAML (or JSON, which is YAML) that maps rules to expressions.
public enum PolicyFile {
    private static let largest = 1 << 20
    /// Largest expression in bytes: YAML aliases can make it much larger than the file.
    private static let longest = 64 << 10
    /// Largest total of all expressions in bytes.
    private static let longestTogether = 4 << 20
    private static let mostRules = 2_000

    /// Reads a file's rules, in their order.
    public static func read(_ path: String) throws(Policies.Problems) -> [(name: String, text: String)] {
        guard let file = fopen(path, "re") else {
            throw Policies.Problems(lines: [SystemError.last("cannot read the policy file \(path)").description])
        }
        defer { fclose(file) }
        var info = stat()
        // Who can write the rules can become an administrator.
        if fstat(fileno(file), &info) == 0, let problem = FileTrust(info).writers(path) ?? PathTrust.exposure(above: path) {
            throw Policies.Problems(lines: [problem])
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&chunk, 1, chunk.count, file), count > 0 {
            bytes += chunk[..<count]
            guard bytes.count <= largest else { throw Policies.Problems(lines: ["\(path): larger than 1 MiB is no policy file"]) }
        }
        return try parse(bytes, name: path)
    }

    /// Old files have a list of lists instead of an expression: the inner lists are joined by `or`, their items by `and`.
    public static func parse(_ bytes: [UInt8], name: String) throws(Policies.Problems) -> [(name: String, text: String)] {
        var parser = yaml_parser_t()
        guard yaml_parser_initialize(&parser) == 1 else { throw Policies.Problems(lines: ["\(name): out of memory"]) }
        defer { yaml_parser_delete(&parser) }
        var document = yaml_document_t()
        let loaded = bytes.withUnsafeBufferPointer { buffer in
            yaml_parser_set_input_string(&parser, buffer.baseAddress, buffer.count)
            return yaml_parser_load(&parser, &document) == 1
        }
        guard loaded else {
            let problem = parser.problem.map { String(cString: $0) } ?? "not YAML"
            throw Policies.Problems(lines: ["\(name):\(parser.problem_mark.line + 1): \(problem)"])
        }
        defer { yaml_document_delete(&document) }
        guard let root = yaml_document_get_root_node(&document) else { return [] }
        if root.pointee.type == YAML_SCALAR_NODE, text(root).isEmpty { return [] }
        guard root.pointee.type == YAML_MAPPING_NODE else {
            throw Policies.Problems(lines: ["\(name): a policy file maps rules to expressions"])
        }
        var rules: [(name: String, text: String)] = []
        var problems: [String] = []
        var together = 0
        var pair = root.pointee.data.mapping.pairs.start
        while let current = pair, current < root.pointee.data.mapping.pairs.top {
            pair = current + 1
            guard let key = yaml_document_get_node(&document, current.pointee.key), key.pointee.type == YAML_SCALAR_NODE,
                let value = yaml_document_get_node(&document, current.pointee.value)
            else { continue }
            func problem(_ text: String) -> String { "\(name):\(value.pointee.start_mark.line + 1): \(text)" }
            guard rules.count < mostRules else {
                throw Policies.Problems(lines: ["\(name): more than \(mostRules) rules are no policy file"])
            }
            switch expression(value, &document) {
            case .text(let expression):
                together += expression.utf8.count
                guard together <= longestTogether else {
                    throw Policies.Problems(lines: ["\(name): the expressions are longer than \(longestTogether >> 20) MiB together"])
                }
                rules.append((text(key), expression))
            case .tooLong: problems.append(problem("rule \(text(key)) is longer than \(longest >> 10) KiB"))
            case .none: problems.append(problem("rule \(text(key)) is no expression"))
            }
        }
        guard problems.isEmpty else { throw Policies.Problems(lines: problems) }
        return rules
    }

    private static func text(_ node: UnsafeMutablePointer<yaml_node_t>) -> String {
        let scalar = node.pointee.data.scalar
        return String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
    }

    private static func items(_ node: UnsafeMutablePointer<yaml_node_t>, _ document: inout yaml_document_t) -> [UnsafeMutablePointer<
        yaml_node_t
    >] {
        var found: [UnsafeMutablePointer<yaml_node_t>] = []
        var item = node.pointee.data.sequence.items.start
        while let current = item, current < node.pointee.data.sequence.items.top {
            if let child = yaml_document_get_node(&document, current.pointee) { found.append(child) }
            item = current + 1
        }
        return found
    }

    private enum Expression {
        case text(String)
        case tooLong
        case none
    }

    private static func expression(_ node: UnsafeMutablePointer<yaml_node_t>, _ document: inout yaml_document_t) -> Expression {
        var result = ""
        /// False when the text would become too long.
        func add(_ separator: String, _ more: String) -> Bool {
            if !result.isEmpty { result += separator }
            result += more
            return result.utf8.count <= longest
        }
        if node.pointee.type == YAML_SCALAR_NODE { return add("", text(node)) ? .text(result) : .tooLong }
        guard node.pointee.type == YAML_SEQUENCE_NODE else { return .none }
        let alternatives = items(node, &document)
        if alternatives.isEmpty { return .text("@") }
        for alternative in alternatives {
            if alternative.pointee.type == YAML_SCALAR_NODE {
                guard add(" or ", text(alternative)) else { return .tooLong }
            } else if alternative.pointee.type == YAML_SEQUENCE_NODE {
                let inner = items(alternative, &document)
                guard inner.allSatisfy({ $0.pointee.type == YAML_SCALAR_NODE }) else { return .none }
                guard inner.reduce(0, { $0 + $1.pointee.data.scalar.length + 5 }) <= longest else { return .tooLong }
                guard inner.isEmpty || add(" or ", "( " + inner.map { text($0) }.joined(separator: " and ") + " )") else {
                    return .tooLong
                }
            } else {
                return .none
            }
        }
        return .text(result.isEmpty ? "!" : result)
    }
}
