import Glibc
public import Primitives

/// Options of the program itself: addresses, limits of connections, the state directory, the log, the database, the policies.
public struct ServiceOptions: DeclaredOptions {
    public let listen = Option(
        "osapi_volume_listen", default: "0.0.0.0", help: "Address on which the API listens. Without a configuration file: 127.0.0.1.")
    public let listenPort = Option(
        "osapi_volume_listen_port", default: 8776, range: 0...65535, help: "Port on which the API listens; 0 takes a free one.")
    public let workers = Option(
        "osapi_volume_workers", default: 0, range: 0...256, help: "HTTP threads; 0 means one per processor.")
    public let host = Option("host", default: ServiceOptions.hostName(), help: "Name of this node, the first part of every backend's host.")
    public let myAddress = Option(
        "my_ip", default: "127.0.0.1", help: "Address of this node: targets listen on it where a backend names no other.")
    public let statePath = Option(
        "state_path", default: "/var/lib/cinder",
        help: "Directory of everything Clinker keeps. `--state-dir` wins; without a configuration file it is $XDG_STATE_HOME/clinker.")
    public let authStrategy = Option(
        "auth_strategy", default: "keystone", choices: ["noauth", "keystone", "http_basic"],
        help: "How callers are identified: by Keystone's tokens, by a file of users, or (on loopback) not at all.")
    public let maxBody = Option(
        "max_request_body_size", in: .group("oslo_middleware"), default: 114_688, range: 1024...1_073_741_824,
        help: "Largest request body in bytes.")
    public let formerMaxBody = Option(
        "osapi_max_request_body_size", default: 114_688, range: 1024...1_073_741_824,
        help: "The former name of [oslo_middleware] max_request_body_size, which goes before it.")
    public let proxyHeaders = Option(
        "enable_proxy_headers_parsing", in: .group("oslo_middleware"), default: false,
        help:
            "A proxy in front sets Forwarded or X-Forwarded-Proto, -Host, -Prefix and -For: links and logs follow them. Anybody can send them."
    )
    public let proxyAddress = Option(
        "use_forwarded_for", default: false,
        help: "A proxy in front sets X-Forwarded-For: logs and audit follow it, and nothing else does. Anybody can send it.")
    public let rpcResponseTimeout = Option(
        "rpc_response_timeout", default: 60, range: 1...3600, help: "Seconds that a synchronous call waits for a backend.")
    public let connectionLimit = Option(
        "http_connection_limit", default: 16_384, range: 16...1_000_000,
        help: "Connections held at the same time, streams of events among them.")
    public let connectionLimitPerAddress = Option(
        "http_connection_limit_per_address", default: 0, range: 0...1_000_000,
        help: "Connections held at the same time from one address; 0: no limit.")
    public let connectionTimeout = Option(
        "client_socket_timeout", default: 900, range: 1...86_400, help: "Seconds after which an idle connection is closed.")
    public let requestTimeout = Option(
        "http_request_timeout", default: 60, range: 1...3600,
        help: "Seconds in which a request must have arrived, head and body; a slower connection is closed.")
    public let serveMetrics = Option(
        "enable_metrics", default: true, help: "Serve numbers for Prometheus at /metrics, to everybody who reaches the port.")
    public let allowedOrigin = Option(
        "allowed_origin", in: .group("cors"), default: [String](), help: "Origins that a browser may call from; * for all.")
    public let disableByFile = Option(
        "disable_by_file_path", in: .group("healthcheck"), default: "/etc/cinder/healthcheck_disable",
        help: "While this file exists, /healthcheck answers 503, so that a load balancer sends nobody.")
    public let healthBackends = Option(
        "backends", in: .group("healthcheck"), default: ["disable_by_file"],
        help: "What /healthcheck looks at: disable_by_file, disable_by_files_ports, enable_by_files.")
    public let disableByFiles = Option(
        "disable_by_file_paths", in: .group("healthcheck"), default: [String](),
        help: "port:path of files for disable_by_files_ports: the one of the port that is served counts.")
    public let enableByFiles = Option(
        "enable_by_file_paths", in: .group("healthcheck"), default: [String](),
        help: "Files for enable_by_files: while one is missing, /healthcheck answers 503.")
    public let detailedHealth = Option(
        "detailed", in: .group("healthcheck"), default: false,
        help: "/healthcheck tells everybody of the host, the release, the threads and why each check found what it found.")
    public let healthRanges = Option(
        "allowed_source_ranges", in: .group("healthcheck"), default: [String](),
        help: "Networks whose clients /healthcheck answers; empty for all.")
    public let healthIgnoresProxied = Option(
        "ignore_proxied_requests", in: .group("healthcheck"), default: false,
        help: "/healthcheck answers no requests with X-Forwarded headers.")
    public let drainTimeout = Option(
        "graceful_shutdown_timeout", default: 30, range: 0...3600, help: "Seconds that running requests get when the service is stopped.")
    public let lookDelay = Option(
        "service_look_delay", default: 5, range: 0...3600,
        help:
            "Seconds after the start until Keystone, Glance, Barbican and Nova, if they are used, are asked once whether they answer: the log tells. 0: never."
    )
    public let debug = Option("debug", default: false, reloadable: true, help: "Log at level debug.")
    public let logFile = Option(
        "log_file", default: "",
        help: "File for the log; the standard error output if neither this nor use_syslog or use_journal says otherwise.")
    public let logDirectory = Option(
        "log_dir", default: "", help: "Directory of log_file; alone, the log is clinker.log there.")
    public let logFormat = Option(
        "log_format", default: "text", choices: ["text", "json"], help: "Form of a log line: key=value text or one JSON object.")
    public let useSyslog = Option("use_syslog", default: false, help: "The log goes to the system's log daemon (/dev/log).")
    public let useJournal = Option("use_journal", default: false, help: "The log goes to systemd's journal.")
    public let useStandardError = Option(
        "use_stderr", default: false, help: "The log goes to the standard error output, wherever it goes besides.")
    public let logFacility = Option(
        "syslog_log_facility", default: "LOG_USER", rule: .logFacility,
        help: "What the lines for use_syslog and use_journal are told to come from.")
    public let connection = Option(
        "connection", in: .group("database"), default: Secret(""),
        help: "sqlite:///path of the database; without it, clinker.db in the state directory.")
    public let queryTimeout = Option(
        "query_timeout", in: .group("database"), default: 10, range: 1...3600,
        help: "Seconds that a list may take to be found; then it is answered 503.")
    public let policyFile = Option(
        "policy_file", in: .group("oslo_policy"), default: "policy.yaml",
        help: "Rules that replace the defaults, read again when it changes; relative to the configuration file.")
    public let policyDirectories = Option(
        "policy_dirs", in: .group("oslo_policy"), default: ["policy.d"],
        help: "Directories of more such files, read after policy_file by their names; relative to the configuration file.")
    public let enforceNewDefaults = Option(
        "enforce_new_defaults", in: .group("oslo_policy"), default: true,
        help: "false: what older releases allowed is allowed too, to every user of a project.")
    public let enabledBackends = Option("enabled_backends", default: [String](), help: "Sections of the backends to serve.")
    public let enabledBackupStores = Option(
        "enabled_backup_stores", default: [String](),
        help: "Sections of the stores of backups, the first for those that ask for none; empty: the one of backup_driver in [DEFAULT].")
    public let pluginDirectory = Option(
        "plugin_directory", default: "", help: "Directory of the driver plugins; without it, the one beside the program.")

    public init() {}

    private static func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}

extension Options {
    /// Options of the program itself: addresses, limits of connections, the state directory, the log, the database, the policies.
    public static let service = ServiceOptions()
}

extension Settings {
    /// The largest request body in bytes, by either name.
    public var maxBody: Int {
        let options = Options.service
        return self[isSet(options.maxBody) || !isSet(options.formerMaxBody) ? options.maxBody : options.formerMaxBody]
    }
}
