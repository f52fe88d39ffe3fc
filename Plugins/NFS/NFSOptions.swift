import DriverKit

/// Options of nfs backends; names and defaults are Cinder's.
enum NFSOptions {
    static let sharesFile = DriverOption(
        "nfs_shares_config", default: "", help: "File of the shares: host:/path and mount options, a line each.")
    static let host = DriverOption("nas_host", default: "", help: "With nas_share_path, instead of nfs_shares_config: the server.")
    static let sharePath = DriverOption("nas_share_path", default: "", help: "The directory that it exports.")
    static let mountOptions = DriverOption("nfs_mount_options", default: "", help: "Mount options of shares that have none of their own.")
    static let nasMountOptions = DriverOption("nas_mount_options", default: "", help: "The same, and wins.")
    static let mountAttempts = DriverOption("nfs_mount_attempts", default: 3, in: 1...100, help: "Attempts to reach a share at the start.")
    static let mountPointBase = DriverOption(
        "nfs_mount_point_base", default: "/var/lib/cinder/mnt", help: "Where hosts mount shares; they are told so.")
    static let makesQcow2 = DriverOption("nfs_qcow2_volumes", default: false, help: "New volumes are qcow2 files instead of raw ones.")
    static let isSparse = DriverOption("nfs_sparsed_volumes", default: true, help: "New raw files take room only for what is written.")
    static let hasSnapshots = DriverOption("nfs_snapshot_support", default: false, help: "Volumes can have snapshots.")
    static let permissions = DriverOption(
        "nas_secure_file_permissions", default: "auto", choices: yesOrAuto, help: "Files can be opened by their owner alone.")
    static let operations = DriverOption(
        "nas_secure_file_operations", default: "auto", choices: yesOrAuto,
        help: "Files are made as the service's user; false is not served.")
    private static let yesOrAuto = ["auto", "true", "false"]

    /// Options without effect, with the reasons.
    private static let withoutEffect: KeyValuePairs = [
        "nas_login": "nobody logs in at a server", "nas_password": "nobody logs in at a server",
        "nas_private_key": "nobody logs in at a server", "nas_ssh_port": "nobody logs in at a server",
        "nas_volume_prov_type": "nfs_sparsed_volumes says how files are made",
    ]

    static let all =
        [
            sharesFile.declaration, host.declaration, sharePath.declaration, mountOptions.declaration, nasMountOptions.declaration,
            mountAttempts.declaration, mountPointBase.declaration, makesQcow2.declaration, isSparse.declaration, hasSnapshots.declaration,
            permissions.declaration, operations.declaration,
        ] + DriverOptionDeclaration.withoutEffect(withoutEffect)
}
