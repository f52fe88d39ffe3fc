import BlockStorage
import Database
import DriverHost

/// Takes an object of the backend over as a snapshot of a volume.
enum ManageSnapshot: FlowDefinition {
    typealias Arguments = ManageSnapshotArguments

    static let steps: [Step<Self>] = [
        .onVolume(
            "take over",
            perform: { run, volume, backend in
                let snapshot = try await run.snapshot()
                let output = try await backend.call(
                    .manageSnapshot,
                    .members([
                        "volume": run.driverArguments(volume), "snapshot": run.driverArguments(snapshot),
                        "reference": DriverValue(.object(run.arguments.reference)),
                    ]))
                return CreatedObject(output, on: backend)
            },
            record: { run, taken, tx in
                guard let snapshot = try run.snapshot(in: tx) else { return }
                if let size = taken?.size, size > 0 {
                    try Snapshots.resize(snapshot, to: size, chargesGigabytes: run.settings.snapshotsChargeGigabytes, in: tx)
                }
                try Snapshots.made(snapshot, driverData: taken?.data, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.failed(.error, .createSnapshot, .snapshotFailed, in: tx)
    }
}

/// Forgets a snapshot; its storage stays.
enum UnmanageSnapshot: FlowDefinition {
    typealias Arguments = UnmanageSnapshotArguments

    static let steps: [Step<Self>] = [
        .onVolume(
            "leave",
            perform: { run, volume, backend in
                _ = try await backend.callIfSupported(.unmanageSnapshot, run.driverArguments(withSnapshotOf: volume))
            },
            record: { run, _, tx in
                guard let snapshot = try run.snapshot(in: tx) else { return }
                try run.recordUnmanaged(snapshot.id, "snapshot", in: tx)
                try Snapshots.remove(snapshot, chargesGigabytes: run.settings.snapshotsChargeGigabytes, in: tx)
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome {
        try run.failed(.error, .deleteSnapshot, .unknown, in: tx)
    }
}
