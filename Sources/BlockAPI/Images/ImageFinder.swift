import BlockStorage
import Database
import HTTPServer
import JSON
import OpenStack
import Primitives

/// Finds the images that requests name, as their callers see them.
struct ImageFinder: Sendable {
    /// nil: no Image service is known.
    let glance: Glance?

    static let unknown = "this service knows no Image service."

    /// The image that the body of a creation names, by its id, by a URL that ends in it, or by its name. nil: it names none.
    func finding(_ reference: String?, for request: APIRequest) async throws -> ImageFinding? {
        guard let reference else { return nil }
        guard let glance else {
            return UUID.isUUIDLike(reference)
                ? .refused(StorageError(.invalid, "Volumes cannot be made from images: \(Self.unknown)")) : .invisible
        }
        let asker = request.imageAsker
        let id = reference.split(separator: "/", omittingEmptySubsequences: false).last.map(String.init) ?? reference
        do {
            var answer = try await glance.image(id, for: asker)
            if answer == nil {
                let named = try await glance.images(named: reference, for: asker)
                if named.count > 1 {
                    return .refused(
                        StorageError(.conflict, "Multiple matches found for '\(reference)', use an ID to be more specific."))
                }
                answer = named.first
            }
            guard let answer else { return .invisible }
            guard let image = SourceImage(answer) else { throw Self.nonsense(id) }
            return .found(image)
        } catch let error as Unavailable { throw Self.unavailable(error) }
    }

    /// The image of an id; 404 if there is none that the caller sees.
    func image(_ id: String, for request: APIRequest) async throws -> SourceImage {
        let glance = try requireGlance()
        do {
            guard let answer = try await glance.image(id, for: request.imageAsker) else {
                throw StorageError(.notFound, "Image \(id) could not be found.")
            }
            guard let image = SourceImage(answer) else { throw Self.nonsense(id) }
            return image
        } catch let error as Unavailable { throw Self.unavailable(error) }
    }

    func requireGlance() throws -> Glance {
        guard let glance else { throw HTTPError.badRequest("Images cannot be used: \(Self.unknown)") }
        return glance
    }

    private static func nonsense(_ id: String) -> Unavailable { Unavailable(description: "Glance's answer about image \(id) is no image") }

    /// Why it is so, the log says; the user is not to blame.
    static func unavailable(_ error: Unavailable) -> HTTPError {
        HTTPError(503, "The Image service cannot be asked now. Try again later.", headers: [(name: "Retry-After", value: "30")])
    }
}

extension APIRequest {
    /// Who asks the Image service: the user, with the token of the request. The operator at the control socket has none.
    var imageAsker: Glance.Asker {
        guard let token = http.header("X-Auth-Token"), !token.isEmpty else { return identity.isAdmin ? .own : .user(Secret(""), nil) }
        return .user(Secret(token), http.header("X-Service-Token").map { Secret($0) })
    }
}
