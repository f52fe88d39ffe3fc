public import Settings

/// Options of `[nova]`: how Nova is found in the catalogue and reached.
public struct NovaOptions: DeclaredOptions {
    public let region = NovaOptions.text("region_name", help: "Region of Nova in Keystone's catalogue; the first if empty.")
    public let interface = Option(
        "interface", in: .group("nova"), default: "public", choices: ["public", "internal", "admin"],
        help: "Which of Nova's endpoints is asked.")
    public let caFile = NovaOptions.text("cafile", help: "PEM file of the authorities that Nova's certificate is checked against.")
    public let certFile = NovaOptions.text("certfile", help: "PEM file of the certificate that Clinker shows Nova.")
    public let keyFile = NovaOptions.text("keyfile", help: "PEM file of its key.")
    public let timeout = Option(
        "timeout", in: .group("nova"), default: 30, range: 1...600, help: "Seconds that Nova has to answer events and swaps of volumes.")
    public let insecure = Option("insecure", in: .group("nova"), default: false, help: "Any certificate is believed.")

    public init() {}

    private static func text(_ name: String, help: String) -> Option<String> {
        Option(name, in: .group("nova"), default: "", help: help)
    }
}

extension Options {
    /// Options of `[nova]`: how Nova is found in the catalogue and reached.
    public static let nova = NovaOptions()
}
