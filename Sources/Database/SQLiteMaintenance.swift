import CSQLite
import Glibc
import Primitives

/// What an operator does with a database file, beside or without a running service.
public enum SQLiteMaintenance {
    /// Everything wrong with the file; empty if it is whole and of this release.
    public static func check(path: String, migrations: [Migration]) throws -> [String] {
        guard access(path, F_OK) == 0 else { return ["\(path) does not exist"] }
        let connection = try SQLiteConnection(path: path, readOnly: true)
        var problems: [String] = []
        do {
            try connection.query(text: "PRAGMA integrity_check(100)", []) { row in
                if row.text(0) != "ok" { problems.append(row.text(0)) }
                return true
            }
            try connection.query(text: "PRAGMA foreign_key_check", []) { row in
                problems.append("a row of \(row.text(0)) refers to a missing row of \(row.text(2))")
                return true
            }
            var latest = 0
            try connection.query(text: "SELECT max(number) FROM schema_migrations", []) { row in
                latest = row.int(0)
                return false
            }
            let known = migrations.map(\.number).max() ?? 0
            if latest > known { problems.append("its schema is \(latest), this release knows \(known): it was used by a later release") }
        } catch let error as DatabaseError {
            problems.append(error.message)
        }
        return problems
    }

    /// Writes a copy as of one moment, while the service runs. The target must not exist; it is whole when this returns.
    public static func backup(path: String, to target: String) throws {
        guard access(path, F_OK) == 0 else { throw DatabaseError(kind: .unusable, message: "\(path) does not exist") }
        guard access(target, F_OK) != 0 else { throw DatabaseError(kind: .unusable, message: "\(target) exists already") }
        let connection = try SQLiteConnection(path: path, readOnly: true)
        connection.allowCopy()
        let partial = target + ".partial"
        unlink(partial)
        // Ours from its first byte on, and nobody else's to read: it holds what opens the volumes.
        let descriptor = open(partial, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw SystemError.last("the copy \(partial) cannot be made")
        }
        defer { close(descriptor) }
        do {
            try connection.run(connection.statement(text: "VACUUM INTO ?"), [.text(partial)]) { _ in true }
        } catch {
            unlink(partial)
            throw error
        }
        guard fchmod(descriptor, 0o600) == 0, fsync(descriptor) == 0, rename(partial, target) == 0 else {
            let failure = SystemError.last("the copy \(target) cannot be finished")
            unlink(partial)
            throw failure
        }
    }
}
