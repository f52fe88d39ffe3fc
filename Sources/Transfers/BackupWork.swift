import Backups
import CDriver
import DriverHost
import Primitives

/// One job on a backup, in the transfer process.
struct BackupWork {
    private let value: DriverValue
    private let order: BackupOrder
    private let ends: TransferEnds
    private let control: TransferControl
    /// Writes a line into the core's log.
    private let log: @Sendable (clinker_level, String) -> Void

    /// Handles of the volume that are read in parallel.
    private static let readers = 4

    init(_ value: DriverValue, _ wire: Wire) {
        self.value = value
        order = BackupOrder(value["order"] ?? .null)
        ends = TransferEnds(value, wire)
        log = ends.log
        let limit = value["bytes_per_second"]?.integer ?? 0
        control = TransferControl(bytesPerSecond: limit > 0 ? UInt64(limit) : nil) { progress in
            wire.send(
                Frame(
                    kind: .progress, id: 0,
                    value: .members([
                        "done": .integer(Int64(clamping: progress.done)), "total": .integer(Int64(clamping: progress.total)),
                    ]).adding("missed_change", progress.missedChange.map { .integer(Int64(clamping: $0)) })))
        }
    }

    private func store(_ end: String) throws -> BackupEnd { try ends.store(end, onLife: { [control] in control.reportLife() }) }

    func backup() throws -> DriverValue {
        let (source, store) = (try ends.driver("source"), try store("target"))
        let engine = try order.engine(store)
        let object = value["source"]?["object"] ?? .null
        let handles = try (0..<Self.readers).map { _ in try source.openAgain(object, writable: false) }
        let changes = try changes(of: source, object, since: base(engine))
        let device = try HandleSource(handles, changes: changes)
        let output = try timed {
            try engine.backup(order, of: device, to: store.objects, control).adding(
                "read", .integer(Int64(clamping: control.progress.moved)))
        }
        let readsAll = changes == nil || changes?.failure != nil || output["missed_change"] != nil
        if let reason = changes?.failure {
            log(CLINKER_WARNING, "not only what changed was read: \(source.plugin.name) did not tell it: \(reason)")
        }
        for damage in output["unreadable"]?.list ?? [] {
            log(CLINKER_WARNING, "the repository of project \(order.backup.projectID) holds damage: \(damage.string ?? "")")
        }
        if let offset = output["missed_change"]?.integer { log(CLINKER_ERROR_LEVEL, complaint(source, offset)) }
        return output.adding("read_all", .boolean(readsAll))
            .adding("tells_changes", order.keepsSnapshot && tellsChanges(source, object) ? .boolean(true) : nil)
    }

    /// What an operator must know of a driver that omitted a change.
    private func complaint(_ driver: Driver, _ offset: Int64) -> String {
        "the driver \(driver.plugin.name) said that nothing had changed at byte \(offset) of volume \(order.backup.volumeID) since backup "
            + "\(order.parents.last?.id ?? "-"), and something had: the whole volume was read, and backup \(order.backup.id) is right. "
            + "Earlier increments of this backend may lack changes: set keep_backup_snapshots = false, and make full backups"
    }

    /// What the driver is told of the parent's snapshot. Cinder keeps it in a volume of Ceph under the name that it has in the store; it is asked
    /// for by that only where the order permits it.
    private func base(_ engine: any BackupEngine) throws -> DriverValue? {
        if let base = order.base { return base }
        guard order.asksBySnapshotName, let engine = engine as? ImagesEngine, let parent = order.parents.last else { return nil }
        do { return try engine.snapshotName(of: parent).map { .members(["name": .string($0)]) } } catch {
            throw DriverFailure(ofBackup: error)
        }
    }

    /// What changed since the parent's snapshot, if there is one and the driver knows it.
    private func changes(of driver: Driver, _ object: DriverValue, since base: DriverValue?) -> ChangeList? {
        guard let base else { return nil }
        do { return try ChangeList(driver.openAgain(object.adding("since", base), writable: false)) } catch {
            let reason = (error as? DriverFailure)?.message ?? "\(error)"
            log(CLINKER_WARNING, "not only what changed is read: \(driver.plugin.name) does not tell it: \(reason)")
            return nil
        }
    }

    /// Whether the driver will tell what changed since the snapshot that was read: it tells what changed in it since itself.
    private func tellsChanges(_ driver: Driver, _ object: DriverValue) -> Bool {
        guard let snapshot = object["snapshot"],
            let list = try? ChangeList(driver.openAgain(object.adding("since", snapshot), writable: false))
        else { return false }
        return list.isTold
    }

    func restore() throws -> DriverValue {
        let (store, target) = (try store("source"), try ends.driver("target"))
        let engine = try order.engine(store)
        let handle = try target.openAgain(value["target"]?["object"] ?? .null, writable: true)
        let device = try HandleTarget(handle, isZero: order.targetIsZero)
        return try timed { try engine.restore(order, from: store.objects, to: device, control) }
    }

    func remove() throws -> DriverValue {
        let store = try store("target")
        let engine = try order.engine(store)
        return try timed {
            try engine.remove(order, from: store.objects, control)
            return .object([])
        }
    }

    func verify() throws -> DriverValue {
        let store = try store("target")
        let engine = try order.engine(store)
        return try timed { try engine.verify(order, in: store.objects, control).value }
    }

    /// What the job came to, with the seconds that it took; its failure as the core knows failures.
    private func timed(_ body: () throws -> DriverValue) throws -> DriverValue {
        let begun = Timestamp.monotonic()
        let output: DriverValue
        do { output = try body() } catch { throw DriverFailure(ofBackup: error) }
        return output.adding("seconds", .real(Timestamp.monotonic() - begun))
    }
}

extension DriverFailure {
    /// What made work on a backup stop.
    init(ofBackup error: any Error) {
        switch error {
        case let failure as DriverFailure: self = failure
        case let failure as StoreFailure: self = DriverFailure(Self.code(failure.kind), failure.description)
        case let failure as ChunkedFailure:
            let code: Code =
                switch failure.kind {
                case .store(let kind): Self.code(kind)
                case .cancelled: .cancelled
                case .damaged, .invalid, .device: .error
                }
            self = DriverFailure(code, failure.kind == .damaged ? BackupDamageReason.words + failure.description : failure.description)
        case let failure as RestoreFailure:
            self = DriverFailure(ofBackup: failure.cause)
            // It says what had been written, too.
            let isDamage = message.hasPrefix(BackupDamageReason.words)
            self = DriverFailure(self.code, (isDamage ? BackupDamageReason.words : "") + failure.description)
        case let failure as ImageBackupFailure:
            let isDamage = failure.kind == .damaged
            self = DriverFailure(
                failure.kind == .cancelled ? .cancelled : .error, (isDamage ? BackupDamageReason.words : "") + failure.description)
        case let error as RepositoryError:
            let code: Code =
                switch error.kind {
                case .locked: .retry
                case .cancelled: .cancelled
                case .wrongPassword, .unsupported: .badConfiguration
                case .damaged, .notFound, .exists, .invalid: .error
                }
            self = DriverFailure(code, error.kind == .damaged ? BackupDamageReason.words + error.description : error.description)
        default: self = DriverFailure(.error, "\(error)")
        }
    }

    private static func code(_ kind: StoreFailure.Kind) -> Code {
        switch kind {
        case .temporary: .retry
        case .noSpace: .noSpace
        case .forbidden: .badConfiguration
        case .cancelled: .cancelled
        case .permanent, .notFound: .error
        }
    }
}

/// How a failure says that a backup is not what was written.
public enum BackupDamageReason {
    static let words = "the backup is damaged: "

    /// Whether a failure of work on a backup has this reason.
    public static func isOf(_ message: String) -> Bool { message.hasPrefix(words) }
}
