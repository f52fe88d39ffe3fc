public import DriverHost
public import Primitives

/// What is to be fetched from or stored in the image service (Glance), as the transfer process is told of it.
public struct ImageOrder: Sendable {
    /// Base addresses of the service, such as `http://host:9292`; tried in turn.
    public var servers: [String]
    /// The image's UUID.
    public var image: String
    /// Empty: none is sent.
    public var token: Secret
    /// PEM file of certificate authorities; nil for the system's.
    public var certificateAuthorities: String?
    /// PEM files of the certificate that the service is shown, and of its key; nil for none.
    public var certificate, certificateKey: String?
    /// Whether certificates are not verified.
    public var insecure = false
    /// Seconds without a byte after which a request is given up.
    public var timeout = 60
    /// How often a request is repeated after it failed.
    public var retries = 3
    /// As the image says: `raw`, `qcow2`, `vmdk`, ... Of an upload, what is produced.
    public var diskFormat: String
    public var containerFormat = "bare"
    /// Bytes of the image's file, as the image says.
    public var size: Int?
    /// The image's `checksum`: 32 hexadecimal digits.
    public var md5: String?
    /// The image's `os_hash_algo` and `os_hash_value`.
    public var hashAlgorithm: String?
    public var hashValue: String?
    /// Bytes of the volume.
    public var volumeBytes: Int
    /// The volume reads as zeroes wherever it was not written; false where an image replaces what was there: the rest is zeroed then.
    public var targetIsZero = true
    /// Where files lie that qemu-img reads or writes.
    public var conversionDirectory: String
    /// Bytes of memory that qemu-img may map.
    public var conversionAddressSpace = 1 << 30
    /// Seconds of CPU time that qemu-img may use.
    public var conversionSeconds = 60
    /// Formats that are taken, as their images name them.
    public var allowedFormats: [String] = ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "ploop", "iso"]
    /// The `createType`s of vmdk files that are taken.
    public var vmdkTypes: [String] = ["streamOptimized", "monolithicSparse"]
    /// How the volume is encrypted; nil where the image's bytes are written as they are.
    public var encryption: LUKSOrder?
    /// The signature over the file's bytes that is verified.
    public var signature: Signature?

    /// How an image is signed: the image's `img_signature` properties.
    public struct Signature: Sendable, Equatable {
        /// The signer's certificate, PEM.
        public var certificate: String
        /// `img_signature`: Base64.
        public var value: String
        /// `img_signature_hash_method`: SHA-224, SHA-256, SHA-384, SHA-512.
        public var hashMethod: String
        /// `img_signature_key_type`: RSA-PSS, DSA, ECC_SECP384R1, ...
        public var keyType: String
        public init(certificate: String, value: String, hashMethod: String, keyType: String) {
            self.certificate = certificate
            self.value = value
            self.hashMethod = hashMethod
            self.keyType = keyType
        }
    }

    public init(
        servers: [String], image: String, token: Secret, diskFormat: String, volumeBytes: Int, conversionDirectory: String
    ) {
        self.servers = servers
        self.image = image
        self.token = token
        self.diskFormat = diskFormat
        self.volumeBytes = volumeBytes
        self.conversionDirectory = conversionDirectory
    }
}

extension ImageOrder {
    /// As a frame carries it.
    public var value: DriverValue {
        func texts(_ list: [String]) -> DriverValue { .list(list.map { .string($0) }) }
        return .members([
            "servers": texts(servers), "image": .string(image), "token": .secret(token.reveal()),
            "certificate_authorities": .optional(certificateAuthorities), "certificate": .optional(certificate),
            "certificate_key": .optional(certificateKey), "insecure": .boolean(insecure),
            "timeout": .integer(Int64(timeout)), "retries": .integer(Int64(retries)), "disk_format": .string(diskFormat),
            "container_format": .string(containerFormat), "size": size.map { .integer(Int64($0)) } ?? .null, "md5": .optional(md5),
            "hash_algorithm": .optional(hashAlgorithm), "hash_value": .optional(hashValue), "volume_bytes": .integer(Int64(volumeBytes)),
            "target_is_zero": .boolean(targetIsZero), "encryption": encryption?.value ?? .null,
            "conversion_directory": .string(conversionDirectory), "conversion_address_space": .integer(Int64(conversionAddressSpace)),
            "conversion_seconds": .integer(Int64(conversionSeconds)), "allowed_formats": texts(allowedFormats),
            "vmdk_types": texts(vmdkTypes),
            "signature": signature.map {
                .members([
                    "certificate": .string($0.certificate), "value": .string($0.value), "hash_method": .string($0.hashMethod),
                    "key_type": .string($0.keyType),
                ])
            } ?? .null,
        ])
    }

    /// - Throws: `DriverFailure` that names the member that is missing or wrong.
    public init(_ value: DriverValue) throws {
        func text(_ name: String) throws -> String {
            guard let text = value[name]?.string else { throw DriverFailure(.invalid, "the order of an image has no \(name)") }
            return text
        }
        func number(_ name: String, _ range: ClosedRange<Int64>) throws -> Int {
            guard let number = value[name]?.integer, range.contains(number) else {
                throw DriverFailure(
                    .invalid, "the order of an image needs a \(name) between \(range.lowerBound) and \(range.upperBound)")
            }
            return Int(number)
        }
        func texts(_ name: String) -> [String] { (value[name]?.list ?? []).compactMap(\.string) }
        self.init(
            servers: texts("servers"), image: try text("image"), token: Secret(try text("token")), diskFormat: try text("disk_format"),
            volumeBytes: try number("volume_bytes", 0...Int64.max), conversionDirectory: try text("conversion_directory"))
        guard !servers.isEmpty else { throw DriverFailure(.invalid, "the order of an image has no servers") }
        guard UUID.isUUIDLike(image) else { throw DriverFailure(.invalid, "the order of an image needs a UUID as its image") }
        certificateAuthorities = value["certificate_authorities"]?.string
        certificate = value["certificate"]?.string
        certificateKey = value["certificate_key"]?.string
        insecure = value["insecure"]?.boolean ?? false
        timeout = try number("timeout", 1...86_400)
        retries = try number("retries", 0...1_000)
        containerFormat = try text("container_format")
        targetIsZero = value["target_is_zero"]?.boolean ?? false
        switch value["encryption"] {
        case nil, .null?: break
        case let how?:
            encryption = LUKSOrder(how)
            guard encryption != nil else { throw DriverFailure(.invalid, "the order of an image says not how to encrypt it") }
        }
        if value["size"]?.integer != nil { size = try number("size", 0...Int64.max) }
        md5 = value["md5"]?.string
        hashAlgorithm = value["hash_algorithm"]?.string
        hashValue = value["hash_value"]?.string
        conversionAddressSpace = try number("conversion_address_space", 0...Int64.max)
        conversionSeconds = try number("conversion_seconds", 0...Int64(Int32.max))
        allowedFormats = texts("allowed_formats")
        vmdkTypes = texts("vmdk_types")
        if let signature = value["signature"], signature["value"] != nil {
            func part(_ name: String) -> String { signature[name]?.string ?? "" }
            self.signature = Signature(
                certificate: part("certificate"), value: part("value"), hashMethod: part("hash_method"), keyType: part("key_type"))
        }
    }
}
