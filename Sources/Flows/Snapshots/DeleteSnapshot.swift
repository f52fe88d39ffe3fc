import BlockStorage
import Database
import DriverHost

/// Removes a snapshot.
enum DeleteSnapshot: FlowDefinition {
    typealias Arguments = DeleteSnapshotArguments

    static let steps: [Step<Self>] = [
        .onVolume(
            "remove", waitsForBackend: true,
            perform: { run, volume, backend in
                _ = try await backend.call(.deleteSnapshot, run.driverArguments(withSnapshotOf: volume), wait: nil)
            },
            record: { run, _, tx in
                guard let snapshot = try run.snapshot(in: tx) else { return }
                try Snapshots.remove(snapshot, chargesGigabytes: run.settings.snapshotsChargeGigabytes, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        failure.code == .busy
            ? try run.failed(.available, .deleteSnapshot, .snapshotBusy, in: tx)
            : try run.failed(.errorDeleting, .deleteSnapshot, .snapshotNotDeleted, in: tx)
    }
}
