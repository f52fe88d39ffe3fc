/// The cipher suites that are accepted, by OpenSSL's names for them, as `[ssl] ciphers` of oslo.service has them. GnuTLS chooses
/// key exchange and cipher independently, so what is accepted are all suites made of those that the named ones are made of.
public struct TLSCiphers: Sendable, Equatable {
    /// As GnuTLS reads them.
    let exchanges: String
    let ciphers: String

    private static let allExchanges = ["+ECDHE-ECDSA", "+ECDHE-RSA"]
    private static let allCiphers = ["+AES-256-GCM", "+AES-128-GCM", "+CHACHA20-POLY1305"]

    /// What has forward secrecy and authenticated encryption and is fast.
    public init() {
        exchanges = Self.allExchanges.joined(separator: ":")
        ciphers = Self.allCiphers.joined(separator: ":")
    }

    /// - Parameter list: suites in the order of preference, divided by colons; empty for all.
    public init(list: String) throws(TLSProblem) {
        var exchanges: [String] = []
        var ciphers: [String] = []
        func add(_ all: [String], to list: inout [String]) { for one in all where !list.contains(one) { list.append(one) } }
        for part in list.split(whereSeparator: { $0 == ":" || $0 == "," || $0 == " " }).map(String.init) {
            if Self.everything.contains(part) {
                add(Self.allExchanges, to: &exchanges)
                add(Self.allCiphers, to: &ciphers)
            } else if let suite = Self.suites[part] {
                add(suite.exchanges, to: &exchanges)
                add([suite.cipher], to: &ciphers)
            } else if !Self.neverOffered.contains(part) {
                throw TLSProblem(problems: [
                    "has '\(part)', which is none of the suites that are served: "
                        + "\(Self.suites.keys.sorted().joined(separator: ", ")); or HIGH for all of them"
                ])
            }
        }
        // A list of nothing but exclusions excludes what is not offered.
        if exchanges.isEmpty { exchanges = Self.allExchanges }
        if ciphers.isEmpty { ciphers = Self.allCiphers }
        self.exchanges = exchanges.joined(separator: ":")
        self.ciphers = ciphers.joined(separator: ":")
    }

    private static let everything: Set = ["HIGH", "DEFAULT", "ALL", "SECURE", "ECDHE", "ECDH+AESGCM", "ECDHE+AESGCM", "EECDH+AESGCM"]
    /// Exclusions of what is not offered anyway.
    private static let neverOffered: Set = [
        "!aNULL", "!eNULL", "!NULL", "!MD5", "!RC4", "!DES", "!3DES", "!EXP", "!EXPORT", "!LOW", "!MEDIUM", "!PSK", "!SRP", "!DSS", "!kRSA",
        "!RSA", "!SHA", "!SHA1", "!SSLv2", "!SSLv3", "!CAMELLIA", "!SEED", "!IDEA", "!ADH", "!AECDH", "!DH", "!CBC", "@STRENGTH",
    ]

    private static let suites: [String: (exchanges: [String], cipher: String)] = {
        var suites: [String: (exchanges: [String], cipher: String)] = [
            "TLS_AES_256_GCM_SHA384": (allExchanges, "+AES-256-GCM"), "TLS_AES_128_GCM_SHA256": (allExchanges, "+AES-128-GCM"),
            "TLS_CHACHA20_POLY1305_SHA256": (allExchanges, "+CHACHA20-POLY1305"),
        ]
        for (exchange, name) in [("+ECDHE-ECDSA", "ECDHE-ECDSA"), ("+ECDHE-RSA", "ECDHE-RSA"), ("+DHE-RSA", "DHE-RSA")] {
            suites["\(name)-AES256-GCM-SHA384"] = ([exchange], "+AES-256-GCM")
            suites["\(name)-AES128-GCM-SHA256"] = ([exchange], "+AES-128-GCM")
            suites["\(name)-CHACHA20-POLY1305"] = ([exchange], "+CHACHA20-POLY1305")
        }
        return suites
    }()
}
