import BlockStorage
import Database
import DriverHost
import JSON

/// os-initialize_connection
enum ConnectVolume: FlowDefinition {
    typealias Arguments = ConnectVolumeArguments

    static let whenInterrupted = Interruption.revert
    static let isAwaited = true
    static let steps = ConnectSteps<Self>.all(
        for: { run, volume in
            ConnectionRequest(connector: run.arguments.connector, mode: HostConnections.mode(of: volume))
        },
        record: { run, tx in try HostConnections.begin(run.volume(in: tx), connector: run.arguments.connector, in: tx) },
        attachmentID: { _ in nil })

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}

/// os-terminate_connection, os-force_detach
enum DisconnectVolume: FlowDefinition {
    typealias Arguments = DisconnectVolumeArguments

    static let isAwaited = true
    static let steps: [Step<Self>] = [
        .onVolume(
            "disconnect", skipsUnplaced: true,
            perform: { run, volume, backend in
                try await ConnectSteps.disconnect(
                    volume, on: backend, connector: run.arguments.connector, except: run.arguments.attachmentID, endsHost: true, run)
            },
            record: { run, _, tx in
                let volume = try run.volume(in: tx)
                try HostConnections.end(volume, connector: run.arguments.connector, in: tx)
                if run.arguments.detaches {
                    if let id = run.arguments.attachmentID { try Attachments.remove(id, of: volume, in: tx) }
                    if volume.status != .deleting { try Volumes.refreshAttachState(of: volume, in: tx) }
                } else {
                    try Volumes.unreserve(volume, in: tx)
                }
            })
    ]

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
