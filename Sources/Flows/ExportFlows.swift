import BlockStorage
import DriverHost
import JSON
import Primitives

/// What a restart of the machine, or of its target daemon, has taken away: exports live in memory there.
enum ExportFlows {
    static let all = [restore]

    /// Exports a volume again, and lets those in again who are connected.
    static let restore = Flow(
        name: FlowName.restoreExport, version: 1,
        steps: [
            Step(
                name: "export",
                perform: { context, _ in
                    let volume = try await context.volume()
                    let attachments = try await context.services.database.read { try Attachments.ofVolume(volume.id, in: $0) }
                    // Disconnected meanwhile.
                    guard attachments.contains(where: { $0.connector != nil || $0.status == "attached" }) else { return .object([]) }
                    let entry = try context.backend(of: volume)
                    let output = try await context.callIfServed(
                        entry, .ensureExport, .members(["volume": try await context.describe(volume)]))
                    for attachment in attachments {
                        guard attachment.connectionInfo != nil, let connector = attachment.connector else { continue }
                        // What it answers the client has had; connecting again is connecting once.
                        _ = try await context.callIfServed(
                            entry, .connectVolume,
                            .members([
                                "volume": try await context.describe(volume),
                                "connector": DriverValue(try JSON(parsing: connector.reveal())),
                                "mode": .string(attachment.mode ?? "rw"),
                            ]))
                    }
                    return output
                },
                record: { context, _, output, tx in
                    if let data = output["data"]?.string { try Volumes.setDriverData(data, of: context.volumeID, in: tx) }
                })
        ],
        failed: { _, _, _, _ in .over })
}

extension FlowEngine {
    /// After a start: when each backend is up, the exports of its volumes are made sure of.
    public func restoreExports() async throws {
        // What is connected from now on is exported in this life.
        let last = try await services.database.read { try Attachments.last(in: $0) }
        for entry in services.backends.entries {
            Task {
                while entry.backend.description == nil { try? await Task.sleep(nanoseconds: 200_000_000) }
                guard let calls = entry.backend.description?.calls, calls.contains(.ensureExport) else { return }
                do { try await restoreExports(of: entry.host, upTo: last) } catch {
                    services.log.error("exports could not be made sure of: \(error)", metadata: ["backend": "\(entry.backend.name)"])
                }
            }
        }
    }

    private func restoreExports(of host: String, upTo last: Int64) async throws {
        let caller = Caller.service(requestID: "req-" + UUID.random())
        let count = try await services.database.write { tx in
            let volumes = try Attachments.unrestored(of: host, upTo: last, in: tx)
            for volume in volumes {
                _ = try Operations.create(
                    flow: FlowName.restoreExport, version: 1, resourceType: "volume", resourceID: volume.id, projectID: volume.projectID,
                    caller: caller, arguments: [:], claims: [.exclusive(volume.id)], in: tx)
            }
            return volumes.count
        }
        if count > 0 { services.log.info("exports are made sure of", metadata: ["backend": "\(host)", "count": "\(count)"]) }
    }
}
