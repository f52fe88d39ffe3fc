import BlockStorage
import Database
import DriverHost

// What the flows of snapshots share. Their operations stand under the volume, so that its history is one.

extension FlowRun where Flow.Arguments: SnapshotArguments {
    /// The snapshot that the operation is about.
    func snapshot() async throws -> Snapshot {
        let id = arguments.snapshotID
        guard let snapshot = try await read({ try Snapshots.find(id, in: $0) }) else { throw StorageError.snapshotNotFound(id) }
        return snapshot
    }

    /// The same, locked by the transaction, if it is still there.
    func snapshot(in tx: any Transaction) throws -> Locked<Snapshot>? { try Snapshots.lock(arguments.snapshotID, in: tx) }

    /// What a driver is told of both.
    func driverArguments(withSnapshotOf volume: Volume) async throws -> DriverValue {
        let snapshot = try await snapshot()
        return .members(["volume": try await driverArguments(volume), "snapshot": driverArguments(snapshot)])
    }

    /// After a failure: the snapshot's state, and what its user is told.
    func failed(_ status: SnapshotStatus, _ action: Message.Action, _ detail: Message.Detail, in tx: any Transaction) throws -> Outcome {
        if let snapshot = try snapshot(in: tx) { try Snapshots.setStatus(status, of: snapshot, in: tx) }
        try addUserMessage(action, detail, snapshotID: arguments.snapshotID, in: tx)
        return .finished
    }
}
