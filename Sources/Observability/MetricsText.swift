/// Builds Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4).
public struct MetricsText: Sendable {
    public enum Kind: String, Sendable { case counter, gauge, histogram }
    public private(set) var text = ""

    public init() {}

    /// Writes the HELP and TYPE lines of a metric; its samples must follow.
    public mutating func family(_ name: String, _ kind: Kind, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
    }

    public mutating func sample(_ name: String, _ value: Double, _ labels: KeyValuePairs<String, String> = [:]) {
        sample(name, labels.map { ($0.key, $0.value) }, value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)")
    }

    public mutating func sample(_ name: String, _ value: Int, _ labels: KeyValuePairs<String, String> = [:]) {
        sample(name, labels.map { ($0.key, $0.value) }, "\(value)")
    }

    public mutating func histogram(_ name: String, _ histogram: Histogram, _ labels: KeyValuePairs<String, String> = [:]) {
        let (cumulative, count, sum) = histogram.snapshot
        let labels = labels.map { ($0.key, $0.value) }
        for (bound, value) in zip(Histogram.bounds, cumulative) { sample(name + "_bucket", labels + [("le", "\(bound)")], "\(value)") }
        sample(name + "_bucket", labels + [("le", "+Inf")], "\(count)")
        sample(name + "_sum", labels, "\(sum)")
        sample(name + "_count", labels, "\(count)")
    }

    private mutating func sample(_ name: String, _ labels: [(String, String)], _ value: String) {
        text += name
        if !labels.isEmpty {
            text += "{" + labels.map { "\($0.0)=\"\(Self.escape($0.1))\"" }.joined(separator: ",") + "}"
        }
        text += " " + value + "\n"
    }

    private static func escape(_ value: String) -> String {
        var result = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
