import CCurl
import Glibc
import Primitives

/// An HTTP client on libcurl. Connections are reused. A call blocks its thread, so it must not be made on Swift's cooperative pool.
public final class HTTPClient: Sendable {
    public struct Request: Sendable {
        public var method: String
        public var url: String
        public var headers: [(name: String, value: String)] = []
        public var body: [UInt8]?
        /// Time-outs in seconds: of the whole request, and of connecting.
        public var timeout = 60.0
        public var connectTimeout = 10.0
        /// Path of a Unix socket to connect to, whatever the URL's host.
        public var unixSocket: String?
        /// A connection of its own. libcurl repeats a request when a connection that it had kept breaks, even one that was heard: not good for
        /// what must not be done twice.
        public var isOnNewConnection = false
        /// Largest response in bytes.
        public var limit = 16 << 20
        /// Receives the body of a successful response piece by piece instead of keeping it; returning false ends the transfer.
        public var onBody: (@Sendable (UnsafeRawBufferPointer) -> Bool)?
        /// Called with the status and the headers of a response before its body; returning false ends the transfer.
        public var onHead: (@Sendable (_ status: Int, _ headers: [(name: String, value: String)]) -> Bool)?
        /// Gives the request's body piece by piece, in place of `body`: fills the buffer at its beginning and returns how many bytes, 0 at the
        /// end, nil if the transfer is to end. Bodies of unknown length are sent in chunks.
        public var source: (@Sendable (UnsafeMutableRawBufferPointer) -> Int?)?
        /// Seconds without a byte, in either direction, after which the request is given up. What this process does with the bytes does not
        /// count.
        public var silence: Double?
        /// Called about once a second while the server is waited for; returning false ends the transfer.
        public var onWait: (@Sendable () -> Bool)?

        public init(_ method: String, _ url: String) {
            self.method = method
            self.url = url
        }
    }

    public struct Response: Sendable {
        public let status: Int
        public let headers: [(name: String, value: String)]
        public let body: [UInt8]

        /// The first header with the name, compared case-insensitively.
        public func header(_ name: String) -> String? {
            let wanted = name.lowercased()
            return headers.first { $0.name.lowercased() == wanted }?.value
        }
    }

    /// No response was received; with libcurl's message.
    public struct Failure: Error, CustomStringConvertible, Sendable {
        public let description: String
        /// Whether no connection could be made, so that the request had no effect.
        public let isUnreachable: Bool
        /// Whether the answer was longer than the request's limit: it will be that again.
        public let isTooLong: Bool

        public init(description: String, isUnreachable: Bool, isTooLong: Bool = false) {
            self.description = description
            self.isUnreachable = isUnreachable
            self.isTooLong = isTooLong
        }
    }

    /// Which certificates are trusted.
    public struct Trust: Sendable {
        /// PEM file of certificate authorities; nil for the system's.
        public var authorities: String?
        /// Whether certificates are not verified.
        public var isInsecure: Bool
        /// PEM files of the client certificate and its key.
        public var certificate, key: String?
        public init(authorities: String? = nil, isInsecure: Bool = false, certificate: String? = nil, key: String? = nil) {
            self.authorities = authorities
            self.isInsecure = isInsecure
            self.certificate = certificate
            self.key = key
        }
    }

    private struct Handle: @unchecked Sendable { let raw: UnsafeMutableRawPointer }
    private let idle = Guarded<[Handle]>([])
    private let trust: Trust
    private static let initialized: Bool = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK

    public init(trust: Trust = Trust()) { self.trust = trust }

    deinit { for handle in idle.withLock({ $0 }) { curl_easy_cleanup(handle.raw) } }

    /// The state of one transfer.
    private final class Transfer {
        var headers: [(name: String, value: String)] = []
        var body: [UInt8] = []
        var isTooLong = false
        var status = 0
        let limit: Int
        let onBody: (@Sendable (UnsafeRawBufferPointer) -> Bool)?
        let onHead: (@Sendable (Int, [(name: String, value: String)]) -> Bool)?
        let source: (@Sendable (UnsafeMutableRawBufferPointer) -> Int?)?
        let silence: Double?
        let onWait: (@Sendable () -> Bool)?
        /// When a byte came or went, on the monotonic clock.
        var lastByteAt = Timestamp.monotonic()
        var isSilent = false
        init(_ request: Request) {
            limit = request.limit
            onBody = request.onBody
            onHead = request.onHead
            source = request.source
            silence = request.silence
            onWait = request.onWait
        }

        /// Whether the transfer is to go on.
        func wait() -> Bool {
            if let silence, Timestamp.monotonic() - lastByteAt > silence {
                isSilent = true
                return false
            }
            return onWait?() ?? true
        }
    }

    /// Sends the request and waits for the response, whatever its status.
    public func send(_ request: Request) throws(Failure) -> Response {
        guard Self.initialized, let handle = idle.withLock({ $0.popLast() }) ?? curl_easy_init().map({ Handle(raw: $0) }) else {
            throw Failure(description: "libcurl could not be started", isUnreachable: true)
        }
        let curl = handle.raw
        defer {
            curl_easy_reset(curl)
            idle.withLock { $0.append(handle) }
        }
        let transfer = Transfer(request)
        let me = Unmanaged.passUnretained(transfer).toOpaque()
        var lines: UnsafeMutablePointer<curl_slist>?
        for header in request.headers { lines = curl_slist_append(lines, "\(header.name): \(header.value)") }
        // Do not wait for 100 Continue, unless much is to be sent to a server that may not want it.
        if request.source == nil { lines = curl_slist_append(lines, "Expect:") }
        defer { curl_slist_free_all(lines) }
        clinker_curl_text(curl, CURLOPT_URL, request.url)
        clinker_curl_text(curl, CURLOPT_CUSTOMREQUEST, request.method)
        if request.isOnNewConnection { clinker_curl_long(curl, CURLOPT_FRESH_CONNECT, 1) }
        if request.method == "HEAD" { clinker_curl_long(curl, CURLOPT_NOBODY, 1) }
        clinker_curl_pointer(curl, CURLOPT_HTTPHEADER, lines)
        clinker_curl_long(curl, CURLOPT_NOSIGNAL, 1)
        if request.timeout.isFinite { clinker_curl_long(curl, CURLOPT_TIMEOUT_MS, Int(request.timeout * 1000)) }
        clinker_curl_long(curl, CURLOPT_CONNECTTIMEOUT_MS, Int(request.connectTimeout * 1000))
        clinker_curl_text(curl, CURLOPT_PROTOCOLS_STR, "http,https")
        if let socket = request.unixSocket { clinker_curl_text(curl, CURLOPT_UNIX_SOCKET_PATH, socket) }
        if let authorities = trust.authorities {
            clinker_curl_text(curl, CURLOPT_CAINFO, authorities)
            // Those of the system are trusted beside them otherwise.
            clinker_curl_pointer(curl, CURLOPT_CAPATH, nil)
        }
        if let certificate = trust.certificate { clinker_curl_text(curl, CURLOPT_SSLCERT, certificate) }
        if let key = trust.key { clinker_curl_text(curl, CURLOPT_SSLKEY, key) }
        if trust.isInsecure {
            clinker_curl_long(curl, CURLOPT_SSL_VERIFYPEER, 0)
            clinker_curl_long(curl, CURLOPT_SSL_VERIFYHOST, 0)
        }
        clinker_curl_function(curl, CURLOPT_WRITEFUNCTION) { bytes, size, count, raw in
            guard let bytes, let raw else { return 0 }
            let transfer = Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue()
            if let onBody = transfer.onBody, transfer.status < 300 {
                let goesOn = onBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
                transfer.lastByteAt = Timestamp.monotonic()
                return goesOn ? size * count : 0
            }
            guard transfer.body.count + size * count <= transfer.limit else {
                transfer.isTooLong = true
                return 0
            }
            transfer.body.append(contentsOf: UnsafeRawBufferPointer(start: bytes, count: size * count))
            return size * count
        }
        clinker_curl_pointer(curl, CURLOPT_WRITEDATA, me)
        clinker_curl_function(curl, CURLOPT_HEADERFUNCTION) { bytes, size, count, raw in
            guard let bytes, let raw else { return 0 }
            let line = String(decoding: UnsafeRawBufferPointer(start: bytes, count: size * count), as: UTF8.self)
            let transfer = Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue()
            if line.hasPrefix("HTTP/") {
                transfer.headers = []
                transfer.status = line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
            } else if let colon = line.firstIndex(of: ":") {
                let value = line[line.index(after: colon)...].drop { $0 == " " }
                transfer.headers.append(
                    (name: String(line[..<colon]), value: String(value.prefix { $0 != "\r\n" && $0 != "\n" && $0 != "\r" })))
            } else if transfer.status >= 200, let onHead = transfer.onHead {
                transfer.lastByteAt = Timestamp.monotonic()
                return onHead(transfer.status, transfer.headers) ? size * count : 0
            }
            return size * count
        }
        clinker_curl_pointer(curl, CURLOPT_HEADERDATA, me)
        if request.silence != nil || request.onWait != nil {
            clinker_curl_long(curl, CURLOPT_NOPROGRESS, 0)
            clinker_curl_progress_function(curl) { raw, _, _, _, _ in
                guard let raw else { return 1 }
                return Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue().wait() ? 0 : 1
            }
            clinker_curl_pointer(curl, CURLOPT_XFERINFODATA, me)
        }
        // In larger pieces than for answers that are kept.
        if request.onBody != nil { clinker_curl_long(curl, CURLOPT_BUFFERSIZE, 256 << 10) }
        let status: CURLcode
        if request.source != nil {
            clinker_curl_long(curl, CURLOPT_UPLOAD, 1)
            clinker_curl_long(curl, CURLOPT_UPLOAD_BUFFERSIZE, 256 << 10)
            // One that was used before may be dead, and what was sent over it cannot be sent again.
            clinker_curl_long(curl, CURLOPT_FRESH_CONNECT, 1)
            clinker_curl_function(curl, CURLOPT_READFUNCTION) { bytes, size, count, raw in
                guard let bytes, let raw else { return Int(CURL_READFUNC_ABORT) }
                let transfer = Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue()
                let given = transfer.source?(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
                transfer.lastByteAt = Timestamp.monotonic()
                return given ?? Int(CURL_READFUNC_ABORT)
            }
            clinker_curl_pointer(curl, CURLOPT_READDATA, me)
            status = withExtendedLifetime(transfer) { curl_easy_perform(curl) }
        } else if let body = request.body {
            status = body.withUnsafeBytes { raw in
                clinker_curl_offset(curl, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(raw.count))
                clinker_curl_pointer(curl, CURLOPT_POSTFIELDS, UnsafeMutableRawPointer(mutating: raw.baseAddress))
                return withExtendedLifetime(transfer) { curl_easy_perform(curl) }
            }
        } else {
            status = withExtendedLifetime(transfer) { curl_easy_perform(curl) }
        }
        guard status == CURLE_OK else {
            let words =
                transfer.isSilent
                ? "no byte came or went for \(Int(transfer.silence ?? 0)) seconds"
                : transfer.isTooLong ? "the answer is longer than \(transfer.limit) bytes" : String(cString: curl_easy_strerror(status))
            throw Failure(
                description: words,
                isUnreachable: [CURLE_COULDNT_CONNECT, CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY].contains(status),
                isTooLong: transfer.isTooLong)
        }
        var code = 0
        clinker_curl_status(curl, &code)
        return Response(status: code, headers: transfer.headers, body: transfer.body)
    }
}
