import HTTPClient
import JSON
import Primitives

/// What Clinker's own account sees of Glance's images: whether one that it does not see is not there.
extension Glance {
    /// Images of a list that are looked at.
    private static let mostListed = 100
    /// Images of which is asked who shares them.
    private static let mostShared = 3

    /// Whether Glance is asked by an account at all.
    public var hasAccount: Bool { keystone != nil }

    /// Whether Glance itself says that there is no such image, or shows it as deleted. To an account that does not see every image it says
    /// the same of those that it hides.
    public func isGone(_ id: String) async throws(Unavailable) -> Bool {
        let response = try await send("GET", "/v2/images/\(id)", for: .own)
        switch response.status {
        case 200:
            guard let image = try? JSON(parsing: response.body), image["id"]?.string?.lowercased() == id.lowercased() else {
                throw Unavailable(description: "Glance's answer about image \(id) is none")
            }
            return image["status"] == "deleted"
        case _ where Self.saysNotFound(response, id): return true
        default: throw Unavailable(description: "Glance answered \(response.status) about image \(id)")
        }
    }

    /// A proxy, or another service at the address, answers 404 too, and may name the path that it does not know.
    static func saysNotFound(_ response: HTTPClient.Response, _ id: String) -> Bool {
        guard response.status == 404 else { return false }
        let words = words(response.body, status: response.status)
        return words.contains("image") && words.contains(id) && !words.contains("images/" + id)
    }

    /// Whether Clinker's own account is seen to see the images of others: one at least that is private, or that its project has no part in.
    /// False also where nobody has such an image.
    public func seesAllImages() async throws(Unavailable) -> Bool {
        guard let project = try await ownProject() else { return false }
        for image in try await list("visibility=private") where image["visibility"] == "private" && Self.isForeign(image, to: project) {
            return true
        }
        var left = Self.mostShared
        for image in try await list("visibility=shared") where Self.isForeign(image, to: project) {
            guard left > 0, let id = image["id"]?.string, UUID.isUUIDLike(id) else { break }
            left -= 1
            if image["visibility"] == "shared", let members = try await members(of: id), !members.contains(project) { return true }
        }
        return false
    }

    private static func isForeign(_ image: JSON, to project: String) -> Bool {
        guard let owner = image["owner"]?.string else { return false }
        return !owner.isEmpty && owner != project
    }

    /// None where the account may list no images.
    private func list(_ query: String) async throws(Unavailable) -> [JSON] {
        let response = try await send("GET", "/v2/images?limit=\(Self.mostListed)&\(query)", for: .own)
        if response.status == 403 { return [] }
        guard response.status == 200, let images = (try? JSON(parsing: response.body))?["images"]?.array else {
            throw Unavailable(description: "Glance answered \(response.status) to a list of images")
        }
        return images
    }

    /// Projects that an image is shared with; nil: the account is not told.
    private func members(of id: String) async throws(Unavailable) -> [String]? {
        let response = try await send("GET", "/v2/images/\(id)/members", for: .own)
        guard response.status == 200 else { return nil }
        return (try? JSON(parsing: response.body))?["members"]?.array?.compactMap { $0["member_id"]?.string }
    }

    /// The project of Clinker's own account; nil where nobody is asked who he is, or the account belongs to none.
    private func ownProject() async throws(Unavailable) -> String? {
        guard let keystone else { return nil }
        let answer = await Task(executorPreference: threads) { () -> Result<String?, Unavailable> in
            do throws(Unavailable) { return .success(try keystone.ownProject()) } catch { return .failure(error) }
        }.value
        return try answer.get()
    }
}
