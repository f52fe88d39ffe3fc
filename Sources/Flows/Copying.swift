import BlockStorage
import DriverHost
import JSON
import Primitives
import Transfers

extension FlowContext {
    /// Copies between two backends in a process of its own: again from the last checkpoint when the process dies. What a
    /// driver is told of either end is `volume`, with `snapshot` for a snapshot's content.
    func copy(
        from source: (entry: BackendEntry, object: DriverValue), to target: (entry: BackendEntry, object: DriverValue), progress: JSONObject
    )
        async throws
    {
        for end in [source, target] { try await end.entry.backend.waitForOldTransfers() }
        let start = Guarded(UInt64(clamping: progress[Self.copied]?.integer ?? 0))
        var deaths = 0
        var retries = 0
        while true {
            var transfer = Transfer(
                from: Transfer.End(source.entry.backend.configuration, object: source.object),
                to: Transfer.End(target.entry.backend.configuration, object: target.object))
            transfer.start = start.withLock { $0 }
            transfer.bytesPerSecond = [source.entry.copyLimit, target.entry.copyLimit].filter { $0 > 0 }.min() ?? 0
            transfer.onProgress = { [services, operation] done, total in services.progress.set(operation.id, done, total) }
            transfer.onLine = { [services, operation] line, level in
                services.log.log(
                    level: level, "\(line)", metadata: ["operation_id": "\(operation.id)", "request_id": "\(operation.requestID)"])
            }
            let writes = Guarded<[Task<Void, Never>]>([])
            transfer.onCheckpoint = { [services, operation] position in
                start.withLock { $0 = position }
                let write = Task<Void, Never> {
                    try? await services.database.write { try Operations.checkpoint(operation.id, Self.copied, JSON(Int(position)), in: $0) }
                }
                writes.withLock { $0.append(write) }
            }
            do {
                // What a checkpoint writes must not come behind what the end of the step writes.
                let outcome = await transfer.outcome()
                for write in writes.withLock({ $0 }) { await write.value }
                let seconds = try outcome.get()
                services.log.info(
                    "copied",
                    metadata: ["seconds": "\(seconds)", "operation_id": "\(operation.id)", "request_id": "\(operation.requestID)"])
                return
            } catch let failure as DriverFailure {
                try Task.checkCancellation()
                switch failure.code {
                case .hostDied:
                    deaths += 1
                    guard deaths < 8 else { throw DriverFailure(.error, "the transfer died \(deaths) times: \(failure.message)") }
                    services.log.warning(
                        "a transfer died and is repeated from \(start.withLock { $0 }) bytes on: \(failure.message)",
                        metadata: ["request_id": "\(operation.requestID)", "operation_id": "\(operation.id)"])
                case .retry, .unavailable:
                    retries += 1
                    guard retries < 6 else { throw failure }
                    try await Task.sleep(nanoseconds: 100_000_000 << UInt64(retries))
                default: throw failure
                }
            }
        }
    }

    /// Name under which a copying step keeps how many bytes are copied and flushed.
    static let copied = "copied"
}
