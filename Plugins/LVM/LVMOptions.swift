import DriverKit
import Targets

/// Options of lvm backends; names and defaults are Cinder's.
enum LVMOptions {
    static let group = DriverOption("volume_group", default: "cinder-volumes", help: "The volume group of the volumes.")
    static let mirrors = DriverOption("lvm_mirrors", default: 0, in: 0...8, help: "Mirrors of each thick volume.")
    static let configurationFile = DriverOption("lvm_conf_file", default: "", help: "An lvm.conf for the driver's commands.")
    static let type = DriverOption(
        "lvm_type", default: "auto", choices: ["auto", "default", "thin"],
        help: "Thick volumes (default), thin ones, or what the group allows.")
    static let overSubscription = DriverOption(
        "lvm_max_over_subscription_ratio", default: "", help: "How often the capacity of a thin pool may be promised; auto, or a number.")
    static let clear = DriverOption(
        "volume_clear", default: "zero", choices: ["zero", "none"], help: "What happens to the content of a thick volume.")
    static let clearWhen = DriverOption(
        "volume_clear_when", default: "delete", choices: ["delete", "allocate", "both"], help: "When it is overwritten.")
    static let clearSize = DriverOption(
        "volume_clear_size", default: 0, in: 0...1_048_576, help: "MiB at its beginning that are overwritten; 0: all.")
    static let clearLimit = DriverOption(
        "volume_clear_bps_limit", default: 0, in: 0...1_000_000_000_000, help: "Bytes in a second that are overwritten; 0: no limit.")

    /// Options without effect, with the reasons.
    private static let withoutEffect: KeyValuePairs = [
        "lvm_share_target": "each volume has a target of its own", "chap_username": "each target has credentials of its own",
        "chap_password": "each target has credentials of its own",
        "volume_clear_ionice": "volume_clear_bps_limit is how fast volumes are overwritten",
    ]

    static let all =
        [
            group.declaration, mirrors.declaration, configurationFile.declaration, type.declaration, overSubscription.declaration,
            clear.declaration, clearWhen.declaration, clearSize.declaration, clearLimit.declaration,
        ] + TargetOptions.all + DriverOptionDeclaration.withoutEffect(withoutEffect)
}
