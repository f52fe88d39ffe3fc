import Synchronization

/// A histogram of durations. Adding takes no lock; the buckets are never freed.
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

    /// The number of durations up to each bound, their total number, and their sum in seconds.
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
