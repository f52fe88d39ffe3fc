public import BlockStorage
public import Database
import DriverHost
public import JSON
import Logging
public import Observability
import Primitives

/// Carries operations out. The log in the database is the truth: whatever a process that died had not finished is carried
/// on (or taken back) by the next one.
public final class FlowEngine: OperationOutcomes {
    let services: FlowServices
    private let executor = ThreadExecutor(name: "flow", threads: 2, yields: true)
    private let flows = FlowRegistry.all
    private let state = Guarded(State())
    private let statistics = OperationStatistics()

    private struct State {
        var running: [String: Task<Void, Never>] = [:]
        var promises: [String: Promise<JSON>] = [:]
        /// Operations whose client went before they began: they are treated as interrupted.
        var abandoned: Set<String> = []
        /// Operations that were rung for before `resume`: none of them has begun.
        var early: Set<String>? = []
        /// No operation starts any more.
        var draining = false
    }

    public init(_ services: FlowServices) { self.services = services }

    /// Flows that this release can carry out.
    var knownFlows: Set<FlowID> { Set(flows.flows.map(\.id)) }

    /// Has the database ring here for operations that can run, and for those that somebody asked to be taken back. Losing a ring costs
    /// nothing but time: `resume` finds what is in the log.
    public func listen() {
        services.database.listen(to: .runnableOperations) { [self] in ring($0) }
        services.database.listen(to: .cancelledOperations) { [self] id in state.withLock { $0.running[id] }?.cancel() }
    }

    /// An operation is in the log and may run, from `resume` on.
    public func ring(_ id: String) {
        state.withLock { state in
            guard state.running[id] == nil else { return }
            guard !state.draining else {
                state.promises[id]?.fulfil(.failure(DriverFailure(.unavailable, "the service is stopping")))
                return
            }
            // Kept until its output is asked for; whoever asks first, engine or client, makes it.
            if state.promises[id] == nil { state.promises[id] = Promise() }
            guard state.early?.insert(id) == nil else { return }
            begin(id, interrupted: false, &state)
        }
    }

    private func begin(_ id: String, interrupted: Bool, _ state: inout State) {
        guard state.running[id] == nil else { return }
        let isAbandoned = state.abandoned.remove(id) != nil
        state.running[id] = Task(executorPreference: executor) { [self] in await run(id, interrupted: interrupted || isAbandoned) }
    }

    /// The operations that a process which died left unfinished.
    public struct Unfinished: Sendable {
        let runnable, waiting: [String]
    }

    /// The operations that a process which died left unfinished, for `resume`. To be asked for before requests are served: what they write is
    /// not interrupted.
    public func unfinishedOperations() async throws -> Unfinished {
        try await services.database.read {
            Unfinished(runnable: try Operations.runnable(in: $0).map(\.id), waiting: try Operations.waiting(in: $0))
        }
    }

    /// Takes the `unfinishedOperations` up, and begins what was rung for since.
    public func resume(_ unfinished: Unfinished) {
        state.withLock { state in
            let early = state.early ?? []
            state.early = nil
            // Who asked for them is gone as well, and was told that they failed.
            state.abandoned.formUnion(unfinished.waiting)
            for id in unfinished.runnable { begin(id, interrupted: true, &state) }
            for id in early { begin(id, interrupted: false, &state) }
        }
        let count = unfinished.runnable.count + unfinished.waiting.count
        if count > 0 { services.log.info("operations are taken up again", metadata: ["count": "\(count)"]) }
    }

    /// Waits for the answer of an operation that a client asked for; a backend's failure becomes the domain's. After as long as clients
    /// wait the operation is cancelled and taken back, and the client gets Cinder's time-out.
    public func output(of id: String) async throws -> JSON {
        // An operation that waits for another one's claim has not been rung for yet.
        let promise = state.withLock { state in
            let promise = state.promises[id] ?? Promise()
            state.promises[id] = promise
            return promise
        }
        defer { state.withLock { _ = $0.promises.removeValue(forKey: id) } }
        do {
            return try await promise.value(within: services.settings.responseTimeout) { [self] in cancel(id) }
        } catch let failure as DriverFailure {
            switch failure.code {
            case .invalid: throw StorageError(.invalid, "Invalid input received: \(failure.message)")
            case .unavailable: throw StorageError(.unavailable, "The volume's backend is not available now.")
            default: throw StorageError(.failed, failure.code.sentence)
            }
        }
    }

    /// Cancels a running operation; one that waits for its turn is taken back when it comes.
    func cancel(_ id: String) {
        let task = state.withLock { state in
            if state.running[id] == nil { state.abandoned.insert(id) }
            return state.running[id]
        }
        task?.cancel()
    }

    public func steps(of operation: BlockStorage.Operation) -> [String] { flows[operation.flow]?.stepNames ?? [] }

    public func sentence(of error: String) -> String? { DriverFailure.Code(beginning: error)?.sentence }

    public func progress(of id: String) -> Double? { services.progress.fraction(id) }

    public func waitsForTransfer(_ id: String) -> Bool { services.progress.waitsForTransfer(id) }

    public func cancel(_ operation: BlockStorage.Operation, caller: Caller, in tx: any Transaction) throws {
        func refusal(_ reason: String) -> StorageError {
            StorageError(.conflict, "Operation \(operation.id) (\(operation.flow.name)) cannot be cancelled: \(reason).")
        }
        guard let flow = flows[operation.flow], flow.cancellation != .never else {
            throw refusal("what it does is either done whole or not at all")
        }
        guard flow.cancellation == .byProject || caller.isAdmin else {
            throw StorageError(
                .forbidden,
                "Operation \(operation.id) (\(operation.flow.name)) was started by an administrator, and only one may cancel it.")
        }
        guard operation.finishedAt == nil else { throw refusal("it is \(operation.state)") }
        guard !flow.isPastReturn(operation) else {
            throw refusal("it is past the point of no return")
        }
        guard try Operations.cancel(operation, caller: caller, in: tx) else { throw refusal("it is being taken back already") }
    }

    /// Lets nothing start any more and waits (at most `seconds`) for what runs; the rest is the next start's.
    public func drain(within seconds: Double) async {
        state.withLock { $0.draining = true }
        services.isStopping.withLock { $0 = true }
        services.transfers.stop()
        let limit = Timestamp.monotonic() + seconds
        while Timestamp.monotonic() < limit, state.withLock({ !$0.running.isEmpty }) { try? await Task.sleep(nanoseconds: 10_000_000) }
    }

    /// Writes what is in the log, how old the oldest of it is, and what became of the rest.
    public func write(into text: inout MetricsText) async throws {
        statistics.write(into: &text, unfinished: try await services.database.read { try Operations.unfinished(in: $0) })
    }

    /// Operations that are being carried out.
    var running: Set<String> { state.withLock { Set($0.running.keys) } }

    public var runningCount: Int { state.withLock { $0.running.count } }

    // MARK: one operation

    private func run(_ id: String, interrupted: Bool) async {
        defer {
            services.progress.clear(id)
            state.withLock { state in
                _ = state.running.removeValue(forKey: id)
            }
        }
        // Trouble with the database itself passes or is the operator's: the operation stays in the log.
        var pause: UInt64 = 100_000_000
        while !state.withLock({ $0.draining }) {
            do {
                return try await carryOut(id, interrupted: interrupted)
            } catch let postponed as OperationPostponed {
                services.log.warning("an operation is left for the next start: \(postponed.reason)", metadata: ["operation_id": "\(id)"])
                return
            } catch {
                services.log.error("an operation cannot go on: \(error)", metadata: ["operation_id": "\(id)"])
                try? await Task.sleep(nanoseconds: pause)
                pause = min(pause * 2, 10_000_000_000)
            }
        }
    }

    private func carryOut(_ id: String, interrupted: Bool) async throws {
        let started = Timestamp.monotonic()
        guard let operation = try await services.database.read({ try Operations.find(id, in: $0) }) else { return }
        guard let flow = flows[operation.flow] else {
            return services.log.error(
                "no flow \(operation.flow.name) of version \(operation.flow.version): this release cannot carry the operation on",
                metadata: ["operation_id": "\(id)"])
        }
        if !flow.isAwaited { state.withLock { _ = $0.promises.removeValue(forKey: id) } }
        let environment = FlowEnvironment(services: services, executor: executor)
        let end = try await flow.run(operation, interrupted: interrupted, environment)
        let promise = state.withLock { $0.promises[id] }
        let seconds = Timestamp.monotonic() - started
        switch end {
        case .done(let answer):
            promise?.fulfil(.success(answer))
            statistics.count(flow.id.name, succeeded: true, seconds: seconds)
        case .failed(let failure):
            promise?.fulfil(.failure(failure))
            statistics.count(flow.id.name, succeeded: false, seconds: seconds)
        }
    }
}
