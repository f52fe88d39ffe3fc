public import Settings

/// Options of images: what is taken from the Image service and given to it, and how images are converted.
public struct ImageOptions: DeclaredOptions {
    public let coreProperties = Option(
        "glance_core_properties",
        default: [
            "checksum", "container_format", "disk_format", "image_name", "image_id", "min_disk", "min_ram", "name", "size",
        ], help: "Image metadata of a volume that an image made of it does not get as properties.")
    public let reservedNamespaces = Option(
        "reserved_image_namespaces", default: [String](),
        help: "Beginnings of names of properties that are not given to images, beside os_glance, img_signature and signature_verified.")
    public let verifySignatures = Option(
        "verify_glance_signatures", default: "enabled", choices: ["enabled", "disabled"],
        help:
            "Refuse signed images whose signature is wrong, or whose certificate cannot be read from Barbican ([key_manager] backend = barbican)."
    )
    public let conversionDirectory = Option(
        "image_conversion_dir", default: "",
        help: "Directory where images of other formats than raw are converted; conversion in the state directory if empty.")
    public let conversionMemory = Option(
        "image_conversion_address_space_limit", default: 1, range: 1...1024, help: "GiB of memory that qemu-img may map.")
    public let conversionSeconds = Option(
        "image_conversion_cpu_limit", default: 60, range: 1...86_400,
        help: "Seconds of processor time that qemu-img may use for an image; for the encryption it has one more for 16 MiB of the volume.")
    public let conversionDisabled = Option(
        "image_conversion_disable", default: false, help: "Images whose format is not raw are refused, and volumes are stored as raw only.")
    public let vmdkTypes = Option(
        "vmdk_allowed_types", default: ["streamOptimized", "monolithicSparse"],
        help: "Kinds of vmdk images that are taken; none if empty.")
    public let directSchemes = Option(
        "allowed_direct_url_schemes", default: [String](),
        help: "Schemes of locations of images that are used without the Image service: cinder, for images that are volumes of the backend.")
    public let tenantProject = Option(
        "cinder_internal_tenant_project_id", default: "",
        help: "Id of the project that the volumes of image caches belong to; without it, and without its user, there are no caches.")
    public let tenantUser = Option(
        "cinder_internal_tenant_user_id", default: "", help: "Id of the user that the volumes of image caches belong to.")

    public let forcesUpload = Option(
        "enable_force_upload", default: false,
        help: "Images may be made of volumes that are in use, where the request says force; otherwise force is passed over.")
    public let keyLimit = Option(
        "image_keys_per_project", default: 1000, range: 1...1_000_000,
        help: "Images of encrypted volumes that a project may have at most, each with a key.")
    public let keyRetention = Option(
        "image_key_retention", default: 3600, range: 1...31_536_000,
        help: "Seconds for which Glance must have said that an image is gone before its key is deleted.")

    public init() {}
}

extension Options {
    /// Options of images.
    public static let images = ImageOptions()
}
