import Glibc
public import Logging
import Primitives
import Processes

/// A backend in the core: keeps its driver host running and sends calls to it.
public final class Backend: Sendable {
    public struct Configuration: Sendable {
        /// Its section in the configuration.
        public var name: String
        public var pluginPath: String
        /// Whether it keeps volumes or backups.
        public var kind = PluginKind.volume
        /// Options for the driver's `open`.
        public var options: DriverValue
        public var threads: Int
        /// Seconds without progress after which the host of a call is killed.
        public var callTimeout: Double
        /// Seconds that the driver may take to open.
        public var openTimeout: Double
        /// Directory of the process group records.
        public var notesDirectory: String
        /// Bytes of memory above which a host is killed; 0 for no limit.
        public var memoryLimit = 0
        public init(
            name: String, pluginPath: String, options: DriverValue, threads: Int, callTimeout: Double, openTimeout: Double,
            notesDirectory: String
        ) {
            self.name = name
            self.pluginPath = pluginPath
            self.options = options
            self.threads = threads
            self.callTimeout = callTimeout
            self.openTimeout = openTimeout
            self.notesDirectory = notesDirectory
        }

        /// The recorded process groups of the backend: hosts and copies.
        public var workers: ProcessGroups { ProcessGroups("\(notesDirectory)/\(StateDirectory.fileName(of: name))") }
    }

    /// The properties that the driver reported when it was opened.
    public struct Description: Sendable {
        public let driver, version, vendor: String
        public let capabilities: DriverValue
        /// The calls that the driver implements itself.
        public let calls: Set<DriverMethod>
        /// The options of the backend's section that the driver reads; nil if it does not declare them.
        public let options: [String]?
        /// Of those, what has no effect, and why.
        public let unused: [String: String]
    }

    struct Pending: Sendable {
        let finish: @Sendable (Result<DriverValue, DriverFailure>) -> Void
        let onProgress: @Sendable (UInt64, UInt64) -> Void
        let requestID: String
        let method: DriverMethod
        /// When the call's lease ends; progress renews it.
        var expires: Double
        var isCancelled = false
    }

    struct State {
        var wire: Wire?
        var pid: pid_t = 0
        /// When a host that is still opening its driver is killed.
        var openExpires: Double?
        var description: Description?
        var pending: [UInt64: Pending] = [:]
        var nextID: UInt64 = 1
        var lastError: String?
        var stopping = false
        /// Processes of an earlier host or copy are still alive and being waited for.
        var isWaitingForOldProcesses = false
        /// No copy that an earlier core started is alive.
        var hasNoOldTransfers = false
        var restarts = 0
    }

    /// Seconds that programs started by a driver may run after its end: killing one half-way can leave a device suspended.
    public static let patience = 30.0
    /// Seconds without progress after which a cancelled call is considered hanging.
    static let patienceWithCancelled = 10.0

    public let configuration: Configuration
    let log: Logger
    let state = Guarded(State())
    private let ended = Semaphore()
    /// Called with true when the backend is up, with false when it went down.
    let onChange: @Sendable (Bool) -> Void

    public init(_ configuration: Configuration, log: Logger, onChange: @escaping @Sendable (Bool) -> Void) {
        self.configuration = configuration
        self.log = log
        self.onChange = onChange
    }

    public var name: String { configuration.name }
    /// nil while the backend is down.
    public var description: Description? { state.withLock { $0.description } }
    /// Why the backend is down; nil if it is up or has not failed yet.
    public var lastError: String? { state.withLock { $0.lastError } }
    /// Whether it is waiting for processes of an earlier host or copy to end.
    public var isWaitingForOldProcesses: Bool { state.withLock { $0.isWaitingForOldProcesses } }
    /// How often the host was restarted.
    public var restarts: Int { state.withLock { $0.restarts } }
    /// The number of running calls.
    public var callCount: Int { state.withLock { $0.pending.count } }
    /// PID of the running host; 0 if there is none.
    public var pid: pid_t { state.withLock { $0.pid } }
    /// Resident memory of the host in bytes.
    public var memory: Int {
        let pid = self.pid
        return pid > 0 ? residentMemory(of: pid) : 0
    }

    /// Starts the host, and restarts it whenever it ends, with growing pauses after failures.
    public func start() {
        startThread("backend-\(name)") { [self] in
            var pause = 0.02
            while true {
                let started = Timestamp.monotonic()
                let wasUp = runHost()
                if state.withLock({ $0.stopping }) { break }
                // A host that was up is restarted at once; one that cannot open its driver is tried at growing intervals.
                pause = wasUp ? (Timestamp.monotonic() - started > 1 ? 0.02 : min(pause * 2, 0.5)) : min(pause * 2, 15)
                state.withLock { $0.restarts += 1 }
                usleep(UInt32(pause * 1e6))
                if state.withLock({ $0.stopping }) { break }
            }
            ended.post()
        }
        startThread("leases-\(name)") { [self] in
            while !state.withLock({ $0.stopping }) {
                usleep(500_000)
                endExpiredLeases()
                endTooLarge()
            }
        }
    }

    /// Stops the host; its running calls fail.
    public func stop() {
        state.withLock { state in
            state.stopping = true
            state.wire?.hangUp()
        }
        ended.wait()
    }

    /// Waits until the backend is up.
    ///
    /// - Parameters:
    ///   - seconds: the longest wait.
    ///   - isPatient: whether to keep waiting after the host has failed.
    /// - Returns: whether the backend is up.
    public func waitUntilUp(within seconds: Double, isPatient: Bool = true) async -> Bool {
        let limit = Timestamp.monotonic() + seconds
        while description == nil {
            guard Timestamp.monotonic() < limit, isPatient || lastError == nil, !state.withLock({ $0.stopping }) else { return false }
            try? await Task.sleep(nanoseconds: 10_000_000)
        }
        return true
    }

    /// Waits until no copy that an earlier core started is alive; before that a copy must not be resumed.
    public func waitForOldTransfers() async throws {
        while !state.withLock({ $0.hasNoOldTransfers }) { try await Task.sleep(nanoseconds: 2_000_000) }
    }

    /// Calls the driver. Cancelling the task cancels the call.
    ///
    /// - Parameters:
    ///   - method: the function to call.
    ///   - arguments: its arguments by name.
    ///   - requestID: the id of the request, for the driver's log lines.
    ///   - onProgress: called with the units done and their total.
    /// - Returns: the results by name.
    /// - Throws: `DriverFailure`: the driver's, `unavailable` while the backend is down, `hostDied` if the host dies during the call.
    public func call(
        _ method: DriverMethod, _ arguments: DriverValue, requestID: String = "-",
        onProgress: @escaping @Sendable (UInt64, UInt64) -> Void = { _, _ in }
    ) async throws -> DriverValue {
        let callID = Guarded<UInt64>(0)
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<DriverValue, any Error>) in
                let registered: (Wire, UInt64)? = state.withLock { state in
                    guard let wire = state.wire, state.description != nil else { return nil }
                    let id = state.nextID
                    state.nextID += 1
                    state.pending[id] = Pending(
                        finish: { result in continuation.resume(with: result.mapError { $0 as any Error }) }, onProgress: onProgress,
                        requestID: requestID, method: method, expires: Timestamp.monotonic() + configuration.callTimeout)
                    return (wire, id)
                }
                guard let (wire, id) = registered else {
                    continuation.resume(
                        throwing: DriverFailure(.unavailable, "backend \(name) is down" + (lastError.map { ": \($0)" } ?? "")))
                    return
                }
                callID.withLock { $0 = id }
                let value = DriverValue.members(["method": .string(method.rawValue), "arguments": arguments])
                if !wire.send(Frame(kind: .call, id: id, value: value)) {
                    let pending = state.withLock { state in
                        // The host is dead though not reaped yet; it must not be considered up.
                        if state.wire === wire { state.description = nil }
                        return state.pending.removeValue(forKey: id)
                    }
                    pending?.finish(.failure(DriverFailure(.hostDied, "the driver host of \(name) is gone")))
                } else if Task.isCancelled {
                    cancel(id)
                }
            }
        } onCancel: {
            let id = callID.withLock { $0 }
            if id != 0 { cancel(id) }
        }
    }

    /// Asks the driver to stop a call, and limits how long it may take to stop.
    private func cancel(_ id: UInt64) {
        let wire = state.withLock { state in
            state.pending[id]?.isCancelled = true
            if let expires = state.pending[id]?.expires {
                state.pending[id]?.expires = min(expires, Timestamp.monotonic() + Self.patienceWithCancelled)
            }
            return state.wire
        }
        wire?.send(Frame(kind: .cancel, id: id, value: .null))
    }
}
