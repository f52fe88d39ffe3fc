import BlockStorage
import Database
import DriverHost
import Transfers

/// A backend as flows use it. `BackendEntry` is the one with a driver in a process of its own; tests have one in memory.
protocol StorageBackend: Sendable {
    /// `node@backend`
    var host: String { get }
    /// What the driver said of itself; nil while the backend is down.
    var capabilities: DriverValue? { get }
    /// Bytes in a second that a copy may read or write; 0: no limit.
    var copyLimit: Int { get }
    /// Whether increments read only what its driver says has changed, for which snapshots of backups are kept.
    var keepsBackupSnapshots: Bool { get }
    /// How much of images it keeps to clone volumes from; nil: nothing.
    var imageCacheLimits: ImageCache.Limits? { get }

    /// Calls the driver once. Throws `DriverFailure`.
    func call(
        _ method: DriverMethod, _ arguments: DriverValue, requestID: String, onProgress: @escaping @Sendable (UInt64, UInt64) -> Void
    ) async throws -> DriverValue
    /// Waits at most `seconds` until the backend is up; false if it is not.
    func waitUntilUp(within seconds: Double) async -> Bool
    /// Waits until no copy lives that an earlier process began.
    func waitForOldTransfers() async throws
    /// One end of a copy: `object` is what the driver is told of it.
    func transferEnd(_ object: DriverValue) -> Transfer.End
}

/// The backends of this node as flows use them.
protocol StorageBackends: PoolReports {
    var count: Int { get }
    /// nil: no backend of this node has the name `node@backend`.
    func backend(_ host: String) -> (any StorageBackend)?
    /// Right after the start: waits until the backends have reported once, or long enough. `isPatient`: also those that wait for the
    /// end of old processes; else only that of `host`.
    func waitForReports(isPatient: Bool, or host: String?) async
    /// The same for one backend.
    func waitForReport(of host: String) async
    /// Whether at a moment every backend had reported, or was not waited for any more.
    func areKnown(by moment: Double) -> Bool
    /// Reads the capacities again.
    func readCapacity() async
}

/// Carries transfers out: in processes of their own, or in a test's memory.
protocol TransferRunner: Sendable {
    /// What it came to, with `seconds`, or why it failed, once nothing writes any more.
    func run(_ transfer: Transfer) async -> Result<DriverValue, any Error>
}

struct TransferProcesses: TransferRunner {
    func run(_ transfer: Transfer) async -> Result<DriverValue, any Error> { await transfer.outcome() }
}
