import BlockStorage
import Database
import DriverHost
import JSON

/// The flows of snapshots. Their operations stand under the volume, so that its history is one.
enum SnapshotFlows {
    static let all = [create, delete, revert]

    private static func arguments(_ context: FlowContext, _ volume: Volume, _ snapshot: Snapshot) -> DriverValue {
        .members(["volume": context.describe(volume), "snapshot": context.describe(snapshot)])
    }

    static let create = Flow(
        name: FlowName.createSnapshot, version: 1, isCancellable: true,
        steps: [
            Step(
                name: "make",
                perform: { context, _ in
                    let (volume, snapshot) = (try context.volume(), try context.snapshot())
                    return try await context.call(context.backend(of: volume), .createSnapshot, arguments(context, volume, snapshot))
                },
                record: { context, _, output, tx in
                    guard let id = context.operation.arguments["snapshot_id"]?.string else { return }
                    try Snapshots.made(id, driverData: output["data"]?.string, in: tx)
                },
                undo: { context, _ in
                    let (volume, snapshot) = (try context.volume(), try context.snapshot())
                    _ = try await context.call(
                        context.backend(of: volume), .deleteSnapshot, arguments(context, volume, snapshot), patience: 5)
                })
        ],
        failed: { context, _, _, tx in
            guard let id = context.operation.arguments["snapshot_id"]?.string else { return .over }
            try Snapshots.setStatus("error", of: id, in: tx)
            try context.tell(.createSnapshot, .snapshotFailed, snapshotID: id, in: tx)
            return .over
        })

    static let delete = Flow(
        name: FlowName.deleteSnapshot, version: 1,
        steps: [
            Step(
                name: "remove",
                perform: { context, _ in
                    let (volume, snapshot) = (try context.volume(), try context.snapshot())
                    return try await context.call(
                        context.backend(of: volume), .deleteSnapshot, arguments(context, volume, snapshot), patience: nil)
                },
                record: { context, _, _, tx in
                    guard let id = context.operation.arguments["snapshot_id"]?.string, let snapshot = try Snapshots.find(id, in: tx) else {
                        return
                    }
                    try Snapshots.remove(snapshot, chargesGigabytes: context.services.snapshotsChargeGigabytes, in: tx)
                })
        ],
        failed: { context, _, failure, tx in
            guard let id = context.operation.arguments["snapshot_id"]?.string else { return .over }
            let isBusy = failure.code == .busy
            try Snapshots.setStatus(isBusy ? "available" : "error_deleting", of: id, in: tx)
            try context.tell(.deleteSnapshot, isBusy ? .snapshotBusy : .snapshotNotDeleted, snapshotID: id, in: tx)
            return .over
        })

    static let revert = Flow(
        name: FlowName.revertVolume, version: 1,
        steps: [
            Step(
                name: "revert",
                perform: { context, _ in
                    let (volume, snapshot) = (try context.volume(), try context.snapshot())
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
