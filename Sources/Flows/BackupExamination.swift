import BlockStorage
import Database
import DriverHost
import Primitives

/// Compares what the database says of backups with what their stores hold. Nothing is removed: what no row knows may be all that is left of
/// somebody's data.
struct BackupExamination {
    let repositories: StoreRepositories
    let database: any Database

    /// A backup as the comparison needs it.
    private struct Row {
        let id: String
        let store: String
        let isInRepository: Bool
        /// Of its objects' names in Cinder's format.
        let prefix: String
        let status: BackupStatus
    }

    static let rowsSQL = SQL("SELECT id, store, format, container, service_metadata, status FROM backups")

    private func rows() async throws -> (rows: [Row], claimed: Set<String>) {
        let buckets = repositories.buckets
        return try await database.read { connection in
            let rows = try connection.rows(Self.rowsSQL) { row in
                let store = row.optionalText(1) ?? ""
                // A bucket is the store, and no part of its objects' names.
                let container = row.optionalText(3).flatMap { $0 == buckets[store] ? nil : $0 } ?? ""
                return Row(
                    id: row.text(0), store: store, isInRepository: row.optionalText(2) == "repository",
                    prefix: (container.isEmpty ? "" : container + "/") + (row.optionalText(4) ?? ""),
                    status: BackupStatus(rawValue: row.text(5)))
            }
            return (rows, try Operations.claimed(in: connection))
        }
    }

    func findings() async throws -> [Finding] {
        var findings: [Finding] = []
        let names = repositories.storeNames
        for name in names {
            // What changes while it looks is left alone.
            let before = try await rows()
            let contents: StoreRepositories.Contents
            do { contents = try await repositories.contents(of: name) } catch {
                let reason = (error as? StorageError)?.message ?? "\(error)"
                findings.append(
                    Finding(.store, name, "Store \(name) could not be looked at: \(reason)", advice: "Its backups were not compared."))
                continue
            }
            let after = try await rows()
            let busy = before.claimed.union(after.claimed)
            findings += contents.damages.map { project, text in
                Finding(
                    .store, name, "Store \(name) holds damage in the repository of project \(project): \(text).",
                    advice: text.hasPrefix("index/")
                        ? "`clinker backup prune` makes it anew from the packs."
                        : "The backup that it was is lost, and prune removes nothing meanwhile: delete the backup, or what is named.")
            }
            findings += missing(name, contents, before.rows, after.rows, busy) + unknown(name, contents, before.rows + after.rows)
        }
        let strangers = Dictionary(grouping: try await rows().rows.filter { !$0.store.isEmpty && !names.contains($0.store) }, by: \.store)
        for (store, rows) in strangers.sorted(by: { $0.key < $1.key }) {
            findings.append(
                Finding(
                    .store, store, "\(rows.count) backups lie in store \(store), which is not enabled.",
                    advice: "Name it in enabled_backup_stores again."))
        }
        return findings
    }

    /// Backups of which the store has nothing.
    private func missing(_ store: String, _ contents: StoreRepositories.Contents, _ before: [Row], _ after: [Row], _ busy: Set<String>)
        -> [Finding]
    {
        let stored = Set(contents.snapshots.map(\.backup))
        let images = Set(contents.images.map(\.backup))
        let keepsImages = repositories.keepsImages(store)
        func isThere(_ row: Row) -> Bool {
            if row.isInRepository { return stored.contains(row.id) }
            // One of Cinder's that names no image may lie in one that does not name it.
            return keepsImages ? row.prefix.isEmpty || images.contains(row.id) : contents.prefixes.contains(row.prefix)
        }
        let still = Dictionary(after.map { ($0.id, $0.status) }, uniquingKeysWith: { first, _ in first })
        return before.filter { row in
            row.store == store && row.status == .available && still[row.id] == .available && !busy.contains(row.id)
                && !isThere(row)
        }.map { row in
            Finding(
                .missingBackup, row.id, "Backup \(row.id) is available, but store \(store) does not hold it.",
                advice: "Bring its objects back from where the store was copied to, or set the backup to error and delete it.")
        }
    }

    /// What the store holds of backups that no row knows.
    private func unknown(_ store: String, _ contents: StoreRepositories.Contents, _ rows: [Row]) -> [Finding] {
        let ids = Set(rows.map(\.id))
        let prefixes = Set(rows.map(\.prefix))
        var findings = contents.snapshots.filter { !ids.contains($0.backup) }.map { snapshot in
            Finding(
                .unknownBackup, snapshot.backup,
                "Store \(store) holds backup \(snapshot.backup) of project \(snapshot.project), but there is no such backup.",
                advice: "`clinker backup import-repository` brings its row back; then it can be deleted.")
        }
        findings += contents.images.filter { !ids.contains($0.backup) }.map { found in
            Finding(
                .unknownBackup, found.backup,
                "Store \(store) holds backup \(found.backup) in image \(found.image), but there is no such backup.",
                advice: "Import its record, or look at it and remove its snapshot in the store.")
        }
        findings += contents.prefixes.subtracting(prefixes).sorted().map { prefix in
            Finding(
                .unknownBackup, prefix, "Store \(store) holds a backup under \(prefix), but there is no such backup.",
                advice: "Import its record, or look at it and remove it in the store.")
        }
        // What a backup that is being made, or was given up, has put is its row's until it is deleted.
        let unnamed = contents.unnamed.filter { !prefixes.contains($0.prefix) }.map(\.name)
        if let first = unnamed.first {
            findings.append(
                Finding(
                    .unknownBackup, first,
                    "Store \(store) holds \(unnamed.count) objects that no backup names, \(first) the first of them.",
                    advice: "Nothing removes data that may be somebody's: look at them, then remove them in the store."))
        }
        return findings
    }
}
