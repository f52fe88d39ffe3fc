import BlockStorage
import Database
import DriverHost
import JSON

/// The flows of snapshots. Their operations stand under the volume, so that its history is one.
enum SnapshotFlows {
    static let all = [create, delete, revert, manage, unmanage]

    private static func arguments(_ context: FlowContext, _ volume: Volume, _ snapshot: Snapshot) async throws -> DriverValue {
        try await .members(["volume": context.describe(volume), "snapshot": context.describe(snapshot)])
    }

    /// The snapshot of the operation, if it is still there.
    private static func snapshot(_ context: FlowContext, in tx: any Transaction) throws -> Snapshot? {
        try context.operation.arguments["snapshot_id"]?.string.flatMap { try Snapshots.find($0, in: tx) }
    }

    /// After a failure: the snapshot's state, and what its user is told.
    private static func failed(
        _ context: FlowContext, _ status: SnapshotStatus, _ action: Message.Action, _ detail: Message.Detail, in tx: any Transaction
    )
        throws -> Flow.Aftermath
    {
        guard let id = context.operation.arguments["snapshot_id"]?.string else { return .over }
        try Snapshots.setStatus(status, of: id, in: tx)
        try context.tell(action, detail, snapshotID: id, in: tx)
        return .over
    }

    // MARK: come

    static let create = Flow(
        name: FlowName.createSnapshot, version: 1, isCancellable: true,
        steps: [
            Step(
                name: "make",
                perform: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    return try await context.call(context.backend(of: volume), .createSnapshot, arguments(context, volume, snapshot))
                },
                record: { context, _, output, tx in
                    guard let snapshot = try snapshot(context, in: tx) else { return }
                    try Snapshots.made(snapshot.id, driverData: output["data"]?.string, in: tx)
                },
                undo: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    _ = try await context.call(
                        context.backend(of: volume), .deleteSnapshot, arguments(context, volume, snapshot), patience: 5)
                })
        ],
        failed: { context, _, _, tx in try failed(context, "error", .createSnapshot, .snapshotFailed, in: tx) })

    static let manage = Flow(
        name: FlowName.manageSnapshot, version: 1,
        steps: [
            Step(
                name: "take over",
                perform: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    return try await context.call(
                        context.backend(of: volume), .manageSnapshot,
                        .members([
                            "volume": try await context.describe(volume), "snapshot": context.describe(snapshot),
                            "reference": DriverValue(context.operation.arguments["reference"] ?? .null),
                        ]))
                },
                record: { context, _, output, tx in
                    guard let snapshot = try snapshot(context, in: tx) else { return }
                    if let size = output["size"]?.integer, size > 0 {
                        try Snapshots.resize(snapshot, to: Int(size), chargesGigabytes: context.services.snapshotsChargeGigabytes, in: tx)
                    }
                    try Snapshots.made(snapshot.id, driverData: output["data"]?.string, in: tx)
                })
        ],
        failed: { context, _, _, tx in try failed(context, "error", .createSnapshot, .snapshotFailed, in: tx) })

    // MARK: go

    static let delete = Flow(
        name: FlowName.deleteSnapshot, version: 1,
        steps: [
            Step(
                name: "remove",
                perform: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    return try await context.call(
                        context.backendForRemoval(of: volume), .deleteSnapshot, arguments(context, volume, snapshot), patience: nil)
                },
                record: { context, _, _, tx in
                    guard let snapshot = try snapshot(context, in: tx) else { return }
                    try Snapshots.remove(snapshot, chargesGigabytes: context.services.snapshotsChargeGigabytes, in: tx)
                })
        ],
        failed: { context, _, failure, tx in
            failure.code == .busy
                ? try failed(context, "available", .deleteSnapshot, .snapshotBusy, in: tx)
                : try failed(context, "error_deleting", .deleteSnapshot, .snapshotNotDeleted, in: tx)
        })

    static let unmanage = Flow(
        name: FlowName.unmanageSnapshot, version: 1,
        steps: [
            Step(
                name: "leave",
                perform: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    return try await context.callIfServed(
                        context.backend(of: volume), .unmanageSnapshot, arguments(context, volume, snapshot))
                },
                record: { context, _, _, tx in
                    guard let snapshot = try snapshot(context, in: tx) else { return }
                    try context.left(snapshot.id, "snapshot", in: tx)
                    try Snapshots.remove(snapshot, chargesGigabytes: context.services.snapshotsChargeGigabytes, in: tx)
                })
        ],
        failed: { context, _, _, tx in try failed(context, "error", .deleteSnapshot, .unknown, in: tx) })

    // MARK: back

    static let revert = Flow(
        name: FlowName.revertVolume, version: 1,
        steps: [
            Step(
                name: "revert",
                perform: { context, _ in
                    let (volume, snapshot) = (try await context.volume(), try await context.snapshot())
                    try await context.services.database.read { try context.requireUnconnected(volume, in: $0) }
                    return try await context.call(context.backend(of: volume), .revertToSnapshot, arguments(context, volume, snapshot))
                },
                record: { context, _, output, tx in
                    if let data = output["data"]?.string { try Volumes.setDriverData(data, of: context.volumeID, in: tx) }
                    try Volumes.setStatus("available", of: context.volumeID, in: tx)
                    if let id = context.operation.arguments["snapshot_id"]?.string { try Snapshots.setStatus("available", of: id, in: tx) }
                })
        ],
        failed: { context, _, failure, tx in
            guard let id = context.operation.arguments["snapshot_id"]?.string else { return .over }
            // Half-reverted content is neither the old nor the new: nobody may take it for whole.
            try Volumes.setStatus(
                failure.code == .unsupported || failure.code == .busy ? "available" : "error", of: context.volumeID, in: tx)
            try Snapshots.setStatus("available", of: id, in: tx)
            try context.tell(.revertVolume, .unknown, in: tx)
            return .over
        })
}
