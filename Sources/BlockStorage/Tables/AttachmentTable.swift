public import Database
public import Primitives

/// Attachments of volumes, reservations among them.
public final class AttachmentTable: Table, @unchecked Sendable {
    public static let table = AttachmentTable("attachments", "a").declared()

    public let id = Column<String>("id"), volumeID = Column<String>("volume_id"), projectID = Column<String>("project_id")
    public let instanceID = Column<String?>("instance_id"), attachedHost = Column<String?>("attached_host")
    public let mountpoint = Column<String?>("mountpoint")
    public let status = Column<AttachmentStatus>("attach_status"), mode = Column<String?>("attach_mode")
    public let attachedAt = Column<String?>("attached_at"), detachedAt = Column<String?>("detached_at")
    /// JSON; may hold secrets.
    public let connectionInfo = Column<Secret?>("connection_info"), connector = Column<Secret?>("connector")
    public let createdAt = Column<String>("created_at"), updatedAt = Column<String?>("updated_at")
    /// Who holds a reservation, and until when.
    public let reservedBy = Column<String?>("reserved_by"), expiresAt = Column<String?>("expires_at")
}

/// Hosts that were told where a volume is without an attachment.
final class ConnectionTable: Table, @unchecked Sendable {
    static let table = ConnectionTable("connections", "c").declared()

    let volumeID = Column<String>("volume_id"), host = Column<String>("host")
    /// JSON; may hold secrets.
    let connector = Column<Secret>("connector")
    let createdAt = Column<String>("created_at")
}
