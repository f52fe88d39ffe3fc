import BlockStorage
import Database
import DriverHost
import JSON

/// One operation that is being carried out, as the steps of its flow see it.
struct FlowRun<Flow: FlowDefinition>: Sendable {
    let operation: BlockStorage.Operation
    let arguments: Flow.Arguments
    /// What finished steps recorded. A step that records changes it; it is stored in the same transaction.
    var state: Flow.State
    /// What the waiting client gets once the flow is carried out. Never stored: it may hold secrets.
    var answer: JSON = .object([:])
    let settings: FlowSettings
    private let database: any Database

    init(_ operation: BlockStorage.Operation, arguments: Flow.Arguments, state: Flow.State, settings: FlowSettings, database: any Database)
    {
        self.operation = operation
        self.arguments = arguments
        self.state = state
        self.settings = settings
        self.database = database
    }

    var volumeID: String { operation.resourceID }

    // MARK: reading and recording

    func read<T: Sendable>(_ body: @Sendable (any Connection) throws -> T) async throws -> T {
        try await database.read(body)
    }

    /// Records a part of a step that may take long: should the rest of it fail, this part stays recorded.
    func recordPart(_ body: @escaping @Sendable (any Transaction) throws -> Void) async throws {
        try await database.write { [operation] tx in
            try Operations.lock(operation.id, in: tx)
            try body(tx)
        }
    }

    /// The operation's volume as it is now.
    func volume() async throws -> Volume { try await volume(volumeID) }

    func volume(_ id: String) async throws -> Volume {
        guard let volume = try await read({ try Volumes.find(id, in: $0) }) else { throw StorageError.volumeNotFound(id) }
        return volume
    }

    /// The operation's volume, locked by the transaction.
    func volume(in tx: any Transaction) throws -> Locked<Volume> {
        guard let volume = try Volumes.lock(volumeID, in: tx) else { throw StorageError.volumeNotFound(volumeID) }
        return volume
    }

    /// Whether somebody was told where the volume is, and has not let go of it.
    func isConnected(_ volume: Volume) async throws -> Bool { try await read { try HostConnections.isConnected(volume.id, in: $0) } }

    // MARK: what drivers are told

    /// What a driver is told of a volume.
    func driverArguments(_ volume: Volume) async throws -> DriverValue {
        driverArguments(
            volume, as: volume.nameID ?? volume.id, host: volume.host ?? "", data: volume.driverData,
            isConnected: try await isConnected(volume))
    }

    /// The same for another storage object of the volume: `id` is what its name holds. `isConnected`: somebody may be writing to it.
    func driverArguments(_ volume: Volume, as id: String, host: String, data: String?, isConnected: Bool) -> DriverValue {
        let object = driverArguments(objectID: id, size: volume.size, host: host, data: data, isConnected: isConnected)
        guard case .object(let members) = object, volume.isEncrypted else { return object }
        return .object(members + [.init("encrypted", .boolean(true))])
    }

    /// The same for a storage object of which no volume tells.
    func driverArguments(objectID id: String, size: Int, host: String, data: String?, isConnected: Bool) -> DriverValue {
        .members([
            "id": .string(id), "name": .string(settings.names.volume(id)), "size": .integer(Int64(size)),
            "pool": .optional(HostName.pool(of: host)), "data": .optional(data),
            "attached": .boolean(isConnected),
        ])
    }

    /// What a driver is told of a volume that it makes or takes over: its type's wishes, too.
    func driverArguments(new volume: Volume) async throws -> DriverValue {
        let object = driverArguments(
            volume, as: volume.nameID ?? volume.id, host: volume.host ?? "", data: volume.driverData, isConnected: false)
        return driverArguments(new: object, of: try await read { try VolumeTypes.get(volume.volumeTypeID, in: $0) })
    }

    func driverArguments(new volume: DriverValue, of type: VolumeType) -> DriverValue {
        guard case .object(let members) = volume, type.isReplicated else { return volume }
        return .object(members + [.init("replicated", .boolean(true))])
    }

    /// What a driver is told of a snapshot.
    func driverArguments(_ snapshot: Snapshot) -> DriverValue {
        .members([
            "id": .string(snapshot.id), "name": .string(settings.names.snapshot(snapshot.id)), "size": .integer(Int64(snapshot.size)),
            "data": .optional(snapshot.driverData),
        ])
    }

    // MARK: what is recorded

    /// Records that the backend holds the volume, and what the driver said of it.
    func markCreated(_ volume: Locked<Volume>, _ created: CreatedObject, in tx: any Transaction) throws {
        try Volumes.made(
            volume, driverData: created.data, providerID: created.providerID, sharedTargets: created.sharedTargets,
            replicationStatus: created.replicationStatus, in: tx)
    }

    /// Tells the user why the operation failed.
    func addUserMessage(_ action: Message.Action, _ detail: Message.Detail, snapshotID: String? = nil, in tx: any Transaction) throws {
        try Messages.add(
            action, detail, volumeID: volumeID, snapshotID: snapshotID, projectID: operation.projectID, requestID: operation.requestID,
            keptFor: settings.messageLifetime, in: tx)
    }

    /// Records that a storage object stays where it is though nothing is known of it any more: no finding for the doctor.
    func recordUnmanaged(_ id: String, _ type: String, in tx: any Transaction) throws {
        try Events.append(
            type + Events.leftSuffix, resourceType: type, resourceID: id, projectID: operation.projectID, operationID: operation.id,
            requestID: operation.requestID, in: tx)
    }
}

/// Nobody may be connected to what is copied elsewhere or brought back: he would go on writing to what it was.
func requireUnconnected(_ volume: Volume, in connection: any Connection) throws {
    guard try HostConnections.isConnected(volume.id, in: connection) else { return }
    throw DriverFailure(.busy, "a host is connected to volume \(volume.id)")
}

/// What a driver said of a storage object that it made or took over.
struct CreatedObject: Sendable {
    let data, providerID, replicationStatus: String?
    /// GiB, where the driver measured it.
    let size: Int?
    /// Whether the backend's volumes share targets; nil if its driver does not say.
    let sharedTargets: Bool?

    init(_ output: DriverValue, on backend: OperationBackend) {
        data = output["data"]?.string
        providerID = output["provider_id"]?.string
        replicationStatus = output["replication_status"]?.string
        size = output["size"]?.integer.flatMap { Int(exactly: $0) }
        sharedTargets = backend.sharesTargets
    }
}
