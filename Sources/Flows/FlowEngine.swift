public import BlockStorage
public import Database
public import DriverHost
public import JSON
import Logging
import Observability
import Primitives

/// Carries operations out. The log in the database is the truth: whatever a process that died had not finished is carried
/// on (or taken back) by the next one.
public final class FlowEngine: OperationOutcomes {
    let services: FlowServices
    private let executor = ThreadExecutor(name: "flow", threads: 2, yields: true)
    private let flows: [String: Flow]
    private let state = Guarded(State())
    private let outcomes = Guarded<[String: Outcome]>([:])

    /// What became of the operations of one flow since the start.
    private struct Outcome {
        var done = 0
        var failed = 0
        let seconds = Histogram()
    }

    private struct State {
        var running: [String: Task<Void, Never>] = [:]
        var promises: [String: Promise] = [:]
        /// Operations whose client went before they began: they are treated as interrupted.
        var abandoned: Set<String> = []
        /// Operations that were rung for before `resume`: none of them has begun.
        var early: Set<String>? = []
        /// No operation starts any more.
        var draining = false
    }

    public init(_ services: FlowServices) {
        self.services = services
        flows = Dictionary(
            (VolumeFlows.all + ExportFlows.all + SnapshotFlows.all + MoveFlows.all + ManageFlows.all).map {
                ("\($0.name)/\($0.version)", $0)
            },
            uniquingKeysWith: { first, _ in first })
    }

    /// Flows that this release can carry out, as `name/version`.
    var knownFlows: Set<String> { Set(flows.keys) }

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

    /// What a dead process left unfinished, for `resume`. To be asked for before requests are served: what they write is not interrupted.
    public func left() async throws -> [String] { try await services.database.read { try Operations.runnable(in: $0).map(\.id) } }

    /// Takes up what was `left`, and begins what was rung for since.
    public func resume(_ left: [String]) {
        state.withLock { state in
            let early = state.early ?? []
            state.early = nil
            for id in left { begin(id, interrupted: true, &state) }
            for id in early { begin(id, interrupted: false, &state) }
        }
        if !left.isEmpty { services.log.info("operations are taken up again", metadata: ["count": "\(left.count)"]) }
    }

    /// Waits for the output of an operation that a client asked for. After `seconds` the operation is cancelled and taken
    /// back, and the client gets Cinder's time-out.
    func result(of id: String, within seconds: Double) async throws -> DriverValue {
        // An operation that waits for another one's claim has not been rung for yet.
        let promise = state.withLock { state in
            let promise = state.promises[id] ?? Promise()
            state.promises[id] = promise
            return promise
        }
        defer { state.withLock { _ = $0.promises.removeValue(forKey: id) } }
        return try await promise.value(within: seconds) { [self] in cancel(id) }
    }

    /// The same as JSON, for as long as clients wait; a backend's failure becomes the domain's.
    public func output(of id: String) async throws -> JSON {
        do {
            return try await result(of: id, within: services.responseTimeout).json
        } catch let failure as DriverFailure {
            switch failure.code {
            case .invalid: throw StorageError(.invalid, "Invalid input received: \(failure.message)")
            case .unavailable: throw StorageError(.unavailable, "The volume's backend is not available now.")
            default: throw StorageError(.failed, failure.code.sentence)
            }
        }
    }

    /// Cancels a running operation; one that waits for its turn is taken back when it comes.
    public func cancel(_ id: String) {
        let task = state.withLock { state in
            if state.running[id] == nil { state.abandoned.insert(id) }
            return state.running[id]
        }
        task?.cancel()
    }

    /// Names of a flow's steps, in their order.
    public func steps(of operation: Operation) -> [String] {
        flows["\(operation.flow)/\(operation.version)"]?.steps.map(\.name) ?? []
    }

    /// What the code means that an operation's error names, for those who are not told what drivers say.
    public func sentence(of error: String) -> String? { DriverFailure.Code(beginning: error)?.sentence }

    /// 0...1; nil where nothing was reported.
    public func progress(of id: String) -> Double? { services.progress.fraction(id) }

    /// Has an operation taken back, durably. Refused with the reason where that cannot be.
    public func cancel(_ operation: Operation, caller: Caller, in tx: any Transaction) throws {
        func refusal(_ reason: String) -> StorageError {
            StorageError(.conflict, "Operation \(operation.id) (\(operation.flow)) cannot be cancelled: \(reason).")
        }
        guard let flow = flows["\(operation.flow)/\(operation.version)"], flow.isCancellable else {
            throw refusal("what it does is either done whole or not at all")
        }
        guard operation.finishedAt == nil else { throw refusal("it is \(operation.state)") }
        guard !flow.steps[min(max(operation.step, 0), flow.steps.count - 1)].isPastReturn else {
            throw refusal("it is past the point of no return")
        }
        guard try Operations.cancel(operation, caller: caller, in: tx) else { throw refusal("it is being taken back already") }
    }

    /// Lets nothing start any more and waits (at most `seconds`) for what runs; the rest is the next start's.
    public func drain(within seconds: Double) async {
        state.withLock { $0.draining = true }
        services.isStopping.withLock { $0 = true }
        let limit = Timestamp.monotonic() + seconds
        while Timestamp.monotonic() < limit, state.withLock({ !$0.running.isEmpty }) { try? await Task.sleep(nanoseconds: 10_000_000) }
    }

    private func count(_ flow: String, succeeded: Bool, seconds: Double) {
        outcomes.withLock { outcomes in
            if succeeded { outcomes[flow, default: Outcome()].done += 1 } else { outcomes[flow, default: Outcome()].failed += 1 }
            outcomes[flow]?.seconds.add(seconds)
        }
    }

    /// Writes what is in the log, how old the oldest of it is, and what became of the rest.
    public func write(into text: inout MetricsText) async throws {
        let unfinished = try await services.database.read { try Operations.unfinished(in: $0) }
        text.family("clinker_operations", .gauge, "Operations that are not finished, by flow and state.")
        for entry in unfinished { text.sample("clinker_operations", entry.count, ["flow": entry.flow, "state": entry.state]) }
        text.family("clinker_operations_oldest_age_seconds", .gauge, "Age of the oldest operation that is not finished.")
        for state in ["running", "waiting"] {
            let oldest = unfinished.filter { $0.state == state }.map(\.oldest).min().flatMap { Timestamp.parse($0) }
            text.sample(
                "clinker_operations_oldest_age_seconds", oldest.map { max(0, Timestamp.seconds() - $0) } ?? 0, ["state": state])
        }
        let outcomes = self.outcomes.withLock { $0 }.sorted { $0.key < $1.key }
        text.family("clinker_operations_finished_total", .counter, "Operations finished since the core started, by flow and outcome.")
        for (flow, outcome) in outcomes {
            text.sample("clinker_operations_finished_total", outcome.done, ["flow": flow, "state": "done"])
            text.sample("clinker_operations_finished_total", outcome.failed, ["flow": flow, "state": "failed"])
        }
        text.family("clinker_operation_duration_seconds", .histogram, "Seconds that an operation ran.")
        for (flow, outcome) in outcomes { text.histogram("clinker_operation_duration_seconds", outcome.seconds, ["flow": flow]) }
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
            let started = Timestamp.monotonic()
            do {
                if let (flow, succeeded) = try await carryOut(id, interrupted: interrupted) {
                    count(flow, succeeded: succeeded, seconds: Timestamp.monotonic() - started)
                }
                return
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

    private func promise(_ id: String) -> Promise? { state.withLock { $0.promises[id] } }

    /// Returns the flow and whether it was carried out; nil if there was nothing to do.
    private func carryOut(_ id: String, interrupted: Bool) async throws -> (flow: String, succeeded: Bool)? {
        guard let operation = try await services.database.read({ try Operations.find(id, in: $0) }) else { return nil }
        guard let flow = flows["\(operation.flow)/\(operation.version)"] else {
            services.log.error(
                "no flow \(operation.flow) of version \(operation.version): this release cannot carry the operation on",
                metadata: ["operation_id": "\(id)"])
            return nil
        }
        if !flow.isAwaited { state.withLock { _ = $0.promises.removeValue(forKey: id) } }
        let context = FlowContext(operation: operation, services: services)
        var cursor = Cursor(
            step: operation.step, reverting: operation.isReverting, attempts: operation.attempts, progress: operation.progress,
            failure: operation.error.map { FlowFailure(step: "", message: $0, code: nil, undone: true) })
        if interrupted, !cursor.reverting, flow.whenInterrupted == .revert {
            cursor.failure = FlowFailure(step: "", message: "the request was interrupted", code: .cancelled, undone: true)
            cursor.reverting = true
        }
        if operation.isCancelled, !cursor.reverting, !flow.steps[cursor.step].isPastReturn {
            cursor.failure = FlowFailure(step: "", message: "cancelled", code: .cancelled, undone: true)
            cursor.reverting = true
        }
        while true {
            if cursor.reverting {
                if try await revert(flow, context, &cursor) { return (flow.name, false) }
            } else {
                if try await advance(flow, context, &cursor) { return (flow.name, true) }
            }
        }
    }

    private struct Cursor: Sendable {
        var step: Int
        var reverting: Bool
        var attempts: Int
        var progress: JSONObject
        var failure: FlowFailure?
    }

    /// Does the next step and records it; true when the operation is finished.
    private func advance(_ flow: Flow, _ context: FlowContext, _ cursor: inout Cursor) async throws -> Bool {
        let operation = context.operation
        let index = cursor.step
        let step = flow.steps[index]
        let started = Timestamp.monotonic()
        log("step starts", step, operation)
        do {
            let output = try await perform(step, context, cursor.progress)
            let before = cursor
            cursor = try await services.database.write { tx in
                var after = before
                if before.step == 0 { try Self.event("step.start", step, operation, tx, seconds: nil) }
                try step.record?(context, &after.progress, output, tx)
                try Self.event("step.end", step, operation, tx, seconds: Timestamp.monotonic() - started)
                after.step += 1
                while after.step < flow.steps.count, flow.steps[after.step].perform == nil {
                    let next = flow.steps[after.step]
                    try Self.event("step.start", next, operation, tx, seconds: nil)
                    try next.record?(context, &after.progress, output, tx)
                    try Self.event("step.end", next, operation, tx, seconds: 0)
                    after.step += 1
                }
                if after.step == flow.steps.count {
                    try Operations.finish(operation, state: "done", error: nil, in: tx)
                } else {
                    try Self.event("step.start", flow.steps[after.step], operation, tx, seconds: nil)
                    try Operations.advance(
                        operation.id, step: after.step, reverting: false, attempts: after.attempts, progress: after.progress, error: nil,
                        in: tx)
                }
                return after
            }
            log("step ended", step, operation)
            if cursor.step == flow.steps.count {
                promise(operation.id)?.fulfil(.success(output))
                return true
            }
            return false
        } catch let error as DatabaseError where error.kind != .constraint {
            throw error
        } catch let error as OperationPostponed {
            throw error
        } catch {
            let placement = (error as? PlacementRefusal)?.placement
            let failure = FlowFailure(
                step: step.name, message: Self.message(error),
                code: (error as? DriverFailure)?.code ?? (error is CancellationError ? .cancelled : nil),
                undone: true, refusal: placement.map { ($0, started) })
            services.log.warning(
                "step failed: \(failure.message)",
                metadata: [
                    "step": "\(step.name)", "flow": "\(flow.name)", "operation_id": "\(operation.id)",
                    "resource": "\(operation.resourceID)",
                    "request_id": "\(operation.requestID)",
                ])
            cursor.failure = failure
            cursor.reverting = true
            let now = cursor
            try await services.database.write { tx in
                try Events.append(
                    "step.failed", resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
                    operationID: operation.id, requestID: operation.requestID,
                    data: ["step": .string(step.name), "error": .string(failure.words)], in: tx)
                if let placement { try Operations.setVerdicts(placement.verdicts.abridged.json, of: operation.id, in: tx) }
                try Operations.advance(
                    operation.id, step: now.step, reverting: true, attempts: now.attempts, progress: now.progress, error: failure.words,
                    in: tx)
            }
            return false
        }
    }

    private func perform(_ step: Step, _ context: FlowContext, _ progress: JSONObject) async throws -> DriverValue {
        guard let work = step.perform else { return .object([]) }
        if step.isPastReturn { return try await Task(executorPreference: executor) { try await work(context, progress) }.value }
        try Task.checkCancellation()
        let output = try await work(context, progress)
        try Task.checkCancellation()
        return output
    }

    /// Takes the step at the cursor and all before it back, then ends the operation or begins it again; true when finished.
    private func revert(_ flow: Flow, _ context: FlowContext, _ cursor: inout Cursor) async throws -> Bool {
        let operation = context.operation
        var failure = cursor.failure ?? FlowFailure(step: "", message: "unknown", code: nil, undone: true)
        while cursor.step >= 0 {
            let step = flow.steps[min(cursor.step, flow.steps.count - 1)]
            if let undo = step.undo, failure.undone {
                log("step is taken back", step, operation)
                do {
                    // What is taken back must be, though the client's patience is over.
                    try await Task(executorPreference: executor) { [cursor] in try await undo(context, cursor.progress) }.value
                } catch {
                    failure.undone = false
                    services.log.error(
                        "a step could not be taken back: \(Self.message(error))",
                        metadata: [
                            "step": "\(step.name)", "operation_id": "\(operation.id)", "resource": "\(operation.resourceID)",
                            "request_id": "\(operation.requestID)",
                        ])
                }
            }
            let before = cursor
            let undone = failure.undone
            let reason = failure.words
            cursor = try await services.database.write { tx in
                var after = before
                if undone { try step.recordUndo?(context, &after.progress, tx) }
                try Self.event("step.revert", step, operation, tx, seconds: nil)
                after.step -= 1
                try Operations.advance(
                    operation.id, step: after.step, reverting: true, attempts: after.attempts, progress: after.progress,
                    error: reason, in: tx)
                return after
            }
        }
        let before = cursor
        let final = failure
        let (after, aftermath) = try await services.database.write { tx in
            var after = before
            let aftermath = try flow.failed(context, &after.progress, final, tx)
            switch aftermath {
            case .over: try Operations.finish(operation, state: "failed", error: final.words, in: tx)
            case .again:
                after.step = 0
                after.reverting = false
                after.attempts += 1
                after.failure = nil
                try Operations.advance(
                    operation.id, step: 0, reverting: false, attempts: after.attempts, progress: after.progress, error: nil, in: tx)
            }
            return (after, aftermath)
        }
        cursor = after
        if aftermath == .again { return false }
        promise(operation.id)?.fulfil(.failure(DriverFailure(final.code ?? .error, final.message)))
        return true
    }

    private static func message(_ error: any Error) -> String {
        switch error {
        case let error as DriverFailure: error.message
        case let error as StorageError: error.message
        case let error as PlacementRefusal: error.message
        case is CancellationError: "cancelled"
        default: "\(error)"
        }
    }

    private static func event(_ kind: String, _ step: Step, _ operation: Operation, _ tx: any Transaction, seconds: Double?) throws {
        var data: JSONObject = ["step": .string(step.name)]
        if let seconds { data["seconds"] = .real((seconds * 1e6).rounded() / 1e6) }
        try Events.append(
            kind, resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
            operationID: operation.id, requestID: operation.requestID, data: data, in: tx)
    }

    private func log(_ what: String, _ step: Step, _ operation: Operation) {
        services.log.debug(
            "\(what)",
            metadata: [
                "step": "\(step.name)", "flow": "\(operation.flow)", "operation_id": "\(operation.id)",
                "resource": "\(operation.resourceID)",
                "request_id": "\(operation.requestID)",
            ])
    }
}
