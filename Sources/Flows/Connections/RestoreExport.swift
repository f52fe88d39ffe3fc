import BlockStorage
import Database
import DriverHost
import JSON

/// Exports a volume again, and lets those in again who are connected: a restart of the machine, or of its target daemon, has taken exports
/// away that live in memory there.
enum RestoreExport: FlowDefinition {
    typealias Arguments = RestoreExportArguments
    typealias State = NoState

    static let steps: [Step<Self>] = [
        .onBackend(
            "export",
            host: { run in
                let volume = try await run.volume()
                // Disconnected meanwhile.
                guard try await connected(run).isEmpty == false else { return nil }
                guard let host = volume.host else { throw DriverFailure(.unavailable, "the volume lies nowhere") }
                return host
            },
            perform: { run, backend in
                let volume = try await run.volume()
                let output = try await backend.callIfSupported(.ensureExport, .members(["volume": run.driverArguments(volume)]))
                for attachment in try await connected(run) {
                    guard attachment.connectionInfo != nil, let connector = attachment.connector else { continue }
                    // What it answers the client has had; connecting again is connecting once.
                    _ = try await backend.callIfSupported(
                        .connectVolume,
                        .members([
                            "volume": run.driverArguments(volume), "connector": DriverValue(try JSON(parsing: connector.reveal())),
                            "mode": .string(attachment.mode ?? "rw"),
                        ]))
                }
                return output
            },
            record: { run, output, tx in
                if let data = output?["data"]?.string { try Volumes.setDriverData(data, of: run.volumeID, in: tx) }
            })
    ]

    /// Attachments that somebody is connected by.
    private static func connected(_ run: FlowRun<Self>) async throws -> [Attachment] {
        try await run.read { try Attachments.ofVolume(run.volumeID, in: $0) }
            .filter { $0.connector != nil || $0.status == "attached" }
    }

    static func failed(_ run: inout FlowRun<Self>, _ failure: StepFailure, in tx: any Transaction) throws -> Outcome { .finished }
}
