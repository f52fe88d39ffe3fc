import CDriver
import DriverKit
import ObjectServers

/// An object that is sent in parts, and that is there when they are put together.
final class S3Upload {
    private let client: S3Client
    private let name: String
    private let id: String
    private let note: UploadNote?
    private let mayHaveTwin: Bool
    private var tags: [String] = []
    /// Most parts of an object.
    static let mostParts = 10_000

    init(_ client: S3Client, _ name: String, notes: UploadNotes?, _ requester: Requester) throws {
        (self.client, self.name) = (client, name)
        // Before there is anything that would be left.
        note = try notes?.add(name)
        var request = S3Client.Request("POST", name, query: [("uploads", "")])
        request.body = []
        request.isEncrypted = true
        request.readsError = true
        let count = S3Client.Count()
        request.count = count
        let response = try client.expect(request, for: requester)
        // There may be another one, whose answer was lost: it is looked for a day later.
        mayHaveTwin = count.sent > 1
        guard let id = XMLElement(parsing: response.body)?["UploadId"], !id.isEmpty else {
            throw DriverError(CLINKER_RETRY, "POST \(name): the server does not say how the upload is called")
        }
        self.id = id
    }

    func add(_ slices: [UnsafeRawBufferPointer], _ requester: Requester) throws {
        guard tags.count < Self.mostParts else { throw DriverError(CLINKER_INVALID, "\(name): it is larger than \(Self.mostParts) parts") }
        tags.append(
            try client.put(name, query: [("partNumber", String(tags.count + 1)), ("uploadId", id)], slices, sha256: nil, requester))
    }

    /// Puts the parts together.
    func commit(_ requester: Requester) throws {
        let items = tags.enumerated().map { "<Part><PartNumber>\($0 + 1)</PartNumber><ETag>\"\(XMLElement.escaped($1))\"</ETag></Part>" }
        let body = Array(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\(items.joined())</CompleteMultipartUpload>".utf8)
        do {
            try body.withUnsafeBytes { bytes in
                var request = S3Client.Request("POST", name, query: [("uploadId", id)])
                request.headers = [("Content-Type", "application/xml")]
                request.body = [bytes]
                request.readsError = true
                let response = try client.send(request, for: requester)
                guard XMLElement(parsing: response.body)?.name == "CompleteMultipartUploadResult" else {
                    throw DriverError(CLINKER_RETRY, "POST \(name): what the server says of its parts cannot be read")
                }
            }
        } catch let failure as S3Failure {
            // Whoever asks a second time, since the first answer was lost, finds no such upload.
            guard failure.code == "NoSuchUpload", try isThere(requester) else {
                throw failure.code == "NoSuchUpload"
                    ? DriverError(CLINKER_RETRY, "\(name): its parts are gone before they were put together") : failure.trouble.error
            }
        }
        if !mayHaveTwin { note?.remove() }
    }

    /// Whether the object of the name is the one made of the parts.
    private func isThere(_ requester: Requester) throws -> Bool {
        let parts = tags.compactMap { Hashes.bytes(ofHex: $0) }
        guard parts.count == tags.count, let found = try client.head(name, requester).flatMap(S3Client.tag) else { return false }
        return found.lowercased() == Hashes.hex(Hashes.md5(parts.flatMap { $0 })) + "-\(tags.count)"
    }

    /// Gives up what was sent. What cannot be removed now is a day later.
    func abandon() {
        do {
            _ = try client.send(S3Client.Request("DELETE", name, query: [("uploadId", id)]), for: .tidying)
            if !mayHaveTwin { note?.remove() }
        } catch {}
    }
}

/// An object of unknown size. Small ones are sent whole.
final class S3Writer: PartWriter {
    private let client: S3Client
    private let name: String
    private let notes: UploadNotes?
    /// Called before the object is put: it may be protected.
    private let check: (Requester) throws -> Void
    var buffer: [UInt8] = []
    private var upload: S3Upload?
    private var parts = 0

    init(_ client: S3Client, _ name: String, notes: UploadNotes?, check: @escaping (Requester) throws -> Void) {
        (self.client, self.name, self.notes, self.check) = (client, name, notes, check)
    }

    deinit { abandon() }

    /// Parts grow, so that 10,000 of them are half a TiB and the first ones take little memory.
    var partSize: Int { (8 << 20) << min(3, parts / 1000) }

    func send(_ part: UnsafeRawBufferPointer) throws {
        let upload = try self.upload ?? S3Upload(client, name, notes: notes, .nobody)
        self.upload = upload
        try upload.add([part], .nobody)
        parts += 1
    }

    func commit() throws {
        do {
            try check(.nobody)
            if let upload {
                if !buffer.isEmpty { try sendBuffer() }
                try upload.commit(.nobody)
                self.upload = nil
            } else {
                try buffer.withUnsafeBytes { _ = try client.put(name, [$0], sha256: nil, .nobody) }
            }
            buffer = []
        } catch {
            abandon()
            throw error
        }
    }

    func abandon() {
        upload?.abandon()
        upload = nil
        buffer = []
    }
}
