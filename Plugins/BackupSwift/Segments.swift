import CDriver
import DriverKit
import JSON
import ObjectServers

/// What the server takes.
struct SwiftLimits: Sendable {
    /// Bytes of an object that is sent whole.
    var largest = 5 << 30
    var mostSegments = 1000
    /// Whether objects can be made of segments.
    var hasSegments = true
}

/// A large object: segments with hidden names in the same container, and a manifest under the object's name, which is put at the end.
final class SegmentedObject {
    private let client: SwiftClient
    private let name: String
    private let limits: SwiftLimits
    private let id = String(UInt64.random(in: 0...UInt64.max), radix: 16)
    private var segments: [(name: String, tag: String, size: Int)] = []

    /// No object has such a name.
    static let folder = ".clinker-segments/"
    static let header = "X-Object-Meta-Clinker-Segments"

    /// The object's name as metadata of a segment, whose values have at most 256 bytes.
    private static func owner(_ name: String) -> [(name: String, value: String)] {
        let text = Array(URLText.quoted(name).utf8)
        // Servers keep some KiB of metadata in all. Of longer names, which nobody gives, what a dead writer left stays.
        guard text.count <= 1000 else { return [] }
        return stride(from: 0, to: text.count, by: 200).enumerated().map { number, start in
            (ownerHeader(number), String(decoding: text[start..<min(start + 200, text.count)], as: UTF8.self))
        }
    }

    private static func ownerHeader(_ number: Int) -> String { "X-Object-Meta-Clinker-Object-\(number)" }

    /// The name of the object that a segment was sent for.
    static func owner(_ segment: HTTPResponse) -> String? {
        let pieces = (0..<20).map { segment.header(ownerHeader($0)) }.prefix { $0 != nil }.compactMap { $0 }
        return pieces.isEmpty ? nil : URLText.plain(pieces.joined())
    }

    init(_ client: SwiftClient, _ name: String, _ limits: SwiftLimits) throws {
        guard limits.hasSegments else {
            throw DriverError(CLINKER_INVALID, "\(name) is larger than one request may be, and the server has no large objects (slo)")
        }
        (self.client, self.name, self.limits) = (client, name, limits)
    }

    func add(_ slices: [UnsafeRawBufferPointer], _ requester: Requester) throws {
        guard segments.count < limits.mostSegments else {
            throw DriverError(CLINKER_INVALID, "\(name): it is larger than \(limits.mostSegments) segments")
        }
        let number = String(segments.count + 1)
        let segment = Self.folder + id + "/" + String(repeating: "0", count: max(0, 8 - number.utf8.count)) + number
        segments.append((segment, "", slices.reduce(0) { $0 + $1.count }))
        segments[segments.count - 1].tag = try client.put(segment, slices, headers: Self.owner(name), requester)
    }

    func commit(_ requester: Requester) throws {
        let manifest = JSON.array(
            segments.map {
                [
                    "path": .string("/\(client.options.container)/\($0.name)"), "etag": .string($0.tag),
                    "size_bytes": .integer(Int64($0.size)),
                ]
            })
        let expected = Hashes.hex(Hashes.md5(Array(segments.map(\.tag).joined().utf8)))
        // From here on the object may be made of them, whatever becomes of the answer: no longer this writer's to remove.
        segments = []
        let response = try Array(manifest.text.utf8).withUnsafeBytes { bytes in
            var request = SwiftClient.Request("PUT", name, query: [("multipart-manifest", "put")])
            request.headers = [(Self.header, id), ("Content-Type", "application/octet-stream")]
            request.body = [bytes]
            return try client.expect(request, for: requester)
        }
        guard SwiftClient.tag(response)?.lowercased() == expected else {
            throw DriverError(CLINKER_RETRY, "PUT \(name): the server made it of other segments than were sent")
        }
    }

    /// Gives up what was sent. What cannot be removed now is a day later.
    func abandon() {
        let requester = Requester.tidying
        for segment in segments { _ = try? client.sendIfThere(SwiftClient.Request("DELETE", segment.name), for: requester) }
        segments = []
    }
}

extension SwiftClient {
    /// Asks the server for what it takes; one that does not say takes what Swift takes by default.
    func limits(_ requester: Requester) throws -> SwiftLimits {
        var limits = SwiftLimits()
        guard let said = try info(requester) else { return limits }
        if let size = said["swift"]?["max_file_size"]?.integer, size > 0 { limits.largest = min(limits.largest, Int(size)) }
        limits.hasSegments = said["slo"] != nil
        if let count = said["slo"]?["max_manifest_segments"]?.integer, count > 0 { limits.mostSegments = Int(min(count, 100_000)) }
        return limits
    }

    /// Removes an object's segments; others' stay: of an object that somebody has copied, which has the header too, they are not the
    /// copy's.
    private func removeSegments(_ id: String, of name: String, _ requester: Requester) throws {
        var names: [String] = []
        try listAll(prefix: SegmentedObject.folder + id + "/", after: "", requester) { object in
            names.append(object.name)
            return true
        }
        // A listing may name segments that are gone; the first that is there tells whose they are.
        var segment: HTTPResponse?
        for name in names where segment == nil { segment = try sendIfThere(Request("HEAD", name), for: requester) }
        guard let segment else { return }
        // Names that are too long to be noted are nobody's.
        guard SegmentedObject.owner(segment).map({ $0.utf8.elementsEqual(name.utf8) }) ?? true else { return }
        for name in names { _ = try sendIfThere(Request("DELETE", name), for: requester) }
    }

    /// Removes an object, and, if it is a large one of ours, its segments.
    func remove(_ name: String, mayBeLarge: Bool, _ requester: Requester) throws {
        var id: String?
        if mayBeLarge, let found = try sendIfThere(Request("HEAD", name), for: requester), Self.isManifest(found) {
            id = found.header(SegmentedObject.header)
        }
        _ = try sendIfThere(Request("DELETE", name), for: requester)
        if let id, !id.isEmpty, id.allSatisfy(\.isHexDigit) { try removeSegments(id, of: name, requester) }
    }

    /// Whether an object is made of segments. A copy of one is its bytes, and has its headers all the same.
    private static func isManifest(_ response: HTTPResponse) -> Bool { response.header("X-Static-Large-Object")?.lowercased() == "true" }

    /// Whether the container has segments of large objects. One that was put just now may not be listed yet: it is removed later.
    func hasSegments(_ requester: Requester) throws -> Bool {
        var found = false
        try listAll(prefix: SegmentedObject.folder, after: "", requester) { _ in
            found = true
            return false
        }
        return found
    }

    /// Removes the segments that no object is made of, a day after the last of them was put: of writers that died, and of objects that
    /// were replaced.
    func removeOldSegments(_ requester: Requester, olderThan age: Int64 = 86_400) throws {
        var newest: [String: (segment: String, modified: Int64)] = [:]
        try listAll(prefix: SegmentedObject.folder, after: "", requester) { object in
            let words = object.name.split(separator: "/")
            guard words.count == 3 else { return true }
            let id = String(words[1])
            if (newest[id]?.modified ?? 0) <= object.modified { newest[id] = (object.name, object.modified) }
            guard newest.count > 10_000 else { return true }
            // Of this one there may be later segments.
            newest[id] = nil
            return false
        }
        for (id, last) in newest where last.modified > 0 && last.modified < ServerTime.now() - age && id.allSatisfy(\.isHexDigit) {
            guard let segment = try sendIfThere(Request("HEAD", last.segment), for: requester),
                let owner = SegmentedObject.owner(segment), ObjectName.problem(with: owner) == nil
            else { continue }
            var question = Request("HEAD", owner)
            // A replica that is behind would tell of the object before.
            question.headers = [("X-Newest", "true")]
            if try sendIfThere(question, for: requester)?.header(SegmentedObject.header) == id { continue }
            try removeSegments(id, of: owner, requester)
        }
    }
}

/// An object of unknown size. Small ones are sent whole.
final class SwiftWriter: PartWriter {
    private let client: SwiftClient
    private let name: String
    private let limits: SwiftLimits
    var buffer: [UInt8] = []
    private var large: SegmentedObject?
    private var count = 0

    init(_ client: SwiftClient, _ name: String, _ limits: SwiftLimits) { (self.client, self.name, self.limits) = (client, name, limits) }

    deinit { abandon() }

    /// Segments grow, so that a manifest of them is large and the first ones take little memory.
    var partSize: Int { min(limits.largest, (16 << 20) << min(2, count / 100)) }

    func send(_ part: UnsafeRawBufferPointer) throws {
        let large = try self.large ?? SegmentedObject(client, name, limits)
        self.large = large
        try large.add([part], .nobody)
        count += 1
    }

    func commit() throws {
        do {
            if let large {
                if !buffer.isEmpty { try sendBuffer() }
                try large.commit(.nobody)
                self.large = nil
            } else {
                try buffer.withUnsafeBytes { _ = try client.put(name, [$0], .nobody) }
            }
            buffer = []
        } catch {
            abandon()
            throw error
        }
    }

    func abandon() {
        large?.abandon()
        large = nil
        buffer = []
    }
}
