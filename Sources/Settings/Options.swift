import Glibc
import Primitives

/// Every option that Clinker reads. Names, sections and defaults are Cinder's wherever Cinder has the option.
public enum Options {
    // MARK: service
    public static let listen = Option(
        "osapi_volume_listen", default: "0.0.0.0", help: "Address on which the API listens. Without a configuration file: 127.0.0.1.")
    public static let listenPort = Option(
        "osapi_volume_listen_port", default: 8776, range: 0...65535, help: "Port on which the API listens; 0 takes a free one.")
    public static let workers = Option(
        "osapi_volume_workers", default: 0, range: 0...256, help: "HTTP threads; 0 means one per processor.")
    public static let publicEndpoint = Option(
        "public_endpoint", default: "", rule: .httpURL, help: "URL put into links instead of the request's host.")
    public static let host = Option("host", default: hostName(), help: "Name of this node, the first part of every backend's host.")
    public static let myAddress = Option(
        "my_ip", default: "127.0.0.1", help: "Address of this node: targets listen on it where a backend names no other.")
    public static let statePath = Option(
        "state_path", default: "/var/lib/cinder",
        help: "Directory of everything Clinker keeps. `--state-dir` wins; without a configuration file it is $XDG_STATE_HOME/clinker.")
    public static let authStrategy = Option(
        "auth_strategy", default: "keystone", choices: ["noauth", "keystone", "http_basic"],
        help: "How callers are identified: by Keystone's tokens, by a file of users, or (on loopback) not at all.")
    public static let maxLimit = Option(
        "osapi_max_limit", default: 1000, range: 1...1_000_000, help: "Most items in one answer of a list.")
    public static let projectIDRegex = Option(
        "project_id_regex", default: "[0-9a-f\\-]+", help: "Form of a project id in a URL.")
    public static let maxBody = Option(
        "max_request_body_size", in: .group("oslo_middleware"), default: 114_688, range: 1024...1_073_741_824,
        help: "Largest request body in bytes.")
    public static let allowedOrigin = Option(
        "allowed_origin", in: .group("cors"), default: [String](), help: "Origins that a browser may call from; * for all.")
    public static let proxyHeaders = Option(
        "enable_proxy_headers_parsing", in: .group("oslo_middleware"), default: false,
        help:
            "A proxy in front sets Forwarded or X-Forwarded-Proto, -Host, -Prefix and -For: links and logs follow them. Anybody can send them."
    )
    public static let rpcResponseTimeout = Option(
        "rpc_response_timeout", default: 60, range: 1...3600, help: "Seconds that a synchronous call waits for a backend.")
    public static let connectionLimit = Option(
        "http_connection_limit", default: 16_384, range: 16...1_000_000,
        help: "Connections held at the same time, streams of events among them.")
    public static let connectionLimitPerAddress = Option(
        "http_connection_limit_per_address", default: 0, range: 0...1_000_000,
        help: "Connections held at the same time from one address; 0: no limit.")
    public static let connectionTimeout = Option(
        "client_socket_timeout", default: 900, range: 1...86_400, help: "Seconds after which an idle connection is closed.")
    public static let requestTimeout = Option(
        "http_request_timeout", default: 60, range: 1...3600,
        help: "Seconds in which a request must have arrived, head and body; a slower connection is closed.")
    public static let serveMetrics = Option(
        "enable_metrics", default: true, help: "Serve numbers for Prometheus at /metrics, to everybody who reaches the port.")
    public static let disableByFile = Option(
        "disable_by_file_path", in: .group("healthcheck"), default: "/etc/cinder/healthcheck_disable",
        help: "While this file exists, /healthcheck answers 503, so that a load balancer sends nobody.")
    public static let drainTimeout = Option(
        "graceful_shutdown_timeout", default: 30, range: 0...3600, help: "Seconds that running requests get when the service is stopped.")

    public static let policyFile = Option(
        "policy_file", in: .group("oslo_policy"), default: "policy.yaml",
        help: "Rules that replace the defaults, read again when it changes; relative to the configuration file.")
    public static let policyDirectories = Option(
        "policy_dirs", in: .group("oslo_policy"), default: ["policy.d"],
        help: "Directories of more such files, read after policy_file by their names; relative to the configuration file.")
    public static let enforceNewDefaults = Option(
        "enforce_new_defaults", in: .group("oslo_policy"), default: true,
        help: "false: what older releases allowed is allowed too, to every user of a project.")

    // MARK: identity
    public static let basicUserFile = Option(
        "http_basic_auth_user_file", default: "/etc/clinker/users",
        help: "auth_strategy http_basic: lines of name:bcrypt hash:project id:role,role; read again when it changes.")
    private static func keystone(_ name: String, default value: String = "", help: String) -> Option<String> {
        Option(name, in: .group("keystone_authtoken"), default: value, help: help)
    }
    public static let keystoneURL = Option(
        "auth_url", in: .group("keystone_authtoken"), default: [String](), help: "Keystone; several URLs are tried one after the other.")
    public static let wwwAuthenticateURI = keystone("www_authenticate_uri", help: "Where clients whose token is refused are sent.")
    public static let keystoneAuthType = Option(
        "auth_type", in: .group("keystone_authtoken"), default: "password", choices: ["password", "v3password", "v3applicationcredential"],
        help: "How Clinker identifies itself.")
    public static let keystoneUsername = keystone("username", help: "Clinker's own account.")
    public static let keystoneUserID = keystone("user_id", help: "Its id, instead of name and domain.")
    public static let keystonePassword = Option(
        "password", in: .group("keystone_authtoken"), default: Secret(""), help: "Its password.")
    public static let keystoneUserDomainName = keystone("user_domain_name", help: "Its domain; Default if empty.")
    public static let keystoneUserDomainID = keystone("user_domain_id", help: "The domain's id, instead of its name.")
    public static let keystoneProjectName = keystone("project_name", help: "Project that Clinker's own token is for.")
    public static let keystoneProjectID = keystone("project_id", help: "Its id, instead of name and domain.")
    public static let keystoneProjectDomainName = keystone("project_domain_name", help: "Its domain; Default if empty.")
    public static let keystoneProjectDomainID = keystone("project_domain_id", help: "The domain's id, instead of its name.")
    public static let keystoneSystemScope = keystone(
        "system_scope", help: "all: Clinker's own token is for the system instead of a project.")
    public static let keystoneApplicationID = keystone("application_credential_id", help: "auth_type v3applicationcredential: its id.")
    public static let keystoneApplicationName = keystone("application_credential_name", help: "Its name, with username and domain.")
    public static let keystoneApplicationSecret = Option(
        "application_credential_secret", in: .group("keystone_authtoken"), default: Secret(""), help: "Its secret.")
    public static let keystoneCAFile = keystone(
        "cafile", help: "PEM file of the authorities that Keystone's certificate is checked against.")
    public static let keystoneCertFile = keystone("certfile", help: "PEM file of the certificate that Clinker shows.")
    public static let keystoneKeyFile = keystone("keyfile", help: "PEM file of its key.")
    public static let keystoneInsecure = Option(
        "insecure", in: .group("keystone_authtoken"), default: false, help: "Any certificate is believed.")
    public static let keystoneConnectTimeout = Option(
        "http_connect_timeout", in: .group("keystone_authtoken"), default: 5, range: 1...600, help: "Seconds for a connection to Keystone.")
    public static let keystoneRequestTimeout = Option(
        "http_request_timeout", in: .group("keystone_authtoken"), default: 20, range: 1...600, help: "Seconds for a request to Keystone.")
    public static let keystoneRetries = Option(
        "http_request_max_retries", in: .group("keystone_authtoken"), default: 3, range: 0...100,
        help: "Repetitions of a request that failed.")
    public static let tokenCacheTime = Option(
        "token_cache_time", in: .group("keystone_authtoken"), default: 300, range: -1...86_400,
        help: "Seconds for which a token is believed (and one that is not valid refused) without asking; -1: always ask.")
    public static let serviceTokenRoles = Option(
        "service_token_roles", in: .group("keystone_authtoken"), default: ["service"],
        help: "Roles of services whose token counts beside their user's.")
    public static let serviceTokenRolesRequired = Option(
        "service_token_roles_required", in: .group("keystone_authtoken"), default: false,
        help: "Refuse requests whose service token has none of these roles.")
    private static func nova(_ name: String, default value: String = "", help: String) -> Option<String> {
        Option(name, in: .group("nova"), default: value, help: help)
    }
    public static let novaRegion = nova("region_name", help: "Region of Nova in Keystone's catalogue; the first if empty.")
    public static let novaInterface = Option(
        "interface", in: .group("nova"), default: "public", choices: ["public", "internal", "admin"],
        help: "Which of Nova's endpoints is asked.")
    public static let novaCAFile = nova("cafile", help: "PEM file of the authorities that Nova's certificate is checked against.")
    public static let novaInsecure = Option("insecure", in: .group("nova"), default: false, help: "Any certificate is believed.")
    static let identity: [OptionDeclaration] = [
        basicUserFile.declaration, keystoneURL.declaration, wwwAuthenticateURI.declaration, keystoneAuthType.declaration,
        keystoneUsername.declaration, keystoneUserID.declaration, keystonePassword.declaration, keystoneUserDomainName.declaration,
        keystoneUserDomainID.declaration, keystoneProjectName.declaration, keystoneProjectID.declaration,
        keystoneProjectDomainName.declaration, keystoneProjectDomainID.declaration, keystoneSystemScope.declaration,
        keystoneApplicationID.declaration, keystoneApplicationName.declaration, keystoneApplicationSecret.declaration,
        keystoneCAFile.declaration, keystoneCertFile.declaration, keystoneKeyFile.declaration, keystoneInsecure.declaration,
        keystoneConnectTimeout.declaration, keystoneRequestTimeout.declaration, keystoneRetries.declaration, tokenCacheTime.declaration,
        serviceTokenRoles.declaration, serviceTokenRolesRequired.declaration, novaRegion.declaration, novaInterface.declaration,
        novaCAFile.declaration, novaInsecure.declaration,
    ]

    // MARK: logs
    public static let debug = Option("debug", default: false, reloadable: true, help: "Log at level debug.")
    public static let logFile = Option(
        "log_file", default: "",
        help: "File for the log; the standard error output if neither this nor use_syslog or use_journal says otherwise.")
    public static let logDirectory = Option(
        "log_dir", default: "", help: "Directory of log_file; alone, the log is clinker.log there.")
    public static let logFormat = Option(
        "log_format", default: "text", choices: ["text", "json"], help: "Form of a log line: key=value text or one JSON object.")
    public static let useSyslog = Option("use_syslog", default: false, help: "The log goes to the system's log daemon (/dev/log).")
    public static let useJournal = Option("use_journal", default: false, help: "The log goes to systemd's journal.")
    public static let useStandardError = Option(
        "use_stderr", default: false, help: "The log goes to the standard error output, wherever it goes besides.")
    public static let logFacility = Option(
        "syslog_log_facility", default: "LOG_USER", rule: .logFacility,
        help: "What the lines for use_syslog and use_journal are told to come from.")

    // MARK: database
    public static let connection = Option(
        "connection", in: .group("database"), default: Secret(""),
        help: "sqlite:///path of the database; without it, clinker.db in the state directory.")
    public static let queryTimeout = Option(
        "query_timeout", in: .group("database"), default: 10, range: 1...3600,
        help: "Seconds that a list may take to be found; then it is answered 503.")
    public static let streamsPerUser = Option(
        "event_streams_per_user", default: 1024, range: 1...1_000_000,
        help: "Streams of events that one user may follow at the same time in one project.")

    // MARK: volumes
    public static let enabledBackends = Option("enabled_backends", default: [String](), help: "Sections of the backends to serve.")
    public static let pluginDirectory = Option(
        "plugin_directory", default: "", help: "Directory of the driver plugins; without it, the one beside the program.")
    public static let defaultVolumeType = Option("default_volume_type", default: "__DEFAULT__", help: "Type of volumes that name none.")
    public static let storageZone = Option("storage_availability_zone", default: "nova", help: "Availability zone of this node.")
    public static let defaultZone = Option(
        "default_availability_zone", default: "", help: "Zone of volumes that name none; else storage_availability_zone.")
    public static let zoneFallback = Option(
        "allow_availability_zone_fallback", default: false, help: "Use the default zone when the zone asked for does not exist.")
    public static let clonedVolumeSameZone = Option(
        "cloned_volume_same_az", default: true, help: "A clone must be in the zone of its source.")
    public static let snapshotSameHost = Option(
        "snapshot_same_host", default: true,
        help: "A volume made from a snapshot must be on the snapshot's backend, unless its type forbids.")
    public static let volumeNameTemplate = Option(
        "volume_name_template", default: "volume-%s", help: "Name of a volume in its backend; %s is its id.")
    public static let snapshotNameTemplate = Option(
        "snapshot_name_template", default: "snapshot-%s", help: "Name of a snapshot in its backend; %s is its id.")
    public static let schedulerMaxAttempts = Option(
        "scheduler_max_attempts", default: 3, range: 1...100, help: "Backends tried for one volume.")
    public static let schedulerFilters = Option(
        "scheduler_default_filters", default: ["AvailabilityZoneFilter", "CapacityFilter", "CapabilitiesFilter"],
        help: "Filters that a pool must pass, in their order; also DriverFilter, JsonFilter, SameBackendFilter, DifferentBackendFilter.")
    public static let schedulerWeighers = Option(
        "scheduler_default_weighers", default: ["CapacityWeigher"],
        help: "What pools are weighed by: CapacityWeigher, AllocatedCapacityWeigher, VolumeNumberWeigher, ChanceWeigher, GoodnessWeigher.")
    public static let schedulerWeightHandler = Option(
        "scheduler_weight_handler", default: "cinder.scheduler.weights.OrderedHostWeightHandler",
        help: "OrderedHostWeightHandler takes the heaviest, StochasticHostWeightHandler draws by weight.")
    public static let capacityWeight = Option(
        "capacity_weight_multiplier", default: 1.0, help: "Weight of the capacity that is free; negative: the fullest pool first.")
    public static let allocatedCapacityWeight = Option(
        "allocated_capacity_weight_multiplier", default: -1.0, help: "Weight of the capacity that is promised.")
    public static let volumeNumberWeight = Option(
        "volume_number_multiplier", default: -1.0, help: "Weight of the number of volumes.")
    public static let reportInterval = Option(
        "report_interval", default: 10, range: 1...3600, help: "Seconds between heartbeats of a service.")
    public static let serviceDownTime = Option(
        "service_down_time", default: 60, range: 1...86_400, help: "Seconds without a heartbeat after which a service is down.")
    public static let operationRetention = Option(
        "operation_retention_days", default: 7, range: 0...3650, help: "Days that finished operations and events are kept.")

    public static let reservationTimeout = Option(
        "attachment_reservation_timeout", default: 86_400, range: 0...31_536_000,
        help: "Seconds after which an attachment that names no instance and was never connected is taken back; 0: never.")
    public static let instanceReservationTimeout = Option(
        "instance_reservation_timeout", default: 0, range: 0...31_536_000,
        help: "The same for attachments that name an instance; 0: never, for shelved instances keep theirs.")

    // MARK: quotas
    public static let quotaVolumes = Option(
        "quota_volumes", default: 10, range: -1...2_147_483_647, help: "Volumes per project; -1: no limit.")
    public static let quotaSnapshots = Option(
        "quota_snapshots", default: 10, range: -1...2_147_483_647, help: "Snapshots per project; -1: no limit.")
    public static let noSnapshotGigabytes = Option(
        "no_snapshot_gb_quota", default: false, help: "Snapshots are not charged for their size.")
    public static let quotaGigabytes = Option(
        "quota_gigabytes", default: 1000, range: -1...2_147_483_647, help: "GiB of volumes and snapshots per project; -1: no limit.")
    public static let quotaBackups = Option(
        "quota_backups", default: 10, range: -1...2_147_483_647, help: "Backups per project; -1: no limit.")
    public static let quotaBackupGigabytes = Option(
        "quota_backup_gigabytes", default: 1000, range: -1...2_147_483_647, help: "GiB of backups per project; -1: no limit.")
    public static let quotaGroups = Option(
        "quota_groups", default: 10, range: -1...2_147_483_647, help: "Groups per project; -1: no limit.")
    public static let perVolumeSizeLimit = Option(
        "per_volume_size_limit", default: -1, range: -1...2_147_483_647, help: "Largest volume in GiB; -1: no limit.")

    // MARK: backends
    public static let volumeDriver = Option(
        "volume_driver", in: .backend, default: "", help: "Driver of the backend: a plugin's name, or Cinder's Python path of it.")
    public static let volumeBackendName = Option(
        "volume_backend_name", in: .backend, default: "", help: "Name that volume types ask for; the section's name if empty.")
    public static let backendHost = Option(
        "backend_host", in: .backend, default: "", help: "Name that stands for the node's in the backend's host, so that it may move.")
    public static let reservedPercentage = Option(
        "reserved_percentage", in: .backend, default: 0, range: 0...100, help: "Percent of the capacity kept free.")
    public static let maxOverSubscription = Option(
        "max_over_subscription_ratio", in: .backend, default: "20.0", rule: .ratioOrAuto,
        help: "How often thin capacity may be promised; or auto.")
    public static let filterFunction = Option(
        "filter_function", in: .backend, default: "",
        help: "Expression that must hold for a volume to be placed here, with the DriverFilter; wins over the driver's.")
    public static let goodnessFunction = Option(
        "goodness_function", in: .backend, default: "",
        help: "Expression from 0 to 100 that says how well a volume is placed here, with the GoodnessWeigher; wins over the driver's.")
    public static let extraCapabilities = Option(
        "extra_capabilities", in: .backend, default: "{}",
        help: "JSON object of capabilities that the backend's pools have, too; it wins over the driver's.")
    public static let backendZone = Option(
        "backend_availability_zone", in: .backend, default: "", help: "Zone of the backend; the node's if empty.")
    public static let backendThreads = Option(
        "backend_native_threads_pool_size", in: .backend, default: 20, range: 1...1024, help: "Calls that the driver runs at the same time."
    )
    public static let statsInterval = Option(
        "backend_stats_polling_interval", in: .backend, default: 60, range: 1...3600, help: "Seconds between readings of the capacity.")
    public static let callTimeout = Option(
        "driver_call_timeout", in: .backend, default: 3600, range: 1...604_800,
        help: "Seconds after which a driver call that shows no progress is given up and its host is killed.")
    public static let openTimeout = Option(
        "driver_open_timeout", in: .backend, default: 300, range: 1...86_400,
        help: "Seconds that a driver may take to open its storage; then its host is killed and started again.")
    public static let memoryLimit = Option(
        "driver_memory_limit", in: .backend, default: 0, range: 0...16_777_216,
        help: "MiB of memory that a driver host may hold; one that holds more is killed and started again. 0: no limit.")
    public static let copyLimit = Option(
        "volume_copy_bps_limit", in: .backend, default: 0, range: 0...1e15,
        help: "Bytes in a second that a copy from or to this backend may move; 0: no limit.")

    /// All of them, in the order in which they are documented.
    public static let all: [OptionDeclaration] = service + identity

    private static let service: [OptionDeclaration] = [
        listen.declaration, listenPort.declaration, workers.declaration, publicEndpoint.declaration, host.declaration,
        myAddress.declaration,
        statePath.declaration, authStrategy.declaration, maxLimit.declaration, projectIDRegex.declaration, rpcResponseTimeout.declaration,
        connectionLimit.declaration, connectionLimitPerAddress.declaration, connectionTimeout.declaration, requestTimeout.declaration,
        serveMetrics.declaration, drainTimeout.declaration, debug.declaration, logFile.declaration, logDirectory.declaration,
        logFormat.declaration, useSyslog.declaration, useJournal.declaration, useStandardError.declaration, logFacility.declaration,
        enabledBackends.declaration, pluginDirectory.declaration, defaultVolumeType.declaration,
        storageZone.declaration, defaultZone.declaration, zoneFallback.declaration, clonedVolumeSameZone.declaration,
        snapshotSameHost.declaration, volumeNameTemplate.declaration, snapshotNameTemplate.declaration, schedulerMaxAttempts.declaration,
        schedulerFilters.declaration, schedulerWeighers.declaration, schedulerWeightHandler.declaration, capacityWeight.declaration,
        allocatedCapacityWeight.declaration, volumeNumberWeight.declaration,
        reportInterval.declaration,
        serviceDownTime.declaration, operationRetention.declaration, reservationTimeout.declaration,
        instanceReservationTimeout.declaration, quotaVolumes.declaration, quotaSnapshots.declaration,
        noSnapshotGigabytes.declaration, quotaGigabytes.declaration, quotaBackups.declaration, quotaBackupGigabytes.declaration,
        quotaGroups.declaration,
        perVolumeSizeLimit.declaration, connection.declaration, queryTimeout.declaration, streamsPerUser.declaration, maxBody.declaration,
        proxyHeaders.declaration,
        allowedOrigin.declaration, disableByFile.declaration,
        policyFile.declaration, policyDirectories.declaration,
        enforceNewDefaults.declaration,
        volumeDriver.declaration,
        volumeBackendName.declaration, backendHost.declaration, reservedPercentage.declaration, maxOverSubscription.declaration,
        filterFunction.declaration,
        goodnessFunction.declaration, extraCapabilities.declaration, backendZone.declaration,
        backendThreads.declaration, statsInterval.declaration, callTimeout.declaration, openTimeout.declaration,
        memoryLimit.declaration, copyLimit.declaration,
    ]

    static let backend = all.filter { $0.section == .backend }

    static func find(_ section: String, _ name: String) -> OptionDeclaration? {
        all.first { $0.name == name && $0.section == .group(section) }
    }

    /// The option that every backend's section may have.
    static func ofBackend(_ name: String) -> OptionDeclaration? { backend.first { $0.name == name } }

    static func hasSection(_ section: String) -> Bool { all.contains { $0.section == .group(section) } }

    /// `[section] name` of the known option that is nearest to a misspelt one; one of the same section before others.
    static func nearest(to name: String, in section: String) -> String? {
        let here = Set(all.filter { $0.section == .group(section) }.map(\.name)).union(CinderOptions.names(of: section).map(String.init))
        if let near = nearest(to: name, among: Array(here)) { return "[\(section)] \(near)" }
        guard let near = nearest(to: name, among: all.map(\.name)), let option = all.first(where: { $0.name == near }) else { return nil }
        return "[\(option.sectionName)] \(near)"
    }

    static func nearest(toSection section: String, among backends: [String]) -> String? {
        nearest(to: section, among: backends + all.map(\.sectionName))
    }

    /// The nearest name of which at most a third of the letters differ.
    static func nearest(to name: String, among names: [String]) -> String? {
        guard name.utf8.count <= 64 else { return nil }
        let limit = max(2, name.utf8.count / 3)
        // What differs more in length differs more.
        let scored = names.filter { abs($0.utf8.count - name.utf8.count) <= limit }.map { (name: $0, distance: distance(name, $0)) }
        guard let best = scored.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        return best.distance <= limit ? best.name : nil
    }

    /// Levenshtein's edit distance.
    static func distance(_ a: String, _ b: String) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let previous = row[j + 1]
                row[j + 1] = min(previous + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
                diagonal = previous
            }
        }
        return row[b.count]
    }

    private static func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        return buffer.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
}
