/// A request to a server of objects.
public struct HTTPRequest {
    public var method: String
    public var url: String
    public var headers: [(name: String, value: String)] = []
    /// The body's pieces, sent one after the other from where they lie; nil: the request has no body.
    public var body: [UnsafeRawBufferPointer]?
    /// Where the body of a successful response goes instead of being kept.
    public var sink: ObjectSink?
    /// Most bytes of a response that is kept.
    public var limit = 16 << 20

    /// Whether an object's bytes are what it is about, and not what is said of objects.
    var movesObject: Bool { sink != nil || (body ?? []).reduce(0) { $0 + $1.count } > 1 << 20 }

    public init(_ method: String, _ url: String) {
        self.method = method
        self.url = url
    }
}

/// A whole response, whatever its status.
public struct HTTPResponse: Sendable {
    public let status: Int
    public let headers: [(name: String, value: String)]
    public let body: [UInt8]

    /// The first header of the name, compared case-insensitively.
    public func header(_ name: String) -> String? {
        let wanted = name.lowercased()
        return headers.first { $0.name.lowercased() == wanted }?.value
    }

    public var isSuccess: Bool { (200..<300).contains(status) }
    /// Whether the server is in trouble that may pass: asked again, it may answer otherwise.
    public var isTrouble: Bool { [408, 429, 500, 502, 503, 504, 509].contains(status) }

    /// Seconds that the server asks to be left alone.
    public var retryAfter: Double? { header("Retry-After").flatMap { Double($0) }.map { min(max($0, 0), 30) } }
}

/// No whole response came.
public struct HTTPFailure: Error, Sendable {
    public enum Kind: Sendable {
        /// The network or the server has trouble that may pass.
        case temporary
        /// The server's certificate, or ours, is refused, or the address is none.
        case configuration
        case cancelled
        /// The response is longer than it may be.
        case tooLong
    }
    public let kind: Kind
    public let words: String
    /// Whether the server had answered, and the answer is not one to go on with.
    public var isAnswer = false

    init(kind: Kind, words: String, isAnswer: Bool = false) { (self.kind, self.words, self.isAnswer) = (kind, words, isAnswer) }
}
