import CCurl
import DriverKit
import Glibc
import Synchronization

/// How a server is reached.
public struct HTTPReach: Sendable {
    /// PEM file of certificate authorities; nil: the system's.
    public var authorities: String?
    /// Whether the server's certificate is not verified.
    public var isInsecure = false
    /// Proxy for the URL's scheme; nil: none.
    public var proxy: String?
    /// Seconds for a connection to be made, and those after which a transfer is given up that is slower than `slowest` all the time.
    public var timeout = 60.0
    /// Bytes per second: a server that sends or takes less of an object, but something, would hold a request's place for ever.
    public static let slowest = 1024
    /// Seconds for a request that moves no object's bytes: a server that works on one may say no more than a blank now and then.
    var longest: Double { timeout * 10 }
    /// Most requests at a time; others wait.
    public var connections = 10
    public init() {}
}

/// Connections to a server of objects, which are kept and used again. Requests block their threads.
public final class HTTPPool: Sendable {
    private struct Handle: @unchecked Sendable { let raw: UnsafeMutableRawPointer }
    private let idle = Mutex<[Handle]>([])
    private let slots: Slots
    private let reach: HTTPReach
    private static let isInitialized = curl_global_init(Int(CURL_GLOBAL_ALL)) == CURLE_OK

    public init(_ reach: HTTPReach) {
        self.reach = reach
        slots = Slots(reach.connections)
    }

    deinit { for handle in idle.withLock({ $0 }) { curl_easy_cleanup(handle.raw) } }

    /// Sends a request and waits for the response, whatever its status.
    public func send(_ request: HTTPRequest, isCancelled: () -> Bool) throws(HTTPFailure) -> HTTPResponse {
        guard slots.take(isCancelled) else { throw HTTPFailure(kind: .cancelled, words: "cancelled") }
        defer { slots.give() }
        guard Self.isInitialized, let handle = idle.withLock({ $0.popLast() }) ?? curl_easy_init().map({ Handle(raw: $0) }) else {
            throw HTTPFailure(kind: .temporary, words: "libcurl could not be started")
        }
        defer {
            curl_easy_reset(handle.raw)
            idle.withLock { $0.append(handle) }
        }
        return try withoutActuallyEscaping(isCancelled) { (isCancelled) throws(HTTPFailure) in
            try exchange(request, on: handle.raw, Transfer(request, isCancelled))
        }
    }

    private func exchange(_ request: HTTPRequest, on curl: UnsafeMutableRawPointer, _ transfer: Transfer) throws(HTTPFailure)
        -> HTTPResponse
    {
        let me = Unmanaged.passUnretained(transfer).toOpaque()
        var lines: UnsafeMutablePointer<curl_slist>?
        for header in request.headers { lines = curl_slist_append(lines, "\(header.name): \(header.value)") }
        // Do not wait for 100 Continue; send the length, and no type that nobody asked for.
        for name in ["Expect", "Transfer-Encoding", "Accept"] { lines = curl_slist_append(lines, name + ":") }
        defer { curl_slist_free_all(lines) }
        prepare(curl, request, lines)
        Transfer.install(on: curl, me)
        let code = withExtendedLifetime(transfer) { curl_easy_perform(curl) }
        var status = 0
        clinker_curl_status(curl, &status)
        if code == CURLE_OK, !transfer.hasBegun { transfer.beginBody() }
        if let refusal = transfer.refusal { throw HTTPFailure(kind: .temporary, words: refusal, isAnswer: true) }
        if code != CURLE_OK, !transfer.isDone, !transfer.hasAll { throw failure(code, transfer) }
        return HTTPResponse(status: status, headers: transfer.headers, body: transfer.body)
    }

    private func prepare(_ curl: UnsafeMutableRawPointer, _ request: HTTPRequest, _ lines: UnsafeMutablePointer<curl_slist>?) {
        clinker_curl_text(curl, CURLOPT_URL, request.url)
        clinker_curl_text(curl, CURLOPT_CUSTOMREQUEST, request.method)
        clinker_curl_pointer(curl, CURLOPT_HTTPHEADER, lines)
        clinker_curl_text(curl, CURLOPT_PROTOCOLS_STR, "http,https")
        for (option, value) in [
            (CURLOPT_NOSIGNAL, 1), (CURLOPT_PATH_AS_IS, 1), (CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1), (CURLOPT_TCP_KEEPALIVE, 1),
            (CURLOPT_BUFFERSIZE, 256 << 10), (CURLOPT_UPLOAD_BUFFERSIZE, 512 << 10),
            (CURLOPT_CONNECTTIMEOUT_MS, Int(reach.timeout * 1000)), (CURLOPT_LOW_SPEED_LIMIT, request.movesObject ? HTTPReach.slowest : 1),
            (CURLOPT_LOW_SPEED_TIME, max(1, Int(reach.timeout.rounded(.up)))),
        ] as [(CURLoption, Int)] { clinker_curl_long(curl, option, value) }
        if !request.movesObject { clinker_curl_long(curl, CURLOPT_TIMEOUT_MS, Int(reach.longest * 1000)) }
        // What the environment names as a proxy is not asked for.
        clinker_curl_text(curl, CURLOPT_PROXY, reach.proxy ?? "")
        if let authorities = reach.authorities {
            clinker_curl_text(curl, CURLOPT_CAINFO, authorities)
            // Those of the system are trusted beside them otherwise.
            clinker_curl_pointer(curl, CURLOPT_CAPATH, nil)
        }
        if reach.isInsecure {
            clinker_curl_long(curl, CURLOPT_SSL_VERIFYPEER, 0)
            clinker_curl_long(curl, CURLOPT_SSL_VERIFYHOST, 0)
        }
        if request.method == "HEAD" {
            clinker_curl_long(curl, CURLOPT_NOBODY, 1)
        } else if let body = request.body {
            clinker_curl_long(curl, CURLOPT_UPLOAD, 1)
            clinker_curl_offset(curl, CURLOPT_INFILESIZE_LARGE, curl_off_t(body.reduce(0) { $0 + $1.count }))
        }
    }

    private func failure(_ code: CURLcode, _ transfer: Transfer) -> HTTPFailure {
        if transfer.isCancelled { return HTTPFailure(kind: .cancelled, words: "cancelled") }
        if transfer.isTooLong { return HTTPFailure(kind: .tooLong, words: "the response is longer than \(transfer.limit) bytes") }
        var words = String(cString: curl_easy_strerror(code))
        if code == CURLE_OPERATION_TIMEDOUT {
            words =
                transfer.movesObject
                ? "no answer, or fewer than \(HTTPReach.slowest) bytes per second, for \(reach.timeout) seconds"
                : "no answer for \(reach.timeout) seconds, or no whole one for \(reach.longest)"
        }
        let wrong = [
            CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM, CURLE_URL_MALFORMAT,
            CURLE_UNSUPPORTED_PROTOCOL, CURLE_SSL_ISSUER_ERROR,
        ]
        return HTTPFailure(kind: wrong.contains(code) ? .configuration : .temporary, words: words)
    }
}

/// The state of one transfer, which libcurl's callbacks work on.
private final class Transfer {
    var headers: [(name: String, value: String)] = []
    var body: [UInt8] = []
    var status = 0
    var isTooLong = false
    var isCancelled = false
    /// Whether all that was asked for has come, though the server would go on.
    private(set) var isDone = false
    /// Whether the sink knows of the response.
    private(set) var hasBegun = false
    /// What is wrong with the response, if anything.
    private(set) var refusal: String?
    let limit: Int
    let movesObject: Bool
    private let sink: ObjectSink?
    private let slices: [UnsafeRawBufferPointer]
    private var slice = 0
    private var offset = 0
    private let asks: () -> Bool

    init(_ request: HTTPRequest, _ isCancelled: @escaping () -> Bool) {
        limit = request.limit
        movesObject = request.movesObject
        sink = request.sink
        slices = request.body ?? []
        asks = isCancelled
    }

    static func install(on curl: UnsafeMutableRawPointer, _ me: UnsafeMutableRawPointer) {
        clinker_curl_function(curl, CURLOPT_WRITEFUNCTION) { bytes, size, count, raw in
            guard let bytes, let raw else { return 0 }
            return Transfer.of(raw).receive(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
        }
        clinker_curl_pointer(curl, CURLOPT_WRITEDATA, me)
        clinker_curl_function(curl, CURLOPT_HEADERFUNCTION) { bytes, size, count, raw in
            guard let bytes, let raw else { return 0 }
            return Transfer.of(raw).header(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
        }
        clinker_curl_pointer(curl, CURLOPT_HEADERDATA, me)
        clinker_curl_function(curl, CURLOPT_READFUNCTION) { bytes, size, count, raw in
            guard let bytes, let raw else { return 0 }
            return Transfer.of(raw).give(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
        }
        clinker_curl_pointer(curl, CURLOPT_READDATA, me)
        clinker_curl_seek_function(curl) { raw, offset, origin in
            guard let raw, origin == SEEK_SET, offset >= 0 else { return CURL_SEEKFUNC_FAIL }
            return Transfer.of(raw).seek(to: Int(offset)) ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
        }
        clinker_curl_pointer(curl, CURLOPT_SEEKDATA, me)
        clinker_curl_progress_function(curl) { raw, _, _, _, _ in
            guard let raw else { return 1 }
            return Transfer.of(raw).mayGoOn() ? 0 : 1
        }
        clinker_curl_pointer(curl, CURLOPT_XFERINFODATA, me)
        clinker_curl_long(curl, CURLOPT_NOPROGRESS, 0)
    }

    private static func of(_ raw: UnsafeMutableRawPointer) -> Transfer { Unmanaged<Transfer>.fromOpaque(raw).takeUnretainedValue() }

    private func mayGoOn() -> Bool {
        if asks() { isCancelled = true }
        return !isCancelled
    }

    private func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if let sink, (200..<300).contains(status) {
            if !hasBegun { beginBody() }
            guard refusal == nil else { return false }
            // A server that ignores ranges sends the rest, too, and a broken one more than it says: nobody waits for it.
            isDone = !sink.take(bytes) && (status == 200 || sink.hasSurplus)
            return !isDone
        }
        guard body.count + bytes.count <= limit else {
            isTooLong = true
            return false
        }
        body.append(contentsOf: bytes)
        return true
    }

    /// Whether all bytes that were asked for have come, whatever became of the response then.
    var hasAll: Bool { hasBegun && refusal == nil && !isCancelled && (200..<300).contains(status) && sink?.isComplete == true }

    /// Tells the sink of a successful response.
    func beginBody() {
        hasBegun = true
        if (200..<300).contains(status) { refusal = sink?.begin(status, headers) }
    }

    private func header(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let line = String(decoding: bytes, as: UTF8.self)
        if line.hasPrefix("HTTP/") {
            headers = []
            status = line.split(separator: " ").dropFirst().first.flatMap { Int($0.prefix(3)) } ?? 0
        } else if let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) {
            guard headers.count < 200 else { return false }
            let value = line[line.index(after: colon)...].unicodeScalars.drop { $0 == " " }.prefix { $0 != "\r" && $0 != "\n" }
            headers.append((name: String(line[..<colon]), value: String(value)))
        }
        return true
    }

    private func give(_ room: UnsafeMutableRawBufferPointer) -> Int {
        var done = 0
        while done < room.count, slice < slices.count {
            let piece = slices[slice][offset...].prefix(room.count - done)
            if piece.isEmpty {
                (slice, offset) = (slice + 1, 0)
                continue
            }
            UnsafeMutableRawBufferPointer(rebasing: room[done...]).copyMemory(from: UnsafeRawBufferPointer(rebasing: piece))
            done += piece.count
            offset += piece.count
        }
        return done
    }

    private func seek(to position: Int) -> Bool {
        var rest = position
        for (index, piece) in slices.enumerated() {
            if rest <= piece.count {
                (slice, offset) = (index, rest)
                return true
            }
            rest -= piece.count
        }
        (slice, offset) = (slices.count, 0)
        return rest == 0
    }
}

/// A number of places, for which threads wait.
private final class Slots: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let freed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var count: Int

    init(_ count: Int) {
        self.count = count
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(freed, nil)
    }

    deinit {
        pthread_cond_destroy(freed)
        pthread_mutex_destroy(mutex)
        freed.deallocate()
        mutex.deallocate()
    }

    /// False if it was cancelled before there was a place.
    func take(_ isCancelled: () -> Bool) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while count == 0 {
            var limit = timespec()
            clock_gettime(CLOCK_REALTIME, &limit)
            limit.tv_nsec += 200_000_000
            if limit.tv_nsec >= 1_000_000_000 { (limit.tv_sec, limit.tv_nsec) = (limit.tv_sec + 1, limit.tv_nsec - 1_000_000_000) }
            pthread_cond_timedwait(freed, mutex, &limit)
            if count == 0, isCancelled() { return false }
        }
        count -= 1
        return true
    }

    func give() {
        pthread_mutex_lock(mutex)
        count += 1
        pthread_cond_signal(freed)
        pthread_mutex_unlock(mutex)
    }
}
