import BlockStorage
import Database
import DriverHost
import JSON
import Logging
import Primitives

/// What carrying an operation out needs of the engine.
struct FlowEnvironment: Sendable {
    let services: FlowServices
    /// What must not be cancelled runs on it in a task of its own.
    let executor: ThreadExecutor
}

/// How an operation ended.
enum OperationEnd: Sendable {
    /// Carried out; with what its client is answered.
    case done(JSON)
    case failed(DriverFailure)
}

/// Carries one operation out, step by step, and records each.
struct FlowRunner<Flow: FlowDefinition>: Sendable {
    private let operation: BlockStorage.Operation
    private let environment: FlowEnvironment
    private let steps: [Step<Flow>]
    private var flowRun: FlowRun<Flow>
    /// The step to do next; reverting, the step to take back next, before the first when none is left.
    private var index: Int
    private var isReverting: Bool
    private var attempts: Int
    private var failure: StepFailure?

    private var services: FlowServices { environment.services }

    init(_ operation: BlockStorage.Operation, interrupted: Bool, _ environment: FlowEnvironment) throws {
        self.operation = operation
        self.environment = environment
        steps = Flow.steps
        flowRun = FlowRun(
            operation, arguments: try Flow.Arguments(parsing: operation.arguments), state: try Flow.State(parsing: operation.stepState),
            settings: environment.services.settings, database: environment.services.database)
        if let name = operation.step {
            guard let found = steps.firstIndex(where: { $0.name == name }) else {
                throw OperationPostponed(reason: "its flow \(Flow.id) has no step \"\(name)\" in this release")
            }
            index = found
        } else {
            index = operation.isReverting ? -1 : 0
        }
        isReverting = operation.isReverting
        attempts = operation.attempts
        failure = operation.error.map { StepFailure(step: "", message: $0, code: nil) }
        if interrupted, !isReverting, Flow.whenInterrupted == .revert {
            failure = StepFailure(step: "", message: "the request was interrupted", code: .cancelled)
            isReverting = true
        }
        if operation.isCancelled, !isReverting, !steps[index].isPastReturn {
            failure = StepFailure(step: "", message: "cancelled", code: .cancelled)
            isReverting = true
        }
    }

    /// Carries the operation out to its end. Throws what leaves it in the log: trouble with the database, `OperationPostponed`.
    mutating func run() async throws -> OperationEnd {
        if isReverting, let error = operation.error { failure = try await remembered(error) }
        while true {
            if isReverting {
                if let failed = try await revert() { return .failed(failed) }
            } else {
                if try await advance() { return .done(flowRun.answer) }
            }
        }
    }

    // MARK: forward

    /// Does the next step and records it; true when the operation is finished.
    private mutating func advance() async throws -> Bool {
        let step = steps[index]
        let started = Timestamp.monotonic()
        log("step starts", step)
        do {
            let record = try await perform(step)
            let before = self
            self = try await services.database.write { tx in
                var after = before
                try Operations.lock(after.operation.id, in: tx)
                try after.record(step, record, started: started, in: tx)
                return after
            }
            log("step ended", step)
            return index == steps.count
        } catch let error as DatabaseError where error.kind != .constraint {
            throw error
        } catch let error as OperationPostponed {
            throw error
        } catch {
            try await fail(step, error)
            return false
        }
    }

    private func perform(_ step: Step<Flow>) async throws -> Step<Flow>.Record {
        guard let work = step.perform else { return step.record ?? { _, _ in } }
        let (run, services) = (flowRun, services)
        if step.isPastReturn { return try await Task(executorPreference: environment.executor) { try await work(run, services) }.value }
        try Task.checkCancellation()
        let record = try await work(run, services)
        try Task.checkCancellation()
        return record
    }

    /// Records the step, and those after it that have no work of their own.
    private mutating func record(_ step: Step<Flow>, _ record: Step<Flow>.Record, started: Double, in tx: any Transaction) throws {
        let notifications = try NotificationOutbox.OfOperation(operation, in: tx)
        if index == 0 { try event("step.start", step, in: tx) }
        try record(&flowRun, tx)
        try event("step.end", step, seconds: Timestamp.monotonic() - started, in: tx)
        try notifications?.stepped(step.name, in: tx)
        index += 1
        while index < steps.count, steps[index].perform == nil {
            let next = steps[index]
            try event("step.start", next, in: tx)
            try next.record?(&flowRun, tx)
            try event("step.end", next, seconds: 0, in: tx)
            try notifications?.stepped(next.name, in: tx)
            index += 1
        }
        guard index < steps.count else {
            try notifications?.done(in: tx)
            return try Operations.finish(operation, state: .done, error: nil, in: tx)
        }
        try event("step.start", steps[index], in: tx)
        try store(error: nil, in: tx)
    }

    private mutating func fail(_ step: Step<Flow>, _ error: any Error) async throws {
        let refusal = error as? PlacementRefusal
        let failure = StepFailure(
            step: step.name, message: Self.message(error).shortened(to: Self.longestMessage),
            code: (error as? DriverFailure)?.code ?? (error is CancellationError ? .cancelled : nil), refusal: refusal)
        services.log.warning("step failed: \(failure.message)", metadata: metadata(step))
        self.failure = failure
        isReverting = true
        let now = self
        try await services.database.write { tx in
            try Operations.lock(now.operation.id, in: tx)
            try Events.append(
                "step.failed", resourceType: now.operation.resourceType, resourceID: now.operation.resourceID,
                projectID: now.operation.projectID, operationID: now.operation.id, requestID: now.operation.requestID,
                data: ["step": .string(step.name), "error": .string(failure.words)], in: tx)
            if let refusal {
                try Operations.setVerdicts(refusal.placement.verdicts.abridged.json, of: now.operation.id, in: tx)
            }
            try now.store(error: failure.words, in: tx)
        }
    }

    // MARK: back

    /// What the process that died was taking back, by its history: the operation's row has no more than the words.
    private func remembered(_ words: String) async throws -> StepFailure {
        let (operation, code) = (operation, DriverFailure.Code(beginning: words))
        let message = code.map { String(words.dropFirst($0.name.count + 2)) } ?? words
        var failure = StepFailure(step: "", message: message, code: code)
        for event in try await services.database.read({ try Events.of(operation, in: $0) }).reversed() {
            let data = try JSON(parsing: event.data)
            switch event.kind {
            case "step.revert": if data["undone"] == false { failure.isUndone = false }
            case "step.failed":
                guard data["error"]?.string == words else { return failure }
                return StepFailure(step: data["step"]?.string ?? "", message: message, code: code, isUndone: failure.isUndone)
            case "step.start", "step.end": return failure
            default: break
            }
        }
        return failure
    }

    /// Takes the step at the index and all before it back, then ends the operation or begins it again; why it failed when it is finished.
    private mutating func revert() async throws -> DriverFailure? {
        var failure = self.failure ?? StepFailure(step: "", message: "unknown", code: nil)
        while index >= 0 {
            let step = steps[min(index, steps.count - 1)]
            if failure.isUndone { failure.isUndone = try await undo(step) }
            let (before, known) = (self, failure)
            self = try await services.database.write { tx in
                var after = before
                try Operations.lock(after.operation.id, in: tx)
                if known.isUndone { try step.recordUndo?(&after.flowRun, tx) }
                try after.event("step.revert", step, isUndone: known.isUndone, in: tx)
                after.index -= 1
                try after.store(error: known.words, in: tx)
                return after
            }
        }
        let (before, final) = (self, failure)
        let (after, outcome) = try await services.database.write { tx in
            var after = before
            try Operations.lock(after.operation.id, in: tx)
            let outcome = try Flow.failed(&after.flowRun, final, in: tx)
            switch outcome {
            case .finished:
                try NotificationOutbox.OfOperation(after.operation, in: tx)?.failed(at: final.step, final.message, in: tx)
                try Operations.finish(after.operation, state: .failed, error: final.words, in: tx)
            case .retry:
                after.index = 0
                after.isReverting = false
                after.attempts += 1
                after.failure = nil
                try after.store(error: nil, in: tx)
            }
            return (after, outcome)
        }
        self = after
        return outcome == .retry ? nil : DriverFailure(final.code ?? .error, final.message)
    }

    /// False if the step could not be taken back. Throws `OperationPostponed` if that is left for the next start.
    private func undo(_ step: Step<Flow>) async throws -> Bool {
        guard let undo = step.undo else { return true }
        log("step is taken back", step)
        let (run, services) = (flowRun, services)
        do {
            // What is taken back must be, though the client waits no longer.
            try await Task(executorPreference: environment.executor) { try await undo(run, services) }.value
            return true
        } catch let error as OperationPostponed {
            throw error
        } catch {
            services.log.error("a step could not be taken back: \(Self.message(error))", metadata: metadata(step))
            return false
        }
    }

    // MARK: the log

    /// Stores where the operation stands.
    private func store(error: String?, in tx: any Transaction) throws {
        try Operations.advance(
            operation.id, step: index >= 0 ? steps[index].name : nil, reverting: isReverting, attempts: attempts, state: flowRun.state,
            error: error, in: tx)
    }

    private func event(_ kind: String, _ step: Step<Flow>, seconds: Double? = nil, isUndone: Bool = true, in tx: any Transaction) throws {
        var data: JSONObject = ["step": .string(step.name)]
        if !isUndone { data["undone"] = false }
        if let seconds { data["seconds"] = .real((seconds * 1e6).rounded() / 1e6) }
        try Events.append(
            kind, resourceType: operation.resourceType, resourceID: operation.resourceID, projectID: operation.projectID,
            operationID: operation.id, requestID: operation.requestID, data: data, in: tx)
    }

    /// Bytes of what is kept of why a step failed: more than a driver may say.
    private static var longestMessage: Int { 8192 }

    private static func message(_ error: any Error) -> String {
        switch error {
        case let error as DriverFailure: error.message
        case let error as StorageError: error.message
        case let error as PlacementRefusal: error.message
        case is CancellationError: "cancelled"
        default: "\(error)"
        }
    }

    private func metadata(_ step: Step<Flow>) -> Logger.Metadata {
        [
            "step": "\(step.name)", "flow": "\(operation.flow.name)", "operation_id": "\(operation.id)",
            "resource": "\(operation.resourceID)", "request_id": "\(operation.requestID)",
        ]
    }

    private func log(_ what: String, _ step: Step<Flow>) { services.log.debug("\(what)", metadata: metadata(step)) }
}
