/// What a server with TLS shows and accepts.
public struct TLSConfiguration: Sendable, Equatable {
    /// PEM file of the server's certificate and those between it and its authority, the server's first.
    public var certificateFile: String
    /// PEM file of its key, without a password.
    public var keyFile: String
    /// PEM file of the authorities that clients' certificates are checked against; nil: clients need none.
    public var authoritiesFile: String?
    public var versions: TLSVersions
    public var ciphers: TLSCiphers
    /// Whether the files must belong to root or the service's user.
    public var isOwned: Bool

    public init(
        certificateFile: String, keyFile: String, authoritiesFile: String? = nil, versions: TLSVersions = .init(),
        ciphers: TLSCiphers = .init(),
        isOwned: Bool = true
    ) {
        self.certificateFile = certificateFile
        self.keyFile = keyFile
        self.authoritiesFile = authoritiesFile
        self.versions = versions
        self.ciphers = ciphers
        self.isOwned = isOwned
    }

    /// The algorithms as GnuTLS reads them.
    var priorities: String {
        "NORMAL:-VERS-ALL:\(versions.priorities):-KX-ALL:\(ciphers.exchanges):-CIPHER-ALL:\(ciphers.ciphers):-MAC-ALL:+AEAD"
    }
}

/// Why a server cannot speak TLS as it is configured, a line for each file or rule.
public struct TLSProblem: Error, CustomStringConvertible, Sendable {
    public let problems: [String]
    public var description: String { problems.joined(separator: "\n") }
}

/// The versions of TLS that are spoken, by the names of oslo.service.
public struct TLSVersions: Sendable, Equatable {
    fileprivate let priorities: String

    /// TLS 1.3 and 1.2.
    public init() { priorities = "+VERS-TLS1.3:+VERS-TLS1.2" }

    private init(priorities: String) { self.priorities = priorities }

    /// - Parameter name: empty or `SSLv23` for all that is safe, or one version.
    public init(named name: String) throws(TLSProblem) {
        switch name.lowercased() {
        case "", "sslv23": self.init()
        case "tlsv1_2": self.init(priorities: "+VERS-TLS1.2")
        case "tlsv1_3": self.init(priorities: "+VERS-TLS1.3")
        case "sslv2", "sslv3", "tlsv1", "tlsv1_1":
            throw TLSProblem(problems: ["\(name) is broken and not spoken: SSLv23 (TLS 1.2 and 1.3), TLSv1_2 or TLSv1_3 is"])
        default: throw TLSProblem(problems: ["must be SSLv23 (TLS 1.2 and 1.3), TLSv1_2 or TLSv1_3, not '\(name)'"])
        }
    }
}
