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

    init(_ row: any Row) {
        let t = ServiceTable.table
        id = row[t.id]
        binary = row[t.binary]
        host = row[t.host]
        zone = row[t.zone]
        isDisabled = row[t.isDisabled]
        disabledReason = row[t.disabledReason]
        backendState = row[t.backendState]
        replicationStatus = row[t.replicationStatus]
        activeBackendID = row[t.activeBackendID]
        isFrozen = row[t.isFrozen]
        updatedAt = row[t.updatedAt]
    }

    /// The moment of the last heartbeat of who never had one.
    static let never = "1970-01-01T00:00:00.000000"
    /// When it was last heard of; nil if it never was.
    public var heardAt: String? { updatedAt == Self.never ? nil : updatedAt }

    /// Whether its last heartbeat is younger than the limit.
    public func isUp(downAfter seconds: Int) -> Bool { updatedAt > Timestamp.format(Timestamp.seconds() - Double(seconds)) }
}

public enum Services {
    static let table = ServiceTable.table
    static let allSQL = SQL(table.select("ORDER BY s.binary_name, s.host"))
    private static let registered = [
        "id", "binary_name", "host", "availability_zone", "disabled", "backend_state", "disabled_reason", "replication_status", "frozen",
        "created_at", "updated_at",
    ]
    static let beatSQL = SQL { dialect in
        dialect.upsert(
            into: "services", columns: registered, key: ["binary_name", "host"],
            changes: ["availability_zone", "backend_state", "updated_at"].map { ($0, dialect.inserted($0)) } + [
                (
                    "disabled_reason",
                    "CASE WHEN services.disabled = 1 THEN services.disabled_reason ELSE \(dialect.inserted("disabled_reason")) END"
                )
            ])
    }
    static let registerSQL = SQL { $0.upsert(into: "services", columns: registered, key: ["binary_name", "host"], changes: []) }

    public static func all(in connection: any Connection) throws -> [Service] { try connection.rows(allSQL) { Service($0) } }

    static let closedSQL = SQL("SELECT host FROM services WHERE disabled = 1 OR frozen = 1")
    /// Hosts with a service that takes no new volumes.
    public static func closedHosts(in connection: any Connection) throws -> [String] { try connection.rows(closedSQL) { $0.text(0) } }

    /// The id of a backend's service.
    public static func id(ofBackend host: String, in connection: any Connection) throws -> String? {
        try connection.first(of: table, table.binary("cinder-volume"), table.host(host)) { $0[table.id] }
    }

    public static func find(binary: String, host: String, in connection: any Connection) throws -> Service? {
        try connection.first(of: table, table.binary(binary), table.host(host)) { Service($0) }
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

    /// Whether new volumes are placed on it.
    public static func setDisabled(_ isDisabled: Bool, reason: String?, binary: String, host: String, in tx: any Transaction) throws {
        guard let service = try find(binary: binary, host: host, in: tx) else {
            throw StorageError(.notFound, "Service \(binary) could not be found on host \(host).")
        }
        try tx.update(table, table.id(service.id), set: table.isDisabled(isDisabled), table.disabledReason(reason))
    }

    /// Forgets a service that is gone for good: one that is down and has no volumes.
    public static func remove(binary: String, host: String, downAfter seconds: Int, in tx: any Transaction) throws {
        guard let service = try find(binary: binary, host: host, in: tx) else {
            throw StorageError(.notFound, "Service \(binary) could not be found on host \(host).")
        }
        guard !service.isUp(downAfter: seconds) else {
            throw StorageError(.conflict, "Service \(binary) on host \(host) is up: stop it, or take it out of enabled_backends, first.")
        }
        let volumes = try HostUsage.volumes(on: host, in: tx)
        guard volumes == 0 else {
            throw StorageError(.conflict, "Service \(binary) on host \(host) still has \(volumes) volumes: migrate or delete them first.")
        }
        try tx.delete(from: table, table.id(service.id))
    }

    /// A frozen backend takes no new volumes, and no snapshot of it is made or removed.
    public static func setFrozen(_ isFrozen: Bool, host: String, in tx: any Transaction) throws {
        guard let service = try find(binary: "cinder-volume", host: host, in: tx) else {
            throw StorageError(.invalid, "No service found with host=\(host)")
        }
        guard service.isFrozen != isFrozen else {
            throw StorageError(.invalid, "Invalid service: Host \(host) is \(isFrozen ? "already" : "not") frozen.")
        }
        try tx.update(
            table, table.id(service.id), set: table.isDisabled(isFrozen), table.disabledReason(isFrozen ? "frozen" : nil),
            table.isFrozen(isFrozen))
    }

    /// Makes the row of a service that has not been up yet, and is not taken for it. `isEnabled`: whether a new one takes volumes.
    public static func register(
        binary: String, host: String, zone: String, isEnabled: Bool = true, in tx: any Transaction
    ) throws {
        try tx.run(
            registerSQL, .text(UUID.random()), .text(binary), .text(host), .text(zone), .bool(!isEnabled), .text("down"), .null,
            .text(ReplicationStatus.disabled.rawValue), .bool(false), .text(tx.now), .text(Service.never))
    }

    /// A heartbeat; the first one makes the row. `problem`: what of the storage does not answer, shown where an administrator's reason is
    /// while the service is not disabled. `isEnabled`: whether a new one takes volumes.
    public static func beat(
        binary: String, host: String, zone: String, backendState: String?, problem: String? = nil, isEnabled: Bool = true,
        in tx: any Transaction
    ) throws {
        try tx.run(
            beatSQL, .text(UUID.random()), .text(binary), .text(host), .text(zone), .bool(!isEnabled), .string(backendState),
            .string(problem.map { String($0.prefix(255)) }), .text(ReplicationStatus.disabled.rawValue), .bool(false), .text(tx.now),
            .text(tx.now))
    }
}
