import BlockStorage
import DriverHost
import Logging
import Primitives
import Transfers

/// Runs the transfers of one operation: again when the process dies, and after passing trouble.
struct OperationTransfer: Sendable {
    let operation: BlockStorage.Operation
    let services: FlowServices

    /// `make` makes each attempt; `checkpoint` records how far it got, `missedChange` that the source's driver did not tell of a change; `start`
    /// is what is said of where a repetition begins.
    func run(
        checkpoint: (@Sendable (UInt64) -> Task<Void, Never>)? = nil, missedChange: (@Sendable () -> Task<Void, Never>)? = nil,
        start: () -> String = { "" }, _ make: () -> Transfer
    ) async throws -> DriverValue {
        var deaths = 0
        var retries = 0
        while true {
            var transfer = make()
            transfer.onProgress = { [services, operation] done, total in services.progress.set(operation.id, done, total) }
            transfer.onWaiting = { [services, operation] in services.progress.setWaiting(operation.id, $0) }
            transfer.onLine = { [services, operation] line, level in
                services.log.log(
                    level: level, "\(line)", metadata: ["operation_id": "\(operation.id)", "request_id": "\(operation.requestID)"])
            }
            let writes = Guarded<[Task<Void, Never>]>([])
            transfer.onCheckpoint = { position in
                guard let write = checkpoint?(position) else { return }
                writes.withLock { $0.append(write) }
            }
            let isRecorded = Guarded(false)
            transfer.onMissedChange = {
                // It is told with every progress from then on.
                let isFirst = isRecorded.withLock { isRecorded in
                    defer { isRecorded = true }
                    return !isRecorded
                }
                guard isFirst, let write = missedChange?() else { return }
                writes.withLock { $0.append(write) }
            }
            do {
                // What a checkpoint writes must not come behind what the end of the step writes.
                let outcome = await services.transfers.run(transfer)
                for write in writes.withLock({ $0 }) { await write.value }
                return try outcome.get()
            } catch let failure as DriverFailure {
                try Task.checkCancellation()
                switch failure.code {
                case .hostDied:
                    deaths += 1
                    guard deaths < 8 else { throw DriverFailure(.hostDied, "the transfer died \(deaths) times: \(failure.message)") }
                    services.log.warning(
                        "a transfer died and is repeated\(start()): \(failure.message)",
                        metadata: ["request_id": "\(operation.requestID)", "operation_id": "\(operation.id)"])
                case .retry, .unavailable:
                    retries += 1
                    guard retries < 6 else { throw failure }
                    try await Task.sleep(nanoseconds: UInt64(services.retryPause * 1e9) << UInt64(retries))
                default: throw failure
                }
            }
        }
    }
}
