import BlockStorage
import Database
import DriverHost

/// One step of a flow. What it does outside of the database may be repeated; what it found is recorded, together with the fact that it is
/// done, in one transaction. The functions that make steps say what each kind may reach.
struct Step<Flow: FlowDefinition>: Sendable {
    typealias Run = FlowRun<Flow>
    /// Records a finished step.
    typealias Record = @Sendable (inout Run, any Transaction) throws -> Void

    let name: String
    /// Behind the point of no return: the operation is not taken back any more, and nobody can cancel it. Its work must deal with failures
    /// itself.
    var isPastReturn = false
    /// Does the step's work and returns what records it. nil: `record` shares the transaction of the step before.
    var perform: (@Sendable (Run, FlowServices) async throws -> Record)?
    var record: Record?
    var undo: (@Sendable (Run, FlowServices) async throws -> Void)?
    var recordUndo: Record?
}

extension Step {
    /// A step without work of its own: recorded with the step before it.
    static func record(_ name: String, _ record: @escaping Record) -> Step { Step(name: name, record: record) }

    /// A step that asks the scheduler. `prepare` waits for what the choice needs, `record` chooses and claims.
    static func place<Found: Sendable>(
        _ name: String, prepare: @escaping @Sendable (Run, PoolChooser) async throws -> Found,
        record: @escaping @Sendable (inout Run, PoolChooser, Found, any Transaction) throws -> Void, recordUndo: @escaping Record
    ) -> Step {
        var step = Step(name: name, recordUndo: recordUndo)
        step.perform = { run, services in
            let chooser = PoolChooser(run.operation, services)
            let found = try await prepare(run, chooser)
            return { try record(&$0, chooser, found, $1) }
        }
        return step
    }

    /// A step that calls the driver of one backend. `host` says which, as `node@backend#pool`; without one there is nothing to do, and
    /// `record` gets nil. Where the backend is not enabled the step fails, or the operation `waitsForBackend`: for a start with it.
    static func onBackend<Found: Sendable>(
        _ name: String, waitsForBackend: Bool = false, host: @escaping @Sendable (Run) async throws -> String?,
        perform: @escaping @Sendable (Run, OperationBackend) async throws -> Found,
        record: @escaping @Sendable (inout Run, Found?, any Transaction) throws -> Void = { _, _, _ in },
        undo: (@Sendable (Run, OperationBackend) async throws -> Void)? = nil, recordUndo: Record? = nil
    ) -> Step {
        var step = Step(name: name, recordUndo: recordUndo)
        step.perform = { run, services in
            guard let host = try await host(run) else { return { try record(&$0, nil, $1) } }
            let backend = try OperationBackend(at: host, run.operation, services, waitsIfMissing: waitsForBackend)
            let found = try await perform(run, backend)
            return { try record(&$0, found, $1) }
        }
        if let undo {
            step.undo = { run, services in
                guard let host = try await host(run) else { return }
                try await undo(run, OperationBackend(at: host, run.operation, services))
            }
        }
        return step
    }

    /// A step behind the point of no return. It calls a driver as `onBackend` does, and goes on where that fails: `complaint` is logged
    /// then, and `record` gets nil.
    static func pastReturn<Found: Sendable>(
        _ name: String, complaint: String?, host: @escaping @Sendable (Run) -> String?,
        perform: @escaping @Sendable (Run, OperationBackend) async throws -> Found,
        record: @escaping @Sendable (inout Run, Found?, any Transaction) throws -> Void
    ) -> Step {
        var step = Step(name: name, isPastReturn: true)
        step.perform = { run, services in
            guard let host = host(run) else { return { try record(&$0, nil, $1) } }
            do {
                let found = try await perform(run, OperationBackend(at: host, run.operation, services))
                return { try record(&$0, found, $1) }
            } catch let error as DatabaseError {
                throw error
            } catch {
                if let complaint {
                    services.log.error(
                        "\(complaint): \(error)",
                        metadata: [
                            "volume": "\(run.volumeID)", "host": "\(host)", "operation_id": "\(run.operation.id)",
                            "request_id": "\(run.operation.requestID)",
                        ])
                }
                return { try record(&$0, nil, $1) }
            }
        }
        return step
    }

    /// A step that calls the driver of the operation's volume. Where the volume lies nowhere the step fails, or, if it `skipsUnplaced`,
    /// has nothing to do, and `record` gets nil. Where its backend is not enabled the step fails, or the operation `waitsForBackend`.
    static func onVolume<Found: Sendable>(
        _ name: String, skipsUnplaced: Bool = false, waitsForBackend: Bool = false,
        perform: @escaping @Sendable (Run, Volume, OperationBackend) async throws -> Found,
        record: @escaping @Sendable (inout Run, Found?, any Transaction) throws -> Void = { _, _, _ in },
        undo: (@Sendable (Run, Volume, OperationBackend) async throws -> Void)? = nil, recordUndo: Record? = nil
    ) -> Step {
        var step = Step(name: name, recordUndo: recordUndo)
        step.perform = { run, services in
            let volume = try await run.volume()
            guard let host = volume.host else {
                guard !skipsUnplaced else { return { try record(&$0, nil, $1) } }
                throw DriverFailure(.unavailable, "the volume lies nowhere")
            }
            let backend = try OperationBackend(at: host, run.operation, services, waitsIfMissing: waitsForBackend)
            let found = try await perform(run, volume, backend)
            return { try record(&$0, found, $1) }
        }
        if let undo {
            step.undo = { run, services in
                let volume = try await run.volume()
                guard let host = volume.host else { return }
                try await undo(run, volume, OperationBackend(at: host, run.operation, services))
            }
        }
        return step
    }
}
