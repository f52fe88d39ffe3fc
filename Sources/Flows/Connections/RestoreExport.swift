import BlockStorage
import Database
import DriverHost
import JSON

/// Exports a volume again, and lets those in again who are connected: a restart of the machine, or of its target daemon, has taken exports
/// away that live in memory there.
enum RestoreExport: FlowDefinition {
    typealias Arguments = RestoreExportArguments

    static let steps: [Step<Self>] = [
        .onBackend(
            "export",
            host: { run in
                let volume = try await run.volume()
                // Disconnected meanwhile.
                guard try await isConnected(run, volume) else { return nil }
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                return host
            },
            perform: { run, backend in
                let volume = try await run.volume()
                let output = try await backend.callIfSupported(.ensureExport, .members(["volume": run.driverArguments(volume)]))
                for (connector, mode) in try await run.read({ try HostConnections.inUse(volume, in: $0) }) {
                    // What it answers the client has had; connecting again is connecting once.
                    _ = try await backend.callIfSupported(
                        .connectVolume,
                        .members([
                            "volume": run.driverArguments(volume), "connector": DriverValue(try JSON(parsing: connector.reveal())),
                            "mode": .string(mode),
                        ]))
                }
                return output
            },
            record: { run, output, tx in
                if let data = output?["data"]?.string { try Volumes.setDriverData(data, of: run.volume(in: tx), in: tx) }
            })
    ]

    private static func isConnected(_ run: FlowRun<Self>, _ volume: Volume) async throws -> Bool {
        try await run.read { connection in
            try Attachments.ofVolume(volume.id, in: connection).contains { $0.connector != nil || $0.status == .attached }
                || !HostConnections.ofVolume(volume.id, in: connection).isEmpty
        }
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
