import Synchronization

/// Seconds that something took, counted into buckets. Adding takes no lock; the buckets live as long as the process.
public final class Histogram: @unchecked Sendable {
    /// Upper bounds in seconds.
    public static let bounds: [Double] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60,
    ]

    private let buckets: UnsafeMutablePointer<Atomic<Int>>
    private let microseconds = Atomic<Int>(0)

    public init() {
        buckets = .allocate(capacity: Self.bounds.count + 1)
        for index in 0...Self.bounds.count { (buckets + index).initialize(to: Atomic(0)) }
    }

    public func add(_ seconds: Double) {
        var index = 0
        while index < Self.bounds.count, seconds > Self.bounds[index] { index += 1 }
        buckets[index].wrappingAdd(1, ordering: .relaxed)
        microseconds.wrappingAdd(Int(seconds * 1e6), ordering: .relaxed)
    }

    /// How many durations there were up to each bound, all of them, and their sum in seconds.
    public var snapshot: (cumulative: [Int], count: Int, sum: Double) {
        var total = 0
        var cumulative: [Int] = []
        for index in 0..<Self.bounds.count {
            total += buckets[index].load(ordering: .relaxed)
            cumulative.append(total)
        }
        total += buckets[Self.bounds.count].load(ordering: .relaxed)
        return (cumulative, total, Double(microseconds.load(ordering: .relaxed)) / 1e6)
    }
}

/// Numbers in Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4).
public struct MetricsText: Sendable {
    public enum Kind: String, Sendable { case counter, gauge, histogram }
    public private(set) var text = ""

    public init() {}

    /// Begins a family; its samples follow.
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
