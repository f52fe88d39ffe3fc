import CDriver
import DriverKit
import ObjectServers
import Synchronization

/// Requests to the bucket, signed, and repeated where trouble may pass.
final class S3Client: Sendable {
    /// How often a request was sent.
    final class Count { fileprivate(set) var sent = 0 }

    struct Request {
        var method: String
        /// The object; nil: the bucket.
        var name: String?
        var query: [(name: String, value: String)] = []
        var headers: [(name: String, value: String)] = []
        var body: [UnsafeRawBufferPointer]?
        /// Of the body, where they are known.
        var sha256, md5: [UInt8]?
        var sink: ObjectSink?
        /// Whether it is about bytes that the server encrypts with the customer's key.
        var isEncrypted = false
        /// Whether a success that says that it failed, in its body, is a failure.
        var readsError = false
        var count: Count?

        init(_ method: String, _ name: String? = nil, query: [(name: String, value: String)] = []) {
            (self.method, self.name, self.query) = (method, name, query)
        }

        /// What is asked, for those who read of its failure.
        var words: String { name.map { "\(method) \($0)" } ?? "\(method) of the bucket" }
    }

    let options: S3Options
    private let pool: HTTPPool
    private let signature: S3Signature
    /// What servers taught: the bucket's region, and by how many seconds their clock is ahead.
    private let learned: Mutex<(region: String, ahead: Int64)>
    /// Of no bytes.
    private static let emptyHash = Hashes.hex(Hashes.sha256([UInt8]()))

    init(_ options: S3Options) {
        self.options = options
        pool = HTTPPool(options.reach)
        signature = S3Signature(accessKey: options.accessKey, secretKey: options.secretKey)
        learned = Mutex((options.region, 0))
    }

    /// What is never repeated of what a server says.
    var secrets: [String] { [options.secretKey, options.accessKey] + options.encryption.dropFirst().map(\.value) }

    /// The server's time.
    var now: Int64 { ServerTime.now() + learned.withLock { $0.ahead } }

    /// Sends a request and gives the response, which is a success.
    ///
    /// - Throws: ``S3Failure`` for an answer that is none, when repetitions did not help; ``DriverError`` where none came.
    func send(_ request: Request, for requester: Requester) throws -> HTTPResponse {
        let hash = request.body.map { Hashes.hex(request.sha256 ?? Hashes.sha256($0)) } ?? Self.emptyHash
        let digest = request.md5.map { Hashes.base64($0) }
        var last: S3Failure?
        do {
            return try options.attempts.run(requester) { number in
                last = nil
                let response = try attempt(request, hash, digest, requester)
                if response.isSuccess || (response.status == 416 && request.sink?.count == 0) {
                    if response.isSuccess, let sink = request.sink, !sink.isComplete {
                        throw Trouble(DriverError(CLINKER_RETRY, "\(request.words): the answer was cut off"), isTemporary: true)
                    }
                    guard request.readsError, let root = XMLElement(parsing: response.body), root.name == "Error" else { return response }
                    // Such a failure comes behind the status line of a success.
                    let failure = S3Failure(
                        status: 500, code: root["Code"] ?? "", words: root["Message"] ?? "", isTrouble: true, request.words, secrets)
                    last = failure
                    throw failure.trouble
                }
                let failure = S3Failure(response, request.words, secrets: secrets)
                last = failure
                if response.status == 412 || response.status == 416, let sink = request.sink {
                    sink.reset()
                    throw Trouble(
                        DriverError(CLINKER_RETRY, "\(request.words): it was replaced while it was read"), isTemporary: true, pause: 0)
                }
                let isTaught = learn(from: response, failure)
                throw Trouble(
                    failure.trouble.error, isTemporary: failure.trouble.isTemporary || (isTaught && number == 0),
                    pause: failure.trouble.pause)
            }
        } catch let error as DriverError {
            if let last { throw last }
            throw error
        }
    }

    /// As `send`, for whom every failure is the host's.
    func expect(_ request: Request, for requester: Requester) throws -> HTTPResponse {
        do { return try send(request, for: requester) } catch let failure as S3Failure { throw failure.trouble.error }
    }

    private func attempt(_ request: Request, _ hash: String, _ digest: String?, _ requester: Requester) throws -> HTTPResponse {
        request.count?.sent += 1
        let (region, moment) = learned.withLock { ($0.region, ServerTime.compact(ServerTime.now() + $0.ahead)) }
        let host = options.isVirtualHosted ? "\(options.bucket).\(options.address.host)" : options.address.host
        var path = options.address.path + (options.isVirtualHosted ? "" : "/" + URLText.quoted(options.bucket))
        if let name = request.name { path += "/" + URLText.quoted(name, keepsSlash: true) }
        if path.isEmpty { path = "/" }
        let query = request.query.map { (URLText.quoted($0.name), URLText.quoted($0.value)) }.sorted { $0.0 < $1.0 }
            .map { "\($0)=\($1)" }.joined(separator: "&")
        var headers =
            request.headers + (request.sink?.headersOfNextRequest() ?? []) + [("x-amz-content-sha256", hash), ("x-amz-date", moment)]
        if let digest { headers.append(("Content-MD5", digest)) }
        if request.isEncrypted { headers += options.encryption }
        let signed = signature.authorization(
            request.method, path: path, query: query, headers: headers + [("host", host)], payload: hash, moment: moment, region: region)
        var exchange = HTTPRequest(request.method, "\(options.address.scheme)://\(host)\(path)" + (query.isEmpty ? "" : "?" + query))
        exchange.headers = headers + [("Authorization", signed)]
        exchange.body = request.body
        exchange.sink = request.sink
        do throws(HTTPFailure) { return try pool.send(exchange, isCancelled: requester.isCancelled) } catch {
            throw Trouble(error, request.words)
        }
    }

    /// Takes what an answer says of the bucket's region and of the time; whether that is news, so that the request may succeed now.
    private func learn(from response: HTTPResponse, _ failure: S3Failure) -> Bool {
        learned.withLock { learned in
            if [301, 307, 308, 400].contains(response.status), let region = response.header("x-amz-bucket-region"), !region.isEmpty,
                region.utf8.count < 64, region != learned.region
            {
                learned.region = region
                return true
            }
            guard response.status == 403, failure.code == "RequestTimeTooSkewed" || failure.code.isEmpty,
                let theirs = response.header("Date").flatMap({ ServerTime.parse(http: $0) })
            else { return false }
            let ahead = theirs - ServerTime.now()
            // Requests may be a quarter of an hour old.
            guard abs(ahead - learned.ahead) > 240 else { return false }
            learned.ahead = ahead
            return true
        }
    }
}
