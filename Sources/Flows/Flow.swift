import BlockStorage
import Database
import DriverHost
import JSON
import Primitives

/// How a kind of operation is carried out: named steps, each of which can be taken back.
struct Flow: Sendable {
    let name: String
    /// Stored with every operation; a changed list of steps is a new version, and the previous release's stays runnable.
    let version: Int
    /// What happens to an operation that a dead process left: carry on, or take back because the client that waited is gone.
    var whenInterrupted = Interruption.resume
    /// A client waits for the output of the last step.
    var isAwaited = false
    /// Whether a user may have it taken back: what it leaves then is whole.
    var isCancellable = false
    let steps: [Step]
    /// After a failure, when every step was taken back (`undone`) or could not be: sets the final states, or asks for
    /// another attempt.
    let failed: @Sendable (FlowContext, inout JSONObject, FlowFailure, any Transaction) throws -> Aftermath

    enum Interruption: Sendable { case resume, revert }
    enum Aftermath: Sendable { case over, again }
}

/// One step. Work outside of the database stands in `perform` and may be repeated; what it found is recorded, together with
/// the fact that it is done, in one transaction by `record`. Steps without `perform` share the transaction of the step before.
struct Step: Sendable {
    let name: String
    /// Behind the point of no return: the operation is not taken back any more, and nobody can cancel it. Its `perform` must
    /// deal with failures itself.
    var isPastReturn = false
    var perform: (@Sendable (FlowContext, JSONObject) async throws -> DriverValue)?
    var record: (@Sendable (FlowContext, inout JSONObject, DriverValue, any Transaction) throws -> Void)?
    var undo: (@Sendable (FlowContext, JSONObject) async throws -> Void)?
    var recordUndo: (@Sendable (FlowContext, inout JSONObject, any Transaction) throws -> Void)?
}

/// Why an operation failed.
struct FlowFailure: Error, Sendable, CustomStringConvertible {
    let step: String
    let message: String
    let code: DriverFailure.Code?
    /// Whether everything begun was taken back.
    var undone: Bool
    /// What the scheduler said, where it found no pool, and when the step began.
    var refusal: (placement: Scheduler.Placement, begunAt: Double)?
    var description: String { message }

    /// What is kept with the operation: with the code, where it is a driver's.
    var words: String {
        guard let code, code.rawValue > 0, code != .cancelled else { return message }
        return "\(DriverFailure(code, message))"
    }
}

/// What steps work with.
struct FlowContext: Sendable {
    let operation: Operation
    let services: FlowServices

    var volumeID: String { operation.resourceID }

    /// The volume as it is now.
    func volume() async throws -> Volume { try await volume(operation.resourceID) }

    func volume(_ id: String) async throws -> Volume {
        guard let volume = try await services.database.read({ try Volumes.find(id, in: $0) }) else { throw StorageError.volumeNotFound(id) }
        return volume
    }

    /// The volume inside of a transaction.
    func volume(in tx: any Transaction) throws -> Volume {
        guard let volume = try Volumes.find(volumeID, in: tx) else { throw StorageError.volumeNotFound(volumeID) }
        return volume
    }

    func backend(of volume: Volume) throws -> BackendEntry {
        guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
        return try backend(of: host)
    }

    /// `host`: `node@backend#pool`
    func backend(of host: String) throws -> BackendEntry {
        guard let entry = services.backends.entry(HostName.backend(of: host)) else {
            throw DriverFailure(.unavailable, "no backend of this node serves \(host)")
        }
        return entry
    }

    /// The backend of a volume, for what is removed: where it is not enabled now, the operation waits for a start with it.
    func backendForRemoval(of volume: Volume) throws -> BackendEntry {
        guard let host = volume.host, services.backends.entry(HostName.backend(of: host)) == nil else { return try backend(of: volume) }
        throw OperationPostponed(reason: "no backend of this node serves \(host): it waits for a start with it in enabled_backends")
    }

    /// What a driver is told of a volume.
    func describe(_ volume: Volume) async throws -> DriverValue {
        try await describe(
            volume, as: volume.nameID ?? volume.id, host: volume.host ?? "", data: volume.driverData, isConnected: isConnected(volume))
    }

    /// Whether somebody was told where the volume is, and has not let go of it.
    func isConnected(_ volume: Volume) async throws -> Bool {
        try await services.database.read { try HostConnections.isConnected(volume.id, in: $0) }
    }

    /// Nobody may be connected to what is copied elsewhere or brought back: he would go on writing to what it was.
    func requireUnconnected(_ volume: Volume, in connection: any Connection) throws {
        guard try HostConnections.isConnected(volume.id, in: connection) else { return }
        throw DriverFailure(.busy, "a host is connected to volume \(volume.id)")
    }

    /// The same for another storage object of the volume: `id` is what its name holds. `isConnected`: somebody may be writing to it.
    func describe(_ volume: Volume, as id: String, host: String, data: String?, isConnected: Bool) -> DriverValue {
        .members([
            "id": .string(id), "name": .string(services.names.volume(id)), "size": .integer(Int64(volume.size)),
            "pool": .optional(host.split(separator: "#", maxSplits: 1).dropFirst().first.map(String.init)), "data": .optional(data),
            "attached": .boolean(isConnected),
        ])
    }

    /// What a driver is told of a volume that it makes or takes over: its type's wishes, too.
    func describeNew(_ volume: DriverValue, of type: VolumeType) -> DriverValue {
        guard case .object(let members) = volume, type.isReplicated else { return volume }
        return .object(members + [.init("replicated", .boolean(true))])
    }

    func describeNew(_ volume: Volume) async throws -> DriverValue {
        let object = describe(
            volume, as: volume.nameID ?? volume.id, host: volume.host ?? "", data: volume.driverData, isConnected: false)
        return describeNew(object, of: try await services.database.read { try VolumeTypes.get(volume.volumeTypeID, in: $0) })
    }

    /// Whether a backend's volumes share targets; nil if its driver says null.
    static func sharedTargets(_ capabilities: DriverValue?) -> Bool? {
        capabilities?["shared_targets"] == .null ? nil : capabilities?["shared_targets"]?.boolean ?? false
    }

    /// Notes that the backend holds the volume, and what the driver said of it.
    func made(_ volume: Volume, _ output: DriverValue, in tx: any Transaction) throws {
        let capabilities = try backend(of: volume).backend.description?.capabilities
        try Volumes.made(
            volume.id, driverData: output["data"]?.string, providerID: output["provider_id"]?.string,
            sharedTargets: FlowContext.sharedTargets(capabilities), replicationStatus: output["replication_status"]?.string, in: tx)
    }

    /// The snapshot that the operation is about.
    func snapshot() async throws -> Snapshot {
        let id = operation.arguments["snapshot_id"]?.string ?? ""
        guard let snapshot = try await services.database.read({ try Snapshots.find(id, in: $0) }) else {
            throw StorageError.snapshotNotFound(id)
        }
        return snapshot
    }

    /// What a driver is told of a snapshot.
    func describe(_ snapshot: Snapshot) -> DriverValue {
        .members([
            "id": .string(snapshot.id), "name": .string(services.names.snapshot(snapshot.id)), "size": .integer(Int64(snapshot.size)),
            "data": .optional(snapshot.driverData),
        ])
    }

    /// Tells the user why the operation on a snapshot failed.
    func tell(_ action: Message.Action, _ detail: Message.Detail, snapshotID: String, in tx: any Transaction) throws {
        try Messages.add(
            action, detail, volumeID: operation.resourceID, snapshotID: snapshotID, projectID: operation.projectID,
            requestID: operation.requestID, in: tx)
    }

    /// Tells the user why the operation failed.
    func tell(_ action: Message.Action, _ detail: Message.Detail, in tx: any Transaction) throws {
        try Messages.add(
            action, detail, volumeID: operation.resourceID, projectID: operation.projectID, requestID: operation.requestID, in: tx)
    }

    /// Calls the driver until there is an answer: again after the death of its host, after passing trouble, and while the
    /// backend is down for at most `patience` seconds. nil, for what is removed: as long as it takes, trouble and full storage included;
    /// what was begun is neither whole nor gone.
    func call(_ entry: BackendEntry, _ method: DriverMethod, _ arguments: DriverValue, patience: Double? = 60) async throws -> DriverValue {
        var deaths = 0
        var retries = 0
        var patienceLeft = Patience(seconds: patience)
        while true {
            do {
                return try await entry.backend.call(
                    method, arguments, requestID: operation.requestID,
                    onProgress: { [services, operation] done, total in services.progress.set(operation.id, done, total) })
            } catch let failure as DriverFailure {
                try Task.checkCancellation()
                switch failure.code {
                case .hostDied:
                    deaths += 1
                    // A call that kills every host is given up; one that is only unlucky is not.
                    guard deaths < (patience == nil ? 50 : 8) else {
                        throw DriverFailure(.error, "the driver's host died \(deaths) times in \(method.rawValue)")
                    }
                    services.log.warning(
                        "the driver's host died, the call is repeated: \(failure.message)",
                        metadata: [
                            "request_id": "\(operation.requestID)", "operation_id": "\(operation.id)", "method": "\(method.rawValue)",
                        ])
                    _ = await entry.backend.waitUntilUp(within: 30)
                case .unavailable:
                    try await patienceLeft.wait(after: failure) { await entry.backend.waitUntilUp(within: $0) }
                case .retry where retries < 5 || patience == nil, .noSpace where patience == nil:
                    if retries == 5 {
                        services.log.warning(
                            "the backend cannot do it now, it is tried again and again: \(failure.message)",
                            metadata: [
                                "request_id": "\(operation.requestID)", "operation_id": "\(operation.id)", "method": "\(method.rawValue)",
                            ])
                    }
                    retries += 1
                    try await pause(min(0.1 * Double(1 << min(retries, 10)), 30), endsWithService: patience == nil)
                default: throw failure
                }
            }
        }
    }

    /// `endsWithService`: what waits for storage without end waits on in the next start.
    private func pause(_ seconds: Double, endsWithService: Bool) async throws {
        let end = Timestamp.monotonic() + seconds
        while case let left = end - Timestamp.monotonic(), left > 0 {
            if endsWithService, services.isStopping.withLock({ $0 }) {
                throw OperationPostponed(reason: "its storage does not answer, and the service stops")
            }
            try await Task.sleep(nanoseconds: UInt64(min(left, 0.2) * 1e9))
        }
    }

    /// The call, where a driver that leaves it out has nothing to do.
    func callIfServed(
        _ entry: BackendEntry, _ method: DriverMethod, _ arguments: DriverValue, patience: Double? = 60
    ) async throws -> DriverValue {
        do {
            return try await call(entry, method, arguments, patience: patience)
        } catch let failure as DriverFailure where failure.code == .unsupported {
            return .object([])
        }
    }
}

/// The operation can neither go on nor be taken back in this process: it stays in the log for the next start.
struct OperationPostponed: Error { let reason: String }
