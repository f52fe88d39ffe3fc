import CDriver
import DriverKit
import ObjectServers

// Whole objects.
extension S3Client {
    static func tag(_ response: HTTPResponse) -> String? {
        response.header("ETag").map { String($0.filter { $0 != "\"" }) }
    }

    /// Whether a tag is an MD5: servers that encrypt with keys of their own give others.
    static func isMD5(_ tag: String) -> Bool { tag.utf8.count == 32 && tag.allSatisfy(\.isHexDigit) }

    /// Sends bytes by one request: an object, or a part of one. Returns the tag that the server gives them.
    @discardableResult
    func put(
        _ name: String, query: [(name: String, value: String)] = [], _ body: [UnsafeRawBufferPointer], sha256: [UInt8]?,
        _ requester: Requester
    ) throws -> String {
        var request = Request("PUT", name, query: query)
        request.body = body
        request.sha256 = sha256
        request.isEncrypted = true
        request.md5 = options.sendsMD5 ? Hashes.md5(body) : nil
        // Of what is encrypted with a customer's key the tag is something else.
        let expected = options.encryption.isEmpty ? request.md5.map { Hashes.hex($0) } : nil
        return try options.attempts.run(requester) { _ in
            let tag = Self.tag(try expect(request, for: requester)) ?? ""
            if let expected, Self.isMD5(tag), tag.lowercased() != expected {
                throw Trouble(
                    DriverError(CLINKER_RETRY, "PUT \(name): the server has other bytes than were sent: MD5 \(tag), not \(expected)"),
                    isTemporary: true)
            }
            return tag
        }
    }

    /// What HEAD says of an object; nil if there is none.
    func head(_ name: String, _ requester: Requester) throws -> HTTPResponse? {
        var request = Request("HEAD", name)
        request.isEncrypted = true
        do { return try send(request, for: requester) } catch let failure as S3Failure where failure.status == 404 {
            // It says no more: is it the object that is not there, or the bucket?
            try checkBucket(requester)
            return nil
        } catch let failure as S3Failure { throw failure.trouble.error }
    }

    /// - Throws: BAD_CONFIGURATION if the bucket is not there or cannot be read.
    func checkBucket(_ requester: Requester) throws {
        _ = try expect(Request("GET", query: [("list-type", "2"), ("max-keys", "1")]), for: requester)
    }

    static func notFound(_ name: String) -> DriverError { DriverError(CLINKER_NOT_FOUND, "there is no object \(name)") }

    /// Reads a range into the buffer; returns the number of bytes that there are of it. What was cut off on the way is asked for again.
    func get(_ name: String, at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, _ requester: Requester) throws -> Int {
        guard !buffer.isEmpty else {
            guard try head(name, requester) != nil else { throw Self.notFound(name) }
            return 0
        }
        let sink = ObjectSink(buffer, at: offset)
        var request = Request("GET", name)
        request.isEncrypted = true
        request.sink = sink
        _ = try expect(request, for: requester)
        return sink.count
    }
}
