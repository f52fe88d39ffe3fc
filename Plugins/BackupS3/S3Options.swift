import CDriver
import DriverKit
import Glibc
import ObjectServers

/// What a store's section says of the server and the bucket.
struct S3Options: Sendable {
    private static let endpoint = DriverOption("backup_s3_endpoint_url", default: "", help: "URL of the S3 server.")
    private static let accessKey = DriverOption("backup_s3_store_access_key", default: "", isSecret: true, help: "Access key.")
    private static let secretKey = DriverOption("backup_s3_store_secret_key", default: "", isSecret: true, help: "Secret key.")
    private static let bucket = DriverOption(
        "backup_s3_store_bucket", default: "volumebackups", help: "Bucket of the objects; it is made if backup_create_containers says so.")
    private static let makesBucket = DriverOption(
        "backup_create_containers", default: true, help: "Make the bucket if it is not there.")
    private static let region = DriverOption(
        "backup_s3_region", default: "",
        help: "Region that requests are signed for; by default that of the endpoint's name, else us-east-1.")
    private static let addressing = DriverOption(
        "backup_s3_addressing_style", default: "auto", choices: ["auto", "path", "virtual"],
        help: "Whether the bucket is named in the path or in the host's name; auto: in the host's name at Amazon, else in the path.")
    private static let listsConsistently = DriverOption(
        "backup_s3_consistent_list", default: "auto", choices: ["auto", "true", "false"],
        help: "Whether a listing has all that was put before; auto: at Amazon.")
    private static let md5 = DriverOption(
        "backup_s3_md5_validation", default: true, help: "Send the MD5 of what is put, and compare the server's with it.")
    private static let objectSize = DriverOption(
        "backup_s3_object_size", default: 52_428_800, in: 512...1_000_000_000_000,
        help: "Bytes of the volume in one object of Cinder's format; a multiple of backup_s3_block_size. More than 32 MiB means 32 MiB.")
    private static let blockSize = DriverOption(
        "backup_s3_block_size", default: 32_768, in: 512...16_777_216, help: "Bytes of the volume that one hash of Cinder's format covers.")
    private static let httpProxy = DriverOption("backup_s3_http_proxy", default: "", help: "Proxy for an endpoint of http.")
    private static let httpsProxy = DriverOption("backup_s3_https_proxy", default: "", help: "Proxy for an endpoint of https.")
    private static let timeout = DriverOption(
        "backup_s3_timeout", default: 60.0, in: 1...3600,
        help: "Seconds for a connection to be made, and without a byte after which a request is given up and repeated.")
    private static let connections = DriverOption(
        "backup_s3_max_pool_connections", default: 10, in: 1...256, help: "Most requests at a time.")
    private static let attempts = DriverOption(
        "backup_s3_retry_max_attempts", default: 4, in: 0...20,
        help: "How often a request is repeated that met trouble which may pass (legacy), or sent at all (standard, adaptive).")
    private static let retryMode = DriverOption(
        "backup_s3_retry_mode", default: "legacy", choices: ["legacy", "standard", "adaptive"],
        help: "How backup_s3_retry_max_attempts counts; adaptive is as standard.")
    private static let verifies = DriverOption("backup_s3_verify_ssl", default: true, help: "Verify the server's certificate.")
    private static let authorities = DriverOption(
        "backup_s3_ca_cert_file", default: "", help: "PEM file of certificate authorities; the system's if empty.")
    private static let customerAlgorithm = DriverOption(
        "backup_s3_sse_customer_algorithm", default: "", choices: ["AES256"],
        help: "Algorithm by which the server encrypts with backup_s3_sse_customer_key.")
    private static let customerKey = DriverOption(
        "backup_s3_sse_customer_key", default: "", isSecret: true, help: "Key of 32 bytes by which the server encrypts the objects.")

    static let declarations =
        [
            endpoint.declaration, accessKey.declaration, secretKey.declaration, bucket.declaration, makesBucket.declaration,
            region.declaration, addressing.declaration, listsConsistently.declaration, md5.declaration, objectSize.declaration,
            blockSize.declaration, httpProxy.declaration, httpsProxy.declaration, timeout.declaration, connections.declaration,
            attempts.declaration, retryMode.declaration, verifies.declaration, authorities.declaration, customerAlgorithm.declaration,
            customerKey.declaration,
        ]
        + DriverOptionDeclaration.withoutEffect([
            "backup_s3_enable_progress_timer": "progress is told by the operation's steps, not by notifications"
        ])

    let address: ServerAddress
    let bucket: String
    let accessKey, secretKey: String
    let region: String
    /// Whether the bucket is named in the host's name.
    let isVirtualHosted: Bool
    let listsConsistently: Bool
    let makesBucket: Bool
    let sendsMD5: Bool
    let attempts: Attempts
    let reach: HTTPReach
    /// Headers of requests for objects that the server encrypts with the customer's key.
    let encryption: [(name: String, value: String)]
    /// A directory of this machine for what has to be remembered; nil: there is none.
    let stateDirectory: String?

    init(_ call: Call) throws {
        func wrong(_ words: String) -> DriverError { DriverError(CLINKER_BAD_CONFIGURATION, words) }
        let url = try call[Self.endpoint]
        guard !url.isEmpty else { throw wrong("backup_s3_endpoint_url is not set") }
        address = try ServerAddress(url, option: "backup_s3_endpoint_url")
        accessKey = try call[Self.accessKey]
        secretKey = try call[Self.secretKey]
        for (key, option) in [(accessKey, "backup_s3_store_access_key"), (secretKey, "backup_s3_store_secret_key")] {
            guard !key.isEmpty else { throw wrong("\(option) is not set") }
            guard key.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw wrong("\(option) has characters that no key has") }
        }
        bucket = try call[Self.bucket]
        guard (1...255).contains(bucket.utf8.count), !bucket.hasPrefix("."),
            bucket.utf8.allSatisfy({
                (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || "-._".utf8.contains($0)
            })
        else { throw wrong("backup_s3_store_bucket must be letters, digits, dots, - and _") }
        let isAmazon = address.name.hasSuffix(".amazonaws.com") || address.name.hasSuffix(".amazonaws.com.cn")
        let named = try call[Self.region]
        region = named.isEmpty ? Self.region(of: address.name, isAmazon) : named
        guard region.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }) else {
            throw wrong("backup_s3_region is no region")
        }
        switch try call[Self.addressing].lowercased() {
        case "virtual":
            guard !address.isAddress else {
                throw wrong("backup_s3_addressing_style = virtual needs an endpoint with a name, not an address")
            }
            isVirtualHosted = true
        case "path": isVirtualHosted = false
        // A name with a dot or a capital letter is none of a host that a certificate is for.
        default:
            isVirtualHosted =
                isAmazon && bucket.utf8.allSatisfy { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "_") && !(0x41...0x5A).contains($0) }
        }
        let consistent = try call[Self.listsConsistently].lowercased()
        listsConsistently = consistent == "auto" ? isAmazon : consistent == "true"
        makesBucket = try call[Self.makesBucket]
        sendsMD5 = try call[Self.md5]
        let (size, block) = (try call[Self.objectSize], try call[Self.blockSize])
        guard size % block == 0 else {
            throw wrong("backup_s3_object_size must be a multiple of backup_s3_block_size: \(size) is none of \(block)")
        }
        let count = try call[Self.attempts]
        attempts = Attempts(try call[Self.retryMode].lowercased() == "legacy" ? count + 1 : count)
        reach = try Self.reach(call, address)
        encryption = try Self.encryption(call, address)
        stateDirectory = call.string("state_dir")
    }

    private static func reach(_ call: Call, _ address: ServerAddress) throws -> HTTPReach {
        var reach = HTTPReach()
        reach.timeout = try call[timeout]
        reach.connections = try call[connections]
        reach.isInsecure = !(try call[verifies])
        let file = try call[authorities]
        if !file.isEmpty {
            guard access(file, R_OK) == 0 else {
                throw DriverError.last(CLINKER_BAD_CONFIGURATION, "backup_s3_ca_cert_file: \(file) cannot be read")
            }
            reach.authorities = file
        }
        let proxy = try call[address.scheme == "https" ? httpsProxy : httpProxy]
        reach.proxy = proxy.isEmpty ? nil : proxy
        return reach
    }

    private static func encryption(_ call: Call, _ address: ServerAddress) throws -> [(name: String, value: String)] {
        let (algorithm, key) = (try call[customerAlgorithm], try call[customerKey])
        guard algorithm.isEmpty == key.isEmpty else {
            throw DriverError(
                CLINKER_BAD_CONFIGURATION,
                "backup_s3_sse_customer_algorithm and backup_s3_sse_customer_key must be set together: nothing would be encrypted")
        }
        guard !key.isEmpty else { return [] }
        guard key.utf8.count == 32 else { throw DriverError(CLINKER_BAD_CONFIGURATION, "backup_s3_sse_customer_key must have 32 bytes") }
        let bytes = Array(key.utf8)
        return [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
            ("x-amz-server-side-encryption-customer-key", Hashes.base64(bytes)),
            ("x-amz-server-side-encryption-customer-key-md5", Hashes.base64(Hashes.md5(bytes))),
        ]
    }

    /// The region in a host's name such as `s3.eu-west-1.amazonaws.com`.
    private static func region(of host: String, _ isAmazon: Bool) -> String {
        let words = host.split(separator: ".")
        if isAmazon, let place = words.firstIndex(of: "amazonaws"), place >= 2, words[place - 1] != "s3" { return String(words[place - 1]) }
        return "us-east-1"
    }
}
