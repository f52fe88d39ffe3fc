/// Options of TLS in front of the API: the switch of Cinder's, and `[ssl]` as oslo.service has it.
public struct TLSOptions: DeclaredOptions {
    public let isUsed = Option(
        "osapi_volume_use_ssl", default: false,
        help: "The API is served with TLS, and not without: [ssl] cert_file and key_file are needed.")
    public let certFile = TLSOptions.text(
        "cert_file", help: "PEM file of the API's certificate, and behind it those up to its authority.")
    public let keyFile = TLSOptions.text("key_file", help: "PEM file of its key, without a password, readable by the service alone.")
    public let caFile = TLSOptions.text(
        "ca_file", help: "PEM file of authorities: only clients with a certificate of one of them are served; empty: clients need none.")
    public let version = TLSOptions.text(
        "version", help: "TLSv1_2 or TLSv1_3 alone; empty or SSLv23: both. Older ones are not spoken.")
    public let ciphers = TLSOptions.text(
        "ciphers", help: "Cipher suites by OpenSSL's names, the preferred ones first; empty: all that are served.")
    public let handshakeTimeout = Option(
        "http_handshake_timeout", default: 10, range: 1...600, help: "Seconds that a client has for the handshake of TLS.")
    public let handshakeLimitPerAddress = Option(
        "http_handshake_limit_per_address", default: 1024, range: 0...1_000_000,
        help: "Handshakes of TLS from one address that have not ended; 0: no limit.")

    public init() {}

    private static func text(_ name: String, help: String) -> Option<String> {
        Option(name, in: .group("ssl"), default: "", reloadable: true, help: help)
    }
}

extension Options {
    /// Options of TLS in front of the API.
    public static let tls = TLSOptions()
}
