import BlockStorage
import Database
import DriverHost

/// Makes a snapshot of a volume.
enum CreateSnapshot: FlowDefinition {
    typealias Arguments = CreateSnapshotArguments

    static let cancellation = Cancellation.byProject
    static let steps: [Step<Self>] = [
        .onVolume(
            "make",
            perform: { run, volume, backend in
                try await backend.call(.createSnapshot, run.driverArguments(withSnapshotOf: volume))
            },
            record: { run, output, tx in
                guard let snapshot = try run.snapshot(in: tx) else { return }
                try Snapshots.made(snapshot, driverData: output?["data"]?.string, in: tx)
            },
            undo: { run, volume, backend in
                _ = try await backend.call(.deleteSnapshot, run.driverArguments(withSnapshotOf: volume), wait: 5)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.failed(.error, .createSnapshot, .snapshotFailed, in: tx)
    }
}
