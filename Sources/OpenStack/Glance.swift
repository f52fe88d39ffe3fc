public import HTTPClient
public import JSON
public import Logging
public import Primitives
public import Settings

/// Asks Glance's v2 API about images, and makes and deletes them (https://docs.openstack.org/api-ref/image/v2/). Data of images is none of
/// its work.
public final class Glance: Sendable {
    /// Whose request it is.
    public enum Asker: Sendable {
        /// A user, with the token that came with the request, and that of a service which vouches for it where it is too old.
        case user(Secret, Secret?)
        /// Clinker's own account. It must be an administrator of Glance to reach the images of all projects.
        case own
    }

    /// What became of a request to make an image.
    public enum Creation: Sendable {
        case made(JSON)
        /// Glance's status and words.
        case refused(status: Int, words: String)
    }

    private let servers: [String]
    private let service: Endpoint
    let keystone: Keystone?
    private let log: Logger
    private let client: HTTPClient
    /// How often a request is repeated.
    public let retries: Int
    /// Seconds for a request, and without a byte for an image's data.
    public let timeout: Int
    public let trust: HTTPClient.Trust
    /// Threads for requests, so that a slow Glance delays nothing else.
    let threads = ThreadExecutor(name: "glance", threads: 8)
    /// Index of the server that answered last.
    private let preferred = Guarded(0)

    /// Bytes of an answer: an image has at most a few hundred properties.
    private static let longestAnswer = 1 << 20
    private static let longestPause = 2.0
    /// Copies of an image in stores of Glance that are looked at.
    private static let mostLocations = 64

    /// nil where neither the options nor a Keystone can say where Glance is.
    public init?(_ settings: Settings, keystone: Keystone?, log: Logger) {
        servers = settings[Options.glance.servers].map(Self.base)
        guard !servers.isEmpty || keystone != nil else { return nil }
        self.keystone = keystone
        self.log = log
        let words = settings[Options.glance.catalogue].split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let region = settings[Options.glance.region]
        service = Endpoint(
            type: words.first ?? "image", interface: words.count > 2 ? words[2].replacing("URL", with: "") : "public",
            region: region.isEmpty ? nil : region)
        func path(_ option: Option<String>) -> String? { settings[option].isEmpty ? nil : settings[option] }
        trust = HTTPClient.Trust(
            authorities: path(Options.glance.authorities), isInsecure: settings[Options.glance.insecure],
            certificate: path(Options.glance.certificate), key: path(Options.glance.key))
        client = HTTPClient(trust: trust)
        retries = settings[Options.glance.retries]
        timeout = settings[Options.glance.timeout]
    }

    /// The problems of the options, one line each, found without network access.
    public static func problems(_ settings: Settings) -> [String] {
        var problems: [String] = []
        for url in settings[Options.glance.servers] where !url.hasPrefix("http://") && !url.hasPrefix("https://") {
            problems.append("[DEFAULT] glance_api_servers: '\(url)' is no URL")
        }
        let words = settings[Options.glance.catalogue].split(separator: ":", omittingEmptySubsequences: false)
        if words.count != 3 || words[0].isEmpty || !["public", "internal", "admin"].contains(words[2].replacing("URL", with: "")) {
            problems.append(
                "[DEFAULT] glance_catalog_info must be type:name:interface with the interface publicURL, internalURL or adminURL")
        }
        return problems
    }

    private static func base(_ url: String) -> String {
        var url = url
        while url.hasSuffix("/") { url.removeLast() }
        if url.hasSuffix("/v2") { url.removeLast(3) }
        while url.hasSuffix("/") { url.removeLast() }
        return url
    }

    /// Throws why Glance could not be asked now with Clinker's own account.
    public func look() async throws(Unavailable) {
        let addresses = try await addresses()
        let response = try await send("GET", "/v2/images?limit=1", for: .own, isLook: true)
        guard response.status == 200 else {
            throw Unavailable(description: "Glance at \(addresses.joined(separator: ", ")) answered \(response.status)")
        }
    }

    // MARK: images

    /// What Glance says of an image; nil if there is none that the asker may see.
    public func image(_ id: String, for asker: Asker) async throws(Unavailable) -> JSON? {
        guard UUID.isUUIDLike(id) else { return nil }
        let response = try await send("GET", "/v2/images/\(id)", for: asker)
        switch response.status {
        case 200:
            guard let image = try? JSON(parsing: response.body), image["id"]?.string?.lowercased() == id.lowercased() else {
                throw Unavailable(description: "Glance's answer about image \(id) is none")
            }
            return image
        case 400, 401, 403, 404: return nil
        default: throw Unavailable(description: "Glance answered \(response.status) about image \(id)")
        }
    }

    /// Where Glance says that it keeps an image; none where it tells nobody, or does not show the image.
    public func locations(of id: String, for asker: Asker) async throws(Unavailable) -> [String] {
        guard let image = try await image(id, for: asker) else { return [] }
        let all = [image["direct_url"]?.string] + (image["locations"]?.array ?? []).prefix(Self.mostLocations).map { $0["url"]?.string }
        var found: [String] = []
        for location in all { if let location, !found.contains(location) { found.append(location) } }
        return found
    }

    /// Images of the name that the asker sees: two at most.
    public func images(named name: String, for asker: Asker) async throws(Unavailable) -> [JSON] {
        let response = try await send("GET", "/v2/images?limit=2&name=" + Self.encode(name), for: asker)
        switch response.status {
        case 200:
            guard let images = (try? JSON(parsing: response.body))?["images"]?.array else {
                throw Unavailable(description: "Glance's list of images is none")
            }
            // A comma or a colon in the value has a meaning of its own.
            return images.filter { $0["name"]?.string == name }
        case 400, 401, 403, 404: return []
        default: throw Unavailable(description: "Glance answered \(response.status) to a search for an image")
        }
    }

    /// Makes an image without data. Its id is in the members, so that a repetition makes no second one.
    public func create(_ members: JSONObject, for asker: Asker) async throws(Unavailable) -> Creation {
        let response = try await send("POST", "/v2/images", .object(members), for: asker)
        switch response.status {
        case 201:
            guard let image = try? JSON(parsing: response.body), image["id"] == members["id"] else {
                throw Unavailable(description: "Glance's answer about a new image is none")
            }
            return .made(image)
        case 409:
            // It was made by an attempt whose answer was lost.
            if let id = members["id"]?.string, let image = try await image(id, for: asker), image["status"] == "queued" {
                return .made(image)
            }
            return .refused(status: 409, words: Self.words(response.body, status: response.status))
        case 400..<500: return .refused(status: response.status, words: Self.words(response.body, status: response.status))
        default: throw Unavailable(description: "Glance answered \(response.status) to a new image")
        }
    }

    /// Deletes an image that never got its data; one that has it stays.
    ///
    /// - Returns: whether there is no such image any more.
    @discardableResult
    public func deleteUnfinished(_ id: String, for asker: Asker) async throws(Unavailable) -> Bool {
        // Only Glance's own 404 says that there is none: the key of an image that is there must stay.
        let found = try await send("GET", "/v2/images/\(id)", for: asker)
        if Self.saysNotFound(found, id) { return true }
        guard found.status == 200, let image = try? JSON(parsing: found.body) else {
            throw Unavailable(description: "Glance answered \(found.status) about image \(id)")
        }
        guard let status = image["status"]?.string, ["queued", "saving"].contains(status) else { return false }
        // Its user wanted it protected: what never came to be must not stay for that.
        if image["protected"] == true { try await change(id, to: ["protected": false], for: asker) }
        let response = try await send("DELETE", "/v2/images/\(id)", for: asker)
        guard response.status == 204 || response.status == 404 else {
            throw Unavailable(description: "Glance answered \(response.status) to the deletion of image \(id)")
        }
        return true
    }

    /// Gives members and properties of an image other values. They are adds, which replace what there is.
    public func change(_ id: String, to values: JSONObject, for asker: Asker) async throws(Unavailable) {
        let changes = values.members.map { JSON.object(["op": "add", "path": .string("/" + $0.name), "value": $0.value]) }
        let response = try await send(
            "PATCH", "/v2/images/\(id)", .array(changes), type: "application/openstack-images-v2.1-json-patch", for: asker)
        guard response.status == 200 else {
            throw Unavailable(description: "Glance answered \(response.status) to a change of image \(id)")
        }
    }

    // MARK: what transfers of data need

    /// Base addresses, the preferred one first.
    public func addresses() async throws(Unavailable) -> [String] {
        let answer = await Task(executorPreference: threads) { () -> Result<[String], Unavailable> in
            do throws(Unavailable) { return .success(try self.addressesNow()) } catch { return .failure(error) }
        }.value
        return try answer.get()
    }

    /// Clinker's own token; empty where there is no Keystone. `isRenewed`: Glance takes the one that it has no more.
    public func token(isRenewed: Bool = false) async throws(Unavailable) -> Secret {
        let answer = await Task(executorPreference: threads) { () -> Result<Secret, Unavailable> in
            do throws(Unavailable) {
                if isRenewed, let keystone = self.keystone { keystone.renew(try keystone.ownToken()) }
                return .success(try self.keystone?.ownToken() ?? Secret(""))
            } catch { return .failure(error) }
        }.value
        return try answer.get()
    }

    // MARK: requests

    private func addressesNow() throws(Unavailable) -> [String] {
        guard servers.isEmpty, let keystone else {
            let first = preferred.withLock { $0 }
            return servers.indices.map { servers[($0 + first) % servers.count] }
        }
        return [Self.base(try keystone.url(of: service, token: keystone.ownToken()))]
    }

    func send(
        _ method: String, _ path: String, _ body: JSON? = nil, type: String = "application/json", for asker: Asker, isLook: Bool = false
    ) async throws(Unavailable) -> HTTPClient.Response {
        let answer = await Task(executorPreference: threads) { () -> Result<HTTPClient.Response, Unavailable> in
            do throws(Unavailable) { return .success(try self.sendNow(method, path, body, type, for: asker, isLook: isLook)) } catch {
                return .failure(error)
            }
        }.value
        return try answer.get()
    }

    /// Tries one server after the other until one answers; a refused token of Clinker's own is renewed once.
    private func sendNow(
        _ method: String, _ path: String, _ body: JSON?, _ type: String, for asker: Asker, isLook: Bool
    ) throws(Unavailable) -> HTTPClient.Response {
        var last = Unavailable(description: "Glance is nowhere")
        var isRenewed = false
        var attempt = 0
        while attempt <= retries {
            if attempt > 0 { pause(min(0.1 * Double(1 << min(attempt - 1, 8)), Self.longestPause)) }
            let addresses = try addressesNow()
            let address = addresses[attempt % addresses.count]
            var request = HTTPClient.Request(method, address + path)
            var token = Secret("")
            // Where nobody is asked who he is, tokens mean nothing.
            if let keystone {
                switch asker {
                case .user(let users, let service):
                    token = users
                    if let service { request.headers.append((name: "X-Service-Token", value: service.reveal())) }
                case .own: token = try keystone.ownToken()
                }
                request.headers.append((name: "X-Auth-Token", value: token.reveal()))
            }
            request.headers.append((name: "Accept", value: "application/json"))
            if let body {
                request.headers.append((name: "Content-Type", value: type))
                request.body = Array(body.text.utf8)
            }
            request.timeout = Double(timeout)
            request.connectTimeout = min(Double(timeout), 10)
            request.limit = Self.longestAnswer
            attempt += 1
            do throws(HTTPClient.Failure) {
                let response = try client.send(request)
                if response.status == 401, case .own = asker, !isRenewed, let keystone {
                    isRenewed = true
                    attempt -= 1
                    keystone.renew(token)
                    continue
                }
                if response.status < 500 {
                    if let index = servers.firstIndex(of: address) { preferred.withLock { $0 = index } }
                    return response
                }
                last = Unavailable(description: "Glance at \(address) answered \(response.status)")
            } catch {
                last = Unavailable(description: "Glance at \(address): \(error)")
                if servers.isEmpty { keystone?.forget(service) }
            }
        }
        // Who only looks tells it himself.
        if !isLook { log.error("Glance cannot be asked: \(last)") }
        throw last
    }

    /// A value of a query.
    private static func encode(_ text: String) -> String {
        var encoded = ""
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: encoded.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                encoded += "%" + (digits.utf8.count == 1 ? "0" : "") + digits
            }
        }
        return encoded
    }

    /// What Glance says of a refusal: the sentence of its page, at most 300 bytes.
    static func words(_ answer: [UInt8], status: Int) -> String {
        let page = String(decoding: answer.prefix(4096), as: UTF8.self)
        let body = page.split(separator: "</h1>", maxSplits: 1).last.map(String.init) ?? page
        var text = ""
        var isTag = false
        for scalar in body.unicodeScalars {
            switch scalar {
            case "<": isTag = true
            case ">": isTag = false
            case _ where isTag: break
            default: text.unicodeScalars.append(scalar.value < 32 ? " " : scalar)
            }
        }
        let sentence = text.split(separator: " ").joined(separator: " ")
        return sentence.isEmpty ? "Glance answered \(status)." : sentence.shortened(to: 300)
    }
}
