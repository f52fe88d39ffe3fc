import Glibc
public import Logging
import Primitives

/// A backend as the core sees it: a driver host that is kept running, and calls to it.
public final class Backend: Sendable {
    public struct Configuration: Sendable {
        /// Section of the configuration.
        public var name: String
        public var pluginPath: String
        /// What `open` gets.
        public var options: DriverValue
        public var threads: Int
        /// Seconds without a sign of progress after which a call's host is killed.
        public var callTimeout: Double
        /// Seconds that the driver may take to open.
        public var openTimeout: Double
        /// Directory in which it is noted who works for backends.
        public var notesDirectory: String
        /// Bytes of memory with which a host is killed; 0: it may have any.
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

        /// Who works for the backend: hosts and copies.
        public var workers: ProcessGroups { ProcessGroups("\(notesDirectory)/\(StateDirectory.fileName(of: name))") }
    }

    /// What the driver said of itself when it was opened.
    public struct Description: Sendable {
        public let driver, version, vendor: String
        public let capabilities: DriverValue
        /// What the driver serves itself.
        public let calls: Set<DriverMethod>
        /// The options of the backend's section that it reads; nil if it does not say.
        public let options: [String]?
        /// Of those, what has no effect, and why.
        public let unused: [String: String]
    }

    private struct Pending: Sendable {
        let finish: @Sendable (Result<DriverValue, DriverFailure>) -> Void
        let onProgress: @Sendable (UInt64, UInt64) -> Void
        let requestID: String
        let method: DriverMethod
        /// When the call's lease ends; every sign of progress renews it.
        var expires: Double
        var isCancelled = false
    }

    private struct State {
        var wire: Wire?
        var pid: pid_t = 0
        /// When a host that is still opening its driver is given up.
        var openExpires: Double?
        var description: Description?
        var pending: [UInt64: Pending] = [:]
        var nextID: UInt64 = 1
        var lastError: String?
        var stopping = false
        /// What was begun earlier takes its time to end.
        var isHeldUp = false
        /// No copy lives that an earlier core began.
        var isAlone = false
        var restarts = 0
    }

    /// Seconds that the programs which a driver started may run on after its end: one that is killed half-way can leave a device suspended.
    public static let patience = 30.0
    /// Seconds without a sign of progress after which a call that was cancelled is taken for hanging.
    static let patienceWithCancelled = 10.0

    public let configuration: Configuration
    private let log: Logger
    private let state = Guarded(State())
    private let ended = Semaphore()
    /// Called with true when the backend came up, false when it went down.
    private let onChange: @Sendable (Bool) -> Void

    public init(_ configuration: Configuration, log: Logger, onChange: @escaping @Sendable (Bool) -> Void) {
        self.configuration = configuration
        self.log = log
        self.onChange = onChange
    }

    public var name: String { configuration.name }
    /// nil while the backend is down.
    public var description: Description? { state.withLock { $0.description } }
    /// Why it is down.
    public var lastError: String? { state.withLock { $0.lastError } }
    /// Whether it waits for the end of what an earlier host or copy left.
    public var isHeldUp: Bool { state.withLock { $0.isHeldUp } }
    /// How often the host was started again.
    public var restarts: Int { state.withLock { $0.restarts } }
    /// Calls under way.
    public var callCount: Int { state.withLock { $0.pending.count } }
    /// Process id of the running host; 0 if there is none.
    public var pid: pid_t { state.withLock { $0.pid } }
    /// Bytes of memory that the host holds.
    public var memory: Int {
        let pid = self.pid
        return pid > 0 ? residentMemory(of: pid) : 0
    }

    /// Starts the host and keeps it running, with growing pauses between failures.
    public func start() {
        startThread("backend-\(name)") { [self] in
            var pause = 0.02
            while true {
                let started = Timestamp.monotonic()
                let wasUp = runHost()
                if state.withLock({ $0.stopping }) { break }
                // A host that was up is wanted back at once; one that cannot open its driver is tried ever more rarely.
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

    /// Lets the host go: its calls end with it.
    public func stop() {
        state.withLock { state in
            state.stopping = true
            state.wire?.hangUp()
        }
        ended.wait()
    }

    /// Waits (at most `seconds`) until the backend is up; false if it is not. `isPatient`: though it failed once.
    public func waitUntilUp(within seconds: Double, isPatient: Bool = true) async -> Bool {
        let limit = Timestamp.monotonic() + seconds
        while description == nil {
            guard Timestamp.monotonic() < limit, isPatient || lastError == nil, !state.withLock({ $0.stopping }) else { return false }
            try? await Task.sleep(nanoseconds: 10_000_000)
        }
        return true
    }

    /// Waits until no copy lives that an earlier core began: until then a copy may not be taken up.
    public func waitUntilAlone() async throws {
        while !state.withLock({ $0.isAlone }) { try await Task.sleep(nanoseconds: 2_000_000) }
    }

    /// Calls the driver. Ends with `hostDied` if the host dies meanwhile; cancelling the task cancels the call.
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
                        // Dead, though not yet reaped: nobody may take it for up.
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

    /// Asks the driver to stop a call; it is not waited for without end.
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

    // MARK: the host's life

    /// One host from start to end; true if it was up.
    private func runHost() -> Bool {
        let wire: Wire
        let output: HostOutput
        let pid: pid_t
        do throws(SystemError) {
            if !state.withLock({ $0.isAlone }) {
                guard awaitEarlier("copy") else { return false }
                state.withLock { $0.isAlone = true }
            }
            guard awaitEarlier("host") else { return false }
            let pair = try socketPair()
            wire = Wire(pair.0)
            defer { close(pair.1) }
            output = try HostOutput()
            defer { output.closeTheirs() }
            pid = try spawn(
                executablePath(), ["driver-host", "--backend", name, "--descriptor", "3"],
                descriptors: [(source: pair.1, target: 3)] + output.descriptors, newGroup: true)
        } catch {
            down("\(error)")
            return false
        }
        do throws(SystemError) { try configuration.workers.note(pid, as: "host") } catch {
            log.warning("should the host die, nobody will wait for what it leaves: \(error)", metadata: ["backend": "\(name)"])
        }
        wire.hangUp(atEndOf: pid)
        output.follow { [log, name] line, level in log.log(level: level, "\(line)", metadata: ["backend": "\(name)", "pid": "\(pid)"]) }
        let stopped = state.withLock { state in
            state.pid = pid
            state.wire = wire
            state.openExpires = Timestamp.monotonic() + configuration.openTimeout
            return state.stopping
        }
        if stopped { wire.hangUp() }
        wire.send(
            Frame(
                kind: .open, id: 0,
                value: .members([
                    "wire": .integer(Frame.version), "plugin": .string(configuration.pluginPath), "options": configuration.options,
                    "threads": .integer(Int64(configuration.threads)),
                ])))
        var wasUp = false
        var reason: String?
        do {
            while let frame = try wire.receive() {
                switch frame.kind {
                case .opened:
                    wasUp = true
                    var unused: [String: String] = [:]
                    for option in frame.value["unused"]?.list ?? [] {
                        if let name = option["name"]?.string { unused[name] = option["reason"]?.string ?? "" }
                    }
                    let description = Description(
                        driver: frame.value["name"]?.string ?? "", version: frame.value["version"]?.string ?? "",
                        vendor: frame.value["vendor"]?.string ?? "", capabilities: frame.value["capabilities"] ?? .object([]),
                        calls: Set((frame.value["calls"]?.list ?? []).compactMap { $0.string.flatMap { DriverMethod(rawValue: $0) } }),
                        options: frame.value["options"]?.list?.compactMap(\.string),
                        unused: unused)
                    state.withLock {
                        $0.description = description
                        $0.openExpires = nil
                        $0.lastError = nil
                    }
                    log.info("backend is up", metadata: ["backend": "\(name)", "driver": "\(description.driver)", "pid": "\(pid)"])
                    onChange(true)
                case .failed where frame.id == 0: reason = frame.value["message"]?.string ?? "open failed"
                default: finish(frame)
                }
            }
        } catch {
            reason = "the host broke the wire: \(error)"
            kill(pid, SIGKILL)
        }
        // Only a host that is dead has surely stopped writing: then its calls may be repeated. Until it is reaped its number is nobody
        // else's, and after that nobody knows it.
        awaitEnd(of: pid)
        state.withLock {
            $0.wire = nil
            $0.pid = 0
            $0.openExpires = nil
            $0.description = nil
        }
        let status = reap(pid)
        // Its note goes, if nobody is left; whoever is next sees to it otherwise.
        _ = try? configuration.workers.members("host")
        let why = reason ?? "the driver host ended with \(describe(exit: status))"
        if !state.withLock({ $0.stopping }) { down(why) }
        let orphans = state.withLock { state in
            defer { state.pending = [:] }
            return Array(state.pending.values)
        }
        for orphan in orphans { orphan.finish(.failure(DriverFailure(.hostDied, why))) }
        if wasUp { onChange(false) }
        return wasUp
    }

    /// Waits for the end of what died or was left: until then no call may be repeated. False when the backend is stopping.
    private func awaitEarlier(_ workers: String) -> Bool {
        defer { state.withLock { $0.isHeldUp = false } }
        return configuration.workers.awaitEnd(of: workers, patience: Self.patience, while: { !state.withLock { $0.stopping } }) { living in
            state.withLock { $0.isHeldUp = true }
            switch living {
            case .success(let members):
                down("what was begun for it earlier still runs: " + members.map(\.description).joined(separator: ", "))
            case .failure(let error): down("it cannot be seen whether what was begun for it earlier still runs: \(error)")
            }
        }
    }

    private func down(_ reason: String) {
        let isNews = state.withLock { state in
            defer { state.lastError = reason }
            return state.lastError != reason
        }
        if isNews { log.error("backend is down: \(reason)", metadata: ["backend": "\(name)"]) }
    }

    private func finish(_ frame: Frame) {
        switch frame.kind {
        case .result: state.withLock { $0.pending.removeValue(forKey: frame.id) }?.finish(.success(frame.value))
        case .failed:
            let code = DriverFailure.Code(ofDriver: Int32(truncatingIfNeeded: frame.value["code"]?.integer ?? 1)) ?? .error
            state.withLock { $0.pending.removeValue(forKey: frame.id) }?.finish(
                .failure(DriverFailure(code, frame.value["message"]?.string ?? "no message")))
        case .progress:
            let onProgress = state.withLock { state in
                if let pending = state.pending[frame.id] {
                    let lease = pending.isCancelled ? min(Self.patienceWithCancelled, configuration.callTimeout) : configuration.callTimeout
                    state.pending[frame.id]?.expires = Timestamp.monotonic() + lease
                }
                return state.pending[frame.id]?.onProgress
            }
            onProgress?(UInt64(clamping: frame.value["done"]?.integer ?? 0), UInt64(clamping: frame.value["total"]?.integer ?? 0))
        case .log:
            let request = state.withLock { $0.pending[frame.id]?.requestID } ?? "-"
            log.log(
                level: frame.level, "\(frame.value["message"]?.string ?? "")", metadata: ["backend": "\(name)", "request_id": "\(request)"])
        default: break
        }
    }

    private func endExpiredLeases() {
        let now = Timestamp.monotonic()
        let (isOpeningLate, expired) = state.withLock { state -> (Bool, Pending?) in
            guard state.pid > 0 else { return (false, nil) }
            let isOpeningLate = state.openExpires.map { $0 < now } ?? false
            let expired = state.pending.values.first { $0.expires < now }
            if isOpeningLate || expired != nil { kill(state.pid, SIGKILL) }
            return (isOpeningLate, expired)
        }
        if isOpeningLate {
            log.error(
                "the driver did not open within \(Int(configuration.openTimeout)) s: its host is killed", metadata: ["backend": "\(name)"])
        } else if let expired {
            let seconds = expired.isCancelled ? min(Self.patienceWithCancelled, configuration.callTimeout) : configuration.callTimeout
            log.error(
                "a driver call\(expired.isCancelled ? " that was cancelled" : "") showed no progress for \(Int(seconds)) s: its host is killed",
                metadata: ["backend": "\(name)", "method": "\(expired.method.rawValue)", "request_id": "\(expired.requestID)"])
        }
    }

    private func endTooLarge() {
        guard configuration.memoryLimit > 0, memory > configuration.memoryLimit else { return }
        let held = state.withLock { state in
            // Of the host that runs now.
            let held = state.pid > 0 ? residentMemory(of: state.pid) : 0
            if held > configuration.memoryLimit { kill(state.pid, SIGKILL) }
            return held
        }
        guard held > configuration.memoryLimit else { return }
        log.error(
            "the driver host held \(held >> 20) MiB of memory, more than driver_memory_limit: it is killed",
            metadata: ["backend": "\(name)"])
    }
}

extension Frame {
    /// Of a line for the log.
    package var level: Logger.Level {
        switch value["level"]?.integer ?? 1 {
        case 0: .debug
        case 1: .info
        case 2: .warning
        default: .error
        }
    }
}
