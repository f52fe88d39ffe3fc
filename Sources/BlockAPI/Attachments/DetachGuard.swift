import BlockStorage
import Database
import HTTPServer
import Primitives

/// Says what a request may end of the attachments that it means.
struct DetachGuard: Sendable {
    let store: Store
    /// The attachment by which an instance uses a volume, as the compute service says it to the bearer of the token.
    let attachmentInUse: @Sendable (_ instance: String, _ volume: String, _ token: Secret) async throws -> String?

    /// As Cinder decides it: everything if a service asks; else what names no instance, is not connected, or is one that Nova does not
    /// know or uses with another attachment. Where Nova cannot be asked nothing is ended.
    func permit(_ attachments: [Attachment], _ request: APIRequest) async throws -> DetachPermit {
        if request.identity.mayUnbind { return .everything }
        let bound = attachments.compactMap { attachment in attachment.boundInstance.map { (attachment: attachment, instance: $0) } }
        guard let (attachment, instance) = bound.first else { return .unused([]) }
        // Which of several is meant, nobody said.
        guard attachments.count == 1 else { throw DetachPermit.conflict(instance) }
        let used = try await attachmentInUse(instance, attachment.volumeID, Secret(request.http.header("X-Auth-Token") ?? ""))
        guard used != attachment.id else { throw DetachPermit.conflict(instance) }
        return .unused([attachment.id])
    }

    /// The same for all attachments of a volume that the caller sees.
    func permit(ofVolume id: String, _ request: APIRequest) async throws -> DetachPermit {
        if request.identity.mayUnbind { return .everything }
        let attachments = try await store.read {
            _ = try Volumes.get(id, for: request.caller, in: $0)
            return try Attachments.ofVolume(id, in: $0)
        }
        return try await permit(attachments, request)
    }
}
