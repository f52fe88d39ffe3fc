import BlockStorage
import Database
import DriverHost
import Primitives

@testable import Flows
@testable import Transfers

/// How one driver call goes wrong.
struct Fault: Sendable {
    let code: DriverFailure.Code
    /// The call has its effect, and then fails.
    var hasEffect = false
}

/// What the backends of a test are told to do: which of their calls, counted from 0, go wrong.
final class Script: Sendable {
    private struct State {
        var faults: [Int: Fault] = [:]
        var calls: [String] = []
        var failed: [String] = []
    }
    private let state = Guarded(State())
    /// Whether drivers have no snapshots.
    let lacksSnapshots = Guarded(false)
    /// Whether drivers tell what changed since a snapshot.
    let tellsChanges = Guarded(false)
    /// Whether drivers do not grow a volume with snapshots.
    let growsNoSnapshots = Guarded(false)
    /// Whether a driver has omitted a change of the volume that is backed up next.
    let omitsChange = Guarded(false)
    /// What each attempt to write an image was told of the volume: whether it is zero.
    let targetsWereZero = Guarded<[Bool]>([])
    /// Whether the backends of the node are not enabled.
    let isDisabled = Guarded(false)
    /// Whether the backends keep snapshots of backups.
    let keepsSnapshots = Guarded(true)
    /// Whether the Image service keeps images where the backends clone them.
    let clonesImages = Guarded(false)
    /// Whether the backends cache images.
    let cachesImages = Guarded(false)
    /// Names of the snapshots since which backups asked for changes; nil: they read all.
    let bases = Guarded<[String?]>([])
    /// Whether they might ask by the name that the store has for the parent's snapshot.
    let asksByName = Guarded<[Bool]>([])

    func begin(_ faults: [Int: Fault]) { state.withLock { $0 = State(faults: faults) } }

    /// Names of the calls so far, and of those that went wrong.
    var calls: [String] { state.withLock { $0.calls } }
    var failed: [String] { state.withLock { $0.failed } }

    /// Runs the next call.
    func run<T>(_ name: String, _ effect: () throws -> T) throws -> T {
        let fault = state.withLock { state in
            defer { state.calls.append(name) }
            let fault = state.faults[state.calls.count]
            if fault != nil { state.failed.append(name) }
            return fault
        }
        guard let fault else { return try effect() }
        if fault.hasEffect { _ = try effect() }
        throw DriverFailure(fault.code, "a fault of the test in \(name)")
    }
}

/// A backend whose driver and storage are in memory. Its calls keep the driver's rules: each may be repeated.
final class MemoryBackend: StorageBackend {
    struct Object: Equatable, Sendable {
        var size: Int64
        var content = ""
        var snapshots: [String: String] = [:]
        /// Those that were made here, the newest last.
        var order: [String] = []
        var isExported = false
        var hosts: Set<String> = []
    }

    let host: String
    let copyLimit = 0
    var keepsBackupSnapshots: Bool { script.keepsSnapshots.withLock { $0 } }
    var imageCacheLimits: ImageCache.Limits? {
        script.cachesImages.withLock { $0 } ? ImageCache.Limits(gigabytes: 0, count: 0) : nil
    }
    var capabilities: DriverValue? {
        .members([
            "shared_targets": .boolean(false), "encryption_header": .string("luks"),
            "image_locations": .string(script.clonesImages.withLock { $0 } ? "memory://" : ""),
        ])
    }
    private let script: Script
    private let storage = Guarded<[String: Object]>([:])

    init(host: String, script: Script) {
        self.host = host
        self.script = script
    }

    var objects: [String: Object] { storage.withLock { $0 } }
    var isDisabled: Bool { script.isDisabled.withLock { $0 } }
    subscript(name: String) -> Object? {
        get { storage.withLock { $0[name] } }
        set { storage.withLock { $0[name] = newValue } }
    }

    func waitUntilUp(within seconds: Double) async -> Bool { true }
    func waitForOldTransfers() async throws {}
    func transferEnd(_ object: DriverValue) -> Transfer.End {
        Transfer.End(
            Backend.Configuration(
                name: host, pluginPath: "", options: .object([]), threads: 1, callTimeout: 1, openTimeout: 1, notesDirectory: ""),
            object: object)
    }

    func call(
        _ method: DriverMethod, _ arguments: DriverValue, requestID: String, onProgress: @escaping @Sendable (UInt64, UInt64) -> Void
    ) async throws -> DriverValue {
        try script.run(method.rawValue) {
            try storage.withLock { try effect(method, arguments, &$0) }
        }
    }

    private func effect(_ method: DriverMethod, _ arguments: DriverValue, _ objects: inout [String: Object]) throws -> DriverValue {
        func name(_ argument: String) -> String { arguments[argument]?["name"]?.string ?? "" }
        func require(_ name: String) throws -> Object {
            guard let object = objects[name] else { throw DriverFailure(.notFound, "there is no \(name)") }
            return object
        }
        let volume = name("volume")
        let size = arguments["volume"]?["size"]?.integer ?? 0
        let data = DriverValue.members(["data": .string("data of \(volume)")])
        switch method {
        case .createVolume:
            if objects[volume] == nil { objects[volume] = Object(size: size) }
            return data
        case .cloneVolume:
            // As drivers of storage do: what is there is taken for what an earlier attempt made.
            let content = try require(name("source")).content
            if objects[volume] == nil { objects[volume] = Object(size: size, content: content) }
            return data
        case .cloneImage:
            let content = String((arguments["image"]?["location"]?.string ?? "").dropFirst(9))
            if objects[volume] == nil { objects[volume] = Object(size: size, content: content) }
            return data
        case .createVolumeFromSnapshot:
            guard let content = try require(name("source")).snapshots[name("snapshot")] else {
                throw DriverFailure(.notFound, "there is no snapshot")
            }
            objects[volume] = Object(size: size, content: content)
            return data
        case .deleteVolume:
            guard objects[volume]?.snapshots.isEmpty ?? true else { throw DriverFailure(.busy, "\(volume) has snapshots") }
            objects[volume] = nil
        case .extendVolume:
            guard try require(volume).snapshots.isEmpty || !script.growsNoSnapshots.withLock({ $0 }) else {
                throw DriverFailure(.busy, "\(volume) has snapshots")
            }
            objects[volume]?.size = arguments["new_size"]?.integer ?? 0
        case .createSnapshot:
            if script.lacksSnapshots.withLock({ $0 }) { throw DriverFailure(.unsupported, "the test's driver has no snapshots") }
            let content = try require(volume).content
            if objects[volume]?.snapshots.updateValue(content, forKey: name("snapshot")) == nil {
                objects[volume]?.order.append(name("snapshot"))
            }
        case .deleteSnapshot:
            objects[volume]?.snapshots[name("snapshot")] = nil
            objects[volume]?.order.removeAll { $0 == name("snapshot") }
        case .revertToSnapshot:
            guard let content = try require(volume).snapshots[name("snapshot")] else {
                throw DriverFailure(.notFound, "there is no snapshot")
            }
            // Of the latest one alone, as the header says.
            guard try [nil, name("snapshot")].contains(require(volume).order.last) else {
                throw DriverFailure(.busy, "there is a later snapshot")
            }
            objects[volume]?.content = content
        case .exportVolume, .ensureExport:
            _ = try require(volume)
            objects[volume]?.isExported = true
        case .unexportVolume: objects[volume]?.isExported = false
        case .connectVolume:
            _ = try require(volume)
            objects[volume]?.hosts.insert(arguments["connector"]?["host"]?.string ?? "")
            return .members(["driver_volume_type": .string("memory"), "data": .members(["name": .string(volume)])])
        case .disconnectVolume:
            let remaining = arguments["attachments"]?.list?.compactMap { $0["connector"]?["host"]?.string } ?? []
            objects[volume]?.hosts.formIntersection(remaining)
        case .listVolumes:
            return .members([
                "volumes": .list(
                    objects.map {
                        .members([
                            "name": .string($0.key), "bytes": .integer($0.value.size << 30), "size": .integer($0.value.size),
                        ])
                    })
            ])
        case .manageVolume:
            let source = arguments["reference"]?["source-name"]?.string ?? ""
            if let object = objects.removeValue(forKey: source) { objects[volume] = object }
            return .members(["data": .string("data of \(volume)"), "size": .integer(try require(volume).size)])
        case .manageSnapshot:
            let source = arguments["reference"]?["source-name"]?.string ?? ""
            if let content = objects[volume]?.snapshots.removeValue(forKey: source) {
                objects[volume]?.snapshots[name("snapshot")] = content
            }
        case .renameVolume:
            if let object = objects.removeValue(forKey: name("source")) { objects[volume] = object }
            _ = try require(volume)
        case .unmanageVolume:
            guard objects[volume]?.snapshots.isEmpty ?? true else { throw DriverFailure(.busy, "\(volume) has snapshots") }
        case .unmanageSnapshot: break
        default: throw DriverFailure(.unsupported, "the test's driver has no \(method.rawValue)")
        }
        return .object([])
    }
}

/// The backends of a test's node.
struct MemoryBackends: StorageBackends {
    let all: [MemoryBackend]
    let pool: String
    var count: Int { all.count }

    func backend(_ host: String) -> (any StorageBackend)? {
        all.first { $0.host == host }.flatMap { $0.isDisabled ? nil : $0 }
    }
    func waitForReports(isPatient: Bool, or host: String?) async {}
    func waitForReports() async {}
    func waitForReport(of host: String) async {}
    func areKnown(by moment: Double) -> Bool { true }
    func readCapacity() async {}
    func usablePools(in connection: any Connection) throws -> [PoolState] { try pools(in: connection) }

    func pools(in connection: any Connection) throws -> [PoolState] {
        let allocations = try Pools.allocations(in: connection)
        return all.map { backend in
            let host = "\(backend.host)#\(pool)"
            let allocation = allocations[host] ?? Pools.Allocation()
            return PoolState(
                host: host, zone: "nova",
                capabilities: ["volume_backend_name": .string(String(backend.host.split(separator: "@")[1]))], totalGB: 100_000,
                freeGB: 100_000, provisionedGB: nil, allocatedGB: Double(allocation.gigabytes), volumes: allocation.volumes,
                reservedPercentage: 0, maxOverSubscriptionRatio: "20", isThin: true, isThick: false, timestamp: "")
        }
    }
}

/// Copies between backends of a test, as one call of their script.
struct MemoryTransfers: TransferRunner {
    let backends: MemoryBackends
    let store: MemoryStore
    let images: MemoryImages
    let script: Script

    func run(_ transfer: Transfer) async -> Result<DriverValue, any Error> {
        func end(_ end: Transfer.End?) -> (MemoryBackend, String)? {
            guard let end, let backend = backends.all.first(where: { $0.host == end.backend.name }) else { return nil }
            return (backend, end.object["volume"]?["name"]?.string ?? "")
        }
        if let order = transfer.job.image {
            if transfer.target != nil {
                script.targetsWereZero.withLock { $0.append(order.targetIsZero) }
                images.fetched.withLock { $0.append(order) }
            }
            return Result {
                try script.run(transfer.job.name) {
                    if let (backend, target) = end(transfer.target) {
                        guard let content = images[order.image], backend[target] != nil else {
                            throw DriverFailure(.notFound, "an end is missing")
                        }
                        backend[target]?.content = content
                    } else if let (backend, source) = end(transfer.source) {
                        let snapshot = transfer.source?.object["snapshot"]?["name"]?.string
                        // Whoever uses the volume goes on writing to it.
                        if snapshot != nil { backend[source]?.content = "later content" }
                        guard let content = snapshot.map({ backend[source]?.snapshots[$0] }) ?? backend[source]?.content else {
                            throw DriverFailure(.notFound, "the volume is missing")
                        }
                        images.store(content, in: order.image)
                    }
                }
                return .object([])
            }
        }
        if let order = transfer.job.order { return Result { try work(transfer, on: order, end) } }
        if case .encrypt = transfer.job {
            return Result {
                try script.run("encrypt") {
                    guard let (backend, target) = end(transfer.target), backend[target] != nil else {
                        throw DriverFailure(.notFound, "there is nothing to encrypt")
                    }
                    backend[target]?.content = "LUKS"
                }
                return .members(["seconds": .real(0)])
            }
        }
        guard let (from, source) = end(transfer.source), let (to, target) = end(transfer.target) else {
            return .failure(DriverFailure(.error, "no such backend"))
        }
        return Result {
            try script.run("copy") {
                let snapshot = transfer.source?.object["snapshot"]?["name"]?.string
                guard let content = snapshot.map({ from[source]?.snapshots[$0] }) ?? from[source]?.content, to[target] != nil else {
                    throw DriverFailure(.notFound, "an end of the copy is missing")
                }
                transfer.onCheckpoint(1 << 29)
                to[target]?.content = content
            }
            return .members(["seconds": .real(0)])
        }
    }

    /// Work on a backup, as one call of the script.
    private func work(
        _ transfer: Transfer, on order: BackupOrder, _ end: (Transfer.End?) -> (MemoryBackend, String)?
    ) throws -> DriverValue {
        let id = order.backup.id
        return try script.run(transfer.job.name) {
            switch transfer.job {
            case .copy, .maintain, .serve, .fetchImage, .storeImage, .encrypt: break
            case .verify: return BackupVerdict().value
            case .backup:
                guard let (backend, source) = end(transfer.source) else { throw DriverFailure(.error, "no such backend") }
                let snapshot = transfer.source?.object["snapshot"]?["name"]?.string
                guard let content = snapshot.map({ backend[source]?.snapshots[$0] }) ?? backend[source]?.content else {
                    throw DriverFailure(.notFound, "there is nothing to back up")
                }
                guard order.parents.allSatisfy({ store[$0.id] != nil }) else { throw DriverFailure(.notFound, "a parent is missing") }
                let base = order.base?["name"]?.string
                script.bases.withLock { $0.append(base) }
                script.asksByName.withLock { $0.append(order.asksBySnapshotName) }
                if let base {
                    // It is there, and it is the older one.
                    let order = backend[source]?.order ?? []
                    guard let place = order.firstIndex(of: base), place < snapshot.flatMap({ order.firstIndex(of: $0) }) ?? order.count
                    else { throw DriverFailure(.error, "the test's \(base) is no base of \(snapshot ?? source)") }
                }
                if base != nil, script.omitsChange.withLock({ $0 }) { transfer.onMissedChange() }
                store[id] = MemoryStore.Entry(content: content, volumeMetadata: order.volumeMetadata)
                let tells = order.keepsSnapshot && script.tellsChanges.withLock { $0 }
                return .members(["objects": .integer(1), "tells_changes": .boolean(tells)])
                    .adding("missed_change", script.omitsChange.withLock { $0 } ? .integer(0) : nil)
            case .restore:
                guard let (backend, target) = end(transfer.target) else { throw DriverFailure(.error, "no such backend") }
                guard let entry = store[id], backend[target] != nil else { throw DriverFailure(.notFound, "an end is missing") }
                backend[target]?.content = entry.content
                return .members(["volume_metadata": .string(entry.volumeMetadata)])
            case .remove: store[id] = nil
            }
            return .object([])
        }
    }
}

/// A store of backups in memory.
final class MemoryStore: BackupStore {
    struct Entry: Sendable {
        let content, volumeMetadata: String
    }

    let name = "memory", service = "memory", format = "memory", host = "node", zone = "nova"
    let formatOptions = DriverValue.object([])
    private let entries = Guarded<[String: Entry]>([:])

    subscript(id: String) -> Entry? {
        get { entries.withLock { $0[id] } }
        set { entries.withLock { $0[id] = newValue } }
    }

    var ids: Set<String> { entries.withLock { Set($0.keys) } }

    func objectNames(of backup: Backup, after parent: Backup?, format: String, container: String?) -> (container: String, prefix: String) {
        (container ?? "c", backup.id)
    }
    func waitForOldTransfers() async throws {}
    var transferEnd: Transfer.End {
        Transfer.End(
            store: Backend.Configuration(
                name: name, pluginPath: "", options: .object([]), threads: 1, callTimeout: 1, openTimeout: 1, notesDirectory: ""))
    }
}

struct MemoryStores: BackupStores {
    let store = MemoryStore()
    var stores: [any BackupStore] { [store] }
}
