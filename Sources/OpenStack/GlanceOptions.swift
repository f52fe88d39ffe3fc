public import Settings

/// How Glance is found and reached, under the names that Cinder has for it.
public struct GlanceOptions: DeclaredOptions {
    public let servers = Option(
        "glance_api_servers", default: [String](),
        help: "URLs of Glance, tried one after the other; without any, Keystone's catalogue says where it is.")
    public let catalogue = Option(
        "glance_catalog_info", default: "image:glance:publicURL",
        help: "How Glance is found in Keystone's catalogue: type, name and interface, with colons between them.")
    public let retries = Option(
        "glance_num_retries", default: 3, range: 0...100, help: "Repetitions of a request to Glance that got no answer, or a 5xx.")
    public let timeout = Option(
        "glance_request_timeout", default: 30, range: 1...3600,
        help: "Seconds for a request to Glance; of an image's data, seconds without a byte.")
    public let insecure = Option("glance_api_insecure", default: false, help: "Any certificate of Glance is believed.")
    public let authorities = Option(
        "glance_ca_certificates_file", default: "", help: "PEM file of the authorities that Glance's certificate is checked against.")
    public let certificate = Option("glance_certfile", default: "", help: "PEM file of the certificate that Clinker shows Glance.")
    public let key = Option("glance_keyfile", default: "", help: "PEM file of its key.")
    public let region = Option(
        "region_name", in: .group("glance"), default: "", help: "Region of Glance in Keystone's catalogue; the first if empty.")

    public init() {}
}

extension Options {
    /// How Glance is found and reached.
    public static let glance = GlanceOptions()
}
