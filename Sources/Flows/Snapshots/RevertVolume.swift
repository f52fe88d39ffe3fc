import BlockStorage
import Database
import DriverHost

/// Brings a volume back to its latest snapshot.
enum RevertVolume: FlowDefinition {
    typealias Arguments = RevertVolumeArguments

    static let steps: [Step<Self>] = [
        .onVolume(
            "revert",
            perform: { run, volume, backend in
                let arguments = try await run.driverArguments(withSnapshotOf: volume)
                try await run.read { try requireUnconnected(volume, in: $0) }
                // The user's latest snapshot becomes the latest of all.
                try await run.dropBackupSnapshots(of: volume, on: backend)
                return try await backend.call(.revertToSnapshot, arguments)
            },
            record: { run, output, tx in
                if let volume = try Volumes.lock(run.volumeID, in: tx) {
                    if let data = output?["data"]?.string { try Volumes.setDriverData(data, of: volume, in: tx) }
                    try Volumes.setStatus(.available, of: volume, in: tx)
                }
                if let snapshot = try run.snapshot(in: tx) { try Snapshots.setStatus(.available, of: snapshot, in: tx) }
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        // Half-reverted content is neither the old nor the new: nobody may take it for whole.
        let isUntouched = failure.code == .unsupported || failure.code == .busy
        if let volume = try Volumes.lock(run.volumeID, in: tx) {
            try Volumes.setStatus(isUntouched ? .available : .error, of: volume, in: tx)
        }
        if let snapshot = try run.snapshot(in: tx) { try Snapshots.setStatus(.available, of: snapshot, in: tx) }
        try run.addUserMessage(.revertVolume, .unknown, in: tx)
        return .finished
    }
}
