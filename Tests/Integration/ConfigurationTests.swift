import Glibc
import Primitives
import TestSupport
import Testing

/// Whether `config check` finds what `serve` refuses, and `serve` everything at once.
@Suite("Configurations")
struct ConfigurationTests {
    private static let file = "[file]\nvolume_driver = file\n"
    private static let keystone = "[keystone_authtoken]\nauth_url = http://127.0.0.1:1\nusername = u\npassword = p\n"

    /// A broken configuration: what stands in [DEFAULT] beside the sound rest, what behind it, and what must be said of it.
    static let broken: [(options: String, sections: String, said: String)] = [
        ("osapi_volume_listen_port = banana", file, "osapi_volume_listen_port must be an integer"),
        ("osapi_volume_listen_port = 70000", file, "between 0 and 65535"), ("debug = perhaps", file, "debug must be true or false"),
        ("quota_volumes = -2", file, "quota_volumes must be between -1"), ("auth_strategy = magic", file, "auth_strategy must be one of"),
        ("osapi_volume_listen = 0.0.0.0", file, "with auth_strategy = noauth everybody is admin"),
        ("osapi_volume_listen = no.such.host.invalid", file, "osapi_volume_listen = no.such.host.invalid"),
        ("", file + "[cors]\nallowed_origin = *\n", "allowed_origin = * would make every web page one"),
        ("enabled_backends =", file, "enabled_backends names no backend"),
        ("enabled_backends = file, ghost", file, "there is no section [ghost]"),
        ("enabled_backends = file, file", file, "enabled_backends names a backend twice"),
        ("", "[file]\nreserved_percentage = 1\n", "[file] volume_driver is not set"),
        ("", "[file]\nvolume_driver = nosuch\n", "volume_driver = nosuch: no such plugin"),
        ("", "[file]\nvolume_driver = cinder.volume.drivers.solidfire.SolidFireDriver\n", "no plugin replaces this driver of Cinder"),
        ("", "[file]\nvolume_driver = /nonexistent/driver.so\n", "/nonexistent"),
        ("", "[file]\nvolume_driver = file\nreserved_percentage = 101\n", "reserved_percentage must be between 0 and 100"),
        ("", "[file]\nvolume_driver = file\nmax_over_subscription_ratio = lots\n", "max_over_subscription_ratio must be a number"),
        (
            "", "[file]\nvolume_driver = file\nmax_over_subscription_ratio = 0.5\n",
            "max_over_subscription_ratio must be a number of 1 or more"
        ),
        ("", "[file]\nvolume_driver = file\nfilter_function = volume.size <\n", "[file] filter_function is no expression"),
        ("", "[file]\nvolume_driver = file\ngoodness_function = (1\n", "[file] goodness_function is no expression"),
        ("", "[file]\nvolume_driver = file\ndriver_call_timeout = soon\n", "driver_call_timeout must be an integer"),
        ("plugin_directory = /nonexistent", file, "the plugin directory /nonexistent cannot be read"),
        ("scheduler_default_filters = NoSuchFilter", file, "scheduler_default_filters: there is no 'NoSuchFilter'"),
        ("scheduler_default_weighers = NoSuchWeigher", file, "scheduler_default_weighers: there is no 'NoSuchWeigher'"),
        ("scheduler_weight_handler = NoSuchHandler", file, "scheduler_weight_handler"),
        ("public_endpoint = not a url", file, "public_endpoint must be a URL"),
        ("project_id_regex = (", file, "project_id_regex is no regular expression"),
        ("host = ${host}", file, "host refers to itself"),
        ("osapi_volume_use_ssl = true", file, "[ssl] cert_file is not set"),
        (
            "osapi_volume_use_ssl = true", file + "[ssl]\ncert_file = /nonexistent.pem\nkey_file = /nonexistent.pem\n",
            "/nonexistent.pem cannot be read"
        ),
        ("osapi_volume_use_ssl = true", file + "[ssl]\nversion = TLSv1\n", "[ssl] version TLSv1 is broken and not spoken"),
        ("osapi_volume_use_ssl = true", file + "[ssl]\nciphers = RC4-SHA\n", "[ssl] ciphers has 'RC4-SHA'"),
        ("", file + "[healthcheck]\nbackends = ping\n", "[healthcheck] backends: there is no 'ping', only disable_by_file"),
        ("", file + "[healthcheck]\nallowed_source_ranges = 10.0.0.1/8\n", "allowed_source_ranges: '10.0.0.1/8' is no network"),
        ("cluster = one", file, "clusters are not served"), ("log_format = xml", file, "log_format must be one of"),
        ("", file + "[database]\nconnection = mysql+pymysql://u:p@h/cinder\n", "keeps its data in SQLite, not in 'mysql+pymysql'"),
        ("", file + "[database]\nconnection = postgresql://u:p@h/cinder\n", "not in 'postgresql'"),
        ("auth_strategy = keystone", file, "auth_url is not set"),
        ("auth_strategy = keystone", file + keystone.replacing("http://127.0.0.1:1", with: "127.0.0.1"), "auth_url: '127.0.0.1' is no URL"),
        ("auth_strategy = keystone", file + keystone.replacing("username = u\n", with: ""), "username is not set"),
        ("auth_strategy = keystone", file + keystone.replacing("password = p\n", with: ""), "password is not set"),
        ("auth_strategy = keystone", file + keystone + "cafile = /nonexistent.pem\n", "/nonexistent.pem cannot be read"),
        (
            "auth_strategy = http_basic\nhttp_basic_auth_user_file = /nonexistent/users", file,
            "cannot read the user file /nonexistent/users"
        ),
        ("", file + "[oslo_policy]\npolicy_file = DIRECTORY/bad.yaml\n", "rule volume:create"),
        ("resource_query_filters_file = filters.json", file, "DIRECTORY/filters.json: \"volume\"[1] must be a filter's name"),
        ("image_conversion_dir = /nonexistent/directory", file, "[DEFAULT] image_conversion_dir: /nonexistent/directory cannot be made"),
        ("image_conversion_dir = DIRECTORY/bad.yaml", file, "[DEFAULT] image_conversion_dir: DIRECTORY/bad.yaml is no directory"),
        ("log_file = /nonexistent/clinker.log", file, "cannot open the log file /nonexistent/clinker.log: /nonexistent cannot be used"),
        (
            "log_dir = DIRECTORY/bad.yaml", file,
            "cannot open the log file DIRECTORY/bad.yaml/clinker.log: DIRECTORY/bad.yaml is no directory"
        ),
        ("", file + "[database]\nconnection = sqlite:////nonexistent/clinker.db\n", "[database] connection: /nonexistent cannot be used"),
        ("", file + "[database]\nconnection = sqlite:///DIRECTORY\n", "[database] connection: DIRECTORY cannot be used"),
        (
            "scheduler_default_filters = InstanceLocalityFilter", file,
            "auth_url is not set: it says where Keystone is (scheduler_default_filters"
        ),
        ("glance_ca_certificates_file = /nonexistent.pem", file, "[DEFAULT] glance_ca_certificates_file: /nonexistent.pem cannot be read"),
        (
            "glance_ca_certificates_file = DIRECTORY/cut.pem", file,
            "[DEFAULT] glance_ca_certificates_file: DIRECTORY/cut.pem: not whole certificates of authorities in PEM"
        ),
        (
            "auth_strategy = keystone",
            file + keystone + "[key_manager]\nbackend = barbican\n[barbican]\nverify_ssl_path = DIRECTORY/cut.pem\n",
            "[barbican] verify_ssl_path: DIRECTORY/cut.pem: not whole certificates"
        ),
        (
            "",
            file
                + "[oslo_messaging_notifications]\ndriver = messagingv2\n[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = DIRECTORY/cut.pem\n",
            "[oslo_messaging_rabbit] ssl_ca_file: DIRECTORY/cut.pem: not whole certificates"
        ),
        ("nonsense", file, "expected 'name = value'"),
        ("", "[file\nvolume_driver = file\n", "a section header must be [name]"),
        ("", file + "[oslo_policy]\npolicy_dirs = DIRECTORY/open\n", "DIRECTORY/open can be written by others"),
    ]

    private func run(_ command: [String], _ configuration: String, _ state: String) async throws -> (status: Int32, output: String) {
        // One that serves, against what is expected, ends too.
        try await ServiceUnderTest.run(
            "/usr/bin/timeout", ["60", ServiceUnderTest.binary] + command + ["--config", configuration, "--state-dir", state])
    }

    @Test("what serve refuses, config check finds, in the same words", arguments: broken.indices)
    func agree(index: Int) async throws {
        let directory = temporaryDirectory("configuration")
        let (options, sections) = (Self.broken[index].options, Self.broken[index].sections)
        let said = Self.broken[index].said.replacing("DIRECTORY", with: directory)
        try ServiceUnderTest.write(directory + "/bad.yaml", "volume:create: role\n")
        let certificate = TestCertificate("authority", use: .authority).certificate
        try ServiceUnderTest.write(directory + "/cut.pem", String(certificate.prefix(certificate.count / 2)))
        try ServiceUnderTest.write(directory + "/filters.json", #"{"volume": ["name", 1]}"#)
        #expect(mkdir(directory + "/open", 0o700) == 0 && chmod(directory + "/open", 0o777) == 0)
        let configuration = directory + "/clinker.conf"
        let given = Set(options.split(separator: "\n").map { $0.prefix { $0 != " " } })
        let sound = [
            "osapi_volume_listen = 127.0.0.1", "osapi_volume_listen_port = 0", "auth_strategy = noauth", "enabled_backends = file",
        ]
        .filter { !given.contains($0.prefix { $0 != " " }) }
        try ServiceUnderTest.write(
            configuration,
            ("[DEFAULT]\n" + sound.joined(separator: "\n") + "\n" + options + "\n" + sections).replacing("DIRECTORY", with: directory))
        chmod(configuration, 0o600)
        let checked = try await run(["config", "check"], configuration, directory + "/state")
        let served = try await run(["serve"], configuration, directory + "/state")
        #expect(checked.status == 1 && checked.output.contains(said), "config check: \(checked)")
        #expect(served.status == 78 && served.output.contains(said), "serve: \(served)")
        #expect(access(directory + "/state", F_OK) != 0, "a refused configuration leaves a state directory")
    }

    @Test("a start tells everything that is wrong, not only the first")
    func everything() async throws {
        let directory = temporaryDirectory("configuration")
        let configuration = directory + "/clinker.conf"
        try ServiceUnderTest.write(
            configuration,
            """
            [DEFAULT]
            osapi_volume_listen = 0.0.0.0
            auth_strategy = noauth
            enabled_backends = one, two
            scheduler_default_filters = NoSuchFilter
            [one]
            volume_driver = nosuch
            [two]
            volume_driver = file
            filter_function = (
            [database]
            connection = mysql://h/cinder
            """)
        chmod(configuration, 0o600)
        for command in [["config", "check"], ["serve"]] {
            let output = try await run(command, configuration, directory + "/state").output
            for said in ["everybody is admin", "NoSuchFilter", "no such plugin", "filter_function is no expression", "not in 'mysql'"] {
                #expect(output.contains(said), "\(command): \(output)")
            }
        }
    }
}
