/// How a broker is reached and what is declared there.
public struct BrokerSettings: Sendable {
    public struct TLS: Sendable {
        /// PEM file of the authorities that the broker's certificate is checked against.
        public var authorities: String
        /// PEM files of the client's certificate and its key.
        public var certificate, key: String?
        /// Whether the certificate has to be the host's.
        public var checksName = true

        public init(authorities: String) { self.authorities = authorities }
    }

    /// Who the client is: a user with a password, or whoever the certificate names.
    public enum Login: Sendable { case plain, external }

    public var url: TransportURL
    public var exchange: String
    public var tls: TLS?
    public var login = Login.plain
    public var isDurable = false
    public var deletesUnused = false
    public var isMirrored = false
    public var quorum: Quorum?
    /// Seconds without a sign of the broker after which the connection counts as dead; 0: never.
    public var heartbeat = 60
    /// Seconds until the first repeated attempt to connect, more for each that follows, and at most.
    public var retryInterval = 1.0, retryBackoff = 2.0, longestInterval = 30.0
    /// Whether the hosts are tried in another order in each process.
    public var shufflesHosts = false
    /// What the broker shows of the connection.
    public var connectionName = "clinker"
    /// Seconds that a broker may take for connecting, and for confirming messages while it does not say that it is blocked.
    public var connectPatience = 10.0, confirmPatience = 30.0

    /// Limits of quorum queues; 0: none.
    public struct Quorum: Sendable {
        public var deliveryLimit, memoryLength, memoryBytes: Int
        public init(deliveryLimit: Int = 0, memoryLength: Int = 0, memoryBytes: Int = 0) {
            self.deliveryLimit = deliveryLimit
            self.memoryLength = memoryLength
            self.memoryBytes = memoryBytes
        }
    }

    public init(url: TransportURL, exchange: String) {
        self.url = url
        self.exchange = exchange
    }
}

/// Why a broker did not take what it was to take.
public struct BrokerFailure: Error, Sendable, Equatable, CustomStringConvertible {
    public enum Kind: String, Sendable {
        /// No connection can be made.
        case unreachable
        /// The broker lets nobody in: password, virtual host, permission, certificate.
        case refused
        /// The connection ended.
        case lost
        /// An exchange or a queue cannot be used.
        case undeclared
        /// No confirmation came in time.
        case unconfirmed
        /// The broker said that it did not store a message.
        case nacked
        /// A message found no queue.
        case returned
    }
    public let kind: Kind
    public let description: String

    init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }
}
