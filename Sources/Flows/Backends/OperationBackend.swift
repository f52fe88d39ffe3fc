import BlockStorage
import DriverHost
import Logging
import Primitives
import Transfers

/// One backend, as far as the steps of one operation may use it: they call its driver, and copy to it.
struct OperationBackend: Sendable {
    private let backend: any StorageBackend
    private let operation: BlockStorage.Operation
    private let services: FlowServices

    /// `host`: `node@backend#pool`. Where no such backend is enabled, an operation that `waitsIfMissing` is left for a start with it.
    init(at host: String, _ operation: BlockStorage.Operation, _ services: FlowServices, waitsIfMissing: Bool = false) throws {
        guard let backend = services.backends.backend(HostName.backend(of: host)) else {
            if waitsIfMissing {
                throw OperationPostponed(reason: "no backend of this node serves \(host): it waits for a start with it in enabled_backends")
            }
            throw DriverFailure(.unavailable, "no backend of this node serves \(host)")
        }
        self.backend = backend
        self.operation = operation
        self.services = services
    }

    /// Whether the backend's volumes share targets; nil if its driver says null.
    var sharesTargets: Bool? {
        let capability = backend.capabilities?["shared_targets"]
        return capability == .null ? nil : capability?.boolean ?? false
    }

    /// Who keeps the keys of encrypted volumes.
    var keys: OperationKeys { OperationKeys(services) }

    /// Another backend for the same operation.
    func other(at host: String) throws -> OperationBackend { try OperationBackend(at: host, operation, services) }

    // MARK: calls

    /// Calls the driver until there is an answer: again after the death of its host, after passing trouble, and while the
    /// backend is down for at most `wait` seconds. nil, for what is removed: as long as it takes, trouble and full storage included;
    /// what was begun is neither whole nor gone.
    func call(_ method: DriverMethod, _ arguments: DriverValue, wait: Double? = 60) async throws -> DriverValue {
        var deaths = 0
        var retries = 0
        var budget = WaitBudget(seconds: wait)
        while true {
            do {
                return try await backend.call(
                    method, arguments, requestID: operation.requestID,
                    onProgress: { [services, operation] done, total in services.progress.set(operation.id, done, total) })
            } catch let failure as DriverFailure {
                try Task.checkCancellation()
                switch failure.code {
                case .hostDied:
                    deaths += 1
                    // A call that kills every host is given up; one that is only unlucky is not.
                    guard deaths < (wait == nil ? 50 : 8) else {
                        throw DriverFailure(.error, "the driver's host died \(deaths) times in \(method.rawValue)")
                    }
                    warn("the driver's host died, the call is repeated: \(failure.message)", method)
                    _ = await backend.waitUntilUp(within: 30)
                case .unavailable:
                    try await budget.wait(after: failure) { await backend.waitUntilUp(within: $0) }
                case .retry where retries < 5 || wait == nil, .noSpace where wait == nil:
                    if retries == 5 { warn("the backend cannot do it now, it is tried again and again: \(failure.message)", method) }
                    retries += 1
                    try await pause(min(services.retryPause * Double(1 << min(retries, 10)), 30), endsWithService: wait == nil)
                default: throw failure
                }
            }
        }
    }

    /// The call, where a driver that leaves it out has nothing to do.
    func callIfSupported(_ method: DriverMethod, _ arguments: DriverValue, wait: Double? = 60) async throws -> DriverValue {
        do {
            return try await call(method, arguments, wait: wait)
        } catch let failure as DriverFailure where failure.code == .unsupported {
            return .object([])
        }
    }

    /// `endsWithService`: what waits for storage without end waits on in the next start.
    private func pause(_ seconds: Double, endsWithService: Bool) async throws {
        let end = Timestamp.monotonic() + seconds
        while case let left = end - Timestamp.monotonic(), left > 0 {
            if endsWithService, services.isStopping.withLock({ $0 }) {
                throw OperationPostponed(reason: "its storage does not answer, and the service stops")
            }
            try await Task.sleep(nanoseconds: UInt64(min(left, 0.2) * 1e9))
        }
    }

    func warn(_ text: String, _ method: DriverMethod) {
        services.log.warning(
            "\(text)",
            metadata: ["request_id": "\(operation.requestID)", "operation_id": "\(operation.id)", "method": "\(method.rawValue)"])
    }

    // MARK: copies

    /// Copies an object of another backend, `sourceHost`, to one of this backend, in a process of its own: again from the last checkpoint
    /// when the process dies. What a driver is told of either end is `volume`, with `snapshot` for a snapshot's content.
    func copy<Flow: FlowDefinition>(_ source: DriverValue, at sourceHost: String, to target: DriverValue, for run: FlowRun<Flow>)
        async throws
    where Flow.State: CopyState {
        let origin = try OperationBackend(at: sourceHost, operation, services).backend
        for end in [origin, backend] { try await end.waitForOldTransfers() }
        let start = Guarded(UInt64(clamping: run.state.copied ?? 0))
        let output = try await OperationTransfer(operation: operation, services: services).run(
            checkpoint: { position in
                start.withLock { $0 = position }
                return Task { await run.checkpoint(copied: position) }
            }, start: { " from \(start.withLock { $0 }) bytes on" }
        ) {
            var transfer = Transfer(from: origin.transferEnd(source), to: backend.transferEnd(target))
            transfer.start = start.withLock { $0 }
            transfer.bytesPerSecond = [origin.copyLimit, backend.copyLimit].filter { $0 > 0 }.min() ?? 0
            return transfer
        }
        services.log.info(
            "copied",
            metadata: [
                "seconds": "\(output["seconds"]?.real ?? 0)", "operation_id": "\(operation.id)", "request_id": "\(operation.requestID)",
            ])
    }

    // MARK: encryption

    /// How whatever hosts decrypt begins: with a header of this kind that is there before the first of them, `none` where nothing encrypted
    /// is kept, nil where hosts make it.
    private var encryptionHeader: String? { backend.capabilities?["encryption_header"]?.string }

    /// Throws where the backend does not keep what is encrypted, or cannot take it from where it lies now, `origin`.
    func requireEncrypted(from origin: String? = nil) throws {
        guard encryptionHeader != "none" else {
            throw DriverFailure(.unsupported, "the backend's driver keeps no encrypted volumes")
        }
        // What no host has attached yet may be without one.
        if let origin, encryptionHeader != nil, try other(at: origin).encryptionHeader != encryptionHeader {
            throw DriverFailure(.unsupported, "hosts of the backend decrypt what begins with a header, which the volume may not have")
        }
    }

    /// Whether hosts need a header that the service makes.
    var preparesEncrypted: Bool { encryptionHeader == "luks" }

    /// Throws where the backend's hosts cannot decrypt what is encrypted so.
    func requireProvider(_ encryption: TypeEncryption) throws {
        guard !preparesEncrypted || encryption.isOfHypervisors else {
            throw DriverFailure(
                .unsupported, "the backend's hosts decrypt LUKS alone, and the type's provider is '\(encryption.values.provider ?? "")'")
        }
    }

    /// How the service itself encrypts a volume by a key. Throws where it cannot as the type says.
    func luksOrder(for encryption: TypeEncryption, keyID: String) async throws -> LUKSOrder {
        guard let format = encryption.written else {
            let values = encryption.values
            throw DriverFailure(
                .unsupported,
                "the service encrypts by LUKS with AES alone, and the type's provider is '\(values.provider ?? "")', its cipher "
                    + "'\(values.cipher ?? "")' with keys of \(values.keySize ?? 256) bits")
        }
        return LUKSOrder(format, passphrase: try await keys.key(keyID).passphrase)
    }

    /// Prepares a new, empty volume for the hosts that will decrypt it, where that is not the work of whoever attaches it.
    func prepare(_ volume: DriverValue, for encryption: TypeEncryption, keyID: String) async throws {
        guard preparesEncrypted else { return }
        try requireProvider(encryption)
        let order = try await luksOrder(for: encryption, keyID: keyID)
        try await backend.waitForOldTransfers()
        _ = try await OperationTransfer(operation: operation, services: services).run {
            Transfer(.encrypt(order), from: nil, to: backend.transferEnd(.members(["volume": volume])))
        }
    }

    // MARK: backups

    /// Whether increments read only what the driver says has changed.
    var keepsBackupSnapshots: Bool { backend.keepsBackupSnapshots }

    /// Waits until no transfer lives that an earlier process began, and gives the end of one.
    func transferEnd(_ object: DriverValue) async throws -> (end: Transfer.End, limit: Int) {
        try await backend.waitForOldTransfers()
        return (backend.transferEnd(object), backend.copyLimit)
    }
}

extension FlowRun where Flow.State: CopyState {
    /// Records how much is copied. Best effort: what is not recorded is copied again.
    fileprivate func checkpoint(copied position: UInt64) async {
        var state = state
        state.copied = Int(clamping: position)
        let text = state
        try? await recordPart { [operation] in try Operations.checkpoint(operation.id, state: text, in: $0) }
    }
}
