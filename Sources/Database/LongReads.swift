import Observability
import Primitives

/// Reads that may take long, on threads of their own: what answers everybody must not wait for what one caller asked. They
/// are bounded: in how many wait, in how many of one owner wait and run, and in the time that each may take.
public final class LongReads: Sendable {
    private struct Job: Sendable {
        let owner: String
        /// Runs it, or tells that it will not be run.
        let end: @Sendable (DatabaseError?) -> Void
        let queuedAt = Timestamp.monotonic()
    }

    private struct State {
        var waiting: [Job] = []
        /// Of each owner, where there are any.
        var running: [String: Int] = [:]
        var refused = 0
        var isClosed = false
    }

    private let database: any Database
    /// What the metrics call them.
    private let name: String
    private let state = Guarded(State())
    private let bell = Semaphore()
    private let times = Histogram()
    private let runningPerOwner: Int
    private let limit: Int
    private let limitPerOwner: Int
    /// Seconds that a read may take, and may wait for its turn.
    public let patience: Double

    /// `limit` and `limitPerOwner`: how many may wait. One owner never has all the threads. `name` is a word for metrics and threads.
    public init(
        _ database: any Database, name: String = "long", threads: Int = 4, limit: Int = 128, limitPerOwner: Int = 32, patience: Double
    ) {
        self.database = database
        self.name = name
        self.limit = limit
        self.limitPerOwner = limitPerOwner
        self.patience = patience
        runningPerOwner = max(1, threads / 2)
        for index in 0..<threads {
            startThread("db-\(name)-\(index)") { [self] in
                lowerThreadPriority()
                serve()
            }
        }
    }

    /// Whether nothing runs or waits.
    public var isIdle: Bool { state.withLock { $0.running.isEmpty && $0.waiting.isEmpty } }

    /// How many wait.
    var waiting: Int { state.withLock { $0.waiting.count } }

    /// Runs the read when it is its turn. Throws a `DatabaseError` of the kind `busy` if too many wait, of the kind `tooLong` if
    /// it took too long.
    public func read<T: Sendable>(for owner: String, _ body: @escaping @Sendable (any Connection) throws -> T) async throws -> T {
        try await withUnsafeThrowingContinuation { continuation in
            let job = Job(owner: owner) { [self] refusal in
                if let refusal { return continuation.resume(throwing: refusal) }
                let began = Timestamp.monotonic()
                let result = Result { try database.readBlocking(.seconds(patience), body) }
                times.add(Timestamp.monotonic() - began)
                continuation.resume(with: result)
            }
            let isAccepted = state.withLock { state in
                let isFull = state.waiting.count >= limit || state.waiting.count { $0.owner == owner } >= limitPerOwner
                guard !state.isClosed, !isFull else {
                    state.refused += 1
                    return false
                }
                state.waiting.append(job)
                return true
            }
            if isAccepted { bell.post() } else { job.end(Self.busy) }
        }
    }

    private static let busy = DatabaseError(kind: .busy, message: "too many reads wait")

    private func serve() {
        while true {
            guard let job = next() else {
                if state.withLock({ $0.isClosed }) { return bell.post() }
                bell.wait()
                continue
            }
            job.end(Timestamp.monotonic() - job.queuedAt > patience ? Self.busy : nil)
            state.withLock { state in
                let left = (state.running[job.owner] ?? 1) - 1
                state.running[job.owner] = left > 0 ? left : nil
            }
        }
    }

    /// The one that waits longest of those owners who have the fewest running.
    private func next() -> Job? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            var best: (index: Int, running: Int)?
            for (index, job) in state.waiting.enumerated() {
                let running = state.running[job.owner] ?? 0
                if running < min(runningPerOwner, best?.running ?? .max) { best = (index, running) }
            }
            guard let best else { return nil }
            let job = state.waiting.remove(at: best.index)
            state.running[job.owner, default: 0] += 1
            return job
        }
    }

    /// Refuses what waits; what runs comes to its end.
    public func close() {
        let left = state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for job in left { job.end(Self.busy) }
        bell.post()
    }

    /// Writes how many wait and how long they take.
    public func write(into text: inout MetricsText) {
        let (waiting, running, refused) = state.withLock { ($0.waiting.count, $0.running.values.reduce(0, +), $0.refused) }
        text.family("clinker_database_\(name)_reads", .gauge, "Reads of the kind \(name) that run and that wait.")
        text.sample("clinker_database_\(name)_reads", running, ["state": "running"])
        text.sample("clinker_database_\(name)_reads", waiting, ["state": "waiting"])
        text.family(
            "clinker_database_\(name)_reads_refused_total", .counter, "Reads of the kind \(name) that were refused because too many waited."
        )
        text.sample("clinker_database_\(name)_reads_refused_total", refused)
        text.family("clinker_database_\(name)_read_seconds", .histogram, "Seconds that reads of the kind \(name) took.")
        text.histogram("clinker_database_\(name)_read_seconds", times)
    }
}
