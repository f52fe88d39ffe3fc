import BlockStorage
import Database
import DriverHost
import Logging
import Primitives

/// After a start: when each backend is up, the exports of its volumes are made sure of.
public struct ExportRestoration: Sendable {
    private let services: FlowServices
    private let backends: Backends
    private let tasks = Guarded<[Task<Void, Never>]>([])

    public init(_ services: FlowServices, backends: Backends) {
        self.services = services
        self.backends = backends
    }

    public func start() async throws {
        // What is connected from now on is exported in this life.
        let last = try await services.database.read { try HostConnections.last(in: $0) }
        for entry in backends.entries {
            let task = Task {
                while entry.backend.description == nil {
                    guard (try? await Task.sleep(nanoseconds: 200_000_000)) != nil else { return }
                }
                guard !Task.isCancelled, let calls = entry.backend.description?.calls, calls.contains(.ensureExport) else { return }
                do { try await restore(on: entry.host, upTo: last) } catch {
                    services.log.error("exports could not be made sure of: \(error)", metadata: ["backend": "\(entry.backend.name)"])
                }
            }
            tasks.withLock { $0.append(task) }
        }
    }

    /// Starts nothing more and waits for what has started: the database is not used afterwards.
    public func stop() async {
        let tasks = self.tasks.withLock { $0 }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    private func restore(on host: String, upTo last: HostConnections.Mark) async throws {
        let caller = Caller.service(requestID: "req-" + UUID.random())
        let count = try await services.database.write { tx in
            let volumes = try HostConnections.unrestored(of: host, upTo: last, in: tx)
            for volume in volumes {
                _ = try Operations.create(
                    RestoreExportArguments(), resourceType: "volume", resourceID: volume.id, projectID: volume.projectID, caller: caller,
                    claims: [.exclusive(volume)], in: tx)
            }
            return volumes.count
        }
        if count > 0 { services.log.info("exports are made sure of", metadata: ["backend": "\(host)", "count": "\(count)"]) }
    }
}
