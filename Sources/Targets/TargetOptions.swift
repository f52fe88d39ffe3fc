public import DriverKit

/// Options of backends with targets; names and defaults are Cinder's.
public enum TargetOptions {
    static let helper = DriverOption(
        "target_helper", default: "tgtadm", choices: ["tgtadm", "lioadm", "nvmet"], help: "What makes the targets.")
    static let transport = DriverOption(
        "target_protocol", default: "", choices: ["iscsi", "nvmet_tcp"], help: "What they speak; the helper's own if empty.")
    static let address = DriverOption("target_ip_address", default: "", help: "Address that they listen on; my_ip if empty.")
    /// The former name of `target_ip_address`.
    static let formerAddress = DriverOption("iscsi_ip_address", default: "", help: "The older name of target_ip_address.")
    static let moreAddresses = DriverOption("target_secondary_ip_addresses", default: "", help: "More addresses, separated by commas.")
    static let port = DriverOption("target_port", default: 0, in: 0...65_535, help: "Port; the transport's own if 0.")
    static let prefix = DriverOption("target_prefix", default: "iqn.2010-10.org.openstack:", help: "What targets' names begin with.")
    static let reportsDiscard = DriverOption(
        "report_discard_supported", default: false, help: "Hosts are told that they may give back what they do not need.")
    static let directory = DriverOption("volumes_dir", default: "", help: "Directory of the credentials; in the state directory if empty.")
    static let flags = DriverOption("iscsi_target_flags", default: "", help: "tgtd: --bsoflags of the backing store.")
    static let writeCache = DriverOption(
        "iscsi_write_cache", default: "on", choices: ["on", "off"], help: "tgtd: whether the targets keep writes in a cache.")
    static let nvmetPort = DriverOption("nvmet_port_id", default: 1, in: 0...65_535, help: "nvmet: the number of the first port.")
    static let nvmetNamespace = DriverOption("nvmet_ns_id", default: 10, in: 1...65_535, help: "nvmet: the number of a volume's namespace.")
    static let connectionVersion = DriverOption(
        "nvmeof_conn_info_version", default: 1, in: 1...2, help: "nvmet: the form of what hosts that connect are told.")

    public static let all = [
        helper.declaration, transport.declaration, address.declaration, formerAddress.declaration, moreAddresses.declaration,
        port.declaration, prefix.declaration, reportsDiscard.declaration, directory.declaration, flags.declaration, writeCache.declaration,
        nvmetPort.declaration, nvmetNamespace.declaration, connectionVersion.declaration,
    ]
}
