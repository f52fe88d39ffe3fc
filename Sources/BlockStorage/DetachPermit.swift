/// Which connections a request may end. Nobody but the compute service knows whether an instance still writes to a volume, so
/// what binds one to an instance goes only at a service's word, or when Nova says that no instance uses it (CVE-2023-2088).
public enum DetachPermit: Sendable {
    /// A service asks, or the operator.
    case everything
    /// These attachments are not used by any instance, and nothing else is known.
    case unused(Set<String>)

    /// Throws Cinder's conflict if one of the attachments is bound to an instance and not permitted. To be asked in the transaction
    /// that ends them: an attachment may have been connected since the permit was given.
    public func check(_ attachments: [Attachment]) throws(StorageError) {
        guard case .unused(let unused) = self else { return }
        for attachment in attachments where !unused.contains(attachment.id) {
            if let instance = attachment.boundInstance { throw Self.conflict(instance) }
        }
    }

    public static func conflict(_ instance: String) -> StorageError {
        StorageError(.conflict, "Detach volume from instance \(instance) using the Compute API")
    }
}

extension Attachment {
    /// The instance that was told where the volume is, or is about to be.
    public var boundInstance: String? { connectionInfo != nil || connector != nil ? instanceID : nil }
}
