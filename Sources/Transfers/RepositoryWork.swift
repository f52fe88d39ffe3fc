import Backups
import DriverHost
import Glibc
import JSON
import Primitives

/// One job on the repositories of a store, in the transfer process.
struct RepositoryWork {
    private let value: DriverValue
    private let wire: Wire
    private let control = TransferControl()

    /// Seconds between two signs of life: some of the work cannot tell how far it is.
    private static let beat = 2.0

    init(_ value: DriverValue, _ wire: Wire) {
        self.value = value
        self.wire = wire
    }

    func run() throws -> DriverValue {
        let (wire, control) = (wire, control)
        startThread("beat") {
            while true {
                pause(Self.beat)
                let progress = control.progress
                wire.send(
                    Frame(
                        kind: .progress, id: 0,
                        value: .members([
                            "done": .integer(Int64(clamping: progress.done)), "total": .integer(Int64(clamping: progress.total)),
                        ])))
            }
        }
        let order = try RepositoryOrder(value["maintenance"] ?? .null)
        let store = try TransferEnds(value, wire).store("target")
        do {
            if order.work == .objects, let images = store.images { try list(images) }
            try run(order, store.objects, hasImages: store.images != nil)
        } catch { throw DriverFailure(ofBackup: error) }
        return .object([])
    }

    private func send(_ item: DriverValue) { wire.send(Frame(kind: .progress, id: 0, value: .members(["item": item]))) }

    private func run(_ order: RepositoryOrder, _ store: any ObjectStore, hasImages: Bool) throws {
        if order.work == .objects, !hasImages { try listChunked(store) }
        let projects = try order.project.map { [$0] } ?? RepositoryPasswords(directory: order.keys).projects()
        for project in projects {
            do { try run(order, project, in: store) } catch {
                // One repository that cannot be read keeps no other from being looked at.
                switch order.work {
                case .scrub: break
                case .prune where error is RepositoryError: break
                default: throw error
                }
                send(.members(["project_id": .string(project), "problem": .string(DriverFailure(ofBackup: error).message)]))
            }
        }
    }

    private func run(_ order: RepositoryOrder, _ project: String, in store: any ObjectStore) throws {
        guard let repository = try RepositoryEngine.open(project, in: store, keys: order.keys, cache: order.cache) else {
            let missing = DriverFailure(.notFound, "the store has no repository of project \(project), or its password is not known")
            // A scrub tells it beside what it found in others. A password may have been made for a first backup that failed.
            guard order.project == nil, order.work != .scrub else { throw missing }
            return
        }
        try run(order, project, repository)
    }

    private func run(_ order: RepositoryOrder, _ project: String, _ repository: Repository) throws {
        switch order.work {
        case .keys:
            for key in try repository.keyList() {
                send(
                    .members([
                        "id": .string(key.id.hex), "created_at": .string(key.created), "user": .string(key.username),
                        "host": .string(key.hostname), "is_service": .boolean(key.isCurrent),
                    ]))
            }
        case .addKey:
            let id = try repository.addKey(order.passphrase ?? Secret(""))
            send(.members(["id": .string(id.hex)]))
        case .removeKey:
            guard let id = order.keyID.flatMap({ Digest(hex: $0) }) else {
                throw DriverFailure(.invalid, "a key's id has 64 hexadecimal digits")
            }
            try repository.removeKey(id)
        case .prune:
            let result = try repository.prune(control: control)
            send(
                .members([
                    "project_id": .string(project), "marked": .integer(Int64(result.markedPacks)),
                    "repacked": .integer(Int64(result.repackedPacks)), "removed": .integer(Int64(result.removedPacks)),
                    "removed_bytes": .integer(Int64(clamping: result.removedBytes)), "recovered": .integer(Int64(result.recoveredPacks)),
                    "waiting": .integer(Int64(result.waitingPacks)), "missing_chunks": .integer(Int64(result.missingChunks)),
                    "damaged": .list(result.damagedPacks.map { .string($0.hex) }),
                ]))
        case .survey: try survey(project, repository)
        case .objects:
            for snapshot in try repository.snapshots(onDamage: { _, _ in }) {
                guard let id = snapshot.backupID else { continue }
                send(.members(["project_id": .string(project), "backup_id": .string(id)]))
            }
            for object in try repository.damagedObjects() {
                send(.members(["project_id": .string(project), "damage": .string(object.description)]))
            }
        case .scrub:
            let result = try repository.scrub(part: order.part, of: order.parts, control: control)
            var verdict = BackupVerdict()
            verdict.checkedBytes = result.checkedBytes
            verdict.damages = result.damages.map { .init($0.description) }
            if !result.isGood { verdict.users = try RepositoryEngine.users(of: result.damages, in: repository, of: project, control) }
            send(.members(["project_id": .string(project), "verdict": verdict.value]))
        }
    }

    private func survey(_ project: String, _ repository: Repository) throws {
        func tell(_ snapshot: Digest, _ problem: String) {
            send(.members(["project_id": .string(project), "snapshot": .string(snapshot.hex), "problem": .string(problem)]))
        }
        for snapshot in try repository.snapshots(onDamage: { tell($0, $1.description) }) {
            // Of somebody who uses restic.
            guard snapshot.backupID != nil else { continue }
            do {
                let record = try repository.record(of: snapshot.id)
                send(
                    .members([
                        "project_id": .string(project), "snapshot": .string(snapshot.id.hex), "backup_id": .string(record.backupID),
                        "of_project": .string(record.projectID), "volume_id": .string(record.volumeID),
                        "bytes": .integer(Int64(clamping: record.size)), "details": .string(record.details.text),
                    ]))
            } catch let error as RepositoryError where error.kind == .damaged || error.kind == .unsupported {
                tell(snapshot.id, error.description)
            }
        }
    }

    private func list(_ images: any ImageStore) throws {
        for found in try ImageBackup.all(in: images) {
            send(.members(["image": .string(found.image), "image_backup_id": .string(found.backupID)]))
        }
    }

    /// What is there in Cinder's format: a backup's metadata is its last object.
    private func listChunked(_ store: any ObjectStore) throws {
        let suffix = "_metadata"
        var after = ""
        while true {
            var portion: [String] = []
            var last = ""
            try store.list("", after: after) { name, _ in
                last = name
                if name.hasSuffix(suffix), !name.utf8.starts(with: "repositories/".utf8) { portion.append(name) }
                return portion.count < 1000
            }
            for name in portion { send(.members(["prefix": .string(String(name.dropLast(suffix.count)))])) }
            guard portion.count == 1000 else { break }
            after = last
        }
        try ChunkedBackup.unnamed(in: "", of: store) { name, size in
            let prefix = ChunkedBackup.prefix(ofObject: name) ?? ""
            send(.members(["unnamed": .string(name), "of": .string(prefix), "bytes": .integer(Int64(clamping: size))]))
            return true
        }
    }
}
