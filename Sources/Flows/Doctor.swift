public import BlockStorage
import Database
import DriverHost
public import JSON
import Logging
import Primitives
public import Settings

/// Compares what the database says of itself, of the operation log and of every backend. It may work beside the running
/// service: what changes while it looks is left alone.
public final class Doctor: StorageExamination {
    private let services: FlowServices
    private let backends: Backends
    private let engine: FlowEngine
    private let requests: VolumeRequests
    private let reservationAge: Int
    private let imageKeys: ImageKeySweep?
    private let notificationStatus: (@Sendable () async throws -> JSON)?
    /// Reading many rows holds a thread for a while: its own.
    private let executor = ThreadExecutor(name: "doctor", threads: 1)

    /// - Parameters:
    ///   - notificationStatus: what the sender of notifications tells of itself; nil if there is none.
    ///   - imageKeys: who deletes the keys of images that are gone; nil beside a service that does not run.
    public init(
        _ services: FlowServices, backends: Backends, engine: FlowEngine, requests: VolumeRequests, settings: Settings,
        notificationStatus: (@Sendable () async throws -> JSON)? = nil, imageKeys: ImageKeySweep? = nil
    ) {
        self.imageKeys = imageKeys
        self.notificationStatus = notificationStatus
        self.services = services
        self.backends = backends
        self.engine = engine
        self.requests = requests
        let age = settings[Options.storage.reservationTimeout]
        reservationAge = age > 0 ? age : 86_400
    }

    /// What was looked at and found.
    private struct Report: Sendable {
        var findings: [Finding] = []
        var volumes = 0
        var attachments = 0
        var operations = 0
        var backends: [(host: String, objects: Int?)] = []
        var notifications = JSON.null

        var json: JSON {
            .object([
                "doctor": .object([
                    "examined": .object([
                        "volumes": JSON(volumes), "attachments": JSON(attachments), "operations": JSON(operations),
                        "backends": .array(
                            backends.map { .object(["host": .string($0.host), "objects": $0.objects.map { JSON($0) } ?? .null]) }),
                        "notifications": notifications,
                    ]),
                    "findings": .array(
                        findings.map {
                            .object([
                                "kind": .string($0.kind.rawValue), "resource": .string($0.resource), "text": .string($0.text),
                                "advice": JSON($0.advice), "repairable": .bool($0.isRepairable), "outcome": JSON($0.outcome),
                            ])
                        }),
                ])
            ])
        }
    }

    /// A volume or a snapshot as the comparison with its backend needs it; the states of both have the same names there.
    private struct Row {
        let id: String
        let size: Int
        let status: VolumeStatus
        let backend: String
        /// Its storage object is a snapshot's.
        var isSnapshot = false
        /// Of a snapshot without a row of its own: the backup that it was made for.
        var ofBackup: Backups.StoredSnapshot?
    }

    private struct Snapshot {
        var rows: [String: Row] = [:]
        var claimed: Set<String> = []
    }

    static let rowsSQL = SQL("SELECT id, name_id, size, status, host FROM volumes WHERE host IS NOT NULL")
    static let snapshotRowsSQL = SQL(
        "SELECT s.id, s.size, s.status, v.host FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE v.host IS NOT NULL")
    static let countsSQL = SQL(
        "SELECT (SELECT count(*) FROM volumes), (SELECT count(*) FROM attachments), (SELECT count(*) FROM operations WHERE finished_at IS NULL)"
    )

    public func examine(repair: Bool) async throws -> JSON {
        try await Task(executorPreference: executor) { [self] in try await work(repair: repair).json }.value
    }

    private func work(repair: Bool) async throws -> Report {
        var report = Report()
        (report.volumes, report.attachments, report.operations) =
            try await services.database.read { try $0.first(Self.countsSQL) { ($0.int(0), $0.int(1), $0.int(2)) } } ?? (0, 0, 0)
        report.findings = try await services.database.read {
            try DatabaseExamination.findings(
                knownFlows: engine.knownFlows, reservationAge: reservationAge,
                snapshotsChargeGigabytes: services.settings.snapshotsChargeGigabytes, in: $0)
        }
        // Right after a start they may be a moment late.
        for entry in backends.entries { _ = await entry.backend.waitUntilUp(within: 10, isPatient: false) }
        try await compareBackends(&report)
        if let repositories = services.repositories {
            report.findings += try await BackupExamination(repositories: repositories, database: services.database).findings()
        }
        let notifications = try await NotificationExamination(status: notificationStatus, database: services.database).run()
        report.notifications = notifications.summary
        report.findings += notifications.findings
        report.findings += try await KeyExamination(imageKeys: imageKeys, database: services.database).findings()
        if repair {
            for index in report.findings.indices {
                report.findings[index] = try await report.findings[index].repaired(in: services.database)
                let finding = report.findings[index]
                if let outcome = finding.outcome {
                    services.log.warning("repaired: \(finding.text) \(outcome)", metadata: ["resource": "\(finding.resource)"])
                }
            }
        }
        return report
    }

    // MARK: backends

    private func snapshot() async throws -> Snapshot {
        try await services.database.read { connection in
            var snapshot = Snapshot()
            try connection.query(Self.rowsSQL, []) { row in
                let id = row.text(0)
                let backend = HostName.backend(of: row.text(4))
                let name = services.settings.names.volume(row.optionalText(1) ?? id)
                snapshot.rows[name] = Row(id: id, size: row.int(2), status: VolumeStatus(rawValue: row.text(3)), backend: backend)
                return true
            }
            try connection.query(Self.snapshotRowsSQL, []) { row in
                let id = row.text(0)
                snapshot.rows[services.settings.names.snapshot(id)] = Row(
                    id: id, size: row.int(1), status: VolumeStatus(rawValue: row.text(2)), backend: HostName.backend(of: row.text(3)),
                    isSnapshot: true)
                return true
            }
            for stored in try Backups.storedSnapshots(in: connection) {
                snapshot.rows[services.settings.names.snapshot(stored.id)] = Row(
                    id: stored.id, size: stored.size, status: VolumeStatus(rawValue: stored.status?.rawValue ?? ""),
                    backend: HostName.backend(of: stored.host), isSnapshot: true, ofBackup: stored)
            }
            snapshot.claimed = try Operations.claimed(in: connection)
            return snapshot
        }
    }

    private func compareBackends(_ report: inout Report) async throws {
        let startedAt = Timestamp.now()
        let before = try await snapshot()
        var listed: [String: [String: Int64]] = [:]
        // Backends of which not everything could be looked at.
        var partial: Set<String> = []
        for entry in backends.entries {
            do {
                let listing = try await entry.backend.call(.listVolumes, .object([]))
                let objects = listing["volumes"]?.list ?? []
                for problem in listing["problems"]?.list?.compactMap(\.string) ?? [] {
                    partial.insert(entry.host)
                    report.findings.append(
                        Finding(
                            .backend, entry.host, "A part of backend \(entry.host) could not be looked at: \(problem)",
                            advice: "What should lie there was not compared."))
                }
                var names: [String: Int64] = [:]
                for object in objects {
                    if let name = object["name"]?.string { names[name] = object["bytes"]?.integer ?? -1 }
                    for snapshot in object["snapshots"]?.list ?? [] {
                        if let name = services.settings.names.snapshot(listed: snapshot["id"]?.string, snapshot["name"]?.string) {
                            names[name] = -1
                        }
                    }
                }
                listed[entry.host] = names
                report.backends.append((entry.host, objects.count))
            } catch {
                report.backends.append((entry.host, nil))
                let reason = (error as? DriverFailure)?.message ?? "\(error)"
                report.findings.append(
                    Finding(
                        .backend, entry.host, "Backend \(entry.host) could not be asked: \(reason)",
                        advice: "Its volumes were not compared."))
            }
        }
        let after = try await snapshot()
        var strangers: [String: Int] = [:]
        for (name, row) in before.rows {
            guard backends.entry(row.backend) != nil else {
                strangers[row.backend, default: 0] += 1
                continue
            }
            guard let objects = listed[row.backend], let now = after.rows[name], now.status == row.status, now.size == row.size,
                now.backend == row.backend, !before.claimed.contains(row.id), !after.claimed.contains(row.id)
            else { continue }
            if objects[name] == nil, partial.contains(row.backend) { continue }
            compare(row, name, bytes: objects[name], &report)
        }
        for (host, count) in strangers.sorted(by: { $0.key < $1.key }) {
            report.findings.append(
                Finding(
                    .backend, host, "\(count) volumes lie on \(host), which this node does not serve.",
                    advice: "Enable the backend again under this name, or let the node that has it serve."))
        }
        for (host, objects) in listed.sorted(by: { $0.key < $1.key }) {
            // Under a row's name on another backend lies what a move could not remove.
            for name in objects.keys.sorted() where before.rows[name]?.backend != host && after.rows[name]?.backend != host {
                guard let id = services.settings.names.volumeID(name) ?? services.settings.names.snapshotID(name) else { continue }
                // Made and removed while the backend was being asked.
                // Or left there on purpose.
                let history = try await services.database.read { try Events.ofResource(id, in: $0) }
                let isExpected = history.contains { $0.time >= startedAt || $0.kind.hasSuffix(Events.leftSuffix) }
                guard !isExpected, !after.claimed.contains(id) else { continue }
                report.findings.append(
                    Finding(
                        .orphanStorage, name, "\(host) holds \(name), but there is no volume or snapshot \(id) there.",
                        advice: "Nothing removes data that may be somebody's: look at it, then delete it in the backend."))
            }
        }
    }

    private func compare(_ row: Row, _ name: String, bytes: Int64?, _ report: inout Report) {
        if let stored = row.ofBackup { return compare(stored, name, isThere: bytes != nil, &report) }
        // A failed creation or deletion may or may not have left something: the next deletion settles it.
        guard ![.error, .errorDeleting, .creating, .deleting].contains(row.status) else { return }
        let kind = row.isSnapshot ? "Snapshot" : "Volume"
        guard let bytes else {
            report.findings.append(
                Finding(
                    .missingStorage, row.id, "\(kind) \(row.id) is \(row.status), but \(row.backend) has no \(name).",
                    advice: "Bring the object back from a backup, or set the row to error and delete it."))
            return
        }
        if row.isSnapshot { return }
        let wanted = Int64(row.size) << 30
        guard bytes >= 0, bytes != wanted else { return }
        guard bytes < wanted else {
            report.findings.append(
                Finding(
                    .size, row.id, "Volume \(row.id) has \(row.size) GiB, but \(row.backend) says \(bytes) bytes.",
                    advice: "What lies beyond the volume's size is not charged; extend the volume to use it."))
            return
        }
        let text = "Volume \(row.id) has \(row.size) GiB, but \(row.backend) says only \(bytes) bytes."
        guard row.status == .available else {
            report.findings.append(
                Finding(.size, row.id, text, advice: "It can be extended to its size while it is available, but it is \(row.status)."))
            return
        }
        report.findings.append(
            Finding(.size, row.id, text) { [requests] tx in
                try requests.regrow(row.id, caller: .service(requestID: UUID.random(prefix: "req-")), in: tx)
                    .map { "operation \($0) extends it to its size" }
            })
    }

    /// A snapshot that is kept for the next increment, or that an operation could not remove.
    private func compare(_ stored: Backups.StoredSnapshot, _ name: String, isThere: Bool, _ report: inout Report) {
        if let status = stored.status, [.creating, .deleting].contains(status) { return }
        let what = "snapshot \(name), which backup \(stored.backupID) of volume \(stored.volumeID) was made of"
        guard isThere else {
            report.findings.append(
                Finding(.missingStorage, stored.id, "\(stored.host) has no \(what).") { tx in
                    let isOwed = try BackupSnapshotRemovals.find(stored.id, in: tx) != nil
                    if isOwed { try BackupSnapshotRemovals.finished(stored.id, in: tx) }
                    guard let backup = try Backups.lock(stored.backupID, in: tx), backup.temporarySnapshotID == stored.id else {
                        return isOwed ? "nothing tries to remove it any more" : nil
                    }
                    try Backups.forgetSnapshot(of: backup, in: tx)
                    return "it was forgotten: the next increment reads the whole volume"
                })
            return
        }
        guard !stored.isNeeded else { return }
        let text = "\(stored.host) holds \(what), and no increment needs it" + (stored.failure.map { "; " + $0 } ?? "") + "."
        report.findings.append(
            Finding(.orphanStorage, stored.id, text) { tx in
                let caller = Caller.service(requestID: UUID.random(prefix: "req-"))
                if try BackupSnapshotRemovals.retry(stored.id, caller: caller, in: tx) { return "an operation removes it" }
                guard let volume = try Volumes.lock(stored.volumeID, in: tx),
                    try Backups.withUnneededSnapshots(ofVolume: volume.id, besides: nil, in: tx).contains(where: {
                        $0.id == stored.backupID
                    }),
                    let backup = try Backups.lock(stored.backupID, in: tx)
                else { return nil }
                try Backups.removeSnapshot(of: backup, volume, caller: caller, in: tx)
                return "an operation removes it"
            })
    }
}
