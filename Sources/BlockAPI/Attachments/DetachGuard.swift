import BlockStorage
import HTTPServer
import Primitives

extension APIRequest {
    /// What this request may end of the attachments that it means, as Cinder decides it: everything if a service asks; else what names no
    /// instance, is not connected, or is one that Nova does not know or uses with another attachment. Where Nova cannot be asked
    /// nothing is ended.
    func detachPermit(_ attachments: [Attachment]) async throws -> DetachPermit {
        if identity.mayUnbind { return .everything }
        let bound = attachments.compactMap { attachment in attachment.boundInstance.map { (attachment: attachment, instance: $0) } }
        guard let (attachment, instance) = bound.first else { return .unused([]) }
        // Which of several is meant, nobody said.
        guard attachments.count == 1 else { throw DetachPermit.conflict(instance) }
        let used = try await service.attachmentInUse(instance, attachment.volumeID, Secret(http.header("X-Auth-Token") ?? ""))
        guard used != attachment.id else { throw DetachPermit.conflict(instance) }
        return .unused([attachment.id])
    }

    /// The same for all attachments of a volume that the caller sees.
    func detachPermit(ofVolume id: String) async throws -> DetachPermit {
        if identity.mayUnbind { return .everything }
        return try await detachPermit(
            try await database {
                _ = try Volumes.get(id, for: caller, in: $0)
                return try Attachments.ofVolume(id, in: $0)
            })
    }
}
