import BlockStorage
import Database

/// Keys that nobody deletes.
struct KeyExamination: Sendable {
    /// Who deletes the keys of images that are gone; nil where nobody does now.
    let imageKeys: ImageKeySweep?
    let database: any Database

    /// Images that are counted.
    private static let most = 1_000_000

    func findings() async throws -> [Finding] {
        let left = try await database.read { try LeftKeys.all(in: $0) }
        return try await ofImages() + left.map(Self.finding)
    }

    /// A key that an operation was to delete and did not.
    private static func finding(_ left: LeftKey) -> Finding {
        let key = left.keyID.map { "key \($0)" } ?? "key that was made for it and not recorded"
        let tries = left.attempts == 0 ? "" : ", nor by \(left.attempts) further attempt\(left.attempts == 1 ? "" : "s")"
        return Finding(
            .key, left.keyID ?? left.volumeID,
            "The \(key) of volume \(left.volumeID) was not deleted at \(left.createdAt)\(tries); the next is due at \(left.retryAt): "
                + "\(left.message)."
        ) { tx in
            try LeftKeys.hasten(left, in: tx) ? "the service that runs tries to delete it within a minute" : nil
        }
    }

    private func ofImages() async throws -> [Finding] {
        guard let problem = imageKeys?.problem else { return [] }
        let count = try await database.read { try ImageKeys.count(upTo: Self.most, in: $0) }
        guard count > 0 else { return [] }
        return [
            Finding(
                .key, "images",
                "Of \(count) images of encrypted volumes the keys stay when the images are deleted: \(problem).",
                advice:
                    "Keys are deleted by an account of [keystone_authtoken] that is an administrator of Glance; else by hand, when their "
                    + "images are gone.")
        ]
    }
}
