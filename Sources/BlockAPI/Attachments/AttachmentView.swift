import BlockStorage
import JSON

/// Attachments as clients see them.
enum AttachmentView {
    static let view = View<Attachment>(
        "attachment", "attachments",
        [
            .text("id") { $0.id },
            .text("status") { $0.status.rawValue },
            .optionalText("instance") { $0.instanceID },
            .text("volume_id") { $0.volumeID },
            // Empty, not null, where there is no time.
            Field.text("attached_at") { $0.attachedAt ?? "" }.part(.detail),
            Field.text("detached_at") { $0.detachedAt ?? "" }.part(.detail),
            Field.text("attach_mode") { $0.mode ?? "null" }.part(.detail),
            Field.written("connection_info", .map(.any)) { attachment, request, writer in
                // It holds what opens the storage to whoever has it.
                if let info = attachment.connectionInfo, request.allows("clinker:attachments_connection", project: attachment.projectID) {
                    writer.raw(info.reveal())
                } else {
                    writer.raw("{}")
                }
            }.part(.detail),
        ])
}
