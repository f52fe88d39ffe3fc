public import DriverHost
import Glibc
public import Logging
public import Primitives
import Processes

/// Work on much data in a separate process that opens the plugins of its ends: a copy between two backends, or work on a backup.
public struct Transfer: Sendable {
    /// What is done.
    public enum Job: Sendable {
        /// Of the source's bytes to the target.
        case copy
        /// Of the source's bytes to a store.
        case backup(BackupOrder)
        /// Of a store's backup to the target.
        case restore(BackupOrder)
        /// Of a store's backup.
        case remove(BackupOrder)
        /// Of all that a store's backup needs.
        case verify(BackupOrder)
        /// Of a store's repositories.
        case maintain(RepositoryOrder)
        /// Of a LUKS header at the beginning of a new target.
        case encrypt(LUKSOrder)
        /// Of a store's backup, over NBD, until the time is over.
        case serve(BackupOrder, BackupServePlace)
        /// Of an image of the image service to the target.
        case fetchImage(ImageOrder)
        /// Of the source's bytes to an image of the image service.
        case storeImage(ImageOrder)

        var name: String {
            switch self {
            case .copy: "copy"
            case .backup: "backup"
            case .restore: "restore"
            case .remove: "remove"
            case .verify: "verify"
            case .maintain: "maintain"
            case .encrypt: "encrypt"
            case .serve: "serve"
            case .fetchImage: "fetch-image"
            case .storeImage: "store-image"
            }
        }

        var order: BackupOrder? {
            switch self {
            case .copy, .encrypt: nil
            case .backup(let order), .restore(let order), .remove(let order), .verify(let order), .serve(let order, _): order
            case .maintain, .fetchImage, .storeImage: nil
            }
        }

        var maintenance: RepositoryOrder? { if case .maintain(let order) = self { order } else { nil } }

        var image: ImageOrder? {
            switch self {
            case .fetchImage(let order), .storeImage(let order): order
            default: nil
            }
        }

        var luks: LUKSOrder? { if case .encrypt(let order) = self { order } else { nil } }

        var place: BackupServePlace? { if case .serve(_, let place) = self { place } else { nil } }
    }

    /// One end: a backend, and the driver arguments of the volume, possibly with a snapshot; or a store.
    public struct End: Sendable {
        let backend: Backend.Configuration
        let object: DriverValue
        public init(_ backend: Backend.Configuration, object: DriverValue) {
            self.backend = backend
            self.object = object
        }

        /// A store of backups.
        public init(store: Backend.Configuration) { self.init(store, object: .null) }

        fileprivate var value: DriverValue {
            .members(["plugin": .string(backend.pluginPath), "options": backend.options, "object": object])
        }
    }

    let job: Job
    /// Where bytes are read; nil where they are only removed, or come from the image service.
    let source: End?
    /// Nil where the bytes go to the image service.
    let target: End?
    /// Of a copy, bytes at the beginning that are already copied and on stable storage.
    public var start: UInt64 = 0
    /// Bytes per second at most; 0 for no limit.
    public var bytesPerSecond = 0
    /// Called when it begins and ends to wait for a place among the transfers that run at the same time.
    public var onWaiting: @Sendable (Bool) -> Void = { _ in }
    /// Called with the bytes done and their total.
    public var onProgress: @Sendable (UInt64, UInt64) -> Void = { _, _ in }
    /// Called for each log line of the drivers.
    public var onLine: @Sendable (String, Logger.Level) -> Void = { _, _ in }
    /// Called with each thing that a job finds, before its end.
    public var onItem: @Sendable (DriverValue) -> Void = { _ in }
    /// Called with the address where a backup is served.
    public var onReady: @Sendable (String) -> Void = { _ in }
    /// Called when it is found that the source's driver did not tell of all changes. More than once for the same, maybe.
    public var onMissedChange: @Sendable () -> Void = {}
    /// Called when the image service takes the token no more; returns a new one. Nil: there is none to be had.
    public var onTokenExpired: @Sendable () async -> Secret? = { nil }
    /// Called with a position before which everything is copied and on stable storage.
    public var onCheckpoint: @Sendable (UInt64) -> Void = { _ in }

    /// A copy.
    public init(from source: End, to target: End) { self.init(.copy, from: source, to: target) }

    /// Work on a backup or an image. The store is the target of what makes or removes a backup, and the source of what restores it. An image
    /// is fetched to a target and stored from a source.
    public init(_ job: Job, from source: End?, to target: End?) {
        precondition(source != nil || target != nil)
        self.job = job
        self.source = source
        self.target = target
    }

    private var ends: [End] { [source, target].compactMap { $0 } }

    /// Seconds that a process has to give up what it holds when it is cancelled.
    private static let endingTime = 10.0

    /// Does the work. Cancelling the task kills the process; one that serves may give the repository's lock up before. When this returns or throws, the process and everything that its drivers started
    /// have ended, so nothing writes any more.
    ///
    /// - Returns: `seconds`, the duration of the work without opening and closing; of a backup also what it came to.
    /// - Throws: `DriverFailure`; `hostDied` if the process dies or shows no progress for the shorter of the ends' call time-outs.
    public func run() async throws -> DriverValue {
        let child = Guarded<pid_t>(0)
        let cancelled = Guarded(false)
        let connection = Guarded<Wire?>(nil)
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<DriverValue, any Error>) in
                startThread("transfer") { continuation.resume(with: Result { try work(child, cancelled, connection) }) }
            }
        } onCancel: {
            cancelled.withLock { $0 = true }
            if let wire = connection.withLock({ $0 }), wire.send(Frame(kind: .cancel, id: 0, value: .null)) {
                startThread("transfer-end") {
                    pause(Self.endingTime)
                    child.withLock { pid in if pid > 0 { kill(pid, SIGKILL) } }
                }
            } else {
                child.withLock { pid in if pid > 0 { kill(pid, SIGKILL) } }
            }
        }
    }

    /// The same with the failure as a value.
    public func outcome() async -> Result<DriverValue, any Error> {
        do { return .success(try await run()) } catch { return .failure(error) }
    }

    /// - Parameter connection: gets the wire of a process that is told of its cancellation.
    private func work(_ child: Guarded<pid_t>, _ cancelled: Guarded<Bool>, _ connection: Guarded<Wire?>) throws -> DriverValue {
        let (mine, theirs) = try socketPair()
        let wire = Wire(mine)
        // A receive time-out: without frames for that long a driver hangs.
        var lease = timeval(tv_sec: Int(ends.map(\.backend.callTimeout).min() ?? 0), tv_usec: 0)
        setsockopt(mine, SOL_SOCKET, SO_RCVTIMEO, &lease, socklen_t(MemoryLayout<timeval>.size))
        let workers = ends.dropFirst().reduce(ends[0].backend.workers) { $0.union($1.backend.workers) }
        let output = try HostOutput()
        let pid: pid_t
        do {
            defer {
                close(theirs)
                output.closeTheirs()
            }
            pid = try spawn(
                executablePath(),
                [
                    "transfer", "--job", job.name, "--from", source?.backend.name ?? "-", "--to", target?.backend.name ?? "-",
                    "--descriptor", "3",
                ],
                descriptors: [(source: theirs, target: 3)] + output.descriptors, newGroup: true)
        }
        do throws(SystemError) { try workers.note(pid, as: "copy") } catch {
            kill(pid, SIGKILL)
            reap(pid)
            throw DriverFailure(.retry, "\(error)")
        }
        output.follow(onLine)
        child.withLock { $0 = pid }
        if cancelled.withLock({ $0 }) { kill(pid, SIGKILL) }
        wire.send(
            Frame(
                kind: .open, id: 0,
                value: .members([
                    "wire": .integer(Frame.version), "job": .string(job.name), "source": source?.value ?? .null,
                    "target": target?.value ?? .null,
                    "order": job.order?.value ?? .null, "serve": job.place?.value ?? .null,
                    "maintenance": job.maintenance?.value ?? .null, "image": job.image?.value ?? .null, "luks": job.luks?.value ?? .null,
                    "start": .integer(Int64(start)),
                    "bytes_per_second": .integer(Int64(bytesPerSecond)),
                ])))
        if case .serve = job { connection.withLock { $0 = wire } }
        wire.hangUp(atEndOf: pid)
        let answer = listen(wire)
        kill(pid, SIGKILL)
        child.withLock { $0 = 0 }
        let status = reap(pid)
        workers.awaitEnd(of: "copy", leader: pid, patience: Backend.patience)
        if cancelled.withLock({ $0 }) { throw DriverFailure(.cancelled, "cancelled") }
        switch answer {
        case .success(let output)?: return output
        case .failure(let failure)?: throw failure
        case nil: throw DriverFailure(.hostDied, "the transfer ended with \(describe(exit: status))")
        }
    }

    /// The outcome; nil if the process died or sent nothing for too long.
    private func listen(_ wire: Wire) -> Result<DriverValue, DriverFailure>? {
        while let frame = (try? wire.receive()) ?? nil {
            switch frame.kind {
            case .progress:
                if frame.value["token"]?.boolean == true {
                    let onTokenExpired = onTokenExpired
                    Task {
                        let token = await onTokenExpired()
                        wire.send(Frame(kind: .progress, id: 0, value: .members(["token": token.map { .secret($0.reveal()) } ?? .null])))
                    }
                } else if let item = frame.value["item"] {
                    onItem(item)
                } else if let address = frame.value["ready"]?.string {
                    onReady(address)
                } else if let position = frame.value["checkpoint"]?.integer {
                    onCheckpoint(UInt64(clamping: position))
                } else {
                    if frame.value["missed_change"]?.integer != nil { onMissedChange() }
                    onProgress(UInt64(clamping: frame.value["done"]?.integer ?? 0), UInt64(clamping: frame.value["total"]?.integer ?? 0))
                }
            case .result: return .success(frame.value)
            case .failed:
                let code = DriverFailure.Code(ofDriver: Int32(truncatingIfNeeded: frame.value["code"]?.integer ?? 1)) ?? .error
                return .failure(DriverFailure(code, frame.value["message"]?.string ?? "no message"))
            case .log: onLine(frame.value["message"]?.string ?? "", frame.level)
            default: break
            }
        }
        return nil
    }
}
