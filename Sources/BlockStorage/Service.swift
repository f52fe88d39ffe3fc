public import Database
import Primitives

/// A service as `os-services` shows it: one per backend, and the scheduler.
public struct Service: Sendable {
    public let id, binary, host, zone: String
    public let isDisabled: Bool
    public let disabledReason: String?
    public let backendState: String?
    public let replicationStatus: String?
    public let activeBackendID: String?
    public let isFrozen: Bool
    public let updatedAt: String

    static let columns =
        "id, binary_name, host, availability_zone, disabled, disabled_reason, backend_state, replication_status, active_backend_id, frozen, updated_at"

    init(_ row: any Row) {
        id = row.text(0)
        binary = row.text(1)
        host = row.text(2)
        zone = row.text(3)
        isDisabled = row.bool(4)
        disabledReason = row.optionalText(5)
        backendState = row.optionalText(6)
        replicationStatus = row.optionalText(7)
        activeBackendID = row.optionalText(8)
        isFrozen = row.bool(9)
        updatedAt = row.text(10)
    }

    /// The moment of the last heartbeat of who never had one.
    static let never = "1970-01-01T00:00:00.000000"
    /// When it was last heard of; nil if it never was.
    public var heardAt: String? { updatedAt == Self.never ? nil : updatedAt }

    /// Whether its last heartbeat is younger than the limit.
    public func isUp(downAfter seconds: Int) -> Bool { updatedAt > Timestamp.format(Timestamp.seconds() - Double(seconds)) }
}

public enum Services {
    static let allSQL = SQL("SELECT \(Service.columns) FROM services ORDER BY binary_name, host")
    static let byHostSQL = SQL("SELECT \(Service.columns) FROM services WHERE binary_name = ? AND host = ?")
    static let registerSQL = SQL(
        """
        INSERT INTO services (id, binary_name, host, availability_zone, disabled, backend_state, disabled_reason, replication_status, frozen,
            created_at, updated_at)
        VALUES (?, ?, ?, ?, 0, ?, ?, 'disabled', 0, ?, ?)
        ON CONFLICT (binary_name, host) DO UPDATE SET
            availability_zone = excluded.availability_zone, backend_state = excluded.backend_state, updated_at = excluded.updated_at,
            disabled_reason = CASE WHEN disabled THEN disabled_reason ELSE excluded.disabled_reason END
        """)

    public static func all(in connection: any Connection) throws -> [Service] { try connection.rows(allSQL) { Service($0) } }

    public static func find(binary: String, host: String, in connection: any Connection) throws -> Service? {
        try connection.first(byHostSQL, .text(binary), .text(host)) { Service($0) }
    }

    /// The backend's service, if new work may go there; refused with Cinder's words. `host`: `node@backend` or `node@backend#pool`.
    @discardableResult
    public static func usable(_ host: String, downAfter seconds: Int, in connection: any Connection) throws -> Service {
        guard let service = try find(binary: "cinder-volume", host: HostName.backend(of: host), in: connection) else {
            throw StorageError(.invalid, "Host '\(host)' not found")
        }
        guard !service.isDisabled, !service.isFrozen, service.isUp(downAfter: seconds) else {
            throw StorageError(.invalid, "Service is unavailable at this time.")
        }
        return service
    }

    static let setDisabledSQL = SQL("UPDATE services SET disabled = ?, disabled_reason = ? WHERE id = ?")
    /// Whether new volumes are placed on it.
    public static func setDisabled(_ isDisabled: Bool, reason: String?, binary: String, host: String, in tx: any Transaction) throws {
        guard let service = try find(binary: binary, host: host, in: tx) else {
            throw StorageError(.notFound, "Service \(binary) could not be found on host \(host).")
        }
        try tx.run(setDisabledSQL, .bool(isDisabled), .string(reason), .text(service.id))
    }

    static let removeSQL = SQL("DELETE FROM services WHERE id = ?")
    static let hasVolumesSQL = SQL("SELECT count(*) FROM volumes WHERE host = ?1 OR (host > ?1 || '#' AND host < ?1 || '$')")
    /// Forgets a service that is gone for good: one that is down and has no volumes.
    public static func remove(binary: String, host: String, downAfter seconds: Int, in tx: any Transaction) throws {
        guard let service = try find(binary: binary, host: host, in: tx) else {
            throw StorageError(.notFound, "Service \(binary) could not be found on host \(host).")
        }
        guard !service.isUp(downAfter: seconds) else {
            throw StorageError(.conflict, "Service \(binary) on host \(host) is up: stop it, or take it out of enabled_backends, first.")
        }
        let volumes = try tx.first(hasVolumesSQL, .text(host)) { $0.int(0) } ?? 0
        guard volumes == 0 else {
            throw StorageError(.conflict, "Service \(binary) on host \(host) still has \(volumes) volumes: migrate or delete them first.")
        }
        try tx.run(removeSQL, .text(service.id))
    }

    static let setFrozenSQL = SQL("UPDATE services SET frozen = ?, disabled = ?, disabled_reason = ? WHERE id = ?")
    /// A frozen backend takes no new volumes, and no snapshot of it is made or removed.
    public static func setFrozen(_ isFrozen: Bool, host: String, in tx: any Transaction) throws {
        guard let service = try find(binary: "cinder-volume", host: host, in: tx) else {
            throw StorageError(.invalid, "No service found with host=\(host)")
        }
        guard service.isFrozen != isFrozen else {
            throw StorageError(.invalid, "Invalid service: Host \(host) is \(isFrozen ? "already" : "not") frozen.")
        }
        try tx.run(setFrozenSQL, .bool(isFrozen), .bool(isFrozen), .string(isFrozen ? "frozen" : nil), .text(service.id))
    }

    static let registerUnheardSQL = SQL(
        """
        INSERT INTO services (id, binary_name, host, availability_zone, disabled, backend_state, replication_status, frozen, created_at, updated_at)
        VALUES (?, ?, ?, ?, 0, 'down', 'disabled', 0, ?, '\(Service.never)')
        ON CONFLICT (binary_name, host) DO NOTHING
        """)
    /// Makes the row of a service that has not been up yet, and is not taken for it.
    public static func register(binary: String, host: String, zone: String, in tx: any Transaction) throws {
        try tx.run(registerUnheardSQL, .text(UUID.random()), .text(binary), .text(host), .text(zone), .text(tx.now))
    }

    /// A heartbeat; the first one makes the row. `problem`: what of the storage does not answer, shown where an administrator's reason is
    /// while the service is not disabled.
    public static func beat(
        binary: String, host: String, zone: String, backendState: String?, problem: String? = nil, in tx: any Transaction
    ) throws {
        let now = tx.now
        try tx.run(
            registerSQL, .text(UUID.random()), .text(binary), .text(host), .text(zone), .string(backendState),
            .string(problem.map { String($0.prefix(255)) }), .text(now), .text(now))
    }
}
